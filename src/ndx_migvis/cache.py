"""Importing pynwb without its cache, where that cannot be written or could be someone else's.

pynwb makes a folder for its cache when it is imported, which fails where the home folder cannot be written.
It unpickles what it finds there, so the folder has to be this user's alone to write to.
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def without_unsafe_cache() -> Iterator[None]:
    """Keep pynwb, imported for the first time in the block, from a cache that is not safe to use."""
    if "pynwb" in sys.modules:
        yield
        return
    import platformdirs

    if is_safe(Path(platformdirs.user_cache_dir())):
        yield
        return

    class NoFolder(platformdirs.PlatformDirs):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **{**options, "ensure_exists": False})

    before, switch = platformdirs.PlatformDirs, os.environ.get("PYNWB_NO_CACHE_DIR")
    platformdirs.PlatformDirs = NoFolder  # type: ignore[misc]
    os.environ["PYNWB_NO_CACHE_DIR"] = "1"
    try:
        yield
    finally:
        platformdirs.PlatformDirs = before  # type: ignore[misc]
        if switch is None:
            del os.environ["PYNWB_NO_CACHE_DIR"]
        else:
            os.environ["PYNWB_NO_CACHE_DIR"] = switch


def is_safe(folder: Path) -> bool:
    """Return whether a cache can be written in a folder, and was written by this user alone."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return False
    if not os.access(folder, os.W_OK | os.X_OK):
        return False
    inside = folder / "pynwb-hdmf"
    return all(_is_own(path) for path in (folder, inside) if path.exists())


def _is_own(path: Path) -> bool:
    if not hasattr(os, "geteuid"):
        return True
    status = path.stat()
    return status.st_uid in (os.geteuid(), 0) and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)

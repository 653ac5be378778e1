"""Where the specification of `ndx-migvis` is, and its registration with pynwb."""

from __future__ import annotations

import gc
from pathlib import Path

from ndx_migvis.cache import without_unsafe_cache

with without_unsafe_cache():
    from pynwb import load_namespaces

NAMESPACE = "ndx-migvis"


def _spec_file() -> Path:
    """Return the namespace file: inside an installed package, or at the top of a source tree."""
    here = Path(__file__).resolve()
    for folder in (here.parent / "spec", here.parents[2] / "spec"):
        file = folder / f"{NAMESPACE}.namespace.yaml"
        if file.is_file():
            return file
    raise FileNotFoundError(
        f"the specification of {NAMESPACE} is missing in {here.parent}; reinstall nwb-migvis"
    )


def _register(spec_file: Path) -> None:
    """Register the namespace; all of core are so many objects that looking for garbage takes long."""
    is_enabled = gc.isenabled()
    gc.disable()
    try:
        load_namespaces(str(spec_file))
    finally:
        if is_enabled:
            gc.enable()


SPEC_FILE = _spec_file()
_register(SPEC_FILE)

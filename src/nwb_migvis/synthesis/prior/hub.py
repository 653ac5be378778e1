"""Priors of the Hugging Face hub, by id and revision: from its local cache, fetched where that is allowed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

from nwb_migvis.errors import MigvisError

FETCHED = ("*.json", "*.safetensors", "*.txt", "*.model", "README.md", "LICENSE*", "LICENCE*")
"""Files that are fetched: settings, weights as safetensors, words of tokenizers, and what is said of them."""

_ID = re.compile(r"(\w[\w.-]*/\w[\w.-]*)@(\w[\w./-]*)", re.ASCII)
_ALLOWED: ContextVar[bool] = ContextVar("downloads", default=False)


@contextmanager
def downloads(allowed: bool = True) -> Iterator[None]:
    """Allow priors of the hub to be fetched; otherwise its local cache alone is read."""
    token = _ALLOWED.set(allowed)
    try:
        yield
    finally:
        _ALLOWED.reset(token)


def is_hub_id(name: str) -> bool:
    """Tell whether a name is `org/name@REVISION`; a folder of that name comes first."""
    return _ID.fullmatch(name) is not None and not Path(name).exists()


def hub_folder(name: str) -> Path:
    """Return the folder in the hub's cache that holds a model, `org/name@REVISION`.

    Its own name is the commit that the revision stands for.

    Raises
    ------
    MigvisError
        If it is not in the cache, and fetching is not allowed or does not succeed.
    """
    found = _ID.fullmatch(name)
    if found is None:
        raise MigvisError(f"prior {name!r:.80}: expected org/name@REVISION, an id of the hub")
    try:
        from huggingface_hub import constants, snapshot_download
    except ModuleNotFoundError:
        raise MigvisError(
            f"prior {name}: an id of the hub needs huggingface_hub: pip install huggingface_hub"
        ) from None
    repository, revision = found.groups()
    try:
        folder = snapshot_download(
            repository, revision=revision, local_files_only=not _ALLOWED.get(), allow_patterns=list(FETCHED)
        )
    except Exception as error:  # of many kinds: no such model, no network, no room
        if not _ALLOWED.get():
            raise MigvisError(
                f"prior {name}: not in the local cache of the hub ({constants.HF_HUB_CACHE}); fetch it with "
                "--download, in Python within nwb_migvis.synthesis.prior.hub.downloads(), or give a folder"
            ) from None
        reason = " ".join(str(error).split())[:160] or type(error).__name__
        raise MigvisError(
            f"prior {name}: could not be fetched from the hub ({reason}); is the id right, and the network "
            "there?"
        ) from None
    return Path(folder)

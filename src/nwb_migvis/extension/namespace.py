"""Where the specification of `ndx-migvis` is, and its registration with pynwb."""

from __future__ import annotations

from pathlib import Path

from nwb_migvis.extension.cache import without_unsafe_cache

with without_unsafe_cache():
    from pynwb import load_namespaces

NAMESPACE = "ndx-migvis"


def _spec_file() -> Path:
    """Return the namespace file: inside an installed package, or at the top of a source tree."""
    here = Path(__file__).resolve()
    for folder in (here.parents[1] / "spec", here.parents[3] / "spec"):
        file = folder / f"{NAMESPACE}.namespace.yaml"
        if file.is_file():
            return file
    raise FileNotFoundError(
        f"the specification of {NAMESPACE} is missing beside {here.parents[1]}; reinstall nwb-migvis"
    )


SPEC_FILE = _spec_file()
load_namespaces(str(SPEC_FILE))

"""Where the specification of `ndx-migvis` is, and its registration with pynwb."""

from __future__ import annotations

import gc
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ndx_migvis.cache import without_unsafe_cache

with without_unsafe_cache():
    from pynwb import get_type_map

from hdmf.spec.namespace import YAMLSpecReader
from pynwb.spec import NWBDatasetSpec, NWBGroupSpec

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


class SpecReader(YAMLSpecReader):
    """Reads YAML files of a specification, or what they say in `parsed.json` beside them, which is faster.

    That file holds, by name of a YAML file, its SHA-256 digest and its content. A YAML file that has another
    digest is parsed, so that YAML has the last word.

    Parameters
    ----------
    folder : Path
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(indir=str(folder))
        self._folder = folder
        parsed = folder / "parsed.json"
        self._parsed = json.loads(parsed.read_bytes()) if parsed.is_file() else {}

    def read_namespace(self, namespace_path: str) -> list[dict[str, Any]]:
        """Return the namespaces of a file."""
        content = self._content(namespace_path)
        return content["namespaces"] if content else super().read_namespace(namespace_path)

    def read_spec(self, spec_path: str) -> dict[str, Any]:
        """Return the types of a file, by kind."""
        return self._content(spec_path) or super().read_spec(spec_path)

    def _content(self, path: str) -> dict[str, Any] | None:
        file = self._folder / path
        known = self._parsed.get(file.name)
        if known is None or known["sha256"] != hashlib.sha256(file.read_bytes()).hexdigest():
            return None
        return known["content"]


@contextmanager
def _shared_types() -> Iterator[None]:
    """Let a namespace hold the types of those that it includes, in place of copies.

    Copies of all of core take longer than everything else here. A type that hdmf has resolved is not changed
    when others extend it: what they inherit is copied into them.
    """
    with _shared(NWBGroupSpec), _shared(NWBDatasetSpec):
        yield


@contextmanager
def _shared(kind: Any) -> Iterator[None]:
    own = kind.__dict__.get("build_spec")
    build = kind.build_spec.__func__

    def build_spec(cls: Any, spec: Any) -> Any:
        is_whole = isinstance(spec, cls) and spec.resolved and spec.parent is None
        return spec if is_whole else build(cls, spec)

    kind.build_spec = classmethod(build_spec)
    try:
        yield
    finally:
        if own is None:
            del kind.build_spec
        else:
            kind.build_spec = own


def _register(spec_file: Path) -> None:
    """Register the namespace; it makes so many objects that looking for garbage takes long."""
    is_enabled = gc.isenabled()
    gc.disable()
    try:
        with _shared_types():
            get_type_map(copy=False).load_namespaces(str(spec_file), reader=SpecReader(spec_file.parent))
    finally:
        if is_enabled:
            gc.enable()


SPEC_FILE = _spec_file()
_register(SPEC_FILE)

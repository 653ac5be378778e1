"""Registries: what another package or a notebook can add by name.

A package adds an entry through an entry point, in the group that its kind names:

    [project.entry-points."nwb_migvis.methods"]
    towards-gray = "their_package:towards_gray"

and a notebook through `METHODS.register("towards-gray", towards_gray)`, or as a decorator. Either way the
name can be used in settings and on the command line. Built-in entries are loaded when they are first used.
"""

from __future__ import annotations

import difflib
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Generic, TypeVar

from nwb_migvis.errors import MigvisError

Entry = TypeVar("Entry")


class Registry(Mapping[str, Entry], Generic[Entry]):
    """Entries of one kind by name.

    Parameters
    ----------
    kind : str
        What an entry is, for messages.
    group : str
        Entry points of other packages are looked for under this name.
    needs : tuple of str
        Attributes that every entry must have; "__call__" for one that is called.
    builtin : mapping of str to str
        "module:attribute" of the entries that come with this package; the attribute `builtin` holds their
        names.
    """

    def __init__(self, kind: str, group: str, *, needs: tuple[str, ...], builtin: Mapping[str, str]):
        self.kind, self.group, self.needs = kind, group, needs
        self.builtin = tuple(builtin)
        self._builtin = dict(builtin)
        self._registered: dict[str, Entry] = {}

    def register(self, name: str, entry: Entry | None = None) -> Any:
        """Add an entry, or return a decorator that does.

        Raises
        ------
        MigvisError
            If the name is taken, or the entry lacks what its kind needs.
        """
        if entry is None:
            return lambda decorated: self.register(name, decorated)
        if name in self and self._registered.get(name) is not entry:
            raise MigvisError(f"{self.kind} {name!r} exists already; give it another name")
        self._registered[name] = self._checked(name, entry, "it")
        return entry

    def unregister(self, name: str) -> None:
        """Remove an entry that `register` added."""
        self._registered.pop(name, None)

    def __getitem__(self, name: str) -> Entry:
        if name in self._registered:
            return self._registered[name]
        if name in self._builtin:
            module, _, attribute = self._builtin[name].partition(":")
            return getattr(import_module(module), attribute)
        if name not in self:
            close = difflib.get_close_matches(name, list(self), n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise MigvisError(f"{self.kind} {name!r} is unknown; expected one of {', '.join(self)}{hint}")
        point = self._points()[name]
        source = f"{point.value} of the package {point.dist.name if point.dist else '?'}"
        try:
            entry = point.load()
        except (Exception, SystemExit) as error:
            reason = " ".join(str(error).split())[:200]
            raise MigvisError(
                f"{self.kind} {name!r} ({source}) cannot be loaded: {type(error).__name__}: {reason}; "
                "reinstall or remove that package"
            ) from error
        return self._checked(name, entry, source)

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys([*self._builtin, *self._registered, *self._points()]))

    def __len__(self) -> int:
        return len(list(iter(self)))

    def __contains__(self, name: object) -> bool:
        if name in self._builtin or name in self._registered or name in self._points():
            return True
        _points_of.cache_clear()  # a package may have been installed since
        return name in self._points()

    def _points(self) -> dict[str, EntryPoint]:
        return _points_of(self.group, entry_points, tuple(sys.path))

    def _checked(self, name: str, entry: Entry, source: str) -> Entry:
        lacking = [need for need in self.needs if not hasattr(entry, need)]
        if lacking:
            raise MigvisError(
                f"{self.kind} {name!r}: {source} is a {type(entry).__name__} without "
                f"{', '.join(lacking)}; expected {', '.join(self.needs)}"
            )
        return entry


@lru_cache
def _points_of(
    group: str, find: Callable[..., Iterable[EntryPoint]], path: tuple[str, ...]
) -> dict[str, EntryPoint]:
    """Return the entry points of a group, by name, of the packages on this path: they are read once."""
    return {point.name: point for point in find(group=group)}


METHODS: Registry[Any] = Registry(
    "guidance method",
    "nwb_migvis.methods",
    needs=("edit", "other_target", "other_group"),
    builtin={
        "pmi": "nwb_migvis.synthesis.editing.methods:pmi",
        "none": "nwb_migvis.synthesis.editing.methods:none",
        "shuffled": "nwb_migvis.synthesis.editing.methods:shuffled",
        "published": "nwb_migvis.synthesis.editing.methods:published",
        "likelihood": "nwb_migvis.synthesis.editing.methods:by_density",
        "activation": "nwb_migvis.synthesis.editing.methods:activation",
        "wrong-group": "nwb_migvis.synthesis.editing.methods:wrong_group",
    },
)
"""Guidance methods: `nwb_migvis.synthesis.editing.methods.Method`."""

LAYOUTS: Registry[Any] = Registry(
    "layout",
    "nwb_migvis.layouts",
    needs=("__call__",),
    builtin={
        "index_series": "nwb_migvis.read.layouts.index_series:find",
        "frames": "nwb_migvis.read.layouts.frames:find",
        "dicarlo_aggregated": "nwb_migvis.read.layouts.aggregated:find",
        "dicarlo": "nwb_migvis.read.layouts.tables:find_dicarlo",
        "allen": "nwb_migvis.read.layouts.tables:find_allen",
        "intervals": "nwb_migvis.read.layouts.tables:find_intervals",
    },
)
"""Layouts of presentations and images, tried in this order: `nwb_migvis.read.layouts.Adapter`."""

IMAGE_NETWORKS: Registry[Any] = Registry(
    "image network",
    "nwb_migvis.image_networks",
    needs=("__call__",),
    builtin={
        "timm": "nwb_migvis.networks.image_networks:open_timm",
        "efficientnet-lite0": "nwb_migvis.networks.image_networks:open_lite0",
        "efficientnet-lite1": "nwb_migvis.networks.image_networks:open_lite1",
        "efficientnet-lite2": "nwb_migvis.networks.image_networks:open_lite2",
    },
)
"""Networks for photographs: `nwb_migvis.networks.image_networks.OpenNetwork`."""

TEXT_NETWORKS: Registry[Any] = Registry(
    "image-text network",
    "nwb_migvis.text_networks",
    needs=("__call__",),
    builtin={"clip": "nwb_migvis.networks.text_networks:open_clip"},
)
"""Networks that set images beside words: `nwb_migvis.networks.text_networks.OpenTextNetwork`."""

LATENT_MODELS: Registry[Any] = Registry(
    "latent model",
    "nwb_migvis.latent_models",
    needs=("fit", "load"),
    builtin={
        "group-vae": "nwb_migvis.latents.fit:group_vae",
        "pca": "nwb_migvis.latents.baselines:pca",
        "fa": "nwb_migvis.latents.baselines:fa",
        "plain-vae": "nwb_migvis.latents.baselines:plain_vae",
        "swap-vae": "nwb_migvis.latents.baselines:swap_vae",
    },
)
"""Models of responses: `nwb_migvis.latents.protocol.LatentModelKind`."""

READERS: Registry[Any] = Registry(
    "reader",
    "nwb_migvis.readers",
    needs=("__call__",),
    builtin={
        "conv": "nwb_migvis.evidence.readers.convolutional:fit_conv_reader",
        "kernel": "nwb_migvis.evidence.readers.kernel:fit_kernel_reader",
    },
)
"""Readers of labels from images: `nwb_migvis.evidence.readers.protocol.ReaderFactory`."""

ANALYSES: Registry[Any] = Registry(
    "analysis",
    "nwb_migvis.analyses",
    needs=("needs", "compute"),
    builtin={
        "retrieval": "nwb_migvis.companions.retrieval:Retrieval",
        "dimension": "nwb_migvis.companions.dimension:Dimension",
        "states": "nwb_migvis.companions.states:States",
        "names": "nwb_migvis.companions.names:Names",
        "places": "nwb_migvis.companions.places:Places",
        "concepts": "nwb_migvis.companions.concepts:Concepts",
        "windows": "nwb_migvis.companions.where_and_when:Windows",
        "areas": "nwb_migvis.companions.where_and_when:Areas",
        "electrodes": "nwb_migvis.companions.electrodes:Electrodes",
    },
)
"""Further analyses of a study: `nwb_migvis.analysis.further.FurtherAnalysis`."""

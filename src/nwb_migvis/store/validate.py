"""Is a file with results valid: for NWB, for the archive's best practices, and in itself."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pynwb

from ndx_migvis import NAMESPACE
from nwb_migvis.errors import MigvisError, printable
from nwb_migvis.memory import most_bytes
from nwb_migvis.results import Results
from nwb_migvis.store.canonical import canonical, differences
from nwb_migvis.store.content import objects_in
from nwb_migvis.store.decode import FAULTS, decode, open_file, runs_in, weights_in
from nwb_migvis.store.digests import changed_parts
from nwb_migvis.store.gate import check_run
from nwb_migvis.store.plausible import faults_of
from nwb_migvis.store.schema import schema_errors
from nwb_migvis.store.weights import check_settings, check_weights

IMPORTANCES = ("error", "critical", "best_practice_violation", "best_practice_suggestion")
"""Importances of findings, the worst first; all but `error` are nwbinspector's."""

_MOST_EXPANSION = 2**11
"""Most that compression makes of a byte in a session; deflate, the most common, reaches 1,032."""

_SMALL_BYTES = 2**24
"""Chunks of datasets up to this size may never have been written."""


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong with a file.

    Attributes
    ----------
    importance : str
        One of `IMPORTANCES`.
    message : str
        What is wrong, in one line.
    location : str
        The object in the file.
    """

    importance: str
    message: str
    location: str

    def __post_init__(self) -> None:
        for name in ("message", "location"):
            object.__setattr__(self, name, printable(getattr(self, name)))


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """Keep the warnings of pynwb, hdmf and h5py from stderr; what they warn of is checked here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def validate_file(path: str | Path, *, schema: bool = True) -> list[Finding]:
    """Check a file against the NWB schema and best practices, and its results for consistency.

    A file without results can be valid: `list_runs` says what it holds.

    The best practices are nwbinspector's, with the archive's configuration (DANDI), where it is installed.

    Parameters
    ----------
    path : path
    schema : bool
        False leaves out the NWB schema, which writing has checked already of a file that was just written.

    Returns
    -------
    list of Finding

    Raises
    ------
    MigvisError
        If the file cannot be opened.
    """
    path = Path(path)
    with open_file(path) as file:
        own = list(own_findings(file))
        too_large = list(_too_large(file))
    if too_large:
        return [*own, *too_large]
    with quiet_libraries():
        try:
            of_schema = schema_findings(path) if schema else []
        except FAULTS as error:
            of_schema = [Finding("error", f"pynwb cannot validate the file: {error!r}", "/")]
        return [*of_schema, *own, *_inspector_findings(path)]


def _too_large(file: h5py.File) -> Iterator[Finding]:
    """Yield datasets that other validators may read and that no memory holds, or no bytes are of."""
    most = most_bytes(file.id.get_filesize())
    for place, item, _ in objects_in(file):
        if not isinstance(item, h5py.Dataset) or item.nbytes <= _SMALL_BYTES:
            continue
        stored = item.id.get_storage_size()
        has_own_bytes = not (item.is_virtual or item.external)
        if has_own_bytes and item.nbytes > _MOST_EXPANSION * stored:
            yield Finding("error", f"is said to hold {item.nbytes} bytes and has {stored} in the file", place)
        elif item.nbytes > most:
            message = (
                f"holds {item.nbytes} bytes, above {most}: not checked further; allow more with --max-memory"
            )
            yield Finding("error", message, place)


def schema_findings(path: Path, *, unlike: Path | None = None) -> list[Finding]:
    """Return what `pynwb.validate` finds.

    Parameters
    ----------
    path : Path
    unlike : Path, optional
        A file whose own findings, by today's schema, are left out: those are not of our making.
    """
    findings = [_of_schema(error) for error in schema_errors(path)]
    if not findings or unlike is None:
        return findings
    old = {_of_schema(e) for e in pynwb.validate(path=str(unlike), use_cached_namespaces=False)}
    return [f for f in findings if f not in old]


def _of_schema(error: Any) -> Finding:
    return Finding("error", f"{error.name}: {error.reason}", f"/{(error.location or '').lstrip('/')}")


def _inspector_findings(path: Path) -> Iterator[Finding]:
    try:
        from nwbinspector import Importance, inspect_nwbfile, load_config
    except ImportError:
        return
    names = {getattr(Importance, name.upper()): name for name in IMPORTANCES[1:]}
    try:
        for message in inspect_nwbfile(
            nwbfile_path=str(path), config=load_config("dandi"), skip_validate=True
        ):
            location = str(message.location or "/")
            yield Finding(names.get(message.importance, "error"), message.message.strip(), location)
    except FAULTS as error:
        yield Finding("error", f"nwbinspector cannot inspect the file: {error!r}", "/")


def own_findings(file: h5py.File) -> Iterator[Finding]:
    """Yield what is inconsistent in the runs of an open file, or between them and the file."""
    names = runs_in(file)
    yield from _empty_runs(file)
    yield from _cached_twice(file)
    if names and NAMESPACE not in file.get("specifications", {}):
        yield Finding("error", f"the specification of {NAMESPACE} is not in the file", "/specifications")
    for name in names:
        group = file["analysis"][name]
        try:
            check_run(group)
            results = decode(group)
            wrong = differences(canonical(results), results)
        except FAULTS as error:
            yield Finding("error", f"not as {NAMESPACE} describes it: {error}", group.name)
            continue
        for part in wrong:
            yield Finding("error", f"{part} holds other dtypes than {NAMESPACE} describes", group.name)
        for place, message in faults_of(results):
            yield Finding("error", message, f"{group.name}/{place}")
        for part in changed_parts(group, results):
            yield Finding("error", f"{part}: not what the run wrote (its digest is another)", group.name)
        yield from _damaged_weights(group, results)
        yield from _wrong_unit_rows(group)
        yield from _wrong_presentations(group, results)
        yield from _wrong_gallery(group, results)
        yield from _without_description(group)


def _damaged_weights(group: h5py.Group, results: Results) -> Iterator[Finding]:
    recorded = results.provenance.get("weights", {})
    where = f"{group.name}/model"
    for name, dataset in weights_in(group):
        data = dataset[()].tobytes()
        digest = hashlib.sha256(data).hexdigest()
        digests = {str(dataset.attrs["sha256"]), recorded.get(name, "no digest")} - {digest}
        for other in sorted(digests):
            yield Finding("error", f"the sha256 is {digest}; recorded is {other}", dataset.name)
        if not digests:
            try:
                check_weights({name: data}, results, where=where)
            except MigvisError as error:
                yield Finding("error", str(error), dataset.name)
    if "config" in results.provenance:
        try:
            check_settings(results, where=where)
        except MigvisError as error:
            yield Finding("error", str(error), where)


def _wrong_unit_rows(group: h5py.Group) -> Iterator[Finding]:
    table = group["unit_loadings"]
    if "unit_row" not in table:
        return
    target = table["unit_row"].attrs.get("table")
    if not isinstance(target, h5py.Reference) or not target or group.file[target].name != "/units":
        yield Finding("error", "its attribute `table` does not lead to /units", f"{table.name}/unit_row")
    rows, units = table["unit_row"][()], group.file.get("units/id")
    if (
        not isinstance(units, h5py.Dataset)
        or units.ndim != 1
        or not ((rows >= 0) & (rows < len(units))).all()
    ):
        yield Finding("error", "rows that /units does not have", f"{table.name}/unit_row")
    elif not np.array_equal(units[()][rows], table["unit"][()]):
        yield Finding(
            "error", "rows of other units than those of the column `unit`", f"{table.name}/unit_row"
        )


def _wrong_presentations(group: h5py.Group, results: Results) -> Iterator[Finding]:
    """Yield how the rows of the stimuli's presentations differ from what the run and the file say."""
    shown = results.presentations
    if not shown.sizes:
        return
    where = f"{group.name}/stimulus_latents/presentations"
    place, rows = shown["row"].attrs["table"], shown["row"].values
    ids = group.file.get(f"{place}/id") if place else None
    if not isinstance(ids, h5py.Dataset) or place.startswith("/analysis/"):
        yield Finding("error", "its attribute `table` does not lead to a table of presentations", where)
        return
    found_in = str(results.provenance.get("session", {}).get("found_in", ""))
    names = [name.rpartition("/")[2] for name in found_in.split(", ")]
    if found_in and place.rpartition("/")[2] not in names:
        yield Finding("error", f"rows of {place}; the presentations were read from {found_in}", where)
    if not ((rows >= 0) & (rows < len(ids))).all():
        yield Finding("error", f"rows that {place} does not have", where)
    if len(np.unique(rows)) != len(rows):
        yield Finding("error", "a presentation of two stimuli, or twice of one", where)
    counts = np.bincount(shown["stimulus_index"].values, minlength=results.latents.sizes["stimulus"])
    if not np.array_equal(counts, results.latents["n_presentations"].values):
        yield Finding("error", "other numbers of rows than n_presentations", where)


def _wrong_gallery(group: h5py.Group, results: Results) -> Iterator[Finding]:
    """Yield how the images of a gallery differ from the edits that they say they are."""
    if "gallery" not in group:
        return
    gallery, edits = group["gallery"], results.gallery
    stored = {name: image for name, image in gallery.items() if name != "order_of_images"}
    expected = dict(zip(edits["name"].values.tolist(), edits["image"].values, strict=True))
    for name in sorted(expected.keys() - stored.keys()):
        yield Finding("error", f"the edit {name} is absent", gallery.name)
    for name, image in stored.items():
        if name not in expected:
            yield Finding("error", "not an edit that the run's seed draws", image.name)
        elif not np.array_equal(image[()], expected[name]):
            yield Finding("error", "other pixels than the edit in synthesized_images", image.name)
    order = gallery.get("order_of_images")
    if order is None or [_name_of(gallery.file, reference) for reference in order[()]] != list(expected):
        yield Finding("error", "another order than that of the edits", f"{gallery.name}/order_of_images")


def _name_of(file: h5py.File, reference: h5py.Reference) -> str:
    """Return the name of what a reference leads to, "" where that is gone."""
    try:
        return (file[reference].name or "").rpartition("/")[2]
    except (ValueError, RuntimeError):
        return ""


def _without_description(group: h5py.Group) -> Iterator[Finding]:
    """Yield columns that do not say what they hold."""
    for table in group.values():
        for column in table.values() if "colnames" in table.attrs else ():
            if column.name.endswith("/id"):
                continue
            text = column.attrs.get("description")
            if not isinstance(text, str) or not text.strip():
                yield Finding("error", "a column without a description", column.name)


def _empty_runs(file: h5py.File) -> Iterator[Finding]:
    """Yield results that were lost because the extension was imported after the file was opened."""
    analysis = file.get("analysis")
    if not isinstance(analysis, h5py.Group):
        return
    for name in analysis:
        item = analysis.get(name)
        is_empty = isinstance(item, h5py.Group) and not len(item)
        if is_empty and item.attrs.get("neurodata_type") == "NWBDataInterface":
            message = f"an object without content: what was written before {NAMESPACE} was imported is lost"
            yield Finding("error", message, item.name)


def _cached_twice(file: h5py.File) -> Iterator[Finding]:
    """Yield specifications that are cached in several versions, of which readers take one by its spelling."""
    cached = file.get("specifications")
    for name in cached if isinstance(cached, h5py.Group) else ():
        if isinstance(cached[name], h5py.Group) and len(cached[name]) > 1:
            versions = ", ".join(cached[name])
            message = f"cached in several versions ({versions}); export the file with pynwb to have one"
            yield Finding("best_practice_violation", message, f"/specifications/{name}")

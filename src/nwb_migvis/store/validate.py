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

from nwb_migvis.errors import MigvisError, printable
from nwb_migvis.extension import NAMESPACE
from nwb_migvis.results import ROLES, SPLITS, Results
from nwb_migvis.store.canonical import canonical, differences
from nwb_migvis.store.decode import FAULTS, decode, open_file, runs_in, weights_in
from nwb_migvis.store.gate import check_run
from nwb_migvis.store.weights import check_settings, check_weights

IMPORTANCES = ("error", "critical", "best_practice_violation", "best_practice_suggestion")
"""Importances of findings, the worst first; all but `error` are nwbinspector's."""


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
    with quiet_libraries():
        try:
            of_schema = schema_findings(path) if schema else []
        except FAULTS as error:
            of_schema = [Finding("error", f"pynwb cannot validate the file: {error!r}", "/")]
        return [*of_schema, *own, *_inspector_findings(path)]


def schema_findings(path: Path, *, unlike: Path | None = None) -> list[Finding]:
    """Return what `pynwb.validate` finds.

    Parameters
    ----------
    path : Path
    unlike : Path, optional
        A file whose own findings, by today's schema, are left out: those are not of our making.
    """
    findings = [_of_schema(error) for error in pynwb.validate(path=str(path))]
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
        yield from _inconsistencies(results, group)
        yield from _damaged_weights(group, results)
        yield from _wrong_unit_rows(group)


def _inconsistencies(results: Results, group: h5py.Group) -> Iterator[Finding]:
    stimuli, groups = set(results.latents["stimulus"].values), set(results.groups.index)
    stimuli_in_order = results.latents["stimulus"].values
    edits = results.synthesized
    allowed = (
        ("stimulus_latents/split", results.latents["split"], set(SPLITS)),
        ("synthesized_images/group", edits["group"], groups),
        ("synthesized_images/source", edits["source"], stimuli),
        ("synthesized_images/target", edits["target"], stimuli | {""}),
        ("synthesized_images/role", edits["role"], set(ROLES)),
        ("selectivity/group", results.selectivity["group"], groups),
        ("decoding/group", results.decoding["group"], groups),
    )
    for place, values, expected in allowed:
        strange = sorted(set(values.values) - expected)
        if strange:
            yield Finding(
                "error", f"{len(strange)} unknown values, the first {strange[0]!r}", f"{group.name}/{place}"
            )
    of_labels = results.labels["stimulus"].values if results.labels.data_vars else stimuli_in_order
    if not np.array_equal(of_labels, stimuli_in_order):
        yield Finding(
            "error", "other stimuli than in stimulus_latents", f"{group.name}/stimulus_labels/stimulus"
        )
    if "test" not in results.latents["split"].values:
        yield Finding("error", "no stimulus was held out", f"{group.name}/stimulus_latents/split")
    if edits.sizes["edit"] and not edits["image"].size:
        yield Finding("error", "images without pixels", f"{group.name}/synthesized_images/image")
    for place, values, _ in (
        *allowed,
        ("selectivity/label", results.selectivity["label"], None),
        ("decoding/label", results.decoding["label"], None),
        ("stimulus_latents/stimulus", results.latents["stimulus"], None),
    ):
        odd = [v for v in values.values.tolist() if not v.isprintable() or ".." in v.split("/")]
        if odd:
            yield Finding("error", f"the name {odd[0]!r}", f"{group.name}/{place}")
    n_latents = int(results.groups["size"].sum())
    if results.units.sizes["latent"] != n_latents:
        message = f"{results.units.sizes['latent']} latents per unit; the groups have {n_latents}"
        yield Finding("error", message, f"{group.name}/unit_loadings/loading")
    for name in ("mean", "log_var"):
        latents = results.latents[name].values
        is_given = name == "log_var" and np.isnan(latents).all()  # latents that came as an array have none
        if not (is_given or np.isfinite(latents).all()):
            yield Finding("error", "values that are not finite", f"{group.name}/stimulus_latents/{name}")
    strength = edits["strength"].values
    if not ((strength > 0) & (strength <= 1)).all():
        yield Finding("error", "values outside (0, 1]", f"{group.name}/synthesized_images/strength")


def _damaged_weights(group: h5py.Group, results: Results) -> Iterator[Finding]:
    recorded = results.provenance.get("weights", {})
    where = f"{group.name}/model"
    for name, dataset in weights_in(group):
        data = dataset[()].tobytes()
        digest = hashlib.sha256(data).hexdigest()
        digests = {str(dataset.attrs["sha256"]), recorded.get(name, digest)} - {digest}
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

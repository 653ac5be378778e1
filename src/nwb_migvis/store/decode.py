"""Results from a file, read with h5py alone: nothing but the run itself is opened."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import xarray as xr

from ndx_migvis import NAMESPACE
from nwb_migvis.errors import MigvisError
from nwb_migvis.files import check_regular
from nwb_migvis.plain import Json, nearest
from nwb_migvis.results import (
    EDIT_COORDS,
    EDIT_MAPS,
    EDIT_RATES,
    GROUP_COLUMNS,
    Results,
    no_decoding,
    no_edits,
    no_labels,
    no_presentations,
    no_selectivity,
)
from nwb_migvis.sources import Source, as_source, open_hdf5
from nwb_migvis.store.analyses import decode_analyses
from nwb_migvis.store.canonical import DECODING, SELECTIVITY, Form
from nwb_migvis.store.digests import IS_DIGESTED
from nwb_migvis.store.gate import (
    LONG_TABLES,
    check_combinations,
    check_provenance,
    check_run,
    label_columns,
    read_json,
    read_text,
)

FAULTS = (
    ArithmeticError,
    AttributeError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
)
"""What h5py, NumPy, pandas and xarray raise for content that is not as it should be."""


def list_runs(path: str | Source) -> list[str]:
    """Return the names of the runs in an NWB file.

    Raises
    ------
    MigvisError
        If the file does not exist, is not an HDF5 file, or is open for writing elsewhere.
    """
    with open_file(path) as file:
        return runs_in(file)


def read_results(path: str | Source, name: str | None = None) -> Results:
    """Read the results of a run from an NWB file; needs neither torch nor the session's own data.

    Parameters
    ----------
    path : path-like
        Or an address, or an open file, as for `read_session`.
    name : str, optional
        The run; None for the only one.

    Returns
    -------
    Results
        As `run` returned them.

    Raises
    ------
    MigvisError
        If the file cannot be read, holds no run, none of that name, or several and `name` is None.
    """
    with open_file(path) as file:
        group = _run_group(file, path, name)
        with _reading(group, path):
            return decode(group)


def read_weights(path: str | Source, name: str | None = None) -> dict[str, bytes]:
    """Read the networks' weights of a run, as safetensors bytes by name.

    Raises
    ------
    MigvisError
        As `read_results`, and if a digest is not that of the bytes.
    """
    with open_file(path) as file:
        group = _run_group(file, path, name)
        weights = {}
        for network, dataset in weights_in(group):
            data = dataset[()].tobytes()
            digest = hashlib.sha256(data).hexdigest()
            if digest != dataset.attrs["sha256"]:
                raise MigvisError(
                    f"{path}: {dataset.name} has the sha256 {digest[:12]}...; expected "
                    f"{str(dataset.attrs['sha256'])[:12]}...; the weights are damaged, run the model again"
                )
            weights[network] = data
        return weights


@contextmanager
def open_file(path: str | Source) -> Iterator[h5py.File]:
    """Open an HDF5 file for reading; what cannot be read, now or in the block, is a one-line error."""
    path = as_source(path, what="NWB file")
    if isinstance(path, Path):
        check_regular(path, what="NWB file")
        if not path.is_file():
            what = "a folder" if path.is_dir() else "nothing"
            raise MigvisError(f"{path}: found {what}; expected an NWB file; check the path")
    with ExitStack() as stack:
        file = _opened(path, stack)
        try:
            yield file
        except MigvisError:
            raise
        except FAULTS as error:
            raise MigvisError(
                f"{path} is damaged ({error}); expected a whole NWB file; fetch or write it again"
            ) from error


def _opened(path: Source, stack: ExitStack) -> h5py.File:
    try:
        return stack.enter_context(open_hdf5(path))
    except BlockingIOError:
        raise MigvisError(
            f"{path} is open for writing elsewhere; expected a file that no one writes; close it there first"
        ) from None
    except PermissionError:
        raise MigvisError(f"{path} cannot be read; expected read permission; ask its owner") from None
    except OSError as error:
        is_hdf5 = "file signature not found" not in str(error)
        state = f"cannot be opened: {error}" if is_hdf5 else "is not an HDF5 file"
        raise MigvisError(f"{path} {state}; expected an NWB file; fetch or write it again") from None


@contextmanager
def _reading(group: h5py.Group, path: str | Source) -> Iterator[None]:
    """Say of which run and file it is when something in it is not as it should be."""
    try:
        yield
    except MigvisError:
        raise
    except FAULTS as error:
        raise MigvisError(
            f"{path} is damaged or was made by something else: {group.name} is not as ndx-migvis has it "
            f"({error}); run `nwb-migvis validate` on it"
        ) from error


def is_run(item: Any) -> bool:
    """Return whether an HDF5 object is a run."""
    return isinstance(item, h5py.Group) and (_type_of(item), item.attrs.get("namespace")) == (
        "MigvisRun",
        NAMESPACE,
    )


def runs_in(file: h5py.File) -> list[str]:
    """Return the names of the runs in an open file; what is linked from elsewhere is not among them."""
    analysis = file.get("analysis")
    if not isinstance(analysis, h5py.Group):
        return []
    own = [n for n in analysis if isinstance(analysis.get(n, getlink=True), h5py.HardLink)]
    return [name for name in own if is_run(analysis[name])]


def weights_in(group: h5py.Group) -> list[tuple[str, h5py.Dataset]]:
    """Return the weights' datasets of a run."""
    return [(n, d) for n, d in group["model"].items() if _type_of(d) == "NetworkWeights"]


def decode(group: h5py.Group) -> Results:
    """Return the results that the group of a run holds."""
    groups = _groups(group["latent_groups"])
    return Results(
        name=group.name.rpartition("/")[2],
        groups=groups,
        latents=_latents(group["stimulus_latents"], groups),
        units=_units(group["unit_loadings"]),
        synthesized=_synthesized(group["synthesized_images"])
        if "synthesized_images" in group
        else no_edits(),
        selectivity=_long(group, SELECTIVITY, ("selectivity", "reader_scores", "selectivity_index"))
        if "selectivity" in group
        else no_selectivity(),
        provenance=_provenance(group["model"]),
        decoding=_long(group, DECODING, ("decoding", "label_decoding"))
        if "decoding" in group
        else no_decoding(),
        labels=_labels(group["stimulus_labels"]) if "stimulus_labels" in group else no_labels(),
        analyses=decode_analyses(group["analyses"]) if "analyses" in group else {},
        presentations=_presentations(group["stimulus_latents"]),
    )


def _type_of(item: Any) -> Any:
    return None if item is None else item.attrs.get("neurodata_type")


def _run_group(file: h5py.File, path: str | Source, name: str | None) -> h5py.Group:
    names = runs_in(file)
    if not names:
        raise MigvisError(
            f"{path}: found no results (nothing of type MigvisRun in /analysis); expected a file that "
            "`nwb-migvis run` wrote; give that file, or run it first"
        )
    if name is None and len(names) > 1:
        raise MigvisError(
            f"{path}: found {len(names)} runs; expected a choice; name one of {', '.join(names)} "
            "with name= (--name)"
        )
    if name is not None and name not in names:
        raise MigvisError(
            f"{path}: found no run {name!r}; expected one of {nearest(name, names)}; name one of "
            "them with name= (--name)"
        )
    group = file["analysis"][names[0] if name is None else name]
    with _reading(group, path):
        check_run(group)
    return group


def _groups(table: h5py.Group) -> pd.DataFrame:
    columns = {
        name: read_text(table[name]).tolist() if kind is str else table[name][()]
        for name, kind in GROUP_COLUMNS.items()
        if name in table
    }
    groups = pd.DataFrame(columns, index=pd.Index(read_text(table["group"]).tolist(), name="group"))
    if groups.index.has_duplicates or not len(groups):
        raise ValueError(f"{table.name}/group has a name twice, or none")
    return groups


def _latents(table: h5py.Group, groups: pd.DataFrame) -> xr.Dataset:
    n_latents, sizes = table["mean"].shape[1], groups["size"].tolist()
    if min(sizes) < 1 or sum(sizes) != n_latents:
        raise ValueError(f"{table.name}/mean has {n_latents} latents; the groups have {sum(sizes)}")
    return xr.Dataset(
        {name: (("stimulus", "latent"), table[name][()]) for name in ("mean", "log_var")},
        coords={
            "stimulus": read_text(table["stimulus"]),
            "split": ("stimulus", read_text(table["split"])),
            "n_presentations": ("stimulus", table["n_presentations"][()]),
            "group": ("latent", np.repeat(groups.index.to_numpy(dtype=str), groups["size"])),
        },
    )


def _presentations(table: h5py.Group) -> xr.Dataset:
    if "presentations" not in table:
        return no_presentations()
    region, ends = table["presentations"], table["presentations_index"][()].astype(np.int64)
    n_rows = np.diff(ends, prepend=0)
    if (n_rows < 0).any() or n_rows.sum() != len(region):
        raise ValueError(f"{table.name}/presentations_index does not divide {len(region)} rows")
    index = np.repeat(np.arange(len(ends)), n_rows)
    row = ("presentation", region[()].astype(np.int64), {"table": place_of_region(region)})
    return xr.Dataset({"stimulus_index": ("presentation", index), "row": row})


def place_of_region(region: h5py.Dataset) -> str:
    """Return the path of the table that a region is of; "" where its attribute leads nowhere."""
    target = region.attrs.get("table")
    try:
        return str(region.file[target].name) if isinstance(target, h5py.Reference) and target else ""
    except (ValueError, RuntimeError, KeyError):
        return ""


def _labels(table: h5py.Group) -> xr.Dataset:
    data = {}
    for column in label_columns(table):
        is_text = h5py.check_string_dtype(column.dtype) is not None
        values = read_text(column) if is_text else column[()]
        period = float(column.attrs["period"])
        data[column.attrs["label"]] = ("stimulus", values, {"period": period} if period else {})
    return xr.Dataset(data, coords={"stimulus": read_text(table["stimulus"])}) if data else no_labels()


def _units(table: h5py.Group) -> xr.Dataset:
    statistics = {name: ("unit", table[name][()]) for name in ("r2", "noise_ceiling", "reliability")}
    coords: dict[str, Any] = {"unit": table["unit"][()]}
    if "unit_row" in table:
        coords["unit_row"] = ("unit", table["unit_row"][()].astype(np.int64))
    if "electrode_group" in table:
        coords["electrode_group"] = ("unit", read_text(table["electrode_group"]))
    return xr.Dataset(
        {"loading": (("unit", "latent"), table["loading"][()]), **statistics},
        coords=coords,
    )


def _synthesized(table: h5py.Group) -> xr.Dataset:
    dims = ("edit", "y", "x", "channel")
    data = {"image": (dims[: table["image"].ndim], table["image"][()])}
    data |= {name: (dims[:3], table[name][()]) for name in EDIT_MAPS if name in table}
    data |= {name: (("edit", "unit"), table[name][()]) for name in EDIT_RATES if name in table}
    coords = {
        name: ("edit", read_text(table[name]) if kind is str else table[name][()])
        for name, kind in EDIT_COORDS.items()
        if name in table
    }
    return xr.Dataset(data, coords=coords)


def _long(group: h5py.Group, form: Form, tables: tuple[str, ...]) -> xr.Dataset:
    """Return a dataset from its tables in long form, the first of which has all dims."""
    data: dict[str, Any] = {}
    coords: dict[str, Any] = {}
    for table in tables:
        dims = LONG_TABLES[table]
        axes = [read_text(group[table][d]) for d in dims]
        check_combinations(group[table].name, axes)
        strange = next(
            (n for n, v in zip(dims, axes, strict=True) if coords and set(v) != set(coords[n])), None
        )
        if strange is not None:
            raise ValueError(f"{group[table].name}/{strange} names others than {group[tables[0]].name}")
        if not coords:
            coords = {d: np.array(list(dict.fromkeys(axis))) for d, axis in zip(dims, axes, strict=True)}
        full = pd.MultiIndex.from_product([coords[d] for d in dims])
        rows = pd.MultiIndex.from_arrays(axes)
        for name in (n for n, (d, _) in form.data.items() if d == dims and n in group[table]):
            values = pd.Series(group[table][name][()], index=rows).reindex(full).to_numpy()
            data[name] = (dims, values.reshape([len(coords[d]) for d in dims]))
    return xr.Dataset(data, coords=coords)


def _provenance(model: h5py.Group) -> Json:
    provenance = read_json(model, "provenance")
    provenance.pop(IS_DIGESTED, None)
    for key in ("config", "versions"):
        if key in model.attrs:
            provenance[key] = read_json(model, key)
    if "digests" in model.attrs:
        digests = read_json(model, "digests")
        provenance.update({key: digests[key] for key in ("inputs", "weights") if key in digests})
    check_provenance(provenance, where=f"{model.name}@provenance")
    return provenance

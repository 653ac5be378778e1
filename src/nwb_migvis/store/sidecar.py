"""Results and weights in a file of their own, for when their session's copy cannot be written.

The file is a safetensors file: arrays as tensors, text and provenance as JSON in its header. It is never
unpickled.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from nwb_migvis.errors import MigvisError
from nwb_migvis.files import check_regular
from nwb_migvis.plain import Json
from nwb_migvis.results import Results
from nwb_migvis.sources import Source, open_hdf5
from nwb_migvis.store.canonical import canonical
from nwb_migvis.tensors import read_tensors, write_tensors

_KEY = "nwb-migvis-results"
_DATASETS = ("latents", "units", "synthesized", "selectivity", "decoding", "labels", "presentations")


_ANALYSIS = "analyses/"


def sidecar_path(output: Path) -> Path:
    """Return the path of the sidecar of an output."""
    return output.with_name(f"{output.name}.results.safetensors")


def write_sidecar(
    results: Results, weights: Mapping[str, bytes], *, source: Source, beside: Path
) -> Path | None:
    """Write results and weights to a sidecar that this user alone can read.

    Parameters
    ----------
    results : Results
        In canonical form.
    weights : mapping of str to bytes
    source : path, or another source
        The session that they are of.
    beside : Path
        The output; the sidecar goes to the system's folder of temporary files where it cannot go there.

    Returns
    -------
    Path or None
        None where it cannot be written anywhere.
    """
    tensors, about = _flat(results)
    tensors |= {f"weights/{name}": np.frombuffer(data, np.uint8) for name, data in weights.items()}
    about |= {"source": source.name, "identifier": session_identifier(source)}
    data = write_tensors(tensors, {_KEY: json.dumps(about)})
    for path in _candidates(beside):
        with contextlib.suppress(OSError):
            return _write_new(path, data)
    return None


def read_sidecar(path: str | Path) -> tuple[Results, dict[str, bytes], str]:
    """Read what `write_sidecar` wrote.

    Returns
    -------
    results : Results
    weights : dict of str to bytes
    identifier : str
        Of the session that they are of; "" where it has none.

    Raises
    ------
    MigvisError
        If the file cannot be read or is not a sidecar.
    """
    path = Path(path)
    check_regular(path, what="sidecar")
    try:
        tensors, metadata = read_tensors(path.read_bytes())
        about = json.loads(metadata[_KEY])
        results = canonical(_from_flat(tensors, about))
        weights = {
            name.removeprefix("weights/"): values.tobytes()
            for name, values in tensors.items()
            if name.startswith("weights/")
        }
        return results, weights, str(about["identifier"])
    except OSError as error:
        raise MigvisError(f"sidecar {path}: {error.strerror}; give the path that the run named") from None
    except (KeyError, ValueError, TypeError, AttributeError, IndexError, RecursionError) as error:
        raise MigvisError(
            f"sidecar {path} cannot be read ({error}); expected the file that a run left; give its path"
        ) from None


def _candidates(beside: Path) -> Iterator[Path]:
    first = sidecar_path(beside)
    yield first
    yield from (first.with_name(f"{first.stem}{i}{first.suffix}") for i in range(1, 10))
    with contextlib.suppress(OSError):
        yield Path(tempfile.mkdtemp(prefix="nwb-migvis-")) / first.name


def _write_new(path: Path, data: bytes) -> Path:
    """Write a file that does not exist, whole or not at all."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return path


def session_identifier(source: Source) -> str:
    """Return the identifier of a session's file, "" where it has none."""
    with contextlib.suppress(OSError, KeyError, TypeError, AttributeError), open_hdf5(source) as file:
        return str(file["identifier"].asstr()[()])
    return ""


def _flat(results: Results) -> tuple[dict[str, np.ndarray], Json]:
    """Return the arrays of results by path, and what is not an array, as JSON can hold it."""
    tensors: dict[str, np.ndarray] = {}
    variables: dict[str, Json] = {}

    def put(part: str, name: str, dims: tuple[str, ...], values: np.ndarray) -> None:
        about: Json = {"dims": list(dims)}
        if values.dtype.kind in "UO":
            about["text"] = values.tolist()
        else:
            tensors[f"{part}/{name}"] = values
        variables.setdefault(part, {})[name] = about

    put("groups", "group", ("group",), results.groups.index.to_numpy(dtype=str))
    for column in results.groups:
        put("groups", str(column), ("group",), results.groups[column].to_numpy())
    datasets = {part: getattr(results, part) for part in _DATASETS}
    datasets |= {f"{_ANALYSIS}{name}": data for name, data in results.analyses.items()}
    for part, dataset in datasets.items():
        for name, variable in dataset.variables.items():
            put(part, str(name), tuple(map(str, variable.dims)), variable.values)
            variables[part][str(name)]["attrs"] = variable.attrs
    about = {"name": results.name, "provenance": results.provenance, "variables": variables}
    about |= {"attrs": {part: dataset.attrs for part, dataset in datasets.items()}}
    return tensors, about | {"coords": {p: [str(c) for c in data.coords] for p, data in datasets.items()}}


def _from_flat(tensors: Mapping[str, np.ndarray], about: Mapping[str, Any]) -> Results:
    def get(part: str, name: str) -> Any:
        variable = about["variables"][part][name]
        values = np.array(variable["text"], dtype=str) if "text" in variable else tensors[f"{part}/{name}"]
        return tuple(variable["dims"]), values, variable.get("attrs", {})

    columns = {name: get("groups", name)[1] for name in about["variables"]["groups"]}
    index = pd.Index(columns.pop("group").tolist(), name="group")
    groups = {n: v.tolist() if v.dtype.kind == "U" else v for n, v in columns.items()}
    datasets = {}
    analyses = [part for part in about["coords"] if part.startswith(_ANALYSIS)]
    for part in (*_DATASETS, *analyses):
        names, coords = list(about["variables"].get(part, ())), set(about["coords"].get(part, ()))
        datasets[part] = xr.Dataset(
            {n: get(part, n) for n in names if n not in coords},
            coords={n: get(part, n) for n in coords},
            attrs=about.get("attrs", {}).get(part, {}),
        )
    return Results(
        name=about["name"],
        groups=pd.DataFrame(groups, index=index),
        provenance=about["provenance"],
        analyses={part.removeprefix(_ANALYSIS): datasets.pop(part) for part in analyses},
        **datasets,
    )

"""Results out of NWB: netCDF, tables as CSV, edits as PNG."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import xarray as xr

from nwb_migvis.errors import MigvisError
from nwb_migvis.results.gallery import edit_names

if TYPE_CHECKING:
    from nwb_migvis.results.record import Results

_PARTS = ("latents", "units", "selectivity", "decoding", "labels", "presentations")


def write_netcdf(results: Results, path: Path) -> Path:
    """Write all tables into a new netCDF file, a group per table, as `Results.to_datatree` has them.

    Raises
    ------
    MigvisError
        If the file exists, or neither h5netcdf nor netCDF4 is installed.
    """
    engine = next((e for e, module in _ENGINES.items() if find_spec(module)), None)
    if engine is None:
        raise MigvisError("found no library for netCDF; expected h5netcdf; pip install 'nwb-migvis[netcdf]'")
    if path.exists():
        raise MigvisError(f"{path} exists already; expected a new file; give another path")
    tree: Any = results.to_datatree()
    tree.to_netcdf(path, engine=engine)
    return path


_ENGINES = {"h5netcdf": "h5netcdf", "netcdf4": "netCDF4"}


def write_tables(results: Results, folder: Path) -> list[Path]:
    """Write the tables into a folder, each as a CSV in long form.

    Variables of one part with other axes are in a file of their own, which their axes name:
    `units.csv` (unit) and `units_by_unit_latent.csv`.

    Returns
    -------
    list of Path

    Raises
    ------
    MigvisError
        If the folder exists and is not empty.
    """
    make_folder(folder)
    tables = {"groups": results.groups.reset_index()}
    for part in _PARTS:
        tables |= _long_tables(part, getattr(results, part))
    for name, analysis in results.analyses.items():
        tables |= _long_tables(f"analysis_{name}", analysis)
    if results.synthesized.sizes["edit"]:
        tables["edits"] = _edit_table(results.synthesized)
    written = []
    for name, table in tables.items():
        path = folder / f"{name}.csv"
        table.to_csv(path, index=False)
        written.append(path)
    return written


def write_images(results: Results, folder: Path) -> list[Path]:
    """Write the edits into a folder as PNG files, with `edits.csv`, one row per file.

    Names say row, group, source, target (or direction and length) and strength, as in the gallery.

    Returns
    -------
    list of Path
        The images.

    Raises
    ------
    MigvisError
        If the folder exists and is not empty, or the run made no edits.
    """
    from PIL import Image

    edits = results.synthesized
    if not edits.sizes["edit"]:
        raise MigvisError(f"run {results.name!r} made no edits; expected some to write; use its tables alone")
    make_folder(folder)
    table = _edit_table(edits)
    for file, pixels in zip(table["file"], edits["image"].values, strict=True):
        Image.fromarray(pixels).save(folder / file)
    table.to_csv(folder / "edits.csv", index=False)
    return [folder / file for file in table["file"]]


def check_empty(folder: Path) -> None:
    """Raise `MigvisError` for a folder that exists and is not empty."""
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise MigvisError(f"{folder} exists already; expected a new or an empty folder; give another")


def make_folder(folder: Path) -> None:
    """Make a folder, or raise `MigvisError` where it is not empty."""
    check_empty(folder)
    folder.mkdir(parents=True, exist_ok=True)


def _edit_table(edits: xr.Dataset) -> pd.DataFrame:
    """Return how each edit was made, with the name of its image."""
    columns = {str(name): coord.values for name, coord in edits.coords.items() if coord.dims == ("edit",)}
    rows = np.arange(edits.sizes["edit"])
    return pd.DataFrame({"file": [f"{name}.png" for name in edit_names(edits, rows)], **columns})


def _long_tables(name: str, dataset: xr.Dataset) -> dict[str, pd.DataFrame]:
    """Return the variables of a dataset as tables, one per set of axes."""
    axes = dict.fromkeys(variable.dims for variable in dataset.data_vars.values())
    least = min(axes, key=len, default=())
    tables = {}
    for dims in axes:
        own = dataset[[n for n, variable in dataset.data_vars.items() if variable.dims == dims]]
        table = own.to_dataframe().reset_index() if dims else own.to_array("name", "value").to_dataframe()
        by = "" if dims == least else f"_by_{'_'.join(map(str, dims))}"
        tables[f"{name}{by}".replace("/", "_")] = table
    return tables

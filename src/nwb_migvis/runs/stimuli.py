"""The pictures of a written run as files, for a session in which they are shown."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

from nwb_migvis.errors import MigvisError
from nwb_migvis.pixels import resize_images
from nwb_migvis.read.recorded import read_shown, small_images
from nwb_migvis.results import Results
from nwb_migvis.results.export import check_empty, make_folder
from nwb_migvis.results.pictures import REAL, chosen_edits, picture_table
from nwb_migvis.store import read_results

PICTURES, RATES = "stimuli.csv", "predicted_rates.csv"
"""Lists beside the pictures."""

MOST_PX = 2048


def export_stimuli(
    path: str | Path,
    out: str | Path,
    *,
    name: str | None = None,
    size_px: int | None = None,
    max_pairs: int | None = None,
    images: str | Path | None = None,
    **which: str | Sequence[str],
) -> list[Path]:
    """Write edits, controls and the real images that they came from as PNG, to be shown in another session.

    Parameters
    ----------
    path : path
        A file that `run` wrote.
    out : path
        A new or an empty folder. Beside the pictures, `stimuli.csv` says what each is and should do, and
        `predicted_rates.csv` which spike count per presentation the encoding model expects of each unit.
    name : str, optional
        The run, where the file holds several.
    size_px : int, optional
        Longest side of the pictures (Lanczos); the edits' own where it is None.
    max_pairs : int, optional
        Pairs of source and target per group; all where it is None.
    images : path, optional
        As in `read_session`, for sessions that hold no pixels.
    **which
        `group`, `method` and `role`, as `Results.edits` takes them; role "main" where none is given.

    Returns
    -------
    list of Path
        The pictures.

    Raises
    ------
    MigvisError
        If the folder is not empty, the run made no such edits, or the session's images cannot be read.
    """
    path, folder = Path(path), Path(out)
    if size_px is not None and not 8 <= size_px <= MOST_PX:
        raise MigvisError(f"size: found {size_px} px; expected 8 to {MOST_PX}")
    if max_pairs is not None and max_pairs < 1:
        raise MigvisError(f"pairs: found {max_pairs}; expected 1 or more")
    check_empty(folder)
    results = read_results(path, name)
    rows = chosen_edits(results, max_pairs=max_pairs, **({"role": "main"} | which))
    table = picture_table(results, rows)
    session = read_shown(path, results, images=images)
    real = table.loc[table["kind"] == REAL, "source"].tolist()
    pictures = np.concatenate(
        [results.synthesized["image"].values[rows], _real_images(session, results, real)]
    )
    if size_px is not None:
        pictures = resize_images(pictures, _scaled(pictures.shape[1:3], size_px))
    return _write(folder, table, pictures, predicted_rates(results, rows))


def predicted_rates(results: Results, rows: np.ndarray) -> pd.DataFrame | None:
    """Return the predicted counts of edits as a table, a column per unit; None where there are none."""
    edits = results.synthesized
    if "predicted_rate" not in edits:
        return None
    rates = edits["predicted_rate"].transpose("edit", "unit").values[rows]
    return pd.DataFrame(rates, columns=unit_names(results.units))


def unit_names(units: xr.Dataset) -> list[str]:
    """Return a name per unit: its id, with its place where ids repeat."""
    ids = [str(unit) for unit in units["unit"].values]
    if len(set(ids)) == len(ids):
        return [f"unit_{unit}" for unit in ids]
    return [f"unit_{unit}_at_{i}" for i, unit in enumerate(ids)]


def _real_images(session: xr.Dataset, results: Results, stimuli: list[str]) -> np.ndarray:
    """Return the images of stimuli at the edits' size, (stimulus, y, x (, channel))."""
    shape = results.synthesized["image"].shape[1:]
    row = {str(name): i for i, name in enumerate(session["stimulus"].values)}
    chosen = session["image"].isel(stimulus=[row[name] for name in stimuli])
    return small_images(chosen, max(shape[:2]), like=shape)


def _scaled(shape: tuple[int, ...], size_px: int) -> tuple[int, int]:
    scale = size_px / max(shape)
    return max(1, round(shape[0] * scale)), max(1, round(shape[1] * scale))


def _write(folder: Path, table: pd.DataFrame, pictures: np.ndarray, rates: pd.DataFrame | None) -> list[Path]:
    from PIL import Image

    make_folder(folder)
    files = [folder / file for file in table["file"]]
    for file, pixels in zip(files, pictures, strict=True):
        Image.fromarray(pixels).save(file)
    table.to_csv(folder / PICTURES, index=False)
    if rates is not None:
        rates.insert(0, "file", table["file"].to_numpy()[: len(rates)])
        rates.to_csv(folder / RATES, index=False)
    return files

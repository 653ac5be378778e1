"""Labels of images: what the file or a CSV says of an image, told from what varies between presentations."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from nwb_migvis.errors import MigvisError
from nwb_migvis.read.opening import one_line


def labels_of_presentations(
    columns: Mapping[str, np.ndarray],
    stimulus_index: np.ndarray,
    n_stimuli: int,
    *,
    not_labels: Collection[str],
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Split presentation columns into labels of the images and columns that vary within an image.

    Parameters
    ----------
    columns : mapping of str to numpy.ndarray
        (presentation,) each.
    stimulus_index : numpy.ndarray
        (presentation,) int64.
    n_stimuli : int
    not_labels : collection of str
        Columns that are no labels whatever they hold.

    Returns
    -------
    labels : dict of str to numpy.ndarray
        (stimulus,) float64, NaN where unknown, or str.
    varying : dict of str to numpy.ndarray
        (presentation,) as they came.
    """
    labels, varying = {}, {}
    for name, values in columns.items():
        codes, uniques = pd.factorize(values)
        known = codes >= 0
        table = pd.DataFrame({"stimulus": stimulus_index[known], "code": codes[known]}).drop_duplicates()
        if table["stimulus"].duplicated().any():
            varying[name] = values
        elif name not in not_labels:
            found = np.full(n_stimuli, -1, np.int64)
            found[table["stimulus"].to_numpy()] = table["code"].to_numpy()
            label = _taken(np.asarray(uniques), found)
            if is_label(label, values.dtype):
                labels[name] = label
    return labels, varying


def _taken(uniques: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Return the values of codes, (stimulus,): numbers as float64, text and booleans as str."""
    if uniques.dtype.kind in "iuf":
        return np.where(codes < 0, np.nan, uniques.astype(np.float64)[codes])
    text = np.array([str(value) for value in uniques] + [""], dtype=object)
    return text[codes]


def is_label(label: np.ndarray, stored: np.dtype) -> bool:
    """Return whether values of the images, one each, are a label.

    They must vary between images; integers and text must not be one-to-one with them.
    """
    known = label[~pd.isna(label) & (label != "")] if label.dtype == object else label[~np.isnan(label)]
    n_different = len(set(known.tolist()))
    if n_different < 2 and (n_different == 0 or len(known) == len(label)):
        return False
    return stored.kind in "fb" or n_different < len(known)


def labels_of_images(attributes: list[Mapping[str, Any]]) -> dict[str, np.ndarray]:
    """Return the labels among the attributes of each image, (stimulus,) each."""
    labels = {}
    for name in sorted({name for found in attributes for name in found}):
        values = [found.get(name) for found in attributes]
        is_number = all(isinstance(v, int | float | np.number) for v in values if v is not None)
        if is_number:
            label = np.array([np.nan if v is None else float(v) for v in values])
            stored = np.result_type(*[np.asarray(v) for v in values if v is not None])
        else:
            label = np.array(["" if v is None else str(v) for v in values], object)
            stored = np.dtype(object)
        if is_label(label, stored):
            labels[name] = label
    return labels


def labels_from_csv(
    path: str | Path, stimuli: Collection[str], *, known: Collection[str] = ()
) -> dict[str, np.ndarray]:
    """Read labels of images from a CSV with a `stimulus` column; its other columns are labels.

    A column is numeric where every cell is a number or empty.

    Parameters
    ----------
    path : path
    stimuli : collection of str
        Stimulus ids, in the order wanted.
    known : collection of str
        Further images that the file may name though they were not shown.

    Returns
    -------
    dict of str to numpy.ndarray
        (stimulus,) float64 (NaN where empty) or str ("" where empty).

    Raises
    ------
    MigvisError
        If the file cannot be read, has no `stimulus` column, names a stimulus twice or one that is not in
        the session, or lacks one.
    """
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
    except OSError as error:
        raise MigvisError(f"labels {path}: {error.strerror}; give the path of a CSV file") from None
    except (ValueError, UnicodeDecodeError) as error:
        raise MigvisError(f"labels {path} is no CSV: {one_line(error)}; give a CSV file") from None
    if "stimulus" not in table.columns:
        held = one_line(", ".join(map(str, table.columns)))
        raise MigvisError(
            f"labels {path} has columns {held}; expected one named 'stimulus': "
            "rename the column of image names"
        )
    keys = table["stimulus"]
    doubled = keys[keys.duplicated()]
    if len(doubled):
        raise MigvisError(
            f"labels {path} has stimulus {doubled.iloc[0]!r} twice; expected each once: remove one row"
        )
    wrong = [key for key in keys if key not in {*stimuli, *known}]
    if wrong:
        raise MigvisError(
            f"labels {path} names {len(wrong)} stimuli that are not in the session, first {wrong[0]!r}; "
            f"expected ids such as {next(iter(stimuli), '')!r}: correct the stimulus column"
        )
    missing = [key for key in stimuli if key not in set(keys)]
    if missing:
        raise MigvisError(
            f"labels {path} lacks {len(missing)} of {len(stimuli)} stimuli, first {missing[0]!r}; expected a "
            "row for each (cells may be empty): add the rows"
        )
    table = table.set_index("stimulus").loc[list(stimuli)]
    labels = {}
    for name in table.columns:
        label, stored = _cells(table[name].to_numpy(object))
        if is_label(label, stored):
            labels[str(name)] = label
    return labels


def _cells(cells: np.ndarray) -> tuple[np.ndarray, np.dtype]:
    """Return the cells of a CSV column as a label, and the type that they would be stored as."""
    try:
        values = np.array([float(cell) if cell.strip() else np.nan for cell in cells])
    except ValueError:
        return cells, np.dtype(object)
    is_integer = all(cell.strip().lstrip("+-").isdigit() for cell in cells if cell.strip())
    return values, np.dtype(np.int64) if is_integer else np.dtype(np.float64)

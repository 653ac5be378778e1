"""Labels of images: what the file or a CSV says about an image and does not vary between presentations."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from nwb_migvis.errors import MigvisError
from nwb_migvis.files import read_csv


def labels_of_presentations(
    columns: Mapping[str, np.ndarray],
    stimulus_index: np.ndarray,
    n_stimuli: int,
    *,
    not_labels: Collection[str],
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], dict[str, str]]:
    """Split presentation columns into labels of the images and columns that vary within an image.

    Parameters
    ----------
    columns : mapping of str to numpy.ndarray
        (presentation,) each.
    stimulus_index : numpy.ndarray
        (presentation,) int64.
    n_stimuli : int
    not_labels : collection of str
        Columns that are not labels, whatever they hold.

    Returns
    -------
    labels : dict of str to numpy.ndarray
        (stimulus,) float64, NaN where unknown, or str.
    varying : dict of str to numpy.ndarray
        (presentation,) as they came.
    left_out : dict of str to str
        Why each of the other columns is neither; `not_labels` are not among them.
    """
    labels, varying, left_out = {}, {}, {}
    for name, values in columns.items():
        is_empty = values == "" if values.dtype == object else np.zeros(len(values), bool)
        codes, uniques = pd.factorize(values)
        has_value = (codes >= 0) & ~is_empty  # NWB keeps missing text as ""
        table = pd.DataFrame({"stimulus": stimulus_index[has_value], "code": codes[has_value]})
        table = table.drop_duplicates()
        if table["stimulus"].duplicated().any():
            varying[name] = values
        elif name not in not_labels:
            code = np.full(n_stimuli, -1, np.int64)
            code[table["stimulus"].to_numpy()] = table["code"].to_numpy()
            label = _taken(np.asarray(uniques), code)
            why = why_no_label(label, values.dtype)
            if why is None:
                labels[name] = label
            else:
                left_out[name] = why
    return labels, varying, left_out


def _taken(uniques: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Return the values of codes, (stimulus,): numbers as float64, text and booleans as str."""
    if uniques.dtype.kind in "iuf":
        return np.where(codes < 0, np.nan, uniques.astype(np.float64)[codes])
    text = np.array([str(value) for value in uniques] + [""], dtype=object)
    return text[codes]


def why_no_label(label: np.ndarray, stored: np.dtype) -> str | None:
    """Return why values of the images, one each, are not a label, or None where they are one.

    They must vary between images, numbers must be finite or unknown, and integers and text must not be
    one-to-one with the images.
    """
    values = label[~pd.isna(label) & (label != "")] if label.dtype == object else label[~np.isnan(label)]
    if label.dtype != object and np.isinf(values).any():
        return "holds infinity"
    n_different = len(set(values.tolist()))
    if n_different == 0:
        return "empty"
    if n_different == 1 and len(values) == len(label):
        return "the same for every image"
    if stored.kind not in "fb" and n_different == len(values):
        return "another value for every image"
    return None


def labels_of_images(attributes: list[Mapping[str, Any]]) -> dict[str, np.ndarray]:
    """Return the labels among the attributes of each image, (stimulus,) each."""
    labels = {}
    for name in sorted({name for of_image in attributes for name in of_image}):
        values = [of_image.get(name) for of_image in attributes]
        is_number = all(isinstance(v, int | float | np.number) for v in values if v is not None)
        if is_number:
            label = np.array([np.nan if v is None else float(v) for v in values])
            stored = np.result_type(*[np.asarray(v) for v in values if v is not None])
        else:
            label = np.array(["" if v is None else str(v) for v in values], object)
            stored = np.dtype(object)
        if why_no_label(label, stored) is None:
            labels[name] = label
    return labels


def labels_from_csv(
    path: str | Path, stimuli: Collection[str], *, more_stimuli: Collection[str] = ()
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Read labels of images from a CSV with a `stimulus` column; its other columns are labels.

    A column is numeric where every cell is a number or empty.

    Parameters
    ----------
    path : path
    stimuli : collection of str
        Stimulus ids, in the order to return.
    more_stimuli : collection of str
        Further images that the file may name though they were not shown.

    Returns
    -------
    labels : dict of str to numpy.ndarray
        (stimulus,) float64 (NaN where empty) or str ("" where empty).
    left_out : dict of str to str
        Why each of the other columns is not a label.

    Raises
    ------
    MigvisError
        If the file cannot be read, has a column twice or none named `stimulus`, names a stimulus twice or
        one that is not in the session, lacks one, or holds an infinite number.
    """
    table = read_csv(path, what="labels", needs=("stimulus",), dtype=str, keep_default_na=False)
    keys = table["stimulus"]
    doubled = keys[keys.duplicated()]
    if len(doubled):
        raise MigvisError(
            f"labels {path} has stimulus {doubled.iloc[0]!r} twice; expected each once: remove one row"
        )
    wrong = [key for key in keys if key not in {*stimuli, *more_stimuli}]
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
    labels, left_out = {}, {}
    for name in map(str, table.columns):
        label, stored = _cells(table[name].to_numpy(object))
        if label.dtype != object and np.isinf(label).any():
            where = table.index[np.isinf(label)][0]
            raise MigvisError(
                f"labels {path} holds infinity in column {name!r} for stimulus {where!r}; expected a "
                "number, or an empty cell where it is unknown"
            )
        why = why_no_label(label, stored)
        if why is None:
            labels[name] = label
        else:
            left_out[name] = why
    return labels, left_out


def agreed_labels(own: np.ndarray, other: np.ndarray, stimuli: Sequence[str], *, place: str) -> np.ndarray:
    """Return one label that two places give, each filling in what the other leaves unknown.

    Numbers agree where they differ by rounding (a millionth of them) at most.

    Parameters
    ----------
    own, other : numpy.ndarray
        (stimulus,) float64 or str, of the session and of `place`.
    stimuli : sequence of str
    place : str
        For messages.

    Returns
    -------
    numpy.ndarray
        (stimulus,) the other's values where it knows them.

    Raises
    ------
    MigvisError
        Where both know a value of an image and the values differ.
    """
    is_number = own.dtype.kind == "f", other.dtype.kind == "f"
    if is_number[0] != is_number[1]:
        kinds = ["numbers" if number else "text" for number in is_number]
        raise MigvisError(
            f"{place} holds {kinds[1]} and the session's label {kinds[0]}; expected the same: rename the "
            "column, or correct it"
        )
    unknown = [
        np.isnan(values) if number else values == ""
        for values, number in zip((own, other), is_number, strict=True)
    ]
    same = np.isclose(own, other, rtol=1e-6, atol=0) if is_number[0] else own == other
    differs = ~(same | unknown[0] | unknown[1])
    if differs.any():
        k = int(np.argmax(differs))
        raise MigvisError(
            f"{place} has {other[k]!s} for stimulus {stimuli[k]!r} and the session has {own[k]!s} "
            f"({int(differs.sum())} such stimuli); expected the same: rename the column, or correct either"
        )
    return np.where(unknown[1], own, other)


def _cells(cells: np.ndarray) -> tuple[np.ndarray, np.dtype]:
    """Return the cells of a CSV column as a label, and the type that they would be stored as."""
    try:
        values = np.array([float(cell) if cell.strip() else np.nan for cell in cells])
    except ValueError:
        return cells, np.dtype(object)
    is_integer = all(cell.strip().lstrip("+-").isdigit() for cell in cells if cell.strip())
    return values, np.dtype(np.int64) if is_integer else np.dtype(np.float64)

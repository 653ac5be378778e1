"""The gate: everything that is read from a result file passes here before any code acts on it.

Structure, types and sizes of a run are checked before its data are read; JSON is typed and bounded. Every
error is a `ValueError` that names the place in the file.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import h5py
import numpy as np

from nwb_migvis.memory import LEAST_BYTES, most_bytes
from nwb_migvis.plain import Json
from nwb_migvis.results import (
    EDIT_COORDS,
    EDIT_MAPS,
    EDIT_RATES,
    GROUP_COLUMNS,
    OPTIONAL_EDIT_COORDS,
    OPTIONAL_GROUP_COLUMNS,
)
from nwb_migvis.results.gallery import MOST_IMAGES
from nwb_migvis.store.canonical import DECODING, DECODING_DIMS, EVIDENCE_DIMS, SELECTIVITY, Form
from nwb_migvis.tensors import parse_json

MOST_EXPANSION = 1100
"""Deflate, the only compression that is written, makes data at most 1,032 times smaller."""

MOST_TEXT = 4096
"""Characters of a name."""
MOST_JSON = 2**26
"""Characters of a JSON attribute."""
_BLOCK_BYTES = 2**28
_FILTERS = frozenset({1, 2, 3})
"""Deflate, shuffle and checksum."""

_TOGETHER = (
    ("variance_explained_q", "variance_unique_q", "mi_q"),
    ("information_nats", "information_p"),
    ("variance_beyond_labels", "variance_beyond_labels_p"),
    ("variance_beyond_images", "variance_beyond_images_p"),
    ("decoding", "decoding_p", "decoding_q"),
    ("variance_explained_low", "variance_explained_high"),
    ("variance_unique_low", "variance_unique_high"),
    ("own_group_gap_low", "own_group_gap_high"),
)
"""Columns of the groups that are there together or not at all."""

LONG_TABLES: dict[str, tuple[str, ...]] = {
    "selectivity": EVIDENCE_DIMS,
    "reader_scores": ("label", "reader"),
    "selectivity_index": ("method", "reader"),
    "decoding": DECODING_DIMS,
    "label_decoding": ("label",),
}
"""Tables with one row per combination of their axes."""


@dataclass(frozen=True)
class Column:
    """What a column has to be: the kind of its values, and its possible numbers of dimensions.

    Kinds are `str`, `np.uint8`, and `np.int64` and `np.floating` for integers and floats of any size.
    """

    kind: Any
    ndims: tuple[int, ...] = (1,)
    is_optional: bool = False


def check_run(group: h5py.Group) -> None:
    """Check structure, types and sizes of a run, reading none of its data.

    Raises
    ------
    ValueError
        For a table or column that is absent, a link, of another kind, or of a size that its bytes in the
        file, the other columns, or the limits of this module contradict.
    """
    total = 0
    for name, item in _hard_links(group):
        if not isinstance(item, h5py.Group):
            raise ValueError(f"{group.name}/{name} is a dataset; expected a group")
        columns = _tables().get(name)
        for part in [table for _, table in _hard_links(item)] if name == "analyses" else [item]:
            total += _bytes_below(part)
        if columns is not None:
            _check_table(item, columns)
        if name == "stimulus_labels":
            _check_labels(item)
        if name == "gallery":
            _check_gallery(item)
        if name == "analyses":
            check_analyses(item)
    for name in ("model", "latent_groups", "stimulus_latents", "unit_loadings"):
        if name not in group:
            raise ValueError(f"{group.name}/{name} is absent")
    _check_rates(group)
    _check_presentations(group["stimulus_latents"])
    for parts in (("selectivity", "reader_scores", "selectivity_index"), ("decoding", "label_decoding")):
        if any(p in group for p in parts) and not all(p in group for p in parts):
            raise ValueError(f"{group.name} holds only some of {', '.join(parts)}; expected all or none")
    for columns_together in _TOGETHER:
        present = [name in group["latent_groups"] for name in columns_together]
        if any(present) and not all(present):
            place = f"{group.name}/latent_groups/{columns_together[present.index(False)]}"
            raise ValueError(f"{place} is absent; expected {', '.join(columns_together)} together")
    most = most_bytes(group.file.id.get_filesize())
    if total > most:
        raise ValueError(
            f"{group.name} is said to hold {total} bytes; expected at most {most}; allow more with "
            "--max-memory (memory_limit)"
        )
    for place, dataset in _hard_links(group["model"]):
        if dataset.dtype != np.uint8 or dataset.ndim != 1:
            raise ValueError(f"{group.name}/model/{place}: found {dataset.dtype}; expected bytes (uint8)")
        if not isinstance(dataset.attrs.get("sha256"), str):
            raise ValueError(f"{group.name}/model/{place} has no text sha256")


def check_analyses(group: h5py.Group) -> None:
    """Check the tables of further analyses: attributes, and kinds and lengths of the columns.

    Raises
    ------
    ValueError
    """
    for _, table in _hard_links(group):
        if not isinstance(table, h5py.Group):
            raise ValueError(f"{table.name} is a dataset; expected a table")
        analysis = table.attrs.get("analysis")
        if not isinstance(analysis, str) or not 0 < len(analysis) <= MOST_TEXT:
            raise ValueError(f"{table.name}@analysis is {analysis!r:.40}; expected the name of an analysis")
        structure = read_json(table, "structure")
        names, shape = structure.get("names"), structure.get("shape")
        if (
            not isinstance(names, dict)
            or not names
            or not all(isinstance(name, str) for name in names.values())
            or len(set(names.values())) < len(names)
            or not isinstance(structure.get("attributes"), dict)
            or not all(isinstance(value, dict) for value in structure["attributes"].values())
            or not all(_is_part(structure.get(key), names) for key in ("dims", "coordinates"))
            or not isinstance(shape, list)
            or len(shape) != len(structure["dims"])
            or not all(type(n) is int and n > 0 for n in shape)
        ):
            raise ValueError(f"{table.name}@structure does not describe columns and axes")
        for column in names:
            values = table.get(column)
            if not isinstance(values, h5py.Dataset) or values.shape != (math.prod(shape),):
                raise ValueError(f"{table.name}/{column} is not a column of {math.prod(shape)} rows")
            if values.dtype.kind not in "biuf" and h5py.check_string_dtype(values.dtype) is None:
                raise ValueError(f"{values.name}: found {values.dtype}; expected numbers or text")


def _is_part(columns: Any, names: Mapping[str, Any]) -> bool:
    return (
        isinstance(columns, list)
        and all(isinstance(column, str) and column in names for column in columns)
        and len(set(columns)) == len(columns)
    )


def label_columns(table: h5py.Group) -> list[h5py.Dataset]:
    """Return the columns of the table of labels that hold a label, in the table's order."""
    place = {str(name): i for i, name in enumerate(table.attrs.get("colnames", ()))}
    names = [name for name in table if name not in ("id", "stimulus")]
    return [table[name] for name in sorted(names, key=lambda name: place.get(name, len(place)))]


def read_text(dataset: h5py.Dataset) -> np.ndarray:
    """Return text as NumPy text, having checked how long it is, a few rows at a time.

    Raises
    ------
    ValueError
        If a text is longer than a name can be, or all together need too much memory.
    """
    rows = max(16, _BLOCK_BYTES // dataset.file.id.get_filesize())
    texts: list[str] = []
    longest = 1
    for first in range(0, len(dataset), rows):
        block = dataset.asstr()[first : first + rows].tolist()
        longest = max(longest, *map(len, block))
        if longest > MOST_TEXT or 4 * longest * len(dataset) > LEAST_BYTES:
            raise ValueError(f"{dataset.name} has a text of {longest} characters in {len(dataset)} rows")
        texts += block
    return np.array(texts, dtype=str)


def read_json(group: h5py.Group, name: str) -> Json:
    """Return the JSON object in an attribute.

    Raises
    ------
    ValueError
        If the attribute is not text, too long, or anything but a JSON object of finite numbers.
    """
    text = group.attrs.get(name)
    if not isinstance(text, str) or len(text) > MOST_JSON:
        raise ValueError(f"{group.name}@{name} is not text of at most {MOST_JSON} characters")
    try:
        return parse_json(text)
    except ValueError as error:
        raise ValueError(f"{group.name}@{name}: {error}") from None


def check_provenance(provenance: Mapping[str, Any], *, where: str) -> None:
    """Check the types of what other code looks up in a provenance.

    Raises
    ------
    ValueError
        Naming the key.
    """
    for key, kinds in _PROVENANCE.items():
        if key in provenance and not isinstance(provenance[key], kinds):
            raise ValueError(
                f"{where}: {key} is a {type(provenance[key]).__name__}; expected {_names(kinds)}"
            )
    for key, digest in provenance.get("weights", {}).items():
        if not isinstance(digest, str):
            raise ValueError(f"{where}: weights.{key} is {digest!r:.40}; expected a digest")
    for note in provenance.get("notes", []):
        if not isinstance(note, str):
            raise ValueError(f"{where}: notes hold {note!r:.40}; expected text")
    for record in provenance.get("further_edits", []):
        rows = record.get("edits") if isinstance(record, dict) else None
        if not (isinstance(rows, list) and len(rows) == 2 and all(type(row) is int for row in rows)):
            raise ValueError(f"{where}: further_edits hold {record!r:.40}; expected the rows of edits")


def check_combinations(place: str, axes: list[np.ndarray]) -> None:
    """Check that a table in long form has one row per combination of its axes, each once.

    Raises
    ------
    ValueError
    """
    n_rows = len(axes[0])
    n_values = [len(np.unique(axis)) for axis in axes]
    product = math.prod(n_values)
    if product != n_rows:
        raise ValueError(f"{place} has {n_rows} rows; expected {product}, one per combination of its axes")
    if len(set(zip(*(axis.tolist() for axis in axes), strict=True))) != n_rows:
        raise ValueError(f"{place} has a combination of its axes twice")


_PROVENANCE: dict[str, tuple[type, ...]] = {
    "config": (dict,),
    "versions": (dict,),
    "inputs": (list, dict),
    "weights": (dict,),
    "notes": (list,),
    "reading": (dict,),
    "further_edits": (list,),
    "appearance": (dict,),
    "encoding": (dict,),
    "prior": (dict,),
    "independence": (list,),
    "times": (dict,),
    "device": (str,),
}


def _names(kinds: tuple[type, ...]) -> str:
    words: dict[type, str] = {dict: "an object", list: "a list", str: "text"}
    return " or ".join(words[kind] for kind in kinds)


def _tables() -> dict[str, dict[str, Column]]:
    groups = {
        name: Column(str if kind is str else _family(kind), is_optional=name in OPTIONAL_GROUP_COLUMNS)
        for name, kind in GROUP_COLUMNS.items()
    }
    number = Column(np.floating)
    tables = {
        "latent_groups": {"group": Column(str), **groups},
        "stimulus_latents": {
            "stimulus": Column(str),
            "mean": Column(np.floating, (2,)),
            "log_var": Column(np.floating, (2,)),
            "split": Column(str),
            "n_presentations": Column(np.int64),
            "presentations_index": Column(np.int64, is_optional=True),
        },
        "unit_loadings": {
            "unit": Column(np.int64),
            "loading": Column(np.floating, (2,)),
            **dict.fromkeys(("r2", "noise_ceiling", "reliability"), number),
            "unit_row": Column(np.int64, is_optional=True),
            "electrode_group": Column(str, is_optional=True),
        },
        "synthesized_images": {
            **{
                name: Column(str if kind is str else _family(kind), is_optional=name in OPTIONAL_EDIT_COORDS)
                for name, kind in EDIT_COORDS.items()
            },
            "image": Column(np.uint8, (3, 4)),
            **dict.fromkeys(EDIT_MAPS, Column(np.floating, (3,), is_optional=True)),
            **dict.fromkeys(EDIT_RATES, Column(np.floating, (2,), is_optional=True)),
        },
    }
    for name, dims in LONG_TABLES.items():
        form: Form = DECODING if "decoding" in name else SELECTIVITY
        values = {
            n: Column(np.floating, is_optional=n in form.optional)
            for n, (d, _) in form.data.items()
            if d == dims
        }
        tables[name] = {**dict.fromkeys(dims, Column(str)), **values}
    return tables


def _check_gallery(group: h5py.Group) -> None:
    """Check that a gallery holds images, and at most as many as there may be."""
    images = {name: item for name, item in _hard_links(group) if name != "order_of_images"}
    if len(images) > MOST_IMAGES:
        raise ValueError(f"{group.name} holds {len(images)} images; expected at most {MOST_IMAGES}")
    for name, image in images.items():
        if image.dtype != np.uint8 or image.ndim not in (2, 3):
            raise ValueError(f"{group.name}/{name}: found {image.dtype} {image.shape}; expected an image")


def _bytes_below(item: h5py.Group) -> int:
    """Return the size of all datasets of a group, which holds nothing else."""
    if not isinstance(item, h5py.Group):
        raise ValueError(f"{item.name} is a dataset; expected a group")
    total = 0
    for place, dataset in _hard_links(item):
        if not isinstance(dataset, h5py.Dataset):
            raise ValueError(f"{item.name}/{place} is a group; expected a dataset")
        total += _stored_bytes(dataset)
    return total


def _check_rates(group: h5py.Group) -> None:
    """Check that what is predicted of edits is of the run's units."""
    for name in EDIT_RATES:
        place = f"synthesized_images/{name}"
        if place in group and group[place].shape[1] != len(group["unit_loadings/unit"]):
            raise ValueError(
                f"{group.name}/{place} has {group[place].shape[1]} units; expected "
                f"{len(group['unit_loadings/unit'])}, as {group.name}/unit_loadings"
            )


def _check_labels(table: h5py.Group) -> None:
    """Check that a table of labels has a float or text, a name and a period per label."""
    names = set()
    for column in label_columns(table):
        _check_table(table, {"stimulus": Column(str), **_label_column(column)})
        name, period = column.attrs.get("label"), column.attrs.get("period")
        if not isinstance(name, str) or name in names or len(name) > MOST_TEXT:
            raise ValueError(f"{column.name}@label is {name!r:.40}; expected a name of its own")
        if not isinstance(period, (float, np.floating)) or not np.isfinite(period) or period < 0:
            raise ValueError(f"{column.name}@period is {period!r:.40}; expected 0, or more for numbers")
        names.add(name)


def _label_column(column: h5py.Dataset) -> dict[str, Column]:
    is_text = h5py.check_string_dtype(column.dtype) is not None
    return {column.name.rpartition("/")[2]: Column(str if is_text else np.floating)}


def _family(kind: Any) -> Any:
    return np.int64 if kind is np.int64 else np.floating


def _check_presentations(table: h5py.Group) -> None:
    """Check that rows of presentations are integers, and have an index."""
    rows, has_index = table.get("presentations"), "presentations_index" in table
    if (rows is not None) != has_index or (has_index and (rows.dtype.kind not in "iu" or rows.ndim != 1)):
        raise ValueError(
            f"{table.name}/presentations: expected presentations with their index, both integers"
        )


def _check_table(table: h5py.Group, columns: dict[str, Column]) -> None:
    """Check kinds and shapes of a table's columns, and that all have as many rows."""
    shapes = {}
    for name, column in (columns | {"id": Column(np.int64, is_optional=True)}).items():
        place = f"{table.name}/{name}"
        if name not in table:
            if column.is_optional:
                continue
            raise ValueError(f"{place} is absent")
        dataset = table[name]
        if not _is_kind(dataset.dtype, column.kind):
            raise ValueError(f"{place}: found {dataset.dtype}; expected {_kind_name(column.kind)}")
        if dataset.shape is None or dataset.ndim not in column.ndims:
            raise ValueError(
                f"{place}: found the shape {dataset.shape}; expected {column.ndims[0]} dimensions"
            )
        shapes[place] = dataset.shape
    first, shape = next(iter(shapes.items()))
    for place, other in shapes.items():
        if other[0] != shape[0]:
            raise ValueError(f"{place} has {other[0]} rows; expected {shape[0]}, as {first}")
    images = [s[1:3] for place, s in shapes.items() if len(s) > 2]
    if any(image != images[0] for image in images) or any(len(s) == 4 and s[3] != 3 for s in shapes.values()):
        raise ValueError(f"{table.name}: images and maps have other shapes than each other or than (y, x, 3)")


def _is_kind(dtype: np.dtype, kind: Any) -> bool:
    if kind is str:
        return h5py.check_string_dtype(dtype) is not None
    if kind is np.uint8:
        return dtype == np.uint8
    return dtype.kind in ("iu" if kind is np.int64 else "f")


def _kind_name(kind: Any) -> str:
    words: dict[Any, str] = {str: "text", np.uint8: "uint8", np.int64: "integers", np.floating: "floats"}
    return words[kind]


def _hard_links(group: h5py.Group) -> Iterator[tuple[str, Any]]:
    """Yield what a group holds; a link to somewhere else has no place in a run."""
    for name in group:
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            raise ValueError(f"{group.name}/{name} is a link to another place; expected the object itself")
        yield name, group[name]


def _stored_bytes(dataset: h5py.Dataset) -> int:
    """Return the size of a dataset once read, having checked that the file can hold that."""
    settings = dataset.id.get_create_plist()
    if settings.get_layout() == h5py.h5d.VIRTUAL or settings.get_external_count():
        raise ValueError(f"{dataset.name} has its data in another file; expected them in this one")
    codes = {settings.get_filter(i)[0] for i in range(settings.get_nfilters())}
    if codes - _FILTERS:
        raise ValueError(
            f"{dataset.name} is compressed by the filter {min(codes - _FILTERS)}; expected deflate"
        )
    if dataset.shape is None:
        return 0
    size = math.prod(dataset.shape) * max(1, dataset.dtype.itemsize)
    stored = dataset.id.get_storage_size()
    if size > (MOST_EXPANSION if codes else 1) * stored and size > 0:
        raise ValueError(f"{dataset.name} is said to hold {size} bytes and has {stored} in the file")
    return size

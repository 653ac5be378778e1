"""Classes of the extension's types, on top of the ones that hdmf generates from the specification.

The attribute names are those that a reader without this package gets. These classes add checks of the data
when an object is built, and `from_columns`, which builds a table from arrays.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any, Self, TypeVar

import numpy as np
from hdmf.common import DynamicTable, DynamicTableRegion, VectorData, VectorIndex
from hdmf.utils import docval, get_docval
from pynwb import get_class, register_class

from ndx_migvis.checks import check_data, column_specs, data_spec
from ndx_migvis.errors import MigvisError
from ndx_migvis.namespace import NAMESPACE

C = TypeVar("C", bound=type[Any])


def _registered(cls: C) -> C:
    """Register a class under its own name, with a constructor that begins with `cls._check`.

    The constructor keeps the signature of the generated class, which hdmf uses to read files. What is read
    from a file is not checked here, so that one faulty table does not make the whole file unreadable.
    """
    base: Any = cls.__bases__[-1]

    @docval(*get_docval(base.__init__))
    def __init__(self: Any, **kwargs: Any) -> None:
        if not self._in_construct_mode:
            self._check(kwargs)
        base.__init__(self, **kwargs)

    cls.__init__ = __init__  # type: ignore[misc]
    register_class(cls.__name__, NAMESPACE, cls)
    return cls


class _CheckedTable:
    """What the tables of the extension add to DynamicTable."""

    name: str
    columns: tuple[VectorData, ...]

    @classmethod
    def from_columns(
        cls, *, name: str, description: str, data: Mapping[str, Any], table: DynamicTable | None = None
    ) -> Self:
        """Build a table from arrays.

        Parameters
        ----------
        name, description : str
        data : mapping of str to array_like or hdmf.data_utils.DataIO
            Values by column name, first axis the rows; of a column with an index, a list per row.
        table : pynwb DynamicTable, optional
            What a region column points into.

        Raises
        ------
        MigvisError
            For a required column that is absent, an unknown one, or a wrong dtype or shape.
        """
        specified = {c["name"]: c for c in cls.__columns__}  # type: ignore[attr-defined]
        unknown = [n for n in data if n not in specified]
        if unknown:
            raise MigvisError(
                f"{cls.__name__} {name!r}: found a column {unknown[0]!r}; expected {', '.join(specified)}"
            )
        columns = []
        for column, values in data.items():
            about = {"name": column, "description": specified[column]["description"], "data": values}
            if specified[column].get("index"):
                lengths = [len(row) for row in values]
                rows = [np.asarray(row) for row in values if len(row)]
                about["data"] = np.concatenate(rows) if rows else np.empty(0, np.int64)
                region = DynamicTableRegion(table=table, **about)
                columns.append(region)
                ends = np.cumsum(lengths, dtype=np.int64)
                columns.append(VectorIndex(name=f"{column}_index", data=ends, target=region))
            elif issubclass(specified[column]["class"], DynamicTableRegion):
                columns.append(DynamicTableRegion(table=table, **about))
            else:
                columns.append(VectorData(**about))
        return cls(name=name, description=description, columns=columns, colnames=list(data))  # type: ignore[call-arg]

    @classmethod
    def _check(cls, arguments: Mapping[str, Any]) -> None:
        """Check the columns given to the constructor; a table given none is filled row by row."""
        if not arguments["columns"]:
            return
        specs = column_specs(cls.__name__)
        where = f"{cls.__name__} {arguments['name']!r}"
        columns = {c.name: c for c in arguments["columns"]}
        lacking = [n for n, s in specs.items() if s.required and n not in columns]
        if lacking:
            raise MigvisError(f"{where}: found no column {lacking[0]!r}; expected {', '.join(specs)}")
        for name, spec in specs.items():
            if name in columns and not isinstance(columns[name], VectorIndex):  # whose size hdmf chooses
                check_data(columns[name].data, spec, where=f"{where}, column {name!r}")

    def add_row(self, **kwargs: Any) -> None:
        """Add a row (see hdmf's `DynamicTable.add_row`), each value checked as a column of one row."""
        specs = column_specs(type(self).__name__)
        for name, value in {**(kwargs.get("data") or {}), **kwargs}.items():
            if name in specs:
                where = f"{type(self).__name__} {self.name!r}, column {name!r}"
                check_data(np.asarray(value)[np.newaxis], specs[name], where=where)
        super().add_row(**kwargs)  # type: ignore[misc]


@_registered
class LatentGroupsTable(_CheckedTable, get_class("LatentGroupsTable", NAMESPACE)):  # type: ignore[misc]
    """Groups of latents, one row per group, with the evidence that each carries information."""


@_registered
class StimulusLatentsTable(_CheckedTable, get_class("StimulusLatentsTable", NAMESPACE)):  # type: ignore[misc]
    """Latents of the shown stimuli, one row per stimulus; `mean` and `log_var` are (stimulus, latent)."""


StimulusLabel = get_class("StimulusLabel", NAMESPACE)


@_registered
class StimulusLabelsTable(_CheckedTable, get_class("StimulusLabelsTable", NAMESPACE)):  # type: ignore[misc]
    """Labels of the shown stimuli, one row per stimulus and one column (`StimulusLabel`) per label."""


@_registered
class UnitLoadingsTable(_CheckedTable, get_class("UnitLoadingsTable", NAMESPACE)):  # type: ignore[misc]
    """Loadings of the units, one row per unit; `loading` is (unit, latent)."""


@_registered
class SynthesizedImagesTable(_CheckedTable, get_class("SynthesizedImagesTable", NAMESPACE)):  # type: ignore[misc]
    """Edits of shown images, one row per edit; `image` is (edit, y, x) or (edit, y, x, 3), uint8."""


@_registered
class SelectivityTable(_CheckedTable, get_class("SelectivityTable", NAMESPACE)):  # type: ignore[misc]
    """Transfer and retention, one row per combination of group, label, method and reader."""


@_registered
class ReaderScoresTable(_CheckedTable, get_class("ReaderScoresTable", NAMESPACE)):  # type: ignore[misc]
    """Scores of the readers on real images, one row per pair of label and reader."""


@_registered
class SelectivityIndexTable(_CheckedTable, get_class("SelectivityIndexTable", NAMESPACE)):  # type: ignore[misc]
    """Selectivity over the supervised groups, one row per pair of method and reader."""


@_registered
class DecodingTable(_CheckedTable, get_class("DecodingTable", NAMESPACE)):  # type: ignore[misc]
    """Label decoding, one row per pair of group and label."""


@_registered
class LabelDecodingTable(_CheckedTable, get_class("LabelDecodingTable", NAMESPACE)):  # type: ignore[misc]
    """Label decoding from all latents, one row per label."""


@_registered
class NetworkWeights(get_class("NetworkWeights", NAMESPACE)):  # type: ignore[misc]
    """Weights of one network: the bytes of a safetensors file, uint8 of shape (byte,)."""

    @classmethod
    def _check(cls, arguments: Mapping[str, Any]) -> None:
        where = f"{cls.__name__} {arguments['name']!r}"
        check_data(arguments["data"], data_spec(cls.__name__), where=where)
        digest = hashlib.sha256(np.asarray(arguments["data"]).tobytes()).hexdigest()
        if digest != arguments["sha256"]:
            raise MigvisError(
                f"{where}: found the sha256 {arguments['sha256']!r}; expected the data's, {digest}"
            )


@_registered
class MigvisModel(get_class("MigvisModel", NAMESPACE)):  # type: ignore[misc]
    """How a run was made: settings, versions, digests and provenance as JSON, and the networks' weights."""

    @classmethod
    def _check(cls, arguments: Mapping[str, Any]) -> None:
        for key in ("config", "versions", "digests", "provenance"):
            text = arguments[key]
            if text is not None and not _is_json_object(text):
                where = f"{cls.__name__} {arguments['name']!r}"
                raise MigvisError(f"{where}: found {key} = {text[:40]!r}; expected a JSON object")


def _is_json_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except json.JSONDecodeError:
        return False


@_registered
class AnalysisTable(get_class("AnalysisTable", NAMESPACE)):  # type: ignore[misc]
    """What a further analysis computed, one row per combination of the values of its axes."""

    @classmethod
    def _check(cls, arguments: Mapping[str, Any]) -> None:
        where = f"{cls.__name__} {arguments['name']!r}"
        text = arguments["structure"]
        if not _is_json_object(text):
            raise MigvisError(f"{where}: found structure = {text[:40]!r}; expected a JSON object")
        columns = [column.name for column in arguments["columns"] or ()]
        absent = [name for name in json.loads(text).get("dims", []) if name not in columns]
        if columns and absent:
            raise MigvisError(
                f"{where}: found no column of the axis {absent[0]!r}; expected one of {', '.join(columns)}"
            )


FurtherAnalyses = get_class("FurtherAnalyses", NAMESPACE)


@_registered
class MigvisRun(get_class("MigvisRun", NAMESPACE)):  # type: ignore[misc]
    """What one run found; several can stand side by side under /analysis, each by its own name."""

    @classmethod
    def _check(cls, arguments: Mapping[str, Any]) -> None:
        n_latents = int(np.sum(np.asarray(arguments["latent_groups"]["size"].data)))
        for part, column in (
            ("stimulus_latents", "mean"),
            ("stimulus_latents", "log_var"),
            ("unit_loadings", "loading"),
        ):
            shape = np.shape(arguments[part][column].data)[1:]
            if shape != (n_latents,):
                raise MigvisError(
                    f"{cls.__name__} {arguments['name']!r}: found {part}.{column} of shape {shape} per row; "
                    f"expected the {n_latents} latents of its groups"
                )

"""Conversion between frozen settings records and plain values, with checks."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any, get_args, get_origin, get_type_hints

from nwb_migvis.errors import MigvisError
from nwb_migvis.plain import nearest


def check(
    record: Any,
    where: str,
    *,
    at_least: Mapping[str, float] | None = None,
    above: Mapping[str, float] | None = None,
    below: Mapping[str, float] | None = None,
    one_of: Mapping[str, Collection[str]] | None = None,
    widths: str | None = None,
) -> None:
    """Check the values of a record; lists become tuples, tables frozen, whole numbers floats where asked.

    Parameters
    ----------
    record : dataclass instance
    where : str
        Place of the record among the settings, for messages.
    at_least, above, below : mapping of str to float
        Bounds by field.
    one_of : mapping of str to collection of str
        Allowed values of a field; of each of its items, where it holds several.
    widths : str, optional
        A field of layer widths, which must be multiples of 8 for normalisation in groups.

    Raises
    ------
    MigvisError
        For the first value that does not fit, in type or size.
    """
    for name, hint in get_type_hints(type(record)).items():
        object.__setattr__(record, name, _cast(getattr(record, name), hint, f"{where}: {name}"))
    bounds = [
        (at_least, lambda value, bound: value >= bound, "at least"),
        (above, lambda value, bound: value > bound, "more than"),
        (below, lambda value, bound: value < bound, "less than"),
    ]
    for limits, holds, words in bounds:
        for name, bound in (limits or {}).items():
            value = getattr(record, name)
            if not (math.isfinite(value) and holds(value, bound)):
                raise MigvisError(f"{where}: found {name} = {value}; expected {words} {bound}")
    for name, choices in (one_of or {}).items():
        values = getattr(record, name)
        for value in values if isinstance(values, tuple) else (values,):
            if value not in choices:
                listed = nearest(str(value), choices)
                raise MigvisError(f"{where}: found {name} = {value!r}; expected one of {listed}")
    if widths is not None:
        chosen_widths = getattr(record, widths)
        if not chosen_widths or any(width < 8 or width % 8 for width in chosen_widths):
            raise MigvisError(
                f"{where}: found {widths} = {list(chosen_widths)}; expected one or more, multiples of 8"
            )


RENAMED = {
    "SynthesisConfig": {
        "condition": "source_guidance",
        "adherence": "guidance_scale",
        "guided_steps": "critic_stop",
    }
}
"""Names that settings had in earlier versions, by record: files that hold them are still read."""


class FrozenDict(Mapping[str, Any]):
    """A dict that does not change and has a hash."""

    def __init__(self, values: Mapping[str, Any] | None = None) -> None:
        self._values = dict(values or {})

    def __getitem__(self, key: str) -> Any:
        return self._values[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __hash__(self) -> int:
        return hash(frozenset(self._values.items()))

    def __repr__(self) -> str:
        return repr(self._values)


def merge(record: Any, values: Any, *, where: str) -> Any:
    """Return a copy of a config record with `values` in place, checked against its annotations."""
    if not isinstance(values, Mapping):
        raise MigvisError(f"{where}: found {values!r}; expected a table of settings")
    hints = get_type_hints(type(record))
    changes = {}
    renamed = RENAMED.get(type(record).__name__, {})
    for written, value in values.items():
        key, place = renamed.get(written, written), f"{where}: {written}"
        if key != written and key in values:
            raise MigvisError(f"{place} is the earlier name of {key}, which is there too; remove it")
        if key not in hints:
            raise MigvisError(f"{place} is not a setting; expected one of {nearest(written, hints, most=30)}")
        current = getattr(record, key)
        changes[key] = (
            merge(current, value, where=place) if is_dataclass(current) else _cast(value, hints[key], place)
        )
    return replace(record, **changes)


def _cast(value: Any, hint: Any, place: str) -> Any:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is tuple:
        if not isinstance(value, (list, tuple)):
            raise MigvisError(f"{place}: found {value!r}; expected a list")
        return tuple(_cast(v, arguments[0], f"{place}[{i}]") for i, v in enumerate(value))
    if origin is not None:
        if not isinstance(value, Mapping):
            raise MigvisError(f"{place}: found {value!r}; expected a table")
        return FrozenDict({str(k): _cast(v, arguments[1], f"{place}.{k}") for k, v in value.items()})
    if is_dataclass(hint):
        if isinstance(value, hint):  # type: ignore[arg-type]
            return value
        if "name" not in {f.name for f in fields(hint)}:
            kind = getattr(hint, "__name__", "record")
            raise MigvisError(f"{place}: found {value!r:.80}; expected a {kind}")
        if not isinstance(value, Mapping) or "name" not in value:
            raise MigvisError(f"{place}: found {value!r}; expected a table with a name")
        return merge(hint(name=str(value["name"])), value, where=place)  # type: ignore[operator, call-arg]
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        raise MigvisError(f"{place}: found {value!r}; expected {hint.__name__}")
    return value

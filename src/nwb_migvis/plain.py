"""Plain values, as JSON and TOML can hold them."""

from __future__ import annotations

import json
import math
from collections.abc import Container, Iterable, Mapping
from dataclasses import fields, is_dataclass
from difflib import get_close_matches
from pathlib import PurePath
from typing import Any

import numpy as np

Json = dict[str, Any]
"""An object of JSON: text, numbers, true, false, null, lists and objects by name."""


def plain(value: Any, *, finite: bool = False) -> Any:
    """Return records, mappings, sequences, arrays and paths as dicts, lists, numbers and text.

    Parameters
    ----------
    value
    finite : bool
        Whether NaN and infinities, which JSON does not have, become None.

    Raises
    ------
    TypeError
        For a value that JSON cannot hold.
    """
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name), finite=finite) for f in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(item, finite=finite) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item, finite=finite) for item in value]
    if isinstance(value, (np.ndarray, np.generic)):
        return plain(value.tolist(), finite=finite)
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) or not finite else None
    json.dumps(value)
    return value


def free_name(name: str, taken: Container[str]) -> str:
    """Return a name that is not taken: the name itself, or with as many underscores as it needs."""
    while name in taken:
        name += "_"
    return name


def nearest(word: str, choices: Iterable[Any], *, most: int = 12) -> str:
    """Return choices as text for a message, with the one that was probably meant.

    Parameters
    ----------
    word : str
        What was given instead of one of them.
    choices : iterable
    most : int
        Of more choices only so many are listed.

    Examples
    --------
    >>> nearest("pse", ["pose", "category"])
    "pose, category (did you mean 'pose'?)"
    """
    names = [str(choice) for choice in choices]
    close = get_close_matches(word.lower(), [name.lower() for name in names], n=1, cutoff=0.6)
    meant = next((name for name in names if close and name.lower() == close[0]), None)
    listed = ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
    return listed + (f" (did you mean {meant!r}?)" if meant is not None else "")

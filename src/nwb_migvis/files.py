"""Paths and tables that users give."""

from __future__ import annotations

import csv
import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nwb_migvis.errors import MigvisError

if TYPE_CHECKING:
    import pandas as pd


def as_path(value: Any, *, what: str) -> Path:
    """Return a path, or raise `MigvisError` for anything that is none (bytes, None, open files)."""
    if isinstance(value, str) or (isinstance(value, os.PathLike) and isinstance(os.fspath(value), str)):
        return Path(value)
    raise MigvisError(f"{what} is {value!r:.80}; expected a path (str or pathlib.Path)")


def read_csv(path: str | Path, *, what: str, needs: Sequence[str], **options: Any) -> pd.DataFrame:
    """Read a CSV with a header, each of whose columns has a name of its own.

    Parameters
    ----------
    path : path
    what : str
        What the table holds, for messages.
    needs : sequence of str
        Columns that it must have.
    **options
        Passed to `pandas.read_csv`.

    Raises
    ------
    MigvisError
        If the file cannot be read, is no CSV, has a column twice, or lacks one.
    """
    import pandas as pd

    try:
        with Path(path).open(encoding="utf-8-sig", newline="") as file:
            header = next(csv.reader(file), [])
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)
            table = pd.read_csv(path, encoding="utf-8-sig", index_col=False, **options)
    except OSError as error:
        raise MigvisError(f"{what} {path}: {error.strerror}; give the path of a CSV file") from None
    except (ValueError, csv.Error, pd.errors.ParserWarning) as error:
        reason = " ".join(str(error).split())
        raise MigvisError(f"{what} {path} is no CSV: {reason}; give a CSV file") from None
    twice = next((name for name in header if header.count(name) > 1), None)
    if twice is not None:
        raise MigvisError(f"{what} {path} has the column {twice!r} twice; expected each once: remove one")
    absent = [name for name in needs if name not in table.columns]
    if absent:
        held = " ".join(", ".join(map(str, table.columns)).split())
        for sign, name in ((";", "semicolons"), ("\t", "tabs")):
            if len(header) == 1 and sign in header[0]:
                raise MigvisError(
                    f"{what} {path} has its columns separated by {name} ({held}); expected commas: save it so"
                )
        raise MigvisError(
            f"{what} {path} has no column {absent[0]!r} (its columns: {held}); add it, or rename the column "
            "that holds it"
        )
    return table

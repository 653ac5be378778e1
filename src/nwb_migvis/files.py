"""Paths and tables that users give."""

from __future__ import annotations

import contextlib
import csv
import itertools
import os
import re
import stat
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from nwb_migvis.errors import MigvisError

if TYPE_CHECKING:
    import pandas as pd


class Named(Protocol):
    """What has a name on this machine or elsewhere: a path, or a file at an address."""

    @property
    def stem(self) -> str:
        """Name without its ending."""


def as_path(value: Any, *, what: str) -> Path:
    """Return a path.

    Raises
    ------
    MigvisError
        If the value is not a path (bytes, None, an open file), or leads to a pipe or a device.
    """
    if isinstance(value, str) or (isinstance(value, os.PathLike) and isinstance(os.fspath(value), str)):
        path = Path(value)
        check_regular(path, what=what)
        return path
    raise MigvisError(f"{what} is {value!r:.80}; expected a path (str or pathlib.Path)")


def results_name(source: Named) -> str:
    """Return the name of the file that holds a session's results, beside the session or in a folder.

    It is `NAME_migvis.nwb`. Of a session that the DANDI archive named (`sub-1_ses-2_ecephys.nwb`) it is a
    name that the archive accepts too: `sub-1_ses-2_desc-migvis_ecephys.nwb`.
    """
    first, *rest = source.stem.split("_")
    if not re.fullmatch(_ENTITY, first) or not first.startswith("sub-"):
        return f"{source.stem}_migvis.nwb"
    entities = [first, *itertools.takewhile(re.compile(_ENTITY).fullmatch, rest)]
    modalities = rest[len(entities) - 1 :]
    if len(modalities) > 1 or not all(re.fullmatch(r"[a-z]+(\+[a-z]+)*", text) for text in modalities):
        return f"{source.stem}_migvis.nwb"
    before = [e for e in entities if e.partition("-")[0] in _BEFORE_DESCRIPTION]
    described = [f"{e}-migvis" for e in entities if e.startswith("desc-")] or ["desc-migvis"]
    after = [e for e in entities if e not in before and not e.startswith("desc-")]
    return "_".join([*before, *described, *after, *modalities]) + ".nwb"


_ENTITY = r"[a-z]+-[^_*\\/<>:|\"'?%@;.]+"
"""A part of a name that the DANDI archive gives, such as `ses-2`."""

_BEFORE_DESCRIPTION = ("sub", "ses", "tis", "slice", "cell")


def check_regular(path: Path, *, what: str) -> None:
    """Refuse a pipe, a socket or a device: reading one can wait for ever, or never end. Refuse an address.

    A path that leads nowhere passes, as does a folder.

    Raises
    ------
    MigvisError
    """
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):
        _check_no_address(path, what=what)
        return
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise MigvisError(
            f"{what} {path} is {_KINDS.get(stat.S_IFMT(mode), 'a special file')}; expected a regular file; "
            "copy its content to one"
        )


def _check_no_address(path: Path, *, what: str) -> None:
    """Refuse an address, of which a path has lost a slash."""
    scheme = re.match(r"([a-z][a-z0-9+.-]+):/+", path.as_posix())
    if scheme:
        address = f"{scheme[1]}://{path.as_posix()[scheme.end() :]}"
        raise MigvisError(
            f"{what} is the address {address}; expected a file on this machine; download it and give its path"
        )


_KINDS = {
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def check_plain_name(name: str, *, what: str) -> None:
    """Refuse a model's name that could mean a folder or an address: letters, digits, `_` and `.` are allowed.

    Raises
    ------
    MigvisError
    """
    if not re.fullmatch(r"[\w.]+", name, re.ASCII):
        raise MigvisError(
            f"{what} is {name!r:.80}; expected the plain name of an architecture, without ':' or '/'"
        )


def read_csv(path: str | Path, *, what: str, needs: Sequence[str], **options: Any) -> pd.DataFrame:
    """Read a CSV with a header, each of whose columns has a name of its own, without spaces around it.

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
        If the file cannot be read, is not a CSV, has a column twice, or lacks one.
    """
    import pandas as pd

    check_regular(Path(path), what=what)
    try:
        with Path(path).open(encoding="utf-8-sig", newline="") as file:
            header = [name.strip() for name in next(csv.reader(file), [])]
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)
            table = pd.read_csv(path, encoding="utf-8-sig", index_col=False, **options)
    except OSError as error:
        raise MigvisError(f"{what} {path}: {error.strerror}; give the path of a CSV file") from None
    except UnicodeDecodeError as error:
        raise MigvisError(
            f"{what} {path} is not text in UTF-8 ({error.reason} at byte {error.start}); expected a CSV in "
            "UTF-8; save it so"
        ) from None
    except (ValueError, csv.Error, pd.errors.ParserWarning) as error:
        _check_widths(Path(path), what=what)
        reason = " ".join(str(error).split())
        raise MigvisError(f"{what} {path} is not a CSV: {reason}; give a CSV file") from None
    twice = next((name for name in header if header.count(name) > 1), None)
    if twice is not None:
        raise MigvisError(f"{what} {path} has the column {twice!r} twice; expected each once: remove one")
    table.columns = table.columns.str.strip()
    absent = [name for name in needs if name not in table.columns]
    if absent:
        columns = ", ".join(map(str, table.columns))
        for sign, name in ((";", "semicolons"), ("\t", "tabs")):
            if len(header) == 1 and sign in header[0]:
                raise MigvisError(
                    f"{what} {path} has its columns separated by {name} ({columns}); expected commas; save "
                    "it with those"
                )
        raise MigvisError(
            f"{what} {path} has no column {absent[0]!r} (its columns: {columns}); add it, or rename the "
            "column that holds it"
        )
    return table


def _check_widths(path: Path, *, what: str) -> None:
    """Refuse a CSV of which a line has more cells than the header."""
    with path.open(encoding="utf-8-sig", newline="") as file, contextlib.suppress(csv.Error):
        lines = csv.reader(file)
        n_columns = len(next(lines, []))
        for cells in lines:
            if len(cells) > n_columns:
                raise MigvisError(
                    f"{what} {path}: line {lines.line_num} has {len(cells)} cells, and the header "
                    f"{n_columns}; expected as many; put text that has commas in double quotes"
                )

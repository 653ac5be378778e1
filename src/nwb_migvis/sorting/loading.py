"""Sortings and presentations from disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from nwb_migvis.errors import MigvisError


def load_sorting(folder: str | Path) -> Any:
    """Load a SpikeInterface sorting or analyzer that was saved to a folder.

    SpikeInterface may unpickle what it finds there: load only folders that you trust.

    Parameters
    ----------
    folder : path

    Returns
    -------
    spikeinterface.BaseSorting or spikeinterface.SortingAnalyzer

    Raises
    ------
    MigvisError
        If SpikeInterface is not installed, or the folder does not exist or holds neither.
    """
    folder = Path(folder)
    if not folder.is_dir():
        state = "is no folder" if folder.exists() else "does not exist"
        raise MigvisError(
            f"{folder} {state}; give a folder that SpikeInterface saved a sorting or analyzer to"
        )
    try:
        from spikeinterface.core import BaseSorting, SortingAnalyzer, load
    except ImportError:
        raise MigvisError(
            'SpikeInterface is not installed; install it with pip install "nwb-migvis[models]"'
        ) from None
    try:
        found = load(folder)
    except Exception as error:  # SpikeInterface raises nearly anything for a folder that is not its own
        raise MigvisError(
            f"{folder} cannot be loaded by SpikeInterface ({type(error).__name__}); expected a folder "
            "that it saved a sorting or analyzer to"
        ) from error
    if not isinstance(found, BaseSorting | SortingAnalyzer):
        raise MigvisError(f"{folder} holds a {type(found).__name__}; expected a sorting or a SortingAnalyzer")
    return found


def read_presentations(path: str | Path) -> pd.DataFrame:
    """Read a CSV of presentations: `start_time` (s), `stimulus` (name of the image), and further columns.

    Columns of numbers, and of `True` and `False`, become such; `stimulus` stays text, empty for a blank.

    Raises
    ------
    MigvisError
        If the file cannot be read or lacks one of the two columns.
    """
    try:
        table = pd.read_csv(
            path, dtype={"stimulus": str}, keep_default_na=False, na_values={"start_time": [""]}
        )
    except OSError as error:
        raise MigvisError(f"presentations {path}: {error.strerror}; give the path of a CSV file") from None
    except ValueError as error:
        reason = " ".join(str(error).split())
        raise MigvisError(f"presentations {path} is no CSV: {reason}; give a CSV file") from None
    absent = [name for name in ("start_time", "stimulus") if name not in table.columns]
    if absent:
        held = " ".join(", ".join(map(str, table.columns)).split())
        raise MigvisError(f"presentations {path} has no column {absent[0]!r} (its columns: {held}); add it")
    return table

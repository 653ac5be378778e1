"""Sortings and presentations from disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from nwb_migvis.errors import MigvisError
from nwb_migvis.files import read_csv


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
        state = "is not a folder" if folder.exists() else "does not exist"
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
        loaded = load(folder)
    except Exception as error:  # SpikeInterface raises nearly anything for a folder that is not its own
        raise MigvisError(
            f"{folder} cannot be loaded by SpikeInterface ({type(error).__name__}); expected a folder "
            "that it saved a sorting or analyzer to"
        ) from error
    if not isinstance(loaded, BaseSorting | SortingAnalyzer):
        raise MigvisError(
            f"{folder} holds a {type(loaded).__name__}; expected a sorting or a SortingAnalyzer"
        )
    return loaded


def read_presentations(path: str | Path) -> pd.DataFrame:
    """Read a CSV of presentations: `start_time` (s), `stimulus` (name of the image), and further columns.

    Columns of numbers, and of `True` and `False`, become such; `stimulus` stays text, empty for a blank.

    Raises
    ------
    MigvisError
        If the file cannot be read, has a column twice, or lacks one of the two.
    """
    return read_csv(
        path,
        what="presentations",
        needs=("start_time", "stimulus"),
        dtype={"stimulus": str},
        keep_default_na=False,
        na_values={"start_time": [""]},
    )

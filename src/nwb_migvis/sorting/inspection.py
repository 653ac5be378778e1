"""What a folder of sorted units holds, for people and for programs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from nwb_migvis.plain import Json, plain
from nwb_migvis.sorting.loading import load_sorting


def inspect_sorting(folder: str | Path) -> Json:
    """Return what a folder that SpikeInterface saved holds: units, spikes, and columns for a query.

    Parameters
    ----------
    folder : path

    Returns
    -------
    dict
        JSON-serialisable: `source`, `kind`, `n_units`, `n_segments`, `n_spikes`, `sampling_frequency` (Hz),
        `has_recording` (None for a sorting, which has a clock of its own) and `columns` (name ->
        `[least, largest]` of numbers, None of text).

    Raises
    ------
    MigvisError
        As `load_sorting`.
    """
    from nwb_migvis.sorting.units import SortedUnits

    loaded = load_sorting(folder)
    is_sorting = hasattr(loaded, "get_unit_spike_train")
    units = SortedUnits(loaded) if is_sorting else SortedUnits(loaded.sorting, loaded)
    columns: dict[str, Any] = {}
    for name, values in units.columns().items():
        finite = values[np.isfinite(values)] if values.dtype.kind in "iuf" else values[:0]
        columns[name] = [plain(finite.min()), plain(finite.max())] if len(finite) else None
    return {
        "source": Path(folder).name,
        "kind": type(loaded).__name__,
        "n_units": len(units.ids),
        "n_segments": int(units.sorting.get_num_segments()),
        "n_spikes": int(sum(units.sorting.count_num_spikes_per_unit(outputs="array"))),
        "sampling_frequency": units.sampling_frequency,
        "has_recording": None if is_sorting else bool(loaded.has_recording()),
        "columns": columns,
    }


def describe_sorting(contents: Json) -> str:
    """Return what `inspect_sorting` returned as text for people."""
    columns = [
        name if bounds is None else f"{name} ({bounds[0]:.4g} to {bounds[1]:.4g})"
        for name, bounds in contents["columns"].items()
    ]
    clock = "the recording's"
    if contents["has_recording"] is False:
        clock = "unknown, the recording is out of reach: --t-start says when it began"
    lines = {
        "sorting": f"{contents['source']} ({contents['kind']})",
        "units": f"{contents['n_units']}",
        "spikes": f"{contents['n_spikes']}, {contents['sampling_frequency']:g} samples per second",
        "segments": f"{contents['n_segments']}" + ("" if contents["n_segments"] == 1 else "; expected one"),
        "clock": clock,
        "columns": (", ".join(columns) or "none") + "; --unit-query may name them",
        "presentations": "none: a CSV with start_time (s, on the clock) and stimulus (image) for each",
    }
    width = max(map(len, lines))
    return "\n".join(f"{name:<{width}}  {text}" for name, text in lines.items())

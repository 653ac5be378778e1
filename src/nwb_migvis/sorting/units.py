"""The spikes of a SpikeInterface sorting or analyzer, and what it says about its units."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from nwb_migvis.errors import MigvisError

if TYPE_CHECKING:
    from spikeinterface import BaseSorting, SortingAnalyzer


@dataclass(frozen=True)
class SortedUnits:
    """Units of one segment of a SpikeInterface object.

    Parameters
    ----------
    sorting : spikeinterface.BaseSorting
    analyzer : spikeinterface.SortingAnalyzer, optional
        Gives the recording's clock, where it has a recording, and the metrics.
    """

    sorting: Any
    analyzer: Any = None
    t_start: float | None = None

    @classmethod
    def of(
        cls, source: BaseSorting | SortingAnalyzer | SortedUnits, *, t_start: float | None = None
    ) -> SortedUnits:
        """Return the units of a sorting or an analyzer.

        Parameters
        ----------
        source : spikeinterface.BaseSorting, spikeinterface.SortingAnalyzer, or SortedUnits
        t_start : float, optional
            When the recording of an analyzer began, seconds; needed where the recording is out of reach.

        Raises
        ------
        MigvisError
            If it has more than one segment, or is an analyzer whose clock is not known.
        """
        if isinstance(source, SortedUnits):
            return source
        is_sorting = hasattr(source, "get_unit_spike_train")
        units = cls(source) if is_sorting else cls(source.sorting, source, t_start)
        has_clock = is_sorting or source.has_recording() or source.has_temporary_recording()
        if not has_clock and t_start is None:
            raise MigvisError(
                "the analyzer's recording is out of reach, so its clock is not known; put the "
                "recording back, or "
                "say when it began with t_start=SECONDS (--t-start)"
            )
        if has_clock and t_start is not None:
            raise MigvisError(
                f"t_start={t_start:g} was given, and the sorting has a clock of its own; omit t_start "
                f"(--t-start)"
            )
        n_segments = units.sorting.get_num_segments()
        if n_segments != 1:
            raise MigvisError(
                f"the sorting has {n_segments} segments; expected one: choose it with select_segments"
            )
        return units

    @property
    def ids(self) -> np.ndarray:
        """(unit,) ids of the sorting, numbers or text."""
        return np.asarray(self.sorting.unit_ids)

    @property
    def sampling_frequency(self) -> float:
        """Samples per second."""
        return float(self.sorting.get_sampling_frequency())

    def spike_times(self, unit_id: Any) -> np.ndarray:
        """Return a unit's spike times, (spike,) float64, seconds on the recording's clock."""
        if self.t_start is not None:
            frames = self.sorting.get_unit_spike_train(unit_id, segment_index=0)
            times = self.t_start + frames / self.sampling_frequency
        elif self.analyzer is not None:
            frames = self.sorting.get_unit_spike_train(unit_id, segment_index=0)
            times = self.analyzer.recording.sample_index_to_time(frames, segment_index=0)
        else:
            times = self.sorting.get_unit_spike_train(unit_id, segment_index=0, return_times=True)
        return np.asarray(times, np.float64)

    def columns(self) -> dict[str, np.ndarray]:
        """Return properties and quality and template metrics with one number, boolean or text per unit.

        Returns
        -------
        dict of str to numpy.ndarray
            (unit,) each, in the order of `ids`; text as str objects.
        """
        columns: dict[str, np.ndarray] = {}
        for name in self.sorting.get_property_keys():
            values = np.asarray(self.sorting.get_property(name))
            if values.ndim == 1 and values.dtype.kind in "biuf":
                columns[name] = values
            elif values.ndim == 1 and all(isinstance(value, str) for value in values):
                columns[name] = values.astype(object)
        for name in ("quality_metrics", "template_metrics"):
            extension = None if self.analyzer is None else self.analyzer.get_extension(name)
            if extension is not None:
                metrics = extension.get_data().loc[self.ids]
                for metric in metrics.columns:
                    columns[str(metric)] = metrics[metric].to_numpy(np.float64, na_value=np.nan)
        return columns

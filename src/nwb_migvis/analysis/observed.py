"""Units that were not observed in every presentation: their counts there are missing, not zero."""

from __future__ import annotations

import numpy as np
import xarray as xr

from nwb_migvis.errors import MigvisError

NEVER = "no unit was observed"
"""Why a presentation is dropped in which no unit was observed."""


def with_missing_counts(session: xr.Dataset) -> xr.Dataset:
    """Return a session whose counts are NaN where a unit was not observed, in place of `observed`.

    Counts that are read in blocks are loaded.
    Presentations in which no unit was observed are dropped, and so are stimuli that were shown in no others.

    Raises
    ------
    MigvisError
        If no unit was ever observed, or counts are NaN that no `observed` explains.
    """
    from nwb_migvis.latents.checks import refuse_values

    source = str(session.attrs.get("source", "the session"))
    counts = session["spike_count"].values
    if session["spike_count"].chunks is not None:  # else each use would count again
        session = session.assign(spike_count=(("presentation", "unit"), counts))
    if "observed" not in session:
        refuse_values(np.isnan(counts), counts, where=f"{source}: ")
        return session
    observed = session["observed"].values.astype(bool)
    is_any: np.ndarray = np.any(observed, axis=1)
    if not is_any.any():
        raise MigvisError(f"{source}: no unit was observed in any presentation; expected some; choose others")
    session = _taken(session.drop_vars("observed"), is_any)
    counts, observed = counts[is_any], observed[is_any]
    if observed.all():
        return session
    refuse_values(np.isnan(counts) & observed, counts, where=f"{source}: ")
    missing = np.where(observed, counts, np.nan).astype(np.float32)
    return session.assign(spike_count=(("presentation", "unit"), missing))


def _taken(session: xr.Dataset, keep: np.ndarray) -> xr.Dataset:
    """Return a session of some presentations, (presentation,) bool, with the stimuli that they show."""
    if keep.all():
        return session
    dropped = dict(session.attrs.get("dropped", {}))
    dropped[NEVER] = dropped.get(NEVER, 0) + int((~keep).sum())
    rows, index = np.unique(session["stimulus_index"].values[keep], return_inverse=True)
    session = session.isel(presentation=np.flatnonzero(keep), stimulus=rows)
    session = session.assign(stimulus_index=("presentation", index.ravel().astype(np.int64)))
    return session.assign_attrs(dropped=dropped, n_dropped=sum(dropped.values()))


def observed_note(spike_count: np.ndarray) -> str | None:
    """Say how many units were not observed in every presentation; None where all were."""
    missing = np.isnan(spike_count)
    if not missing.any():
        return None
    return (
        f"{int(missing.any(axis=0).sum())} of {missing.shape[1]} units were not observed in every "
        f"presentation (obs_intervals): {100 * missing.mean():.1f} % of counts are missing, and omitted from "
        "all that is fitted and measured"
    )

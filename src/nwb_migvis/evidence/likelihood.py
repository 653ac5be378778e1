"""How much better than its mean rate a model predicts each unit's spikes."""

from __future__ import annotations

import numpy as np


def bits_per_spike(
    total: np.ndarray, exposure: np.ndarray, rate: np.ndarray, *, base_rate: np.ndarray
) -> float:
    """Poisson log likelihood beyond that of constant rates, in bits per spike.

    Parameters
    ----------
    total : array (stimulus, unit)
        Spikes in presentations that the prediction did not see, 0 where there are none.
    exposure : array (stimulus,) or (stimulus, unit)
        Number of those presentations.
    rate : array (stimulus, unit)
        Predicted spikes per presentation, above 0.
    base_rate : array (unit,)
        Constant rates to compare with: the means over training stimuli. Units at 0 are omitted.

    Returns
    -------
    float
        NaN without a spike.
    """
    fires = np.asarray(base_rate) > 0
    total, rate, base = np.asarray(total)[:, fires], np.asarray(rate)[:, fires], base_rate[fires]
    n_spikes = total.sum()
    if n_spikes == 0:
        return float("nan")
    exposure = np.asarray(exposure)
    exposure = exposure[:, None] if exposure.ndim == 1 else exposure[:, fires]
    gain = total * np.log(rate / base) - exposure * (rate - base)
    return float(gain.sum() / n_spikes / np.log(2))

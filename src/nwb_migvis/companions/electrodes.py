"""Electrodes: whether units with large loadings on a group are in one place."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import xarray as xr
from scipy.stats import rankdata

from nwb_migvis.analysis.units import unit_positions
from nwb_migvis.companions.held import Held, described, each_session
from nwb_migvis.companions.statistics import Variables, measured
from nwb_migvis.errors import MigvisError
from nwb_migvis.evidence.significance import benjamini_hochberg, permutation_p
from nwb_migvis.levels import Exchange

if TYPE_CHECKING:
    from nwb_migvis.analysis.study import Study


class Electrodes:
    """The analysis `electrodes`."""

    needs = ("latents", "electrodes")

    @staticmethod
    def compute(study: Study) -> xr.Dataset:
        """Set each unit's loading on each group beside where the unit was recorded.

        Returns
        -------
        xarray.Dataset
            Over (unit, group): `loading` (root mean square over the group's latents). Over (unit, axis):
            `position`, in the units of the file. Over unit: `site`, the same for units at one position. Over
            (group, axis): `correlation` (Spearman, of loadings with positions) with interval, null, p
            (two-sided) and q.
        """
        return each_session(study, by_electrode)


def by_electrode(held: Held) -> xr.Dataset:
    """Do what `Electrodes.compute` does for one session."""
    own, evidence = held.latents, held.config.evidence
    if not own.knows_responses:
        raise MigvisError(
            f"{held.begin}the latents were given as an array; expected a model that encodes responses, whose "
            "units have loadings; fit the latents"
        )
    placed = unit_positions(held.session)
    parts = own.groups.split(own.model.loading()[placed.unit])
    loading = np.stack(
        [np.sqrt((np.asarray(z, np.float64) ** 2).mean(axis=1)) for z in parts.values()], axis=1
    )
    sites = Exchange(placed.site)
    data: Variables = {
        "loading": (("unit", "group"), loading, "Root mean square of the unit's loadings on the group."),
        "position": (("unit", "axis"), placed.value, "Where the unit was recorded, as the file has it."),
        "site": (("unit",), placed.site, "The same for units at one position of one electrode group."),
    }
    data |= correlations(
        loading,
        placed.value,
        order=sites.permutations(evidence.n_permutations, held.rng(80)),
        weight=sites.bootstrap(evidence.n_bootstrap, held.rng(81)),
    )
    n_left_out = held.session.sizes["unit"] - len(placed.unit)
    return described(
        data,
        {
            "unit": held.session["unit"].values[placed.unit],
            "group": list(own.groups),
            "axis": list(placed.axis),
        },
        title="Loadings by electrode position",
        description="How each group's loadings change along the positions of units.",
        headline=["correlation"],
        note=f"{n_left_out} units without a position are omitted" if n_left_out else "",
    )


def correlations(
    loading: np.ndarray, position: np.ndarray, *, order: np.ndarray, weight: np.ndarray
) -> Variables:
    """Correlate ranks of loadings with ranks of positions.

    Parameters
    ----------
    loading : array (unit, group)
    position : array (unit, axis)
    order : array of int (permutation, unit)
        Which unit's position each unit gets: whole sites are exchanged, so that units at one site stay
        together.
    weight : array (resample, unit)
        How often each unit is in each resample of the sites.
    """
    x, y = (rankdata(values, axis=0) for values in (loading, position))
    x, y = ((ranks - ranks.mean(axis=0)) / np.maximum(ranks.std(axis=0), 1e-12) for ranks in (x, y))
    value = x.T @ y / len(x)
    null = np.einsum("ug,pua->pga", x, y[order]) / len(x)
    text = "Spearman correlation of loadings with positions of units."
    data = measured(
        "correlation", ("group", "axis"), value, text, null=null, resampled=_weighted(x, y, weight)
    )
    p = permutation_p(np.abs(value), np.abs(null))
    dims, q = ("group", "axis"), benjamini_hochberg(p)
    data["correlation_p"] = (dims, p, "Permutation p-value of correlation, two-sided; positions exchanged.")
    data["correlation_q"] = (dims, q, "The p-value adjusted over all cells of correlation.")
    return data


def _weighted(x: np.ndarray, y: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Return correlations of the columns of x and y under each row of weights, (resample, x, y)."""
    w = weight / weight.sum(axis=1, keepdims=True)
    mean = w @ x, w @ y
    sd = [np.sqrt(np.maximum(w @ z**2 - m**2, 1e-12)) for z, m in zip((x, y), mean, strict=True)]
    both = np.einsum("ru,ug,ua->rga", w, x, y, optimize=True)
    return (both - mean[0][:, :, None] * mean[1][:, None]) / (sd[0][:, :, None] * sd[1][:, None])

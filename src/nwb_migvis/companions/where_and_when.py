"""Windows and areas: when and where each group's variance and labels are, by the latent model of a run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from nwb_migvis.analysis.latents import average_counts
from nwb_migvis.analysis.units import matching_units, unit_values
from nwb_migvis.companions.beyond import read_labels_beyond
from nwb_migvis.companions.held import Held, described, each_session
from nwb_migvis.companions.statistics import Variables
from nwb_migvis.errors import MigvisError
from nwb_migvis.evidence.design import order_of
from nwb_migvis.evidence.halves import Halves
from nwb_migvis.evidence.order import without_drift
from nwb_migvis.evidence.significance import benjamini_hochberg
from nwb_migvis.evidence.variance import GroupVariance, group_variance

if TYPE_CHECKING:
    from nwb_migvis.analysis.study import Study


class Windows:
    """The analysis `windows`."""

    needs = ("latents", "windows")
    min_images = 20

    @staticmethod
    def compute(study: Study) -> xr.Dataset:
        """Encode the counts of other windows with the same model, and measure each.

        Returns
        -------
        xarray.Dataset
            Over (window, group): `variance` (fraction of the window's repeatable variance) with interval, p
            and q. Over (window, group, label): `told`, what the group tells of the label beyond the other
            labels, low-level image features and time, with interval, p and q. Over window: `start_s`,
            `stop_s`.
        """
        return each_session(study, by_window)


class Areas:
    """The analysis `areas`."""

    needs = ("latents", "areas")
    min_images = 20

    @staticmethod
    def compute(study: Study) -> xr.Dataset:
        """Measure each group in the units of each area.

        Returns
        -------
        xarray.Dataset
            Over (area, group): `variance` (fraction of the repeatable variance of the area's units) with
            interval, p and q, and `loading` (root mean square over the area's units). Over (area, group,
            label): `told` of latents that are encoded from the area's units alone, as in `Windows`. Over
            area: `n_units`.
        """
        return each_session(study, by_area)


def by_window(held: Held) -> xr.Dataset:
    """Do what `Windows.compute` does for one session."""
    windows = held.config.companions.windows_s
    seconds = float(np.diff(held.session.attrs["window_s"])[0])
    order, parts = order_of(held.session), []
    for start, stop in windows:
        counts = counts_in(held, (start, stop)) * (seconds / (stop - start))
        parts.append(_part(held, counts if order is None else without_drift(counts, order)))
    names = [f"{start:g} to {stop:g} s" for start, stop in windows]
    data = _together("window", parts)
    data["start_s"] = (("window",), np.array([w[0] for w in windows]), "Start of the window, s after onset.")
    data["stop_s"] = (("window",), np.array([w[1] for w in windows]), "End of the window, s after onset.")
    return described(
        data,
        {"window": names, **_coords(held)},
        title="Groups by window",
        description="The same latent model on counts of other windows, scaled to its own window's length.",
        headline=["variance", "told"],
    )


def by_area(held: Held) -> xr.Dataset:
    """Do what `Areas.compute` does for one session."""
    of_unit = unit_values(held.session, held.config.companions.areas)
    areas = [area for area in sorted(set(of_unit.tolist())) if area]
    counts = held.latents.spike_count
    parts = [_part(held, np.asarray(counts, np.float64), units=of_unit == area) for area in areas]
    data = _together("area", parts)
    loading = {g: np.asarray(v) for g, v in held.latents.groups.split(held.latents.model.loading()).items()}
    size = [
        [float(np.sqrt((own[of_unit == area] ** 2).mean())) for own in loading.values()] for area in areas
    ]
    text = "Root mean square of the loadings of the area's units on the group's latents."
    data["loading"] = (("area", "group"), np.array(size), text)
    n_units = np.array([int((of_unit == area).sum()) for area in areas])
    data["n_units"] = (("area",), n_units, "Units of the area.")
    return described(
        data,
        {"area": areas, **_coords(held)},
        title="Groups by area",
        description="Each area's responses explained by the groups, and labels read from its units alone.",
        headline=["variance", "told", "loading", "n_units"],
    )


def counts_in(held: Held, window_s: tuple[float, float]) -> np.ndarray:
    """Count the spikes of a session again in another window, (presentation, unit) of the same rows.

    Raises
    ------
    MigvisError
        If the file cannot be read again, or gives other presentations for that window.
    """
    from nwb_migvis.analysis.observed import with_missing_counts
    from nwb_migvis.read import read_session

    session = held.session
    told: dict[str, Any] = {k: v for k, v in session.attrs["reading"].items() if v is not None}
    told |= {"window_s": window_s, "allow_long_window": True}
    again = with_missing_counts(read_session(Path(session.attrs["source"]), **told))
    same = again.sizes["presentation"] == session.sizes["presentation"] and np.array_equal(
        again["start_time"].values, session["start_time"].values
    )
    if not same:
        raise MigvisError(
            f"{session.attrs['source']}: the window {window_s[0]:g} to {window_s[1]:g} s has other "
            "presentations than the run's (some are dropped in one of them); expected the same; choose a "
            "window in which all were observed"
        )
    return np.asarray(again["spike_count"].values, np.float64)[:, matching_units(again, session)]


@dataclass(frozen=True, eq=False)
class _Part:
    variance: GroupVariance
    told: Variables


def _part(held: Held, counts: np.ndarray, *, units: np.ndarray | None = None) -> _Part:
    """Measure groups on other counts, or in some of the units; the others count as not observed."""
    own, evidence = held.latents, held.config.evidence
    if not own.knows_responses:
        raise MigvisError(
            "the latents were given as an array; expected a model that encodes responses, to compare windows "
            "or areas; fit the latents"
        )
    seen = counts if units is None else np.where(units, counts, np.nan)
    mean = average_counts(seen, own.stimulus_index, own.split.size)
    z = np.asarray(own.model.encode(mean)[0], dtype=np.float64)
    halves = Halves.of(
        own.model,
        counts,
        stimulus_index=own.stimulus_index,
        split=own.split,
        seed=held.seed,
        in_first=held.in_first,
    )
    if units is not None:
        halves = Halves(
            halves.half_a[:, units],
            halves.half_b[:, units],
            halves.latents_a,
            halves.latents_b,
            train=halves.train,
            test=halves.test,
        )
    options = {"n_permutations": evidence.n_permutations, "seed": held.seed}
    variance = group_variance(
        halves,
        own.groups,
        min_reliability=evidence.min_reliability,
        n_bootstrap=evidence.n_bootstrap,
        levels=held.design.split[halves.repeated_test],
        **options,
    )
    return _Part(variance, read_labels_beyond(held, z) if own.labels else {})


def _together(dim: str, parts: list[_Part]) -> dict[str, Any]:
    """Put windows or areas side by side, p-values adjusted over all cells."""
    groups = list(parts[0].variance.explained)
    variance = np.array([[part.variance.explained[g] for g in groups] for part in parts])
    p = np.array([[part.variance.explained_p[g] for g in groups] for part in parts])
    ends = np.array([[part.variance.explained_interval[g] for g in groups] for part in parts])
    dims = (dim, "group")
    data: dict[str, Any] = {
        "variance": (dims, variance, f"Fraction of the {dim}'s repeatable variance that the group explains."),
        "variance_low": (dims, ends[..., 0], "Lower end of the 95 % interval of variance."),
        "variance_high": (dims, ends[..., 1], "Upper end of the 95 % interval of variance."),
        "variance_p": (dims, p, "Permutation p-value of variance, one-sided."),
        "variance_q": (dims, benjamini_hochberg(p), "The p-value adjusted over all cells of variance."),
    }
    for name, (inner, _, text) in parts[0].told.items():
        data[name] = ((dim, *inner), np.array([part.told[name][1] for part in parts]), text)
    if "told_p" in data:
        dims, p, _ = data["told_p"]
        data["told_q"] = (dims, benjamini_hochberg(p), "The p-value adjusted over all cells of told.")
    return data


def _coords(held: Held) -> dict[str, Any]:
    labels = list(held.latents.labels)
    return {"group": list(held.latents.groups), **({"label": labels} if labels else {})}

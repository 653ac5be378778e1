"""Windows and areas: when and where each group's variance and labels are.

By the latent model of the run, or, with `companions.refit`, by one that is fitted anew to each.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from nwb_migvis.analysis.latents import average_counts
from nwb_migvis.analysis.units import matching_units, unit_values
from nwb_migvis.companions.beyond import TEXTS, read_labels_beyond
from nwb_migvis.companions.held import Held, described, each_session
from nwb_migvis.companions.kernels import unbiased_cka
from nwb_migvis.companions.refitting import Again, fit_again
from nwb_migvis.companions.statistics import Variables, measured
from nwb_migvis.errors import MigvisError
from nwb_migvis.evidence.design import order_of
from nwb_migvis.evidence.halves import Encoder, Halves
from nwb_migvis.evidence.order import without_drift
from nwb_migvis.evidence.significance import benjamini_hochberg
from nwb_migvis.evidence.variance import MIN_STIMULI, GroupVariance, group_variance

if TYPE_CHECKING:
    from nwb_migvis.analysis.study import Study


MIN_UNITS = 10
"""An area of fewer units is not fitted again."""


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
            `stop_s`. Where `companions.refit` fits each window anew, over (window, group): `similarity`
            (unbiased CKA with the group of the run), and `similarity_of_halves` (of opposite halves of the
            repeats) with null, p and q.
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
            area: `n_units`. Where `companions.refit` fits each area anew, `similarity` as in `Windows`; no
            values of areas with fewer than `MIN_UNITS` units.
        """
        return each_session(study, by_area)


def by_window(held: Held) -> xr.Dataset:
    """Do what `Windows.compute` does for one session."""
    _require_model(held)
    windows = held.config.companions.windows_s
    seconds = float(np.diff(held.session.attrs["window_s"])[0])
    names = [f"{start:g} to {stop:g} s" for start, stop in windows]
    refit, order, parts = held.config.companions.refit, order_of(held.session), []
    for name, (start, stop) in zip(names, windows, strict=True):
        counts = counts_in(held, (start, stop))
        again = fit_again(held, counts, where=f"{held.begin}window {name}") if refit else None
        counts = counts if refit else counts * (seconds / (stop - start))
        parts.append(_part(held, counts if order is None else without_drift(counts, order), again=again))
    data = _together("window", parts)
    data["start_s"] = (("window",), np.array([w[0] for w in windows]), "Start of the window, s after onset.")
    data["stop_s"] = (("window",), np.array([w[1] for w in windows]), "End of the window, s after onset.")
    how = "The same latent model on counts of other windows, scaled to its own window's length."
    return described(
        data,
        {"window": names, **_coords(held)},
        title="Groups by window",
        description="A latent model fitted to the counts of each window." if refit else how,
        headline=["variance", "told", *(["similarity"] if refit else [])],
    )


def by_area(held: Held) -> xr.Dataset:
    """Do what `Areas.compute` does for one session."""
    _require_model(held)
    of_unit = unit_values(held.session, held.config.companions.areas)
    areas = [area for area in sorted(set(of_unit.tolist())) if area]
    parts = [_of_area(held, of_unit == area, name=area) for area in areas]
    data = _together("area", parts)
    refit = held.config.companions.refit
    text = "Root mean square of the loadings of the area's units on the group's latents."
    data["loading"] = (("area", "group"), np.stack([part.loading for part in parts]), text)
    n_units = np.array([int((of_unit == area).sum()) for area in areas])
    data["n_units"] = (("area",), n_units, "Units of the area.")
    few = [f"{area} ({n})" for area, n in zip(areas, n_units, strict=True) if refit and n < MIN_UNITS]
    how = "Each area's responses explained by the groups, and labels read from its units alone."
    return described(
        data,
        {"area": areas, **_coords(held)},
        title="Groups by area",
        description="A latent model fitted to the units of each area." if refit else how,
        headline=["variance", "told", "loading", "n_units", *(["similarity"] if refit else [])],
        note=f"fewer than {MIN_UNITS} units, not fitted again: {', '.join(few)}" if few else "",
    )


def _of_area(held: Held, units: np.ndarray, *, name: str) -> _Part:
    """Measure the groups in the units of an area."""
    if not held.config.companions.refit:
        part = _part(held, np.asarray(held.latents.spike_count, np.float64), units=units)
        return replace(part, loading=_sizes(held, held.latents.model.loading()[units]))
    if units.sum() < MIN_UNITS:
        return _nothing(held)
    counts = np.asarray(held.session["spike_count"].values, np.float64)[:, units]
    again = fit_again(held, counts, where=f"{held.begin}area {name}")
    steady = np.asarray(held.latents.spike_count, np.float64)[:, units]
    return replace(_part(held, steady, again=again), loading=_sizes(held, again.loading()))


def _sizes(held: Held, loading: np.ndarray) -> np.ndarray:
    """Return the root mean square of loadings (unit, latent) on each group, (group,)."""
    parts = held.latents.groups.split(loading).values()
    return np.array([float(np.sqrt((np.asarray(own) ** 2).mean())) for own in parts])


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
    similarity: Variables = field(default_factory=dict)
    loading: np.ndarray = field(default_factory=lambda: np.empty(0))


def _part(
    held: Held, counts: np.ndarray, *, units: np.ndarray | None = None, again: Again | None = None
) -> _Part:
    """Measure groups on other counts, or in some of the units; the others count as not observed.

    With a model that was fitted again, counts are of its units alone.
    """
    own, evidence = held.latents, held.config.evidence
    model = own.model if again is None else again
    seen = counts if units is None else np.where(units, counts, np.nan)
    mean = average_counts(seen, own.stimulus_index, own.split.size)
    z = np.asarray(model.encode(mean)[0], dtype=np.float64)
    halves = _halves(held, model, counts)
    if units is not None:
        halves = replace(halves, half_a=halves.half_a[:, units], half_b=halves.half_b[:, units])
    options = {"n_permutations": evidence.n_permutations, "seed": held.seed}
    variance = group_variance(
        halves,
        own.groups,
        min_reliability=evidence.min_reliability,
        n_bootstrap=evidence.n_bootstrap,
        levels=held.design.split[halves.repeated_test],
        **options,
    )
    similarity = {} if again is None else _similarity(held, z, halves)
    return _Part(variance, read_labels_beyond(held, z) if own.labels else {}, similarity)


def _require_model(held: Held) -> None:
    if not held.latents.knows_responses:
        raise MigvisError(
            "the latents were given as an array; expected a model that encodes responses, to compare windows "
            "or areas; fit the latents"
        )


def _halves(held: Held, model: Encoder, counts: np.ndarray) -> Halves:
    """Split the repeats of each image, the same way for every model and window, and encode both halves."""
    own = held.latents
    return Halves.of(
        model,
        counts,
        stimulus_index=own.stimulus_index,
        split=own.split,
        seed=held.seed,
        in_first=held.in_first,
    )


def _similarity(held: Held, z: np.ndarray, halves: Halves) -> Variables:
    """Compare groups that were fitted again with the run's, on held-out images.

    Both are encoded from the same trials, whose noise alone makes them alike. So the test compares latents of
    one half of the repeats with those of the other half.

    Parameters
    ----------
    held : Held
    z : array (stimulus, latent)
        Encoded by the model that was fitted again.
    halves : Halves
        Of that model.
    """
    own = _halves(held, held.latents.model, held.latents.spike_count)
    rows = np.flatnonzero(halves.repeated_test & own.repeated_test)
    if len(rows) < MIN_STIMULI:
        rows = rows[:0]
    order = held.design.split[rows].permutations(held.config.evidence.n_permutations, held.rng(70))
    none = np.empty((0, len(held.test)), dtype=np.int64)
    value, _ = _cka(held, (z[held.test], held.latents.mean[held.test]), none)
    pairs = ((halves.latents_a, own.latents_b), (halves.latents_b, own.latents_a))
    found = [_cka(held, (a[rows], b[rows]), order) for a, b in pairs]
    across, null = (np.mean(parts, axis=0) for parts in zip(*found, strict=True))
    about = "between latents of opposite halves of the repeats, which have no noise in common"
    text = "Unbiased linear CKA with the group of the same name in the run, on held-out images."
    data: Variables = {"similarity": (("group",), value, text)}
    for name, (dims, values, said) in measured("similarity", ("group",), across, text, null=null).items():
        key = "similarity_of_halves" if name == "similarity" else name
        data[key] = (dims, values, f"{said.removesuffix('.')}, {about}.")
    return data


def _cka(held: Held, pair: tuple[np.ndarray, np.ndarray], order: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the CKA of each group in two sets of latents (image, latent), and under permutations.

    Shapes are (group,) and (permutation, group); NaN without images.
    """
    a, b = (held.latents.groups.split(np.asarray(z, np.float64)) for z in pair)
    if not len(pair[0]):
        return np.full(len(a), np.nan), np.full((max(len(order), 1), len(a)), np.nan)
    cells = [unbiased_cka(a[name], b[name], order) for name in a]
    return np.array([value for value, _ in cells]), np.array([null for _, null in cells]).T


def _nothing(held: Held) -> _Part:
    """Return a part without values."""
    groups, labels = list(held.latents.groups), list(held.latents.labels)
    one, pair = dict.fromkeys(groups, np.nan), dict.fromkeys(groups, (np.nan, np.nan))
    variance = GroupVariance(one, one, one, one, pair, pair, np.nan, np.empty(0), 0)
    empty = np.full((len(groups), len(labels)), np.nan)
    told: Variables = {f"told{end}": (("group", "label"), empty, text) for end, text in TEXTS.items()}
    nothing = (("group",), np.full(len(groups), np.nan), "")
    names = ("similarity", *(f"similarity_{end}" for end in ("of_halves", "null", "p", "q")))
    similarity: Variables = dict.fromkeys(names, nothing)
    return _Part(variance, told if labels else {}, similarity, np.full(len(groups), np.nan))


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
    for kind in ("told", "similarity"):
        cells = [getattr(part, kind) for part in parts]
        texts = {name: text for own in cells for name, (_, _, text) in own.items() if text}
        for name, (inner, _, text) in cells[0].items():
            values = np.array([own[name][1] for own in cells])
            data[name] = ((dim, *inner), values, texts.get(name, text))
        if f"{kind}_p" in data:
            dims, p, _ = data[f"{kind}_p"]
            text = f"The p-value adjusted over all cells of {kind}."
            data[f"{kind}_q"] = (dims, benjamini_hochberg(p), text)
    return data


def _coords(held: Held) -> dict[str, Any]:
    labels = list(held.latents.labels)
    return {"group": list(held.latents.groups), **({"label": labels} if labels else {})}

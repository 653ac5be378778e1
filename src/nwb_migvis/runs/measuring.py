"""The session in which a run's edits were shown, against the run: predicted and measured responses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import xarray as xr

from nwb_migvis.analysis.latents import average_counts
from nwb_migvis.analysis.observed import with_missing_counts
from nwb_migvis.analysis.units import matching_units
from nwb_migvis.config import Config
from nwb_migvis.errors import MigvisError
from nwb_migvis.evidence.design import order_of
from nwb_migvis.evidence.order import without_drift
from nwb_migvis.extras import MODELS, require
from nwb_migvis.groups import LatentGroups
from nwb_migvis.labels import labels_in
from nwb_migvis.levels import Exchange, choose_design
from nwb_migvis.read import read_session
from nwb_migvis.results import Results
from nwb_migvis.results.measured import CELL_COLUMNS, MeasuredEdits
from nwb_migvis.runs.models import checked_weights, run_config
from nwb_migvis.runs.showings import Showing, picture_note, pictures_shown, units_by_id
from nwb_migvis.store import building, read_results

if TYPE_CHECKING:
    from nwb_migvis.evidence.encoding import Gain, Latents
    from nwb_migvis.evidence.transfer import Transfer
    from nwb_migvis.latents.protocol import LatentModel

MIN_REAL = 10
"""Held-out real images that both sessions must have shown."""
MATCHES = ("ids", "images")
LEAST_SAME = 0.1
"""Median correlation of a unit over real images in both sessions under which a note doubts the match."""

_CONTROLS_FIRST = ("pmi", "none", "shuffled")


def compare(
    path: str | Path,
    measured: str | Path | xr.Dataset,
    *,
    name: str | None = None,
    match: str = "ids",
    stimuli: str | Path | None = None,
    **reading: Any,
) -> MeasuredEdits:
    """Score the session in which a run's edits were shown: predicted against measured responses.

    Measured counts are encoded into latents as those of the first session were. How far edits move a group's
    latents to the target's, and how much they keep of the source's, is measured as the encoding check does
    it; real images that both sessions showed tell how latents of one session show in the other.

    Parameters
    ----------
    path : path
        A file that `run` wrote.
    measured : path or xarray.Dataset
        The session in which pictures of `export_stimuli` were shown; or what `read_session` returned of it.
    name : str, optional
        The run, where the file holds several.
    match : {"ids", "images"}
        How units of both sessions are matched: by id, or by their responses to images that both showed.
    stimuli : path, optional
        A CSV with the columns `stimulus` (what the session calls a picture) and `file`.
    **reading
        Passed to `read_session` for the measured session; the window is the run's where none is given.

    Returns
    -------
    MeasuredEdits

    Raises
    ------
    MigvisError
        If the session showed no edit of the run or too few of its real images, no unit matches, or the run's
        latents have no encoder.
    """
    require(MODELS, what="comparing sessions")
    if match not in MATCHES:
        raise MigvisError(f"match: found {match!r}; expected one of {', '.join(MATCHES)}")
    path = Path(path)
    results = read_results(path, name)
    config, model = run_config(path, results), _latent_model(path, results)
    window = results.provenance.get("reading", {}).get("window_s")
    if window and "window_s" not in reading:
        reading |= {"window_s": tuple(window), "allow_long_window": True}
    read = measured if isinstance(measured, xr.Dataset) else read_session(measured, **reading)
    session = _steady(with_missing_counts(read))
    shown = pictures_shown(session, results, stimuli=stimuli)
    seen = _Seen(session, shown, results)
    _check_real(seen)
    index = units_by_id(session, results.units) if match == "ids" else None
    first, why = _first_means(path, results)
    index = _units_by_responses(seen, first, why=why) if index is None else index
    average = seen.average_of(index)
    cells, gains = _latent_evidence(model.encode(average)[0], seen, config)
    units, notes = _unit_table(seen, first, index, seed=config.seed)
    rates = _rates(seen, average)
    about = {
        "source": str(path),
        "measured": str(session.attrs.get("source", "")),
        "window_s": list(session.attrs.get("window_s", ())),
        "match": match,
        "n_edits": int((shown.edit >= 0).sum()),
        "n_real": int((shown.real >= 0).sum()),
        "n_matched": int((index >= 0).sum()),
    }
    notes += [
        note for note in (picture_note(session, results, shown), why if first is None else None) if note
    ]
    return MeasuredEdits(results.name, cells, gains, units, rates, about, tuple(notes))


def _steady(session: xr.Dataset) -> xr.Dataset:
    """Take drift and repetition suppression out of a session's counts, as for the evidence of a run."""
    order = order_of(session)
    if order is None:
        return session
    counts = without_drift(session["spike_count"].values, order)
    return session.assign(spike_count=(session["spike_count"].dims, counts))


@dataclass(frozen=True, eq=False)
class _Seen:
    """A measured session, with the run whose pictures it showed."""

    session: xr.Dataset
    shown: Showing
    results: Results

    @property
    def source(self) -> str:
        """What messages call the session."""
        return str(self.session.attrs.get("source", "the session"))

    @property
    def is_shared(self) -> np.ndarray:
        """Which of the run's stimuli are held out and were shown, (stimulus,) bool."""
        return (self.shown.real >= 0) & (self.results.latents["split"].values == "test")

    @property
    def mean(self) -> np.ndarray:
        """Mean counts (stimulus, unit) of the measured session."""
        counts, index = self.session["spike_count"].values, self.session["stimulus_index"].values
        return average_counts(counts, index, self.session.sizes["stimulus"])

    def average_of(self, index: np.ndarray) -> np.ndarray:
        """Return mean counts (stimulus, unit of the run); NaN for units that were not matched."""
        return np.where(index >= 0, self.mean[:, np.maximum(index, 0)], np.nan)


def _latent_model(path: Path, results: Results) -> LatentModel:
    from nwb_migvis.latents.protocol import load_latent_model

    weights = checked_weights(path, results)
    if "vae" not in weights:
        raise MigvisError(
            f"{path}: run {results.name!r} holds no latent model; expected one that encodes responses; "
            "latents that were given as an array have none"
        )
    with building(f"{path}: /analysis/{results.name}/model"):
        return load_latent_model(weights["vae"])


def _first_means(path: Path, results: Results) -> tuple[np.ndarray | None, str]:
    """Return mean counts (stimulus, unit) of the run's own session in the run's order, or why not."""
    recorded = results.provenance.get("reading", {})
    reading: dict[str, Any] = {
        key: recorded[key] for key in ("layout", "stimulus") if isinstance(recorded.get(key), str)
    }
    reading |= {key: recorded[key] for key in ("index_base", "merge_repeats") if recorded.get(key) in (0, 1)}
    window = recorded.get("window_s")
    try:
        session = read_session(path, **reading, window_s=window and tuple(window), allow_long_window=True)
        session = with_missing_counts(session)
        units = matching_units(session, results.units)
    except MigvisError as error:
        return None, f"responses of the first session are not at hand ({error})"
    row = {str(name): i for i, name in enumerate(session["stimulus"].values)}
    stimuli = [row.get(str(name), -1) for name in results.latents["stimulus"].values]
    if min(stimuli) < 0:
        return None, "responses of the first session are not at hand (its stimuli are others than the run's)"
    index = session["stimulus_index"].values
    mean = average_counts(session["spike_count"].values[:, units], index, session.sizes["stimulus"])
    return mean[stimuli], ""


def _check_real(seen: _Seen) -> None:
    """Refuse a session that showed too few held-out real images of the run."""
    if (n := int(seen.is_shared.sum())) < MIN_REAL:
        raise MigvisError(
            f"{seen.source}: found {n} held-out real images of run {seen.results.name!r}; expected at least "
            f"{MIN_REAL}; show the real images that export-stimuli writes beside the edits"
        )


def _units_by_responses(seen: _Seen, first: np.ndarray | None, *, why: str) -> np.ndarray:
    """Return the measured unit of each unit of the run, -1 for none."""
    from nwb_migvis.evidence.same_units import MIN_IMAGES, match_by_responses

    source = seen.source
    if first is None:
        raise MigvisError(f"{source}: units cannot be matched by their responses: {why}; match them by id")
    real = seen.shown.real
    shared = np.flatnonzero(real >= 0)
    if len(shared) < MIN_IMAGES:
        raise MigvisError(
            f"{source}: both sessions showed {len(shared)} real images; expected at least {MIN_IMAGES} to "
            "match units by their responses; show more of those that export-stimuli writes"
        )
    index = match_by_responses(first[shared], seen.mean[real[shared]], seed=0)
    if (index < 0).all():
        raise MigvisError(
            f"{source}: no unit responds to the {len(shared)} real images of both sessions as one of the run "
            "does; expected the same units"
        )
    return index


def _latent_evidence(encoded: np.ndarray, seen: _Seen, config: Config) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Measure transfers of all groups in the edits that were shown: a row per cell, and one per group."""
    from nwb_migvis.evidence.encoding import EncodedEdits, Latents, encoded_transfers, encoding_gain
    from nwb_migvis.evidence.transfer import Draws

    results, shown = seen.results, seen.shown
    groups = LatentGroups.of(config.latents.groups)
    latents = results.latents
    is_train = latents["split"].values == "train"
    scale = np.maximum(latents["mean"].values[is_train].std(axis=0), 1e-12)
    first = groups.split(latents["mean"].values.astype(np.float64) / scale)
    now = groups.split(encoded.astype(np.float64) / scale)
    shared = seen.is_shared
    real: dict[str, Latents] = {}
    for group in groups.names:
        later = np.full(first[group].shape, np.nan)
        later[shared] = now[group][shown.real[shared]]
        real[group] = Latents(first[group], later)
    weight = _levels(results, config)[shared].bootstrap(
        config.evidence.n_bootstrap, np.random.default_rng([config.seed, 3])
    )
    gains = {group: encoding_gain(own[shared], weight=weight) for group, own in real.items()}
    rows, ends = _pairs(results, shown, shared)
    edits = EncodedEdits(
        group=results.synthesized["group"].values[rows].astype(str),
        method=results.synthesized["method"].values[rows].astype(str),
        source=ends[0],
        target=ends[1],
        latents={group: own[shown.edit[rows]] for group, own in now.items()},
        real=real,
    )
    evidence = config.evidence
    draws = Draws(config.seed, evidence.n_bootstrap, evidence.n_permutations)
    transfers = encoded_transfers(edits, gains, draws=draws)
    predicted = results.provenance.get("encoding", {}).get("transfer", {})
    return _cell_table(transfers, predicted), _group_table(gains)


def _levels(results: Results, config: Config) -> Exchange:
    """Return what is independent among the run's stimuli."""
    labels = labels_in(results.labels)
    supervising = [label for group in config.latents.groups for label in group.labels]
    n = results.latents.sizes["stimulus"]
    return choose_design(labels, n=n, supervising=supervising, by=config.split.by).split


def _pairs(results: Results, shown: Showing, shared: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
    """Return the edits of pairs that were shown with both of their ends, methods in order, and these ends."""
    edits = results.synthesized
    row = {str(name): i for i, name in enumerate(results.latents["stimulus"].values)}
    ends = [np.array([row.get(str(name), -1) for name in edits[end].values]) for end in ("source", "target")]
    both = np.all([(end >= 0) & shared[end] for end in ends], axis=0)
    rows = np.flatnonzero(both & (shown.edit >= 0) & (edits["role"].values == "main"))
    methods = edits["method"].values[rows].astype(str)
    order = {method: i for i, method in enumerate(dict.fromkeys([*_CONTROLS_FIRST, *methods]))}
    rows = rows[np.argsort([order[method] for method in methods], kind="stable")]
    return rows, [end[rows] for end in ends]


def _cell_table(
    transfers: Mapping[tuple[str, str, str], Transfer], predicted: Mapping[str, Any]
) -> pd.DataFrame:
    from nwb_migvis.multiplicity import benjamini_hochberg

    rows = []
    for (method, edited, of), cell in transfers.items():
        expected = predicted.get(method, {}).get(edited, {}).get(of, {})
        rows.append(
            {
                "method": method,
                "edited": edited,
                "group": of,
                **dict(zip(CELL_COLUMNS[3:10], cell.values(), strict=True)),
                "q_value": np.nan,
                "n_pairs": cell.n_pairs,
                "predicted_transfer": expected.get("transfer"),
                "predicted_retention": expected.get("retention"),
            }
        )
    table = pd.DataFrame(rows, columns=list(CELL_COLUMNS))
    for column in ("predicted_transfer", "predicted_retention"):
        table[column] = table[column].astype(float)
    for _, cells in table.groupby([table["method"], table["edited"] == table["group"]], sort=False):
        table.loc[cells.index, "q_value"] = benjamini_hochberg(cells["p_value"].to_numpy())
    return table


def _group_table(gains: Mapping[str, Gain]) -> pd.DataFrame:
    columns = {group: (gain.slope, *gain.interval, gain.correlation) for group, gain in gains.items()}
    names = ["slope", "slope_low", "slope_high", "correlation"]
    return pd.DataFrame.from_dict(columns, orient="index", columns=names).rename_axis("group")


def _unit_table(
    seen: _Seen, first: np.ndarray | None, index: np.ndarray, *, seed: int
) -> tuple[pd.DataFrame, list[str]]:
    """Say of each unit how it responds to images of both sessions, and how well its counts were predicted."""
    from nwb_migvis.evidence.encoding import unit_correlations
    from nwb_migvis.evidence.reliability import column_correlation, split_half_reliability

    session, results, average = seen.session, seen.results, seen.average_of(index)
    ids = session["unit"].values
    table = pd.DataFrame({"unit": results.units["unit"].values})
    table["measured_unit"] = [str(ids[i]) if i >= 0 else "" for i in index]
    table["same_images"] = table["predicted"] = table["ceiling"] = np.nan
    notes = []
    real = np.flatnonzero(seen.is_shared)
    if first is not None:
        table["same_images"] = column_correlation(first[real], average[seen.shown.real[real]])
        finite = table["same_images"].dropna()
        if len(finite) and finite.median() < LEAST_SAME:
            notes.append(
                "units respond to the same images alike in hardly any pair: they may be others; match = "
                "'images' (--match images) matches them by their responses"
            )
    if lost := int((index < 0).sum()):
        notes.append(f"{lost} of {len(index)} units were not matched: their counts are missing")
    if "predicted_rate" not in results.synthesized:
        notes.append("the run stored no predicted responses: it had no encoding check")
        return table, notes
    rows = np.flatnonzero(seen.shown.edit >= 0)
    predicted = results.synthesized["predicted_rate"].transpose("edit", "unit").values[rows]
    has_rate = np.isfinite(predicted).all(axis=1)
    rows, predicted = rows[has_rate], predicted[has_rate].astype(np.float64)
    used = np.zeros(session.sizes["stimulus"], bool)
    used[seen.shown.edit[rows]] = True
    reliability = split_half_reliability(
        session["spike_count"].values,
        session["stimulus_index"].values,
        n_stimuli=used.size,
        seed=seed,
        stimuli=used,
    )
    of_units = np.where(index >= 0, reliability[np.maximum(index, 0)], np.nan)
    measured = average[seen.shown.edit[rows]]
    table["predicted"], table["ceiling"] = unit_correlations(predicted, measured, of_units)
    return table, notes


def _rates(seen: _Seen, average: np.ndarray) -> xr.Dataset:
    """Return predicted and measured mean counts of the edits that were shown."""
    results, session = seen.results, seen.session
    rows = np.flatnonzero(seen.shown.edit >= 0)
    at = seen.shown.edit[rows]
    edits = results.synthesized
    predicted = np.full((len(rows), results.units.sizes["unit"]), np.nan, np.float32)
    if "predicted_rate" in edits:
        predicted = edits["predicted_rate"].transpose("edit", "unit").values[rows]
    n = np.bincount(session["stimulus_index"].values, minlength=session.sizes["stimulus"])
    return xr.Dataset(
        {"predicted": (("edit", "unit"), predicted), "measured": (("edit", "unit"), average[at])},
        coords={
            "unit": results.units["unit"].values,
            "row": ("edit", rows),
            "stimulus": ("edit", session["stimulus"].values[at].astype(str)),
            "n_presentations": ("edit", n[at]),
        },
    )

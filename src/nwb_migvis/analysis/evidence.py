"""Evidence from responses: what each latent group explains, holds of the labels, and is called."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import xarray as xr

from nwb_migvis.analysis.stability import other_seeds, refit, seed_stability
from nwb_migvis.analysis.stages import Edits, Fitted
from nwb_migvis.config import Config
from nwb_migvis.labels import as_labels, select
from nwb_migvis.results import GROUP_COLUMNS, no_decoding

if TYPE_CHECKING:
    from nwb_migvis.evidence.halves import Halves


@dataclass(frozen=True)
class Measured:
    """Tables of groups, units and label decoding, and the number of units too unreliable to count."""

    groups: pd.DataFrame
    units: xr.Dataset
    n_units_left_out: int
    decoding: xr.Dataset = field(default_factory=no_decoding)
    notes: tuple[str, ...] = ()


def measure(
    session: xr.Dataset,
    fitted: Fitted,
    edits: Edits,
    config: Config,
    seed: int,
    *,
    others: Iterable[np.ndarray] | None = None,
) -> Measured:
    """Measure what each group holds of responses, images and labels, and how reliable the units are.

    `others` are the latents in fits from other seeds, (stimulus, latent) each, where the fit was not of this
    session alone; else `stability_seeds` of them are made here.
    """
    from nwb_migvis.evidence.halves import Halves
    from nwb_migvis.evidence.reliability import split_half_correlation, split_half_reliability
    from nwb_migvis.evidence.variance import group_variance

    n_stimuli, test = fitted.split.size, fitted.split == "test"
    halves = Halves.of(
        fitted.model,
        fitted.spike_count,
        stimulus_index=fitted.stimulus_index,
        split=fitted.split,
        seed=seed,
    )
    variance = group_variance(
        halves,
        fitted.groups,
        min_reliability=config.evidence.min_reliability,
        n_permutations=config.evidence.n_permutations,
        seed=seed,
    )
    groups = pd.DataFrame(index=pd.Index(fitted.groups.names, name="group"))
    groups["first"] = [place.start for place in fitted.groups.slices.values()]
    groups["size"] = fitted.groups.sizes
    groups["supervised_by"] = [",".join(labels) for labels in fitted.groups.labels]
    for name in ("explained", "explained_p", "unique", "unique_p"):
        groups[f"variance_{name}"] = pd.Series(getattr(variance, name))
    groups = groups.join(_information(fitted, edits, config, seed)).join(_dimensions(fitted))
    groups = groups.join(_beyond(fitted, edits, config, halves, seed))
    if n_seeds := config.evidence.stability_seeds:
        if others is None:
            others = (refit(fitted, config, seed=other) for other in other_seeds(seed, n_seeds))
        groups["stability"] = seed_stability(fitted, others)
    decoding, own = _decoding(fitted, config, seed)
    groups = _judged(groups.join(own))
    counts = (fitted.spike_count, fitted.stimulus_index)
    units = xr.Dataset(
        {
            "loading": (("unit", "latent"), fitted.model.loading()),
            "r2": ("unit", variance.r2),
            "noise_ceiling": (
                "unit",
                split_half_correlation(*counts, n_stimuli=n_stimuli, seed=seed, stimuli=test),
            ),
            "reliability": ("unit", split_half_reliability(*counts, n_stimuli=n_stimuli, seed=seed)),
        },
        coords={"unit": session["unit"].values},
    )
    columns = [name for name in GROUP_COLUMNS if name in groups]
    return Measured(groups[columns], units, variance.n_units_left_out, decoding, _notes(fitted, groups))


def _notes(fitted: Fitted, groups: pd.DataFrame) -> tuple[str, ...]:
    """Say what could not be measured, or counts for nothing."""
    from nwb_migvis.latents.checks import constant_units

    notes = []
    n_constant = int(constant_units(fitted.spike_count).sum())
    if n_constant:
        notes.append(
            f"{n_constant} of {fitted.spike_count.shape[1]} units never change their spike count: they are "
            "kept and say nothing"
        )
    if (fitted.n_presentations < 2).all():
        notes.append(
            "no image was shown twice: no reliability was measured, and latents were fitted to predict "
            "the presentations that they were encoded from"
        )
    if (groups["supervised_by"] != "").any() and groups["decoding"].isna().all():
        notes.append("label decoding was not measured: it needs twenty test images with the label")
    return tuple(notes)


def _information(fitted: Fitted, edits: Edits, config: Config, seed: int) -> pd.DataFrame:
    """Bound the information between each group and the images, and estimate it where the prior can."""
    from nwb_migvis.evidence.information import infonce_bound, paired_mean

    rows = {group: dict.fromkeys(("mi_bound_nats", "mi_cap_nats", "mi_p"), np.nan) for group in fitted.groups}
    if edits.scores is not None:
        for group, scores in zip(rows, edits.scores, strict=True):
            bound = infonce_bound(scores, n_permutations=config.evidence.n_permutations, seed=seed)
            rows[group] = {
                "mi_bound_nats": bound.bound_nats,
                "mi_cap_nats": bound.cap_nats,
                "mi_p": bound.p_value,
            }
    found = pd.DataFrame.from_dict(rows, orient="index")
    if edits.information is not None:
        draws = {"n_permutations": config.evidence.n_permutations, "seed": seed}
        found["information_nats"] = edits.information.own.mean(axis=0)
        found["information_p"] = [paired_mean(pairs, **draws)[1] for pairs in edits.information.crossed]
    return found


def _dimensions(fitted: Fitted) -> pd.DataFrame:
    """Count the dimensions that each group uses on the test stimuli."""
    from nwb_migvis.evidence.dimension import participation_ratio, twonn_dimension

    z = fitted.mean[fitted.split == "test"]
    rows = {
        group: {
            "participation_ratio": participation_ratio(own),
            "twonn_dimension": twonn_dimension(own),
        }
        for group, own in fitted.groups.split(z).items()
    }
    return pd.DataFrame.from_dict(rows, orient="index")


def _beyond(fitted: Fitted, edits: Edits, config: Config, halves: Halves, seed: int) -> pd.DataFrame:
    """Measure the variance of each group beyond its own labels and beyond low-level image features."""
    from nwb_migvis.evidence.beyond import image_features, label_features, variance_beyond

    train, labels = fitted.split == "train", as_labels(fitted.labels, circular=config.latents.circular)
    low_level = image_features(edits.images, train=train) if edits.images.size else None
    rows: dict[str, dict[str, float]] = {}
    for group, supervised_by in fitted.groups.supervised_by.items():
        described = {"images": low_level}
        own = {name: labels[name] for name in supervised_by if name in labels}
        if own:
            described["labels"] = label_features(own, train=train, seed=seed)
        row = rows[group] = {}
        for what in ("labels", "images"):
            added, p_value = np.nan, np.nan
            if (features := described.get(what)) is not None:
                beyond = variance_beyond(
                    halves.of_latents(fitted.groups.slices[group]),
                    features,
                    min_reliability=config.evidence.min_reliability,
                    n_permutations=config.evidence.n_permutations,
                    seed=seed,
                )
                added, p_value = beyond.added, beyond.p_value
            row[f"variance_beyond_{what}"], row[f"variance_beyond_{what}_p"] = added, p_value
    return pd.DataFrame.from_dict(rows, orient="index")


def _decoding(fitted: Fitted, config: Config, seed: int) -> tuple[xr.Dataset, pd.DataFrame]:
    """Decode every label from every group on the test stimuli."""
    from nwb_migvis.evidence.decoding import decode_labels, own_group_gap
    from nwb_migvis.evidence.disentanglement import group_mig, group_sap

    names = ["decoding", "decoding_p", "own_group_gap"]
    own = pd.DataFrame(np.nan, index=list(fitted.groups), columns=names)
    if not fitted.labels:
        return no_decoding(), own
    test = fitted.split == "test"
    found = decode_labels(
        fitted.mean[test],
        select(as_labels(fitted.labels, circular=config.latents.circular), test),
        groups=fitted.groups,
        n_permutations=config.evidence.n_permutations,
        seed=seed,
    )
    own["decoding"], own["decoding_p"] = found["own_score"].values, found["own_p"].values
    own["own_group_gap"] = pd.Series(
        own_group_gap(found["score"], supervised_by=fitted.groups.supervised_by), dtype=float
    )
    decoding = found[["score", "chance", "p_value", "q_value", "score_all"]].assign(
        mig=group_mig(found["information"], found["entropy"]), sap=group_sap(found["score"], found["chance"])
    )
    return decoding, own


def _judged(groups: pd.DataFrame) -> pd.DataFrame:
    """Add p-values adjusted over the groups, and the verdict on each."""
    from nwb_migvis.evidence.significance import benjamini_hochberg, verdict

    groups = groups.copy()
    for name in ("variance_explained", "variance_unique", "mi", "decoding"):
        groups[f"{name}_q"] = benjamini_hochberg(groups[f"{name}_p"].to_numpy())
    groups["verdict"] = [
        verdict(supervised=bool(labels), decoding_q=decoding_q, variance_q=variance_q)
        for labels, decoding_q, variance_q in zip(
            groups["supervised_by"], groups["decoding_q"], groups["variance_explained_q"], strict=True
        )
    ]
    return groups

"""What a session's design allows to be said, and its counts and repeats as they are measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from nwb_migvis.analysis.context import Context
from nwb_migvis.analysis.latents import SessionLatents, average_counts
from nwb_migvis.labels import Label
from nwb_migvis.levels import Design, Exchange

if TYPE_CHECKING:
    from nwb_migvis.evidence.beyond import Beyond, Given
    from nwb_migvis.evidence.halves import Halves
    from nwb_migvis.evidence.order import Order
    from nwb_migvis.evidence.variance import GroupVariance

LOW_LEVEL_PX = 64
"""Longest side of the images that low-level features are taken of."""


@dataclass(frozen=True, eq=False)
class Setting:
    """What a session's design allows to be said.

    Attributes
    ----------
    design : Design
        Of the session's stimuli.
    order : Order or None
        When images were shown; None where the session does not say.
    time_of_images : str
        How images cannot be told from their time, "" where they can.
    time_of_labels : mapping of str to str
        Labels that cannot be told from time, with how.
    nuisances : numpy.ndarray, shape (n_stimuli, n_columns)
        Functions of low-level image features and times of presentation, that labels are judged beyond.
    """

    design: Design
    order: Order | None
    time_of_images: str
    time_of_labels: Mapping[str, str]
    nuisances: np.ndarray


def setting_of(session: xr.Dataset, labels: Mapping[str, Label], design: Design, context: Context) -> Setting:
    """Look at a session's design: what is independent, and what cannot be told from time."""
    from nwb_migvis.evidence.design import labels_from_time, order_of
    from nwb_migvis.evidence.order import image_from_time, time_nuisances

    order, images = order_of(session), _image_nuisances(session)
    if order is None:
        return Setting(design, None, "", {}, images)
    from_time = labels_from_time(labels, order, design, seed=context.seeds["evidence"])
    nuisances = np.concatenate([images, time_nuisances(order)], axis=1)
    return Setting(design, order, image_from_time(order), from_time, nuisances)


def _image_nuisances(session: xr.Dataset) -> np.ndarray:
    """Describe a session's images by their low-level features, (stimulus, column); none without pixels."""
    from nwb_migvis.evidence.low_level import low_level_features, nuisance_basis
    from nwb_migvis.read.recorded import small_images

    if "image" not in session:
        return np.zeros((session.sizes["stimulus"], 0))
    return nuisance_basis(low_level_features(small_images(session["image"], LOW_LEVEL_PX)))


def without_slow_change(latents: SessionLatents, order: Order | None) -> SessionLatents:
    """Return latents of counts from which drift and repetition suppression are taken out."""
    from nwb_migvis.evidence.order import without_drift

    if order is None or not latents.knows_responses:
        return latents
    counts = without_drift(latents.spike_count, order)
    mean, log_var = latents.model.encode(average_counts(counts, latents.stimulus_index, latents.split.size))
    return replace(latents, spike_count=counts, mean=mean, log_var=log_var)


@dataclass(frozen=True, eq=False)
class Repeats:
    """Two halves of the repeats, with what the groups explain of one from the other."""

    halves: Halves
    variance: GroupVariance

    def given(self, features: np.ndarray, levels: Exchange, seed: int) -> Given:
        """Return features (stimulus, feature) that groups are judged beyond."""
        from nwb_migvis.evidence.beyond import Given

        return Given(features, train=self.halves.repeated_train, levels=levels, seed=seed)

    def beyond(self, latents: slice, given: Given, context: Context) -> Beyond:
        """Measure what a group's latents explain beyond features."""
        from nwb_migvis.evidence.beyond import variance_beyond

        config = context.config.evidence
        return variance_beyond(
            self.halves.of_latents(latents),
            given,
            min_reliability=config.min_reliability,
            n_permutations=config.n_permutations,
            n_bootstrap=config.n_bootstrap,
            seed=context.seeds["evidence"],
        )


def repeats_of(latents: SessionLatents, setting: Setting, context: Context) -> Repeats | None:
    """Encode the earlier and the later repeats, and measure what groups explain; None without a model."""
    from nwb_migvis.evidence.halves import Halves
    from nwb_migvis.evidence.variance import group_variance

    if not latents.knows_responses:
        return None
    config, seed = context.config.evidence, context.seeds["evidence"]
    halves = Halves.of(
        latents.model,
        latents.spike_count,
        stimulus_index=latents.stimulus_index,
        split=latents.split,
        seed=seed,
        in_first=None if setting.order is None else setting.order.in_first_half,
    )
    variance = group_variance(
        halves,
        latents.groups,
        min_reliability=config.min_reliability,
        n_permutations=config.n_permutations,
        n_bootstrap=config.n_bootstrap,
        levels=setting.design.split[halves.repeated_test],
        seed=seed,
    )
    return Repeats(halves, variance)

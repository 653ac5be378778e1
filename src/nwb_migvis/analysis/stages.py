"""The stages joined: what each needs of the ones before it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from nwb_migvis.analysis.context import Clock
from nwb_migvis.analysis.priors import images_for_prior, obtain_prior, really_used
from nwb_migvis.config import Config, PriorConfig
from nwb_migvis.groups import LatentGroups, LatentScale
from nwb_migvis.results import no_edits, no_selectivity

if TYPE_CHECKING:
    from nwb_migvis.evidence.readers.protocol import Reader
    from nwb_migvis.latents.model import LatentModel
    from nwb_migvis.synthesis.critic.model import Critic
    from nwb_migvis.synthesis.prior.information import DenoisingInformation
    from nwb_migvis.synthesis.prior.model import Prior

MAX_PRIOR_BYTES = 20_000_000
"""Priors of this size and more are not stored in the NWB file."""

N_INFORMATION, N_CROSSED = 128, 16
"""Most test stimuli whose information a conditional prior estimates, and is tested on."""

NO_IMAGES = np.zeros((0, 0, 0), np.uint8)


@dataclass(frozen=True)
class Fitted:
    """The latent model with what it was fitted to."""

    model: LatentModel
    split: np.ndarray
    labels: dict[str, np.ndarray]
    spike_count: np.ndarray
    stimulus_index: np.ndarray
    n_presentations: np.ndarray
    mean: np.ndarray
    log_var: np.ndarray

    @property
    def slices(self) -> dict[str, tuple[int, int]]:
        """First latent and number of latents of each group."""
        first = np.cumsum([0, *(group.size for group in self.model.groups)])
        return {
            group.name: (int(f), group.size) for group, f in zip(self.model.groups, first[:-1], strict=True)
        }


@dataclass(frozen=True)
class Edits:
    """What synthesis made: nothing where the session has no pixels.

    `images` are the stimuli at the prior's size, `scores` the critic's on the test stimuli, `samples`
    unguided ones of the prior, `latents` standardised ones of all stimuli, `steps` those of the directions,
    `prior` the settings that the prior really has, `trained_on` the images that it was trained on,
    `information` what a conditional prior says of test stimuli.
    """

    images: np.ndarray = field(default_factory=lambda: NO_IMAGES)
    synthesized: xr.Dataset = field(default_factory=no_edits)
    weights: dict[str, bytes] = field(default_factory=dict)
    scores: np.ndarray | None = None
    samples: np.ndarray = field(default_factory=lambda: NO_IMAGES)
    latents: np.ndarray = field(default_factory=lambda: np.zeros((0, 0)))
    steps: dict[tuple[str, str], np.ndarray] = field(default_factory=dict)
    prior: PriorConfig = field(default_factory=PriorConfig)
    trained_on: np.ndarray = field(default_factory=lambda: NO_IMAGES)
    information: DenoisingInformation | None = None


def fit(session: xr.Dataset, config: Config, seeds: Mapping[str, int], clock: Clock) -> Fitted:
    """Split the stimuli, fit the latent model, and encode every stimulus."""
    from nwb_migvis.latents import LatentTask, Recording, resolve_groups, split_stimuli, stimulus_labels
    from nwb_migvis.latents.fit import fit_latents

    labels = stimulus_labels(session, circular=config.latents.circular)
    groups = resolve_groups(labels, config.latents)
    n_stimuli = session.sizes["stimulus"]
    split = split_stimuli(n_stimuli, config.split, rng=np.random.default_rng(seeds["split"]))
    recording = Recording.alone(session["spike_count"].values, session["stimulus_index"].values, n_stimuli)
    with clock.of("latents"):
        (model,) = fit_latents(
            [recording],
            LatentTask(labels, groups, split),
            config=config.latents,
            seed=seeds["latents"],
            device=config.device,
            checkpoints=config.checkpoints,
        )
        values = {name: label.values for name, label in labels.items()}
        return encode_all(model, session, split=split, labels=values)


def encode_all(
    model: LatentModel, session: xr.Dataset, *, split: np.ndarray, labels: dict[str, np.ndarray]
) -> Fitted:
    """Encode every stimulus of a session from all of its repeats."""
    spike_count, stimulus_index = session["spike_count"].values, session["stimulus_index"].values
    n_presentations = np.bincount(stimulus_index, minlength=split.size)
    mean, log_var = model.encode(average_counts(spike_count, stimulus_index, split.size))
    return Fitted(model, split, labels, spike_count, stimulus_index, n_presentations, mean, log_var)


def average_counts(spike_count: np.ndarray, stimulus_index: np.ndarray, n_stimuli: int) -> np.ndarray:
    """Average the counts (presentation, unit) of each stimulus, (stimulus, unit)."""
    total = np.zeros((n_stimuli, spike_count.shape[1]))
    np.add.at(total, stimulus_index, spike_count)
    return total / np.bincount(stimulus_index, minlength=n_stimuli)[:, None]


@dataclass(frozen=True)
class Guides:
    """The networks that edit images, with what they are stored as and what the prior makes by itself.

    `trained_on` are the images that the prior was trained on, `samples` unguided ones of it.
    """

    prior: Prior
    critic: Critic
    weights: dict[str, bytes]
    trained_on: np.ndarray
    samples: np.ndarray


def make_edits(
    session: xr.Dataset, fitted: Fitted, config: Config, seeds: Mapping[str, int], clock: Clock
) -> Edits:
    """Train prior and critic on the training stimuli's images and edit held-out ones."""
    check_steps(fitted, config)
    images, guides = own_guides(session, fitted, config, seeds, clock)
    return edit_images(session, images, fitted, guides, config, seeds, clock)


def own_guides(
    session: xr.Dataset, fitted: Fitted, config: Config, seeds: Mapping[str, int], clock: Clock
) -> tuple[np.ndarray, Guides]:
    """Return a session's images at the prior's size, and prior and critic trained on its training stimuli."""
    with clock.of("prior"):
        images, start = images_for_prior(session["image"], config.prior)
    guides = train_guides(
        images,
        fitted.mean,
        shown=np.arange(len(images)),
        split=fitted.split,
        groups=LatentGroups.of(fitted.model.groups),
        start=start,
        config=config,
        seeds=seeds,
        clock=clock,
    )
    return images, guides


def check_steps(fitted: Fitted, config: Config) -> None:
    """Refuse directions of traversals that the groups or labels of a session do not have."""
    from nwb_migvis.synthesis.editing.directions import check_directions

    check_directions(
        config.synthesis.directions,
        groups=fitted.model.groups,
        labels=fitted.labels,
        circular=config.latents.circular,
    )


def train_guides(
    images: np.ndarray,
    latents: np.ndarray,
    *,
    shown: np.ndarray,
    split: np.ndarray,
    groups: LatentGroups,
    start: Prior | None,
    config: Config,
    seeds: Mapping[str, int],
    clock: Clock,
) -> Guides:
    """Train the prior on images and the critic on what their latents are.

    Parameters
    ----------
    images : numpy.ndarray of uint8, shape (n_images, y, x (, channel))
        At the prior's size.
    latents : numpy.ndarray, shape (n, n_latents)
    shown : numpy.ndarray of int, shape (n,)
        The image that each row of latents is of: an image has a row for every session that showed it.
    split : numpy.ndarray of str, shape (n_images,)
    groups : LatentGroups
    start : Prior or None
        The prior to start from.
    config : Config
    seeds : mapping of str to int
    clock : Clock
    """
    from nwb_migvis.synthesis.conditions import Conditions
    from nwb_migvis.synthesis.critic.training import train_critic
    from nwb_migvis.synthesis.prior.samples import sample_prior

    train, options = split == "train", config.synthesis
    conditions = Conditions(latents, groups, LatentScale.of(latents[train[shown]]))
    with clock.of("prior"):
        prior = obtain_prior(
            images,
            conditions,
            start=start,
            shown=shown,
            train=train,
            config=config,
            seed=seeds["prior"],
        )
    with clock.of("critic"):
        critic = train_critic(
            images[shown],
            conditions,
            split=split[shown],
            prior=prior,
            config=config.critic,
            seed=seeds["critic"],
            checkpoints=config.checkpoints,
        )
    samples = NO_IMAGES
    if options.n_samples:
        with clock.of("edits"):
            samples = sample_prior(
                prior,
                options.n_samples,
                n_steps=options.n_steps,
                seed=seeds["pairs"],
                size=options.batch_size,
            )
    weights = {"critic": critic.to_bytes(), "prior": prior.to_bytes()}
    if len(weights["prior"]) >= MAX_PRIOR_BYTES:
        del weights["prior"]
    return Guides(prior, critic, weights, images[train], samples)


def edit_images(
    session: xr.Dataset,
    images: np.ndarray,
    fitted: Fitted,
    guides: Guides,
    config: Config,
    seeds: Mapping[str, int],
    clock: Clock,
) -> Edits:
    """Edit held-out images of a session, given at the prior's size, towards its own latents."""
    from nwb_migvis.synthesis.editing.directions import direction_vectors
    from nwb_migvis.synthesis.editing.plan import plan_edits
    from nwb_migvis.synthesis.editing.synthesize import synthesize

    prior, critic, groups = guides.prior, guides.critic, fitted.model.groups
    train, test = fitted.split == "train", np.flatnonzero(fitted.split == "test")
    with clock.of("critic"):
        x = prior.encode(images[test])
        scores = critic.score_matrix(fitted.mean[test], x)
    with clock.of("edits"):
        latents = critic.scale.standardise(fitted.mean)
        steps = direction_vectors(
            config.synthesis.directions,
            latents[train],
            groups=groups,
            labels={name: values[train] for name, values in fitted.labels.items()},
        )
        plan = plan_edits(
            test,
            groups,
            labels=fitted.labels,
            config=config.synthesis,
            rng=np.random.default_rng(seeds["pairs"]),
        )
        synthesized = synthesize(
            plan,
            images,
            fitted.mean,
            session["stimulus"].values,
            prior=prior,
            critic=critic,
            groups=groups,
            config=config.synthesis,
            seed=config.seed,
            steps=steps,
        )
    return Edits(
        images,
        synthesized,
        guides.weights,
        scores,
        guides.samples,
        latents,
        steps,
        really_used(config.prior, prior),
        guides.trained_on,
        _information(images, fitted, prior, config, seeds["evidence"], clock),
    )


def _information(
    images: np.ndarray, fitted: Fitted, prior: Prior, config: Config, seed: int, clock: Clock
) -> DenoisingInformation | None:
    """Estimate the information of test images with each group, where the prior is conditional."""
    from nwb_migvis.synthesis.prior.information import denoising_information

    n_draws = config.evidence.information_draws
    if not (prior.is_conditional and n_draws):
        return None
    test = np.random.default_rng(seed).permutation(np.flatnonzero(fitted.split == "test"))[:N_INFORMATION]
    with clock.of("evidence"):
        return denoising_information(
            prior,
            prior.encode(images[test]),
            fitted.mean[test],
            n_draws=n_draws,
            n_crossed=N_CROSSED,
            seed=seed,
            size=config.synthesis.batch_size,
        )


def fit_edit_readers(fitted: Fitted, edits: Edits, config: Config, seed: int) -> list[Reader]:
    """Train readers on real images; none where there are no edits or no labels to read from them."""
    from nwb_migvis.evidence.readers.protocol import fit_readers

    if not fitted.labels or edits.synthesized.sizes["edit"] == 0:
        return []
    train, validation = fitted.split == "train", fitted.split == "validation"
    circular = {name: period for name, period in config.latents.circular.items() if period}
    return fit_readers(
        edits.images[train],
        {name: values[train] for name, values in fitted.labels.items()},
        images_validation=edits.images[validation],
        labels_validation={name: values[validation] for name, values in fitted.labels.items()},
        seed=seed,
        n_steps=config.evidence.reader_steps,
        circular=circular,
        checkpoints=config.checkpoints,
    )


def edit_selectivity(
    stimulus: np.ndarray, fitted: Fitted, edits: Edits, readers: list[Reader], config: Config, seed: int
) -> xr.Dataset:
    """Read what the edits changed."""
    from nwb_migvis.evidence.selectivity import measure_selectivity

    if not fitted.labels or edits.synthesized.sizes["edit"] == 0:
        return no_selectivity()
    return measure_selectivity(
        edits.synthesized,
        images=edits.images,
        stimulus=stimulus.tolist(),
        labels=fitted.labels,
        readers=readers,
        supervised_by={group.name: group.labels for group in fitted.model.groups},
        test=fitted.split == "test",
        min_reader_score=config.evidence.min_reader_score,
        n_bootstrap=config.evidence.n_bootstrap,
        n_permutations=config.evidence.n_permutations,
        seed=seed,
    )


def latents_dataset(session: xr.Dataset, fitted: Fitted) -> xr.Dataset:
    """Return the latents as `Results.latents`."""
    group = [g.name for g in fitted.model.groups for _ in range(g.size)]
    return xr.Dataset(
        {"mean": (("stimulus", "latent"), fitted.mean), "log_var": (("stimulus", "latent"), fitted.log_var)},
        coords={
            "stimulus": session["stimulus"].values.astype(object),
            "group": ("latent", np.array(group, dtype=object)),
            "split": ("stimulus", fitted.split.astype(object)),
            "n_presentations": ("stimulus", fitted.n_presentations.astype(np.int64)),
        },
    )

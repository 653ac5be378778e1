"""Settings of the latents: groups, split of the stimuli, and the group-wise model."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from nwb_migvis import registry
from nwb_migvis.config.checking import FrozenDict, check
from nwb_migvis.errors import MigvisError

AUGMENTATIONS = ("unit_dropout", "trial_swap", "count_thinning")
"""Settings that vary what a training step encodes; all are off at 0."""


@dataclass(frozen=True, kw_only=True)
class GroupConfig:
    """One latent group.

    Parameters
    ----------
    name : str
    size : int
        Number of latents.
    labels : tuple of str
        Stimulus labels that supervise the group; none for a free group.
    """

    name: str
    size: int = 6
    labels: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check(self, "latents.groups", at_least={"size": 1})
        if not self.name or "," in self.name or "/" in self.name:
            raise MigvisError(
                f"latents.groups: found the name {self.name!r}; expected text without comma or slash"
            )


@dataclass(frozen=True, kw_only=True)
class SplitConfig:
    """How stimuli are split, before any statistic is fitted.

    Parameters
    ----------
    validation, test : float
        Fractions of the stimuli, or of the levels of `by`.
    by : str
        A label whose levels (objects, scenes, films) stay whole in splits, folds, permutations and
        resamples. Empty: what the labels show of it; "stimulus": every image is independent of the others.
    folds : int
        Fits, each with another part for test: for sessions with too few stimuli for one. The first is the one
        that is kept; decoding and variance of all of them enter the verdict.
    """

    validation: float = 0.1
    test: float = 0.2
    by: str = ""
    folds: int = 1

    def __post_init__(self) -> None:
        check(self, "split", above={"validation": 0, "test": 0}, at_least={"folds": 1})
        if self.folds * self.test > 1 + 1e-9:
            raise MigvisError(
                f"split: found folds = {self.folds} and test = {self.test:g}; expected parts that do not "
                f"overlap; set test to 1 / folds or less"
            )
        if self.validation + self.test >= 1:
            raise MigvisError(
                f"split: found validation = {self.validation:g} and test = {self.test:g}; "
                "expected less than 1 together"
            )


@dataclass(frozen=True, kw_only=True)
class LatentsConfig:
    """The latent model.

    Parameters
    ----------
    model : str
        "group-vae" (the model proper); the baselines "pca", "fa", "plain-vae" and "swap-vae"; or a name that
        another package registers. PCA, factor analysis and the plain VAE do not have groups: their latents
        are divided in order, by the sizes of `groups`, and such a group has no further meaning. They learn no
        labels. Swap-VAE divides as many latents into the groups `content` and `style`. The baselines fit one
        session.
    groups : tuple of GroupConfig
        Empty: all numeric labels make one group `numeric`, each categorical label a group of its own
        name, then `free_1` and `free_2`; six latents each.
    circular : mapping of str to float
        Period of numeric labels that wrap (360 for degrees); 0 says that a label looks like an angle but
        does not wrap.
    likelihood : {"poisson", "gaussian"}
        Of spike counts with exposure, or of z-scored averages.
    n_hidden : int
        Hidden units of the encoder.
    n_layers : int
        Hidden layers of the encoder.
    kl_weight : float
        Weight of the KL divergence against the negative log likelihood of a stimulus, summed over units and
        presentations.
    tc_weight, label_weight : float
        Weights of the total correlation between groups and of the error of the label read-outs (relative to
        that of guessing). They stand against that likelihood divided by the square root of the number of its
        counts.
    free_dropout : float
        Share of the stimuli that a training step decodes from the first free groups alone. Nothing else
        distinguishes free groups: without it they divide what they hold by chance. 0 turns it off.
    unit_dropout : float
        Share of the units, drawn for each stimulus of a training step, whose counts are not encoded, as if
        the unit had not been observed; they are predicted all the same. 0 turns it off, as for the two that
        follow. PCA, factor analysis and Swap-VAE refuse all three.
    trial_swap : float
        Share of the stimuli of a training step of which each unit has its own part of the presentations
        encoded: a random half of those that would be. It needs three presentations of an image or more.
    count_thinning : float
        Encoded spikes are lost at random in training, at most this share of them; the share is drawn for each
        stimulus. The mean count stays.
    n_steps : int
        Most training steps.
    batch_size : int
        Stimuli per step.
    learning_rate : float
    weight_decay : float
        Decay of the network's matrices, divided by the number of training stimuli; 1 at most.
    patience : int
        Training stops after this many validations (one every 100 steps) without gain.
    """

    model: str = "group-vae"
    groups: tuple[GroupConfig, ...] = ()
    circular: Mapping[str, float] = FrozenDict()
    likelihood: str = "poisson"
    n_hidden: int = 256
    n_layers: int = 1
    kl_weight: float = 0.4
    tc_weight: float = 0.026
    label_weight: float = 2.4
    free_dropout: float = 0.1
    unit_dropout: float = 0.0
    trial_swap: float = 0.0
    count_thinning: float = 0.0
    n_steps: int = 2700
    batch_size: int = 192
    learning_rate: float = 5e-3
    weight_decay: float = 300.0
    patience: int = 10

    def __post_init__(self) -> None:
        check(
            self,
            "latents",
            at_least={
                **dict.fromkeys(("n_hidden", "n_layers", "n_steps", "patience"), 1),
                **dict.fromkeys(
                    ("kl_weight", "tc_weight", "label_weight", "free_dropout", "weight_decay"), 0
                ),
                **dict.fromkeys(AUGMENTATIONS, 0),
                "batch_size": 2,
            },
            above={"learning_rate": 0},
            below=dict.fromkeys(("free_dropout", *AUGMENTATIONS), 1),
            one_of={"model": registry.LATENT_MODELS, "likelihood": ("poisson", "gaussian")},
        )
        for name, period in self.circular.items():
            if not 0 <= period < math.inf:
                raise MigvisError(
                    f"latents.circular: found {name} = {period:g}; expected the period of the label, "
                    "or 0 if it does not wrap"
                )

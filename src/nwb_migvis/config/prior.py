"""Settings of the diffusion prior."""

from __future__ import annotations

import math
from dataclasses import dataclass

from nwb_migvis.config.checking import check
from nwb_migvis.errors import MigvisError

SMALL_PX = 48
MOST_PATCHES = 16
"""Along the longest side of images of more than `SMALL_PX`: what a training in minutes can afford."""

AUTOENCODER_FACTOR = 4
"""Pixels of an image's side per latent of an autoencoder that is trained with the prior."""

LEARNING_RATES = {"muon": 2e-3, "adamw": 5e-4}
"""Of a prior, by optimiser, where none is given."""


@dataclass(frozen=True, kw_only=True)
class PriorConfig:
    """The diffusion prior over images.

    Parameters
    ----------
    size_px : int
        Longest side of the images that the prior works with; the session's images are resized to it
        unless they are smaller.
    patch_px : int
        Pixels are folded into channels in squares of this side before the network. 0: 2 for images of up to
        48 px, else the power of two that leaves at most 16 patches along the longest side (4 for 64 px). With
        an autoencoder its latents are folded: 0 leaves at most 16 patches (1 for 64 px, 2 for 128 px).
    channels : tuple of int
        Width of each resolution of the UNet.
    layers_per_block : int
    n_timesteps : int
        T, noise levels of the training schedule (cosine).
    n_steps : int
        Training steps.
    batch_size : int
    optimiser : {"", "muon", "adamw"}
        Empty: "muon" where the network is trained from scratch, "adamw" where a trained one is trained on.
    learning_rate : float
        0: 2e-3 with "muon", 5e-4 with "adamw".
    ema_decay : float
    precision : {"bfloat16", "float32"}
        Arithmetic of the network (weights stay float32).
    start : str
        A trained prior to start from: "renders" (shipped; of the images that `simulate` makes), a folder that
        `nwb-migvis train-prior` wrote, the folder of a diffusers model, or `org/name@REVISION`, a model of
        the Hugging Face hub in its local cache (`--download` fetches it). Its network takes the place of
        `patch_px`, `channels` and `layers_per_block`, and its size that of `size_px`. Empty: train from
        scratch.
    train : {"all", "embedding"}
        What is trained of a prior to start from: its network with the embedding of the latents, or that
        embedding alone.
    conditional : bool
        Condition the prior on the latent groups, each dropped at random in training.
    latent_noise : float
        Standard deviation of the noise added to standardised latents in training.
    images : str
        Folder of further images, which the prior alone trains on beside the session's training images.
        They are cropped and resized to the session's shape, and made gray where its images are. All groups
        are dropped for them: they teach the prior what images look like, not what latents mean. Images that
        are held-out stimuli of the session are left out. Empty: none.
    images_share : float
        Share of each training batch that is drawn from the further images, at random with replacement:
        round(images_share * batch_size), at least one. The others are drawn from the session's.
    autoencoder : bool
        Train a small autoencoder on the same images first, and the prior in its latents: 8 per square of
        4 x 4 px. The longest side of images must be a multiple of 4 px.
    autoencoder_steps : int
        Training steps of the autoencoder.
    """

    size_px: int = 64
    patch_px: int = 0
    channels: tuple[int, ...] = (64, 128, 128)
    layers_per_block: int = 1
    n_timesteps: int = 1000
    n_steps: int = 1000
    batch_size: int = 32
    optimiser: str = ""
    learning_rate: float = 0.0
    ema_decay: float = 0.998
    precision: str = "bfloat16"
    start: str = ""
    train: str = "all"
    conditional: bool = True
    latent_noise: float = 0.25
    images: str = ""
    images_share: float = 0.5
    autoencoder: bool = False
    autoencoder_steps: int = 2000

    def __post_init__(self) -> None:
        if self.start and self.n_steps == 0 and self.conditional:
            raise MigvisError(
                "prior: found n_steps = 0 with conditional = true; expected a step or more, in which a prior "
                "learns what the latents mean, or conditional = false (and "
                "synthesis.source_guidance and synthesis.guidance_scale 0) to use the one to start from "
                "as it is"
            )
        if self.images and (self.batch_size == 1 or self.n_steps == 0):
            raise MigvisError(
                f"prior: found images with batch_size = {self.batch_size} and n_steps = {self.n_steps}; "
                "expected 2 images per batch or more, of which some are the session's, and a step or more"
            )
        if self.train == "embedding" and (not self.start or not self.conditional or self.images):
            raise MigvisError(
                'prior: found train = "embedding"; expected a prior to start from, conditional = true and no '
                'further images, of which an embedding learns nothing; set train = "all", or mend these'
            )
        if self.autoencoder and self.start:
            raise MigvisError(
                f"prior: found autoencoder = true with start = {self.start!r}; expected one of them: a prior "
                'to start from has its own latents or none; set autoencoder = false, or start = ""'
            )
        check(
            self,
            "prior",
            at_least={
                **dict.fromkeys(("size_px", "layers_per_block", "batch_size", "autoencoder_steps"), 1),
                "patch_px": 0,
                "n_steps": 0 if self.start else 1,
                "n_timesteps": 10,
                "ema_decay": 0,
                "latent_noise": 0,
                "learning_rate": 0,
            },
            above={"images_share": 0},
            below={"ema_decay": 1, "images_share": 1},
            one_of={
                "precision": ("bfloat16", "float32"),
                "train": ("all", "embedding"),
                "optimiser": ("", *LEARNING_RATES),
            },
            widths="channels",
        )
        self.check_side(self.size_px)

    @property
    def chosen_optimiser(self) -> tuple[str, float]:
        """The optimiser and its learning rate."""
        name = self.optimiser or ("adamw" if self.start else "muon")
        return name, self.learning_rate or LEARNING_RATES[name]

    def check_side(self, longest_px: int) -> None:
        """Refuse images whose longest side an autoencoder does not divide.

        Raises
        ------
        MigvisError
        """
        if self.autoencoder and longest_px % AUTOENCODER_FACTOR:
            fitting = max(AUTOENCODER_FACTOR, longest_px - longest_px % AUTOENCODER_FACTOR)
            raise MigvisError(
                f"prior: found autoencoder = true with images of {longest_px} px; expected a multiple of "
                f"{AUTOENCODER_FACTOR} px along the longest side; set size_px = {fitting}"
            )

    def patch_for(self, longest_px: int) -> int:
        """Return the side of the patches of images with this longest side, in latents of an autoencoder."""
        if self.patch_px:
            return self.patch_px
        if self.autoencoder:
            n_latents = math.ceil(longest_px / AUTOENCODER_FACTOR)
            return 2 ** max(0, math.ceil(math.log2(n_latents / MOST_PATCHES)))
        return 2 if longest_px <= SMALL_PX else 2 ** math.ceil(math.log2(longest_px / MOST_PATCHES))

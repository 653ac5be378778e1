"""Prior and critic of a study: what they learn from, and how they are obtained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from nwb_migvis.analysis.context import Context
from nwb_migvis.analysis.further_images import FurtherImages, check_further, further_images
from nwb_migvis.analysis.kept import Kept
from nwb_migvis.analysis.latents import SessionLatents
from nwb_migvis.analysis.sessions import Sessions
from nwb_migvis.config import Config, PriorConfig
from nwb_migvis.errors import MigvisError
from nwb_migvis.groups import LatentGroups, LatentScale
from nwb_migvis.plain import Json
from nwb_migvis.read.recorded import small_images

if TYPE_CHECKING:
    from nwb_migvis.synthesis.conditions import Conditions
    from nwb_migvis.synthesis.critic.model import Critic
    from nwb_migvis.synthesis.prior.model import Prior


def check_prior(config: Config) -> None:
    """Refuse a prior to start from or a cache that cannot be used, before any work is done."""
    from nwb_migvis.synthesis.prior.cache import check_cache
    from nwb_migvis.synthesis.prior.folder import open_prior

    if config.prior.images:
        check_further(config.prior.images)
    if config.prior.start:
        open_prior(config.prior.start)
    if config.checkpoints:
        check_cache(config.checkpoints)


@dataclass(frozen=True, eq=False)
class Pictures:
    """The images of all sessions that hold pixels, with the latents that go with them.

    Attributes
    ----------
    image : numpy.ndarray of uint8, shape (n_images, y, x (, channel))
        At the prior's size.
    split : numpy.ndarray of str, shape (n_images,)
    latents : numpy.ndarray, shape (n, n_latents)
        One row per image of every session.
    row : numpy.ndarray of int, shape (n,)
        The image that each row of latents belongs to.
    groups : LatentGroups
    of_session : dict of int to numpy.ndarray of int
        Images of each session's stimuli, by its position.
    """

    image: np.ndarray
    split: np.ndarray
    latents: np.ndarray
    row: np.ndarray
    groups: LatentGroups
    of_session: dict[int, np.ndarray]

    @classmethod
    def of(
        cls,
        sessions: Sessions,
        latents: Sequence[SessionLatents],
        size: PriorConfig | Prior,
        context: Context,
    ) -> Pictures:
        """Gather the images at the size that a prior has, or that settings give it."""
        pictured = sessions.pictured
        part = sessions if len(sessions) == 1 else Sessions.of([sessions.sessions[i] for i in pictured])
        with context.clock.of("prior"):
            image = images_for(part.stimuli["image"], size)
        split = np.full(len(image), "", dtype=latents[0].split.dtype)
        for i, rows in zip(pictured, part.rows, strict=True):
            split[rows] = latents[i].split
        return cls(
            image,
            split,
            np.concatenate([latents[i].mean for i in pictured]),
            np.concatenate(part.rows),
            latents[0].groups,
            dict(zip(pictured, part.rows, strict=True)),
        )

    @property
    def train(self) -> np.ndarray:
        """Which images are of training stimuli, (n_images,) bool."""
        return self.split == "train"

    @cached_property
    def conditions(self) -> Conditions:
        """The latents with their groups and their scale over training stimuli: one for prior and critic."""
        from nwb_migvis.synthesis.conditions import Conditions

        return Conditions(self.latents, self.groups, LatentScale.of(self.latents[self.train[self.row]]))


@dataclass(frozen=True)
class PriorRecord:
    """What the provenance says of a prior beyond its settings.

    Attributes
    ----------
    content : dict
        `images`: of the further images; `start`: where the prior to start from came from; `autoencoder`: what
        it keeps of the images.
    notes : tuple of str
    """

    content: Json
    notes: tuple[str, ...] = ()

    @classmethod
    def of(cls, config: PriorConfig, further: FurtherImages | None) -> PriorRecord:
        """Gather what there is to say."""
        from nwb_migvis.synthesis.prior.origin import origin_of

        content = {"start": origin_of(config.start)} if config.start else {}
        if further is None:
            return cls(content)
        return cls(content | {"images": further.record}, tuple(further.notes))

    def with_autoencoder(self, prior: Prior, pictures: Pictures) -> PriorRecord:
        """Add what a prior's autoencoder keeps of test images, where it has one and there are any."""
        test = pictures.image[pictures.split == "test"]
        if prior.autoencoder is None or not len(test):
            return self
        kept = Kept.of(prior, test)
        return PriorRecord(self.content | {"autoencoder": kept.record}, (*self.notes, *kept.notes))


def images_for(image: xr.DataArray, prior: PriorConfig | Prior) -> np.ndarray:
    """Read images at the size that a prior works with.

    Parameters
    ----------
    image : xarray.DataArray (stimulus, y, x (, channel))
        uint8, read a few hundred at a time.
    prior : PriorConfig or Prior
        Settings of one that is to be trained, or one that exists.

    Returns
    -------
    numpy.ndarray of uint8, shape (stimulus, y, x (, channel))

    Raises
    ------
    MigvisError
        If the prior makes images of another shape, or the autoencoder to be trained takes no such side.
    """
    if isinstance(prior, PriorConfig):
        images = small_images(image, prior.size_px)
        prior.check_side(max(images.shape[1:3]))
        return images
    images = small_images(image, max(prior.shape[:2]))
    if prior.shape != images.shape[1:]:
        raise MigvisError(
            f"the prior makes images of {_shape(prior.shape)}; the session's are "
            f"{_shape(images.shape[1:])} at that size; start from another prior, or from none"
        )
    return images


def start_of(config: Config) -> Prior | None:
    """Return the prior that the settings start from."""
    from nwb_migvis.synthesis.prior.folder import open_prior

    return open_prior(config.prior.start) if config.prior.start else None


def further_of(pictures: Pictures, context: Context) -> FurtherImages | None:
    """Return the further images that the settings name, without copies of held-out stimuli."""
    folder = context.config.prior.images
    if not folder:
        return None
    with context.clock.of("prior"):
        return further_images(folder, pictures)


def obtain_prior(
    pictures: Pictures, start: Prior | None, context: Context, further: FurtherImages | None = None
) -> Prior:
    """Train the prior that the settings ask for on the training images, or take it from their cache.

    A conditional prior learns from an image once for every session that showed it, with that session's
    latents; any other learns from every image once.

    Parameters
    ----------
    pictures : Pictures
    start : Prior or None
        The one to start from.
    context : Context
    further : FurtherImages, optional
        That the prior trains on, too.
    """
    from nwb_migvis.synthesis.prior.cache import cached_prior
    from nwb_migvis.synthesis.prior.training import TrainingImages, train_prior

    used, training = np.flatnonzero(pictures.train), pictures.train[pictures.row]
    if context.config.prior.conditional:
        used = pictures.row[training]
    how: dict[str, Any] = {
        "config": context.config.prior,
        "seed": context.seeds["prior"],
        "device": context.device,
        "start": start,
        "conditions": pictures.conditions[training] if context.config.prior.conditional else None,
    }
    cache = context.config.checkpoints
    images = TrainingImages(pictures.image[used], None if further is None else further.image)
    with context.clock.of("prior"):
        if cache and context.config.prior.n_steps:
            return cached_prior(cache, images, **how)
        return train_prior(images, **how)


def prior_and_record(pictures: Pictures, start: Prior | None, context: Context) -> tuple[Prior, PriorRecord]:
    """Obtain the prior, with further images where the settings name some, and what to say of it."""
    further = further_of(pictures, context)
    prior = obtain_prior(pictures, start, context, further)
    record = PriorRecord.of(context.config.prior, further)
    with context.clock.of("prior"):
        return prior, record.with_autoencoder(prior, pictures)


def obtain_critic(pictures: Pictures, prior: Prior, context: Context) -> Critic:
    """Train the critic on what the latents of each image are."""
    from nwb_migvis.synthesis.critic.training import train_critic

    with context.clock.of("critic"):
        return train_critic(
            pictures.image[pictures.row],
            pictures.conditions,
            split=pictures.split[pictures.row],
            prior=prior,
            config=context.config.critic,
            seed=context.seeds["critic"],
            checkpoints=context.config.checkpoints,
        )


def draw_samples(prior: Prior, context: Context) -> np.ndarray:
    """Draw unguided samples of the prior, as many as the settings ask for, (n, y, x (, channel)) uint8."""
    from nwb_migvis.synthesis.prior.samples import sample_prior

    options = context.config.synthesis
    if not options.n_samples:
        return np.zeros((0, 0, 0), np.uint8)
    with context.clock.of("edits"):
        return sample_prior(
            prior,
            options.n_samples,
            n_steps=options.n_steps,
            seed=context.seeds["pairs"],
            size=options.batch_size,
        )


def settings_of(prior: Prior, settings: PriorConfig) -> PriorConfig:
    """Return settings with what a prior to start from brought along."""
    unet = prior.denoiser.unet.config
    own: dict[str, Any] = {"autoencoder": settings.autoencoder and prior.autoencoder is not None}
    if prior.autoencoder is None and type(prior.denoiser.unet).__name__ == "UNet2DModel":
        own["channels"] = tuple(unet["block_out_channels"])
        own["layers_per_block"] = unet["layers_per_block"]
    return replace(
        settings,
        **own,
        size_px=max(prior.shape[:2]),
        patch_px=prior.denoiser.patch_px,
        n_timesteps=prior.n_timesteps,
        precision=prior.denoiser.precision,
    )


def _shape(shape: tuple[int, ...]) -> str:
    colour = "grayscale" if len(shape) == 2 else f"{shape[2]} channels"
    return f"{shape[0]} x {shape[1]} px, {colour}"

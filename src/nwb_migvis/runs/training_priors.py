"""A prior trained on a folder of images, from which any session starts."""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nwb_migvis.analysis.context import torch_settings
from nwb_migvis.config import Config, PriorConfig
from nwb_migvis.errors import MigvisError
from nwb_migvis.extras import MODELS, require
from nwb_migvis.plain import Json
from nwb_migvis.progress import stage
from nwb_migvis.read.pictures import has_colour, picture_files, read_pictures

if TYPE_CHECKING:
    from nwb_migvis.synthesis.prior.model import Prior

SAMPLES = "samples.png"
RECORD = "training.json"
_STATE = "training.checkpoint.pt"
_STATES = (_STATE, f"autoencoder-{_STATE}")
_WHAT = "images of a prior"
_EVERY = 200
"""Steps between two states that a killed training goes on from."""
_ACROSS = 4
_STEPS = 25
"""Samples along a side of their picture, and steps that each is drawn in."""


@dataclass(frozen=True)
class Training:
    """How a prior is trained on a folder of images.

    Attributes
    ----------
    config : Config
        Its `prior`, `seed`, `device` and `n_threads` are used. The prior is not conditioned, whatever they
        say: a session's run teaches it what its latents mean.
    colour : bool, optional
        Three channels, or gray; as the images are where it is None.
    samples_every : int
        Steps between two pictures of samples.
    """

    config: Config
    colour: bool | None = None
    samples_every: int = 500

    def __post_init__(self) -> None:
        if self.samples_every < 1:
            raise MigvisError(f"found samples_every = {self.samples_every}; expected 1 or more")
        if not self.config.prior.n_steps:
            raise MigvisError("prior: found n_steps = 0; expected a step or more to train a prior")

    @property
    def prior(self) -> PriorConfig:
        """The settings of the prior, without what only a session has."""
        return replace(self.config.prior, conditional=False, images="", train="all")


def train_prior_on(folder: str | Path, out: str | Path, training: Training) -> Path:
    """Train a prior on the images of a folder; killed training goes on when it is called again.

    While it trains, `samples.png` shows unguided samples of the prior so far. In the end `out` is a folder
    that `prior.start` takes, with `training.json`: images, settings, seconds.

    Parameters
    ----------
    folder : path
        Image files, and folders of them. Of each, the middle square is used.
    out : path
        Made where it is absent. It holds nothing, or what an earlier call with the same settings left.
    training : Training

    Returns
    -------
    Path
        `out`.

    Raises
    ------
    MigvisError
        If the folder holds too few images or some that cannot be read, or `out` holds something else: a
        trained prior, or the state of another training.
    """
    require(MODELS, what="training a prior")
    from nwb_migvis.analysis.networks import start_of

    out, config = Path(out), training.prior
    start = start_of(training.config)
    files = picture_files(folder, what=_WHAT)
    _prepare(out)
    with torch_settings(training.config) as n_threads:
        if start is not None:
            shape = start.shape
        else:
            colour = has_colour(files) if training.colour is None else training.colour
            shape = (config.size_px, config.size_px, 3) if colour else (config.size_px, config.size_px)
        with stage("reading"):
            images = read_pictures(files, shape, what="images")
        began = time.perf_counter()
        with stage("prior"):
            prior = _train(images, out, training, start)
    record = {
        "folder": Path(folder).resolve().name,
        "n_images": len(images),
        "shape": list(shape),
        "config": asdict(config),
        "seed": training.config.seed,
        "device": training.config.device,
        "n_threads": n_threads,
        "seconds": round(time.perf_counter() - began, 1),
        "versions": {package: version(package) for package in ("nwb-migvis", "torch", "diffusers")},
    }
    _keep(prior, out, record)
    return out


def _prepare(out: Path) -> None:
    """Make the folder, or refuse one that holds something else than a training that was begun."""
    if (out / RECORD).exists():
        raise MigvisError(
            f"{out} holds a prior that is trained already; give another folder, or start from it with "
            f'prior.start = "{out}"'
        )
    try:
        out.mkdir(parents=True, exist_ok=True)
        there = {path.name for path in out.iterdir() if not path.name.startswith(".")}
    except OSError as error:
        raise MigvisError(f"{out} cannot be used: {error.strerror}; give another folder") from None
    if strange := sorted(there - {SAMPLES, *_STATES}):
        raise MigvisError(f"{out} holds {strange[0]!r}; expected a new or an empty folder; give one")


def _train(images: np.ndarray, out: Path, training: Training, start: Prior | None) -> Prior:
    from nwb_migvis.networks.checkpoints import Checkpoint
    from nwb_migvis.networks.training import train
    from nwb_migvis.synthesis.prior.autoencoder_training import autoencoder_for
    from nwb_migvis.synthesis.prior.samples import sample_prior
    from nwb_migvis.synthesis.prior.training import ImageTraining, checked_images, training_digest

    settings, seed, device = training.prior, training.config.seed, training.config.device
    checked = checked_images(images)
    autoencoder = autoencoder_for(checked, settings, seed=seed, device=device, checkpoint=out / _STATE)

    class Shown(ImageTraining):
        """A training that draws samples as it goes, which changes nothing in it."""

        def step(self) -> None:
            super().step()
            if self.n_taken % training.samples_every == 0 or self.n_taken == settings.n_steps:
                drawn = sample_prior(self.prior(), _ACROSS**2, n_steps=_STEPS, seed=0, size=_ACROSS**2)
                _draw(drawn, out / SAMPLES)

    shown = Shown(checked, config=settings, seed=seed, device=device, start=start, autoencoder=autoencoder)
    digest = training_digest(checked, settings, seed=seed, start=start, conditions=None)
    train(
        shown, settings.n_steps, what="prior", checkpoint=Checkpoint(out / _STATE, digest, _EVERY, stays=True)
    )
    return shown.prior()


def _draw(images: np.ndarray, path: Path) -> None:
    """Write images (n, y, x (, channel)) as one picture, with a gap of a pixel between them."""
    from PIL import Image

    height, width = images.shape[1] + 1, images.shape[2] + 1
    sheet = np.full((_ACROSS * height - 1, _ACROSS * width - 1, *images.shape[3:]), 255, np.uint8)
    for i, image in enumerate(images):
        top, left = i // _ACROSS * height, i % _ACROSS * width
        sheet[top : top + images.shape[1], left : left + images.shape[2]] = image
    factor = max(1, 512 // max(sheet.shape[:2]))
    picture = Image.fromarray(sheet)
    temporary = path.with_name(f".{path.name}")
    picture.resize((factor * sheet.shape[1], factor * sheet.shape[0]), Image.Resampling.NEAREST).save(
        temporary, "PNG"
    )
    temporary.replace(path)


def _keep(prior: Any, out: Path, record: Json) -> None:
    """Write a prior beside its samples, its record last, and remove the state of its training."""
    from nwb_migvis.synthesis.prior.folder import save_prior

    try:
        temporary = Path(tempfile.mkdtemp(prefix=".writing-", dir=out))
        try:
            save_prior(prior, temporary)
            for part in sorted(temporary.iterdir()):
                if (out / part.name).is_dir():
                    shutil.rmtree(out / part.name)
                part.replace(out / part.name)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        (out / RECORD).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
        for state in _STATES:
            (out / state).unlink(missing_ok=True)
    except OSError as error:
        raise MigvisError(
            f"{out} could not be written: {error}; make room there: the same command goes on"
        ) from None

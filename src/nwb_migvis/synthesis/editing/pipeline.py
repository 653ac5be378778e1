"""Editing as a pipeline of diffusers: a thin layer over `editing`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import DiffusionPipeline, ImagePipelineOutput, UNet2DModel
from PIL import Image

from nwb_migvis.config import SynthesisConfig
from nwb_migvis.errors import MigvisError
from nwb_migvis.synthesis.editing.guidance import Guidance, GuidedDenoiser
from nwb_migvis.synthesis.prior.ddim import StepEnd, record, sample, time_grid
from nwb_migvis.synthesis.prior.folder import open_prior, save_prior, scheduler_of
from nwb_migvis.synthesis.prior.foreign import foreign_prior
from nwb_migvis.synthesis.prior.model import Prior
from nwb_migvis.synthesis.prior.samples import draw_noise

OUTPUTS = ("np", "pil", "pt")
DEFAULT = SynthesisConfig()

Callback = Callable[["EditingPipeline", int, int, dict[str, torch.Tensor]], Mapping[str, torch.Tensor] | None]
"""(pipeline, number of the step, its t, {"x_t": x}) -> nothing, or {"x_t": x to go on with}."""


class EditingPipeline(DiffusionPipeline):
    """Inverts images to a noise level and denoises them back under guidance, deterministically.

    Nothing is random except the noise that samples start from. Without guidance an edit is the reconstruction
    that `record` and `sample` make, bit for bit. As in all arithmetic of networks, the last bit depends on
    the number of images per batch.

    Parameters
    ----------
    unet : UNet2DModel
    scheduler : a scheduler of diffusers
        That the network was trained with. It gives the noise levels and what is predicted; the steps are
        ours, on one time grid both ways.
    prior : Prior, optional
        What the two belong to. Without one, they are an unconditional model of pixels from -1 to 1.

    Attributes
    ----------
    prior : Prior
        With its `n_timesteps`, `shape` and `scale` (see `CriticGuidance`, `PriorGuidance`).
    """

    def __init__(self, unet: UNet2DModel, scheduler: Any, prior: Prior | None = None):
        super().__init__()
        self.register_modules(unet=unet, scheduler=scheduler)
        self.prior = foreign_prior(unet, scheduler) if prior is None else prior

    @classmethod
    def from_prior(cls, prior: Prior) -> EditingPipeline:
        """Return the pipeline of a prior, which `load_prior` or `train_prior` returned."""
        return cls(prior.denoiser.unet, scheduler_of(prior), prior)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path) -> EditingPipeline:
        """Open a folder that `save_pretrained` or `save_prior` wrote, another's model, or a shipped prior.

        Parameters
        ----------
        pretrained_model_name_or_path : path
            A local folder, or the name of a prior that comes with the package ("renders").

        Raises
        ------
        MigvisError
            If there is no such folder, or it does not hold a network and a schedule that can be used.
        """
        return cls.from_prior(open_prior(str(pretrained_model_name_or_path)))

    def save_pretrained(self, save_directory: str | Path, *, half: bool = False) -> None:
        """Write the pipeline as a folder, weights as safetensors: the prior of `prior.start`, and an index.

        Parameters
        ----------
        save_directory : path
            Made where it is absent.
        half : bool
            Store the UNet in half precision: edits are then not the same bytes any more.
        """
        save_prior(self.prior, Path(save_directory), half=half)
        self.save_config(save_directory)

    def to(self, *args: Any, **kwargs: Any) -> EditingPipeline:
        """Move to a device. Weights stay float32: the arithmetic's precision is the prior's own.

        Raises
        ------
        MigvisError
            For another type than float32.
        """
        types = [value for value in (*args, *kwargs.values()) if isinstance(value, torch.dtype)]
        if types and types[0] != torch.float32:
            raise MigvisError(
                f"found {types[0]}; expected a device alone: weights stay float32, and prior.precision says "
                "what the network computes in"
            )
        super().to(*args, **kwargs)
        self.prior = self.prior.to(self.device)
        return self

    @torch.no_grad()
    def __call__(
        self,
        images: np.ndarray | Sequence[Image.Image] | int,
        *,
        guidance: Guidance | Sequence[Guidance] = (),
        strength: float = DEFAULT.strength,
        n_steps: int = DEFAULT.n_steps,
        generator: torch.Generator | None = None,
        callback_on_step_end: Callback | None = None,
        output_type: str = "np",
    ) -> ImagePipelineOutput:
        """Edit images, or draw new ones, all in one batch.

        Parameters
        ----------
        images : array of uint8 (n, y, x (, channel)), sequence of PIL images, or int
            To edit, at the prior's size; or how many to draw from noise.
        guidance : Guidance, or sequence of them
            Such as `CriticGuidance` and `PriorGuidance`, whose shifts are added. Without any, edits are
            reconstructions.
        strength : float
            Start step / T of edits, in (0, 1]. Drawn images start from T.
        n_steps : int
            Each way.
        generator : torch.Generator, optional
            Of the noise that drawn images start from, which need one. Edits draw nothing at random and leave
            it as it is.
        callback_on_step_end : callable, optional
            Called at the end of every step of denoising, not of inversion. It gets the pipeline, the step's
            number, its t and {"x_t": x}, shape (n, channel, y, x). It may return {"x_t": x to go on with}.
        output_type : {"np", "pil", "pt"}
            uint8 array (n, y, x (, channel)), PIL images, or x on the prior's pixel scale (`prior.scale`).

        Returns
        -------
        ImagePipelineOutput
            With `images`.

        Raises
        ------
        MigvisError
            For images of another shape or type, a strength outside (0, 1], or more steps than fit. For
            guidance that is not a `Guidance`, is of another number of images or is not finite. For images to
            draw without a generator.
        """
        if output_type not in OUTPUTS:
            raise MigvisError(f"output_type is {output_type!r}; expected one of {', '.join(OUTPUTS)}")
        prior, denoise = self.prior, self.prior.eps_and_x0_hat
        drawn = isinstance(images, int | np.integer)
        grid = time_grid(prior.n_timesteps, strength=1.0 if drawn else strength, n_steps=n_steps)
        if isinstance(images, int | np.integer):
            x, misses = self._noise(int(images), generator), None
        else:
            x = prior.encode(_stacked(images, prior.shape))
            found = record(denoise, x, alpha_bar=prior.alpha_bar, grid=grid)
            x, misses = found.start, found.misses
        parts = tuple(guidance) if isinstance(guidance, Sequence) else (guidance,)
        x = sample(
            GuidedDenoiser(denoise, prior.alpha_bar, parts),
            x,
            alpha_bar=prior.alpha_bar,
            grid=grid,
            misses=misses,
            callback=None if callback_on_step_end is None else self._step_end(callback_on_step_end),
        )
        return ImagePipelineOutput(images=self._output(x, output_type))

    def _noise(self, n: int, generator: torch.Generator | None) -> torch.Tensor:
        if generator is None or n < 1:
            raise MigvisError(
                f"found {n} images to draw and {'no' if generator is None else 'a'} generator; expected one "
                "image or more and a generator of their noise, or images to edit"
            )
        return draw_noise(self.prior, n, generator)

    def _step_end(self, callback: Callback) -> StepEnd:
        def step_end(step: int, t: int, x: torch.Tensor) -> torch.Tensor:
            return (callback(self, step, t, {"x_t": x}) or {}).get("x_t", x)

        return step_end

    def _output(self, x: torch.Tensor, output_type: str) -> Any:
        if output_type == "pt":
            return x
        images = self.prior.decode(x)
        return images if output_type == "np" else [Image.fromarray(image) for image in images]


def _stacked(images: np.ndarray | Sequence[Image.Image], shape: tuple[int, ...]) -> np.ndarray:
    """Return images as one array of uint8, or refuse them."""
    arrays = [np.asarray(image) for image in images]
    wrong = next((a for a in arrays if a.shape != shape or a.dtype != np.uint8), None)
    if wrong is not None or not arrays:
        given_image = (
            "no image" if wrong is None else f"an image of shape {wrong.shape} and type {wrong.dtype}"
        )
        resize = wrong is not None and wrong.shape != shape
        advice = "; resize them (nwb_migvis.pixels.resize_images)" if resize else ""
        raise MigvisError(
            f"found {given_image}; expected images of shape {shape} and type uint8, the prior's{advice}"
        )
    return np.stack(arrays)

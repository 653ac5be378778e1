"""What guidance is: something that shifts the noise that a denoiser predicts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch

from nwb_migvis.errors import MigvisError
from nwb_migvis.synthesis.prior.ddim import Denoise


class Guidance(Protocol):
    """Adds to the noise that is predicted for a batch of images."""

    def shift(self, x_t: torch.Tensor, t: int, eps: torch.Tensor, x0_hat: torch.Tensor) -> torch.Tensor:
        """Return what is added to the predicted noise, shape of `eps`.

        Parameters
        ----------
        x_t : torch.Tensor, shape (n, channel, y, x)
            Noisy images at step t.
        t : int
        eps, x0_hat : torch.Tensor, shape (n, channel, y, x)
            Noise and clean image that the denoiser predicts without guidance.
        """


@dataclass(frozen=True, eq=False)
class GuidedDenoiser:
    """A denoiser under guidance, which is a denoiser again.

    With s the sum of the shifts, its noise is ``eps + s``, and its clean image the one that belongs to that
    noise, ``x0_hat - sqrt((1 - alpha_bar) / alpha_bar) * s``. With a rescale of f, that image keeps its mean,
    and its contrast (standard deviation over pixels) is moved by f towards that of ``x0_hat``; the noise
    follows.

    Attributes
    ----------
    denoise : callable
    alpha_bar : torch.Tensor, shape (T,)
    guidance : tuple of Guidance
        With none, the predictions are those of `denoise`, bit for bit.
    rescale : float
        From 0 to 1.

    Raises
    ------
    MigvisError
        If an item of `guidance` has no method `shift`, or `rescale` is outside its range.
    """

    denoise: Denoise
    alpha_bar: torch.Tensor
    guidance: tuple[Guidance, ...] = ()
    rescale: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.rescale <= 1:
            raise MigvisError(f"found rescale = {self.rescale:g}; expected 0 to 1")
        for guidance in self.guidance:
            if not callable(getattr(guidance, "shift", None)):
                raise MigvisError(
                    f"found guidance of the type {type(guidance).__name__}; expected objects with a method "
                    "`shift`, such as CriticGuidance or PriorGuidance"
                )

    def __repr__(self) -> str:
        parts = "; ".join(map(repr, self.guidance)) or "no guidance"
        taken_back = f"; contrast taken back by {self.rescale:g}" if self.rescale else ""
        return f"GuidedDenoiser: {parts}{taken_back}"

    @torch.no_grad()
    def __call__(self, x_t: torch.Tensor, t: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return noise and clean image.

        Raises
        ------
        MigvisError
            If a shift is not finite, or has another shape than the images.
        """
        eps, x0_hat = self.denoise(x_t, t)
        if not self.guidance:
            return eps, x0_hat
        total = torch.zeros(()).to(eps)
        for guidance in self.guidance:
            shift = guidance.shift(x_t, t, eps, x0_hat)
            check_direction(shift, like=eps)
            total = total + shift
        a = self.alpha_bar[t]
        noise = ((1 - a) / a).sqrt()
        x0 = x0_hat - noise * total
        if not self.rescale:
            return eps + total, x0
        change = self.rescale * (with_contrast_of(x0_hat, x0) - x0)
        return eps + total - change / noise, x0 + change


def check_count(n: int, *, like: torch.Tensor) -> None:
    """Refuse guidance that was set up for another number of images."""
    if n != len(like):
        images = "1 image" if n == 1 else f"{n} images"
        raise MigvisError(f"the guidance is for {images}; expected {len(like)}, as many as are denoised")


def check_direction(direction: torch.Tensor, *, like: torch.Tensor) -> None:
    """Refuse a direction of another shape than images have, or one that is not finite."""
    if direction.shape != like.shape:
        raise MigvisError(
            f"the guidance has the shape {tuple(direction.shape)}; expected the images', {tuple(like.shape)}"
        )
    if not torch.isfinite(direction).all():
        raise MigvisError(
            "the guidance is not finite; expected numbers: is a gamma far out of range? Else lower "
            "synthesis.guidance, or train the critic for longer"
        )


def rescale_to(direction: torch.Tensor, x: torch.Tensor, length: torch.Tensor) -> torch.Tensor:
    """Return directions scaled to `length` times the norm of x, image by image.

    Parameters
    ----------
    direction, x : torch.Tensor, shape (n, channel, y, x)
    length : torch.Tensor, shape (n,)
        A length of zero gives zeros.
    """
    norm = direction.flatten(1).norm(dim=1).clamp_min(1e-12)
    factor = length * x.flatten(1).norm(dim=1) / norm
    return factor[:, None, None, None] * direction


def with_contrast_of(other: torch.Tensor, x0: torch.Tensor) -> torch.Tensor:
    """Return images with the standard deviation that others have, each around its own mean."""
    over = (1, 2, 3)
    mean, std = x0.mean(over, keepdim=True), x0.std(over, keepdim=True).clamp_min(1e-6)
    return mean + (x0 - mean) * other.std(over, keepdim=True) / std

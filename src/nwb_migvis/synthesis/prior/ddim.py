"""Deterministic DDIM inversion and guided sampling on one time grid."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise

import numpy as np
import torch

from nwb_migvis.errors import MigvisError
from nwb_migvis.synthesis.prior.fixed_point import Search, fixed_point

Denoise = Callable[[torch.Tensor, int], tuple[torch.Tensor, torch.Tensor]]
"""(x_t, t) -> predicted noise and predicted clean image."""

N_CORRECTED = 3
"""Steps of a recorded inversion, from the images on, in which the expected noise is corrected."""

StepEnd = Callable[[int, int, torch.Tensor], torch.Tensor]
"""(number of the step, its t, x at its end) -> the x to go on with."""


def time_grid(n_timesteps: int, *, strength: float, n_steps: int) -> np.ndarray:
    """Return the steps visited between the clean image and the start step, rising, shape (n_steps + 1,).

    Parameters
    ----------
    n_timesteps : int
        T of the prior.
    strength : float
        Start step / T, in (0, 1].
    n_steps : int

    Raises
    ------
    MigvisError
        If the strength is outside (0, 1], `n_steps` is below 1, or that many steps do not fit.
    """
    if not 0 < strength <= 1:
        raise MigvisError(f"strength is {strength:g}; expected more than 0 and at most 1")
    last = min(round(strength * n_timesteps), n_timesteps - 1)
    if n_steps < 1:
        raise MigvisError(f"n_steps is {n_steps}; expected at least 1")
    if last < n_steps:
        raise MigvisError(
            f"{n_steps} steps do not fit between 0 and step {last} of {n_timesteps}; expected fewer steps "
            f"(synthesis.n_steps), or a strength of {n_steps / n_timesteps:g} or more"
        )
    return np.round(np.linspace(0, last, n_steps + 1)).astype(int)


@dataclass(frozen=True, eq=False)
class Inversion:
    """Images carried to a noise level, with what leads back to them.

    Attributes
    ----------
    start : torch.Tensor, shape (n, channel, y, x)
        The images at the last step of the grid.
    misses : torch.Tensor, shape (n, n_steps, channel, y, x)
        What each step of sampling without guidance lacks of the way back, the noisiest step first (`sample`).
    """

    start: torch.Tensor
    misses: torch.Tensor


@torch.no_grad()
def record(denoise: Denoise, x0: torch.Tensor, *, alpha_bar: torch.Tensor, grid: np.ndarray) -> Inversion:
    """Carry clean images to the last step of the grid, and record what sampling misses on the way back.

    The step from t to s < t leads back to ``x_s`` only if the noise predicted at ``x_t`` is the one that was
    used on the way there. That noise is not known there; it is taken to change as it did in the step before.
    What sampling leads to instead of ``x_s`` is known as soon as ``x_t`` is, and the difference is kept.
    Sampling adds it at the end of the step. So unguided sampling returns to the image, whatever the prior and
    the number of steps, and guided sampling differs from it by what guidance did alone.
    Huberman-Spiegelglas et al. 2024 (arXiv 2304.06140) do so with the noise of stochastic steps.

    The denoiser is evaluated once per step, once at the images, and once more in each of the first
    `N_CORRECTED` steps: near the images the noise that it predicts changes fast.

    Parameters
    ----------
    denoise : callable
    x0 : torch.Tensor, shape (n, channel, y, x)
    alpha_bar : torch.Tensor, shape (T,)
    grid : numpy.ndarray of int
        As `time_grid` returned it.
    """
    x, eps = x0, denoise(x0, int(grid[0]))[0]
    expected, misses = eps, []
    for i, (now, then) in enumerate(pairwise(grid)):
        share, weight = _step_back(alpha_bar, int(now), int(then))
        if i < N_CORRECTED:
            expected = denoise(share * x + weight * expected, int(then))[0]
        there = share * x + weight * expected
        before, (eps, x0_hat) = eps, denoise(there, int(then))
        misses.append(x - _renoised(x0_hat, eps, alpha_bar[now]))
        x, expected = there, 2 * eps - before
    return Inversion(x, torch.stack(misses[::-1], dim=1))


@torch.no_grad()
def invert(
    denoise: Denoise,
    x0: torch.Tensor,
    *,
    alpha_bar: torch.Tensor,
    grid: np.ndarray,
    n_corrections: int | None = None,
    tolerance: float | None = None,
) -> torch.Tensor:
    """Carry clean images to the last step of the grid along the deterministic DDIM path.

    Song, Meng & Ermon 2021 (arXiv 2010.02502), eq. 13 run towards noise. A step back starts from the noise
    predicted at the noisier image, which is not known on the way there. It is found as a fixed point, from
    that of the step before, so that `sample` undoes each step closely. At some steps a sharp prior
    decides what an image will show. There sampling magnifies whatever error is left, and plain iteration
    diverges.

    Parameters
    ----------
    denoise : callable
    x0 : torch.Tensor, shape (n, channel, y, x)
    alpha_bar : torch.Tensor, shape (T,)
    grid : numpy.ndarray of int
        As `time_grid` returned it.
    n_corrections : int, optional
        Most evaluations of the denoiser in the search at each step. Where it is None, as many as the prior
        asks for whose method `denoise` is (`Prior.search`), and 20 of any other denoiser; so `tolerance`.
    tolerance : float, optional
        An image whose last correction was smaller, relative to its norm, is not corrected further; 1e-3.
    """
    x = x0
    eps: torch.Tensor | None = None
    search = getattr(getattr(denoise, "__self__", None), "search", Search())
    given = {"n_most": n_corrections, "tolerance": tolerance}
    search = replace(search, **{name: value for name, value in given.items() if value is not None})
    for now, then in pairwise(grid):
        share, weight = _step_back(alpha_bar, int(now), int(then))
        rest = share * x
        if eps is None:
            eps = denoise(x, int(now))[0]
        back = partial(_back, t=int(then), denoise=denoise, weight=weight)
        x = fixed_point(back, rest + weight * eps, rest, search=search)
        eps = (x - rest) / weight if search.n_most else None
    return x


def _step_back(alpha_bar: torch.Tensor, now: int, then: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the factors of the image and of the noise in a step of DDIM to a noisier image."""
    share = (alpha_bar[then] / alpha_bar[now]).sqrt()
    return share, (1 - alpha_bar[then]).sqrt() - share * (1 - alpha_bar[now]).sqrt()


def _renoised(x0_hat: torch.Tensor, eps: torch.Tensor, signal: torch.Tensor) -> torch.Tensor:
    """Return the image whose clean image and noise these are, at a step with that fraction of signal."""
    return signal.sqrt() * x0_hat + (1 - signal).sqrt() * eps


def _back(
    at: torch.Tensor, rest: torch.Tensor, *, t: int, denoise: Denoise, weight: torch.Tensor
) -> torch.Tensor:
    """Return the noisier image of a step, by the noise that is predicted at `at`."""
    return rest + weight * denoise(at, t)[0]


def sample(
    denoise: Denoise,
    x_start: torch.Tensor,
    *,
    alpha_bar: torch.Tensor,
    grid: np.ndarray,
    misses: torch.Tensor | None = None,
    callback: StepEnd | None = None,
) -> torch.Tensor:
    """Denoise from the last step of the grid to the first, deterministically.

    Parameters
    ----------
    denoise : callable
        Guided or not: a guided denoiser is a denoiser.
    x_start : torch.Tensor, shape (n, channel, y, x)
    alpha_bar : torch.Tensor, shape (T,)
    grid : numpy.ndarray of int
        As `time_grid` returned it.
    misses : torch.Tensor, shape (n, n_steps, channel, y, x), optional
        Added to x at the end of each step, as `record` returned them.
    callback : callable, optional
        Called at the end of every step, with x as it then is.
    """
    x = x_start
    for i, (now, then) in enumerate(pairwise(grid[::-1])):
        with torch.no_grad():
            eps, x0_hat = denoise(x, int(now))
        x = _renoised(x0_hat, eps, alpha_bar[then])
        if misses is not None:
            x = x + misses[:, i]
        if callback is not None:
            x = callback(i, int(now), x)
    return x

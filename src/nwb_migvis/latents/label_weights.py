"""How well responses predict labels, and so how much supervision by the labels should count."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.nn import functional as F

PENALTIES = (1e-3, 1e-2, 1e-1, 1.0)
"""Of the ridge regressions, times stimuli."""

N_PRESUMED = 10
"""Further stimuli that count as predicted perfectly: a few stimuli say little against a label."""


@dataclass(frozen=True)
class LabelWeights:
    """Weights of one group's labels in the loss, in [0, 1].

    Attributes
    ----------
    numeric : torch.Tensor, shape (k,)
        Of each column of the numeric targets.
    classes : tuple of float
        Of each categorical label.
    """

    numeric: torch.Tensor
    classes: tuple[float, ...]


def weigh_labels(
    responses: torch.Tensor,
    targets: Sequence[tuple[torch.Tensor, list[torch.Tensor]]],
    training: torch.Tensor,
) -> list[LabelWeights]:
    """Return, for every label, the fraction of its variance that a linear read-out of responses predicts.

    Each training stimulus is predicted from all others: leave-one-out ridge regression, in closed form
    (Golub, Heath & Wahba 1979, Technometrics 21:215), with the best of `PENALTIES`. If responses hardly
    predict a label, a network trained to predict it memorises which stimulus has which value. Its latents
    then say less about the population.

    Parameters
    ----------
    responses : torch.Tensor, shape (n_stimuli, n_units)
        On the scale that the encoder sees.
    targets : sequence of (torch.Tensor, list of torch.Tensor)
        For each group, as `model.target_tensors` returned them.
    training : torch.Tensor of int
        Training stimuli.
    """
    x = responses[training].double()
    spectra: dict[bytes, _Spectrum] = {}

    def predicted(present: torch.Tensor, y: torch.Tensor) -> float:
        rows = present.cpu().numpy().tobytes()
        if rows not in spectra:
            spectra[rows] = _Spectrum.of(x[present])
        return spectra[rows].predicted(y)

    def of_class(index: torch.Tensor) -> float:
        index = index[training]
        has_class = index >= 0
        n_classes = int(index.max()) + 1 if has_class.any() else 1
        return predicted(has_class, F.one_hot(index[has_class], n_classes))

    def of_column(y: torch.Tensor) -> float:
        is_finite = torch.isfinite(y[training])
        return predicted(is_finite, y[training][is_finite, None])

    return [
        LabelWeights(
            torch.tensor([of_column(y) for y in numeric.T], dtype=numeric.dtype, device=numeric.device),
            tuple(of_class(index) for index in classes),
        )
        for numeric, classes in targets
    ]


@dataclass(frozen=True)
class _Spectrum:
    """Left singular vectors u (n, k) and singular values s (k,) of centred responses of n stimuli.

    All labels that the same stimuli have are predicted from one of them.
    """

    u: torch.Tensor
    s: torch.Tensor

    @classmethod
    def of(cls, x: torch.Tensor) -> _Spectrum:
        """Decompose responses (n, unit); too few for a prediction are left as they are."""
        if len(x) < 3:
            return cls(x, x)
        u, s, _ = torch.linalg.svd(x - x.mean(0), full_matrices=False)
        return cls(u, s)

    def predicted(self, y: torch.Tensor) -> float:
        """Return the fraction of the variance of y (n, k) that is predicted with each row left out.

        `N_PRESUMED` further rows count as predicted perfectly.
        """
        u, s, n = self.u, self.s, len(self.u)
        if n < 3:
            return 0.0
        y = y.double() - y.double().mean(0)
        in_u = u.T @ y
        best = 0.0
        for penalty in PENALTIES:
            shrunk = s.square() / (s.square() + penalty * n)
            leverage = (u.square() @ shrunk + 1 / n).clamp_max(1 - 1e-6)
            left_out = (y - u @ (shrunk[:, None] * in_u)) / (1 - leverage)[:, None]
            best = max(best, float(1 - left_out.square().sum() / y.square().sum().clamp_min(1e-12)))
        return (n * best + N_PRESUMED) / (n + N_PRESUMED)

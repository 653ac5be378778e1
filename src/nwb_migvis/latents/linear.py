"""Probabilistic PCA and factor analysis of average responses."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from nwb_migvis.config import GroupConfig
from nwb_migvis.errors import MigvisError
from nwb_migvis.networks.weights import pack, unpack

KINDS = ("pca", "fa")
_ARRAYS = ("weight", "noise", "mean", "scale", "excess")


@dataclass(frozen=True, eq=False)
class LinearGaussianModel:
    """Latents z ~ N(0, 1) that give z-scored root responses x ~ N(W z, diag(noise)), as a `LatentModel`.

    Attributes
    ----------
    weight : numpy.ndarray, shape (n_units, n_latents)
        W.
    noise : numpy.ndarray, shape (n_units,)
        Variances.
    mean, scale : numpy.ndarray, shape (n_units,)
        Of the root average counts of the training stimuli.
    excess : numpy.ndarray, shape (n_units,)
        By how much the square of the predicted root falls short of the average count, on the training
        stimuli.
    groups : tuple of GroupConfig
        The latents in order, divided by size alone.
    kind : {"pca", "fa"}
    """

    weight: np.ndarray
    noise: np.ndarray
    mean: np.ndarray
    scale: np.ndarray
    excess: np.ndarray
    groups: tuple[GroupConfig, ...]
    kind: str

    def encode(self, average: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See `LatentModel.encode`; given the observed units where some were not (NaN)."""
        average = np.asarray(average)
        present = ~np.isnan(average)
        if not present.all():
            return self._encode_present(average, present)
        x = (np.sqrt(np.maximum(average, 0)) - self.mean) / self.scale
        weighed = self.weight / self.noise[:, None]
        covariance = np.linalg.inv(np.eye(self.weight.shape[1]) + self.weight.T @ weighed)
        z = x @ weighed @ covariance
        log_var = np.broadcast_to(np.log(np.diag(covariance)), z.shape)
        return z.astype(np.float32), log_var.astype(np.float32)

    def _encode_present(self, average: np.ndarray, present: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        n_latents = self.weight.shape[1]
        mean, log_var = np.zeros((2, len(average), n_latents), np.float32)
        patterns, which = np.unique(present, axis=0, return_inverse=True)
        for k, units in enumerate(patterns):
            rows = which.ravel() == k
            own = {name: getattr(self, name)[units] for name in ("weight", "noise", "mean", "scale")}
            mean[rows], log_var[rows] = replace(self, **own).encode(average[np.ix_(rows, units)])
        return mean, log_var

    def rates(self, z: np.ndarray) -> np.ndarray:
        """See `LatentModel.rates`."""
        return np.maximum(self._square(z) + self.excess, 1e-3)

    def _square(self, z: np.ndarray) -> np.ndarray:
        return np.maximum(z @ self.weight.T * self.scale + self.mean, 0) ** 2

    def loading(self) -> np.ndarray:
        """See `LatentModel.loading`: W."""
        return self.weight.astype(np.float32)

    def to_bytes(self) -> bytes:
        """See `LatentModel.to_bytes`."""
        import torch

        arrays = {name: torch.from_numpy(getattr(self, name).astype(np.float32)) for name in _ARRAYS}
        return pack(self.kind, arrays, {"groups": [[g.name, g.size, list(g.labels)] for g in self.groups]})


def _rounded(values: np.ndarray) -> np.ndarray:
    """Return values in double precision that single precision holds exactly, as they are stored."""
    return np.ascontiguousarray(values, dtype=np.float32).astype(np.float64)


def load_linear(weights: bytes, *, kind: str) -> LinearGaussianModel:
    """Rebuild a model from the bytes that `LinearGaussianModel.to_bytes` returned."""
    head, tensors = unpack(kind, weights)
    groups = tuple(GroupConfig(name=n, size=s, labels=tuple(labels)) for n, s, labels in head["groups"])
    weight, noise, mean, scale, excess = (tensors[name].numpy().astype(np.float64) for name in _ARRAYS)
    return LinearGaussianModel(weight, noise, mean, scale, excess, groups, kind)


def fit_linear(
    average: np.ndarray, *, kind: str, groups: tuple[GroupConfig, ...], seed: int = 0
) -> LinearGaussianModel:
    """Fit probabilistic PCA (Tipping and Bishop 1999) or factor analysis to average counts.

    Parameters
    ----------
    average : numpy.ndarray, shape (n_stimuli, n_units)
        Mean spike counts of the training stimuli; what is missing (NaN) is taken as the unit's mean.
    kind : {"pca", "fa"}
    groups : tuple of GroupConfig
        With fewer latents together than units and stimuli.
    seed : int
        Of the randomised decomposition in factor analysis.

    Raises
    ------
    MigvisError
        If there are as many latents as units or stimuli.
    """
    from sklearn.decomposition import PCA, FactorAnalysis

    n_latents, most = sum(group.size for group in groups), min(average.shape)
    if n_latents >= most:
        raise MigvisError(
            f"latents.model = {kind!r}: found {n_latents} latents for {average.shape[1]} units and "
            f"{average.shape[0]} training stimuli; expected fewer than {most}; lower the size of the groups "
            "in latents.groups"
        )
    root = np.sqrt(average)
    missing = np.isnan(root)
    if missing.any():
        n = np.maximum((~missing).sum(axis=0), 1)
        root = np.where(missing, np.nansum(root, axis=0) / n, root)
    mean, scale = root.mean(axis=0), np.maximum(root.std(axis=0), 1e-3)
    x = (root - mean) / scale
    if kind == "pca":
        pca = PCA(n_latents, svd_solver="full").fit(x)
        noise = np.full(x.shape[1], max(pca.noise_variance_, 1e-6))
        beyond = np.maximum(pca.explained_variance_ - noise[0], 0)
        weight = pca.components_.T * np.sqrt(beyond)
    elif kind == "fa":
        fa = FactorAnalysis(n_latents, random_state=seed).fit(x)
        weight, noise = fa.components_.T, np.maximum(fa.noise_variance_, 1e-6)
    else:
        raise ValueError(f"found kind = {kind!r}; expected 'pca' or 'fa'")
    weight, noise, mean, scale = map(_rounded, (weight, noise, mean, scale))
    model = LinearGaussianModel(weight, noise, mean, scale, np.zeros(x.shape[1]), groups, kind)
    short = average - model._square(model.encode(average)[0])
    excess = np.nansum(short, axis=0) / n if missing.any() else short.mean(axis=0)
    return replace(model, excess=_rounded(excess))

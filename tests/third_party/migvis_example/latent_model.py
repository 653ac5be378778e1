"""A latent model: the root responses of some units that are drawn at random."""

from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import torch

from nwb_migvis.config import GroupConfig
from nwb_migvis.networks.weights import pack, unpack


@dataclass(frozen=True)
class RandomUnits:
    groups: tuple
    weight: np.ndarray  # (n_units, n_latents): 1 where a unit is a latent

    def encode(self, average):
        mean = (np.sqrt(average) @ self.weight).astype(np.float32)
        return mean, np.full_like(mean, -2.0)

    def rates(self, z):
        return np.maximum(z @ self.weight.T, 0.1) ** 2

    def loading(self):
        return self.weight

    def to_bytes(self):
        groups = [[group.name, group.size, list(group.labels)] for group in self.groups]
        return pack("random-units", {"weight": torch.from_numpy(self.weight)}, {"groups": groups})


def fit(recordings, task, *, config, seed, device, checkpoints):
    n_latents, rng = sum(group.size for group in task.groups), np.random.default_rng(seed)
    eyes = [np.eye(r.spike_count.shape[1], dtype=np.float32) for r in recordings]
    return [RandomUnits(task.groups, rng.permutation(eye)[:, :n_latents].copy()) for eye in eyes]


def load(weights):
    head, tensors = unpack("random-units", weights)
    groups = tuple(GroupConfig(name=n, size=s, labels=tuple(labels)) for n, s, labels in head["groups"])
    return RandomUnits(groups, tensors["weight"].numpy())


random_units = SimpleNamespace(fit=fit, load=load)

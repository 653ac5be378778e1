"""Settings of a run: nested frozen records that round-trip through TOML and JSON.

The config stored with a run holds the values that were actually used (group defaults resolved, sizes of the
session's images filled in).
"""

from nwb_migvis.config.companions import CompanionsConfig, read_vocabulary
from nwb_migvis.config.critic import CriticConfig
from nwb_migvis.config.editing import METHODS, SynthesisConfig
from nwb_migvis.config.evidence import EvidenceConfig
from nwb_migvis.config.latents import GroupConfig, LatentsConfig, SplitConfig
from nwb_migvis.config.presets import PRESETS
from nwb_migvis.config.prior import PriorConfig
from nwb_migvis.config.run import Config

__all__ = [
    "METHODS",
    "PRESETS",
    "CompanionsConfig",
    "Config",
    "CriticConfig",
    "EvidenceConfig",
    "GroupConfig",
    "LatentsConfig",
    "PriorConfig",
    "SplitConfig",
    "SynthesisConfig",
    "read_vocabulary",
]

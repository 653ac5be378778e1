"""The presets."""

from __future__ import annotations

from nwb_migvis.config.critic import CriticConfig
from nwb_migvis.config.editing import METHODS, SynthesisConfig
from nwb_migvis.config.prior import PriorConfig
from nwb_migvis.config.run import Config

PRESETS: dict[str, Config] = {
    "quick": Config(),
    "paper": Config(
        preset="paper",
        device="cuda",
        prior=PriorConfig(
            size_px=128,
            patch_px=1,
            channels=(64, 128, 256, 512),
            layers_per_block=2,
            n_steps=100_000,
            optimiser="adamw",
            learning_rate=2e-4,
            ema_decay=0.9999,
        ),
        critic=CriticConfig(
            size_px=128, channels=(64, 128, 128, 256, 256, 256), n_steps=3000, batch_size=128
        ),
        synthesis=SynthesisConfig(
            n_steps=50,
            guidance=0.3,
            source_guidance=2.5,
            guidance_scale=3.0,
            guidance_rescale=0.7,
            methods=METHODS,
            directions=("ones", "pc1", "pc2"),
            maps=True,
            batch_size=64,
        ),
    ),
}

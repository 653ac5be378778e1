"""What an autoencoder keeps of images that it was not trained on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from nwb_migvis.analysis.further_images import SAME
from nwb_migvis.plain import Json

if TYPE_CHECKING:
    from nwb_migvis.synthesis.prior.model import Prior


@dataclass(frozen=True)
class Kept:
    """How a prior's autoencoder reconstructs test images, as the record of a run has it.

    Attributes
    ----------
    record : dict
        `network` (its class), `latents` (channel, y, x), `n_images`. `rms_gray_levels`: root mean square
        difference of pixels from 0 to 255; `sd_gray_levels`: the standard deviation of the images' pixels.
    """

    record: Json

    @classmethod
    def of(cls, prior: Prior, images: np.ndarray) -> Kept:
        """Measure it on uint8 images (n, y, x (, channel)), n > 0; of pixels nothing is lost."""
        difference = prior.decode(prior.encode(images)).astype(np.float32) - images
        return cls(
            {
                "network": "" if prior.autoencoder is None else type(prior.autoencoder.network).__name__,
                "latents": list(prior.x_shape),
                "n_images": len(images),
                "rms_gray_levels": round(float(np.sqrt(np.mean(difference**2))), 3),
                "sd_gray_levels": round(float(images.std()), 3),
            }
        )

    @property
    def notes(self) -> tuple[str, ...]:
        """Say that much is lost: beyond `SAME`, by which a picture no longer counts as the same elsewhere."""
        rms, sd = self.record["rms_gray_levels"], self.record["sd_gray_levels"]
        if rms <= SAME * sd:
            return ()
        return (
            f"the prior's autoencoder changes test images by {rms:.1f} of 255 gray levels (root mean "
            f"square), over {100 * SAME:.0f} % of their standard deviation ({sd:.0f}): edits cannot show "
            "what it drops; more prior.autoencoder_steps or further images (prior.images) make that less",
        )

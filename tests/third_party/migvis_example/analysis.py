"""An analysis: the standard deviation of every latent over the stimuli."""

import xarray as xr


class LatentSpread:
    """What a study's `compute("latent-spread")` returns."""

    needs = ("latents", "evidence")

    @staticmethod
    def compute(study):
        """Return `std` (latent,) with the group of each latent."""
        latents = study.results.latents
        return xr.Dataset({"std": latents["mean"].std("stimulus")})

"""Settings of the edits."""

from __future__ import annotations

import math
from dataclasses import dataclass

from nwb_migvis import registry
from nwb_migvis.config.checking import check
from nwb_migvis.errors import MigvisError

METHODS = ("pmi", "none", "shuffled", "published", "likelihood", "activation", "wrong-group")
"""Built-in methods: the method proper, and its controls (see `SynthesisConfig`)."""

INVERSIONS = ("recorded", "searched")


@dataclass(frozen=True, kw_only=True)
class SynthesisConfig:
    """Edits of shown images.

    Parameters
    ----------
    n_steps : int
        DDIM steps between clean image and start step, the same grid both ways.
    strength : float
        Start step / T, in (0, 1].
    guidance : float
        Length of the critic's guidance relative to the prior's own prediction. At 0 nothing guides, not even
        the conditional prior: edits are unguided reconstructions. (`critic_stop` 0 turns off the critic
        alone.)
    preservation : float
        Weight of the score at the source's own latents of the other groups.
    critic_stop : float
        Share of the steps, from the noisiest on, at which the critic guides, in [0, 1]; "published",
        "likelihood" and "activation" are guided at every step.
    source_guidance, guidance_scale : float
        Weights w and v of the conditional prior's guidance, w * (eps(x_t, z_target) - eps(x_t, z_source)) +
        v * (eps(x_t, z_target) - eps(x_t)). Above 0 they need `prior.conditional`.
    guidance_rescale : float
        How far the contrast that these two add is taken back, in [0, 1].
    contrast_rescale : float
        How far the contrast that all guidance adds, the critic's included, is taken back, in [0, 1]. It is
        for "pmi", "shuffled" and "wrong-group" alone.
    n_pairs : int
        Held-out source-target pairs per group (role `main`).
    methods : tuple of str
        Guidance methods for the pairs. "pmi": with preservation. "none": no guidance. "shuffled": guided by
        another draw of a target. "published": InfoNCE score, no preservation. "likelihood": regression on the
        target's latents, no preservation. "activation": gradient ascent from the source's pixels, without the
        prior. "wrong-group": guided through the next group; omitted where there is only one.
    dose : tuple of float
        Strengths of the dose series (role `dose`).
    n_dose : int
        Pairs in the dose series.
    n_traversal : int
        Sources of the traversals.
    gammas : tuple of float
        Traversal lengths, in standard deviations of the group's latents (see `limit_traversals`).
    directions : tuple of str
        Directions of the traversals: "ones" (all latents of the group alike), or "pc1", "pc2", ... (principal
        axes of the group). A numeric label, or "label=value" for a category, is the regression of the label
        on the group's latents.
    limit_traversals : bool
        Whether to shorten traversals that lead farther from the training latents than 95 % of the held-out
        stimuli lie, and than 1.1 times their own source does.
    maps : bool
        Whether to store, for every edit, where it changed the image and where the critic looked.
    n_samples : int
        Unguided samples of the prior that are compared with the training images.
    inversion : {"recorded", "searched"}
        How a source is carried to the start step. "recorded": in one pass per step. What sampling
        would miss on the way back is recorded, and added there: unguided edits are the source itself (with an
        autoencoder, what that makes of it), whatever the number of steps. "searched": each step is corrected
        until sampling undoes it, which takes more passes of the prior.
    inversion_tolerance : float
        A step of an inversion that is "searched" is corrected until the last correction was smaller than
        this, relative to the image, or twenty times. Smaller values lead back to the source more closely, and
        take longer. For networks of others it is 2e-5 at most, and thirty times.
    batch_size : int
        Images per forward pass; bounds memory. The last batch is filled up, so that an edit does not depend
        on the others.
    """

    n_steps: int = 20
    strength: float = 0.95
    guidance: float = 0.35
    preservation: float = 0.2
    critic_stop: float = 0.7
    source_guidance: float = 1.0
    guidance_scale: float = 2.5
    guidance_rescale: float = 0.0
    contrast_rescale: float = 0.0
    n_pairs: int = 64
    methods: tuple[str, ...] = ("pmi", "none", "shuffled")
    dose: tuple[float, ...] = (0.5, 0.65, 0.8, 0.95)
    n_dose: int = 8
    n_traversal: int = 8
    gammas: tuple[float, ...] = (-2.0, -1.0, 1.0, 2.0)
    directions: tuple[str, ...] = ("ones",)
    limit_traversals: bool = True
    maps: bool = False
    n_samples: int = 64
    inversion: str = "recorded"
    inversion_tolerance: float = 1e-3
    batch_size: int = 32

    def __post_init__(self) -> None:
        check(
            self,
            "synthesis",
            at_least={
                **dict.fromkeys(("n_steps", "n_pairs", "batch_size"), 1),
                **dict.fromkeys(
                    (
                        "guidance",
                        "preservation",
                        "source_guidance",
                        "guidance_scale",
                        "n_dose",
                        "n_traversal",
                        "n_samples",
                    ),
                    0,
                ),
            },
            above={"inversion_tolerance": 0},
            one_of={"methods": registry.METHODS, "inversion": INVERSIONS},
        )
        if len(set(self.methods)) < len(self.methods):
            raise MigvisError(f"synthesis: found methods = {list(self.methods)}; expected each once")
        if "pmi" not in self.methods:
            raise MigvisError(f"synthesis: found methods = {list(self.methods)}; expected 'pmi' among them")
        for gamma in self.gammas:
            if not math.isfinite(gamma):
                raise MigvisError(f"synthesis: found a gamma of {gamma:g}; expected a finite length")
        for name in ("critic_stop", "guidance_rescale", "contrast_rescale"):
            if not 0 <= getattr(self, name) <= 1:
                raise MigvisError(f"synthesis: found {name} = {getattr(self, name):g}; expected 0 to 1")
        for strength in (self.strength, *self.dose):
            if not 0 < strength <= 1:
                raise MigvisError(
                    f"synthesis: found a strength of {strength:g}; expected more than 0, at most 1"
                )

    @property
    def is_conditioned(self) -> bool:
        """Whether the conditional prior guides."""
        return self.source_guidance + self.guidance_scale > 0

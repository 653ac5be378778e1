"""Settings that further analyses share."""

from __future__ import annotations

import math
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from nwb_migvis import registry
from nwb_migvis.config.checking import check
from nwb_migvis.config.evidence import AUTO, EDGES
from nwb_migvis.errors import MigvisError, printable
from nwb_migvis.plain import nearest

MOST_WORDS = 1000
"""Of a vocabulary."""

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
    vocabulary : tuple of str
        Words or phrases, 1,000 at most, that `names` sets groups beside, with the network `text_network`.
    text_network : str
        Network of images and text for these: "clip:FOLDER", a CLIPModel of transformers with its tokenizer
        in a local folder (`model.safetensors`; nothing is downloaded), or "NAME" or "NAME:PATH" of a
        registered one.
    """

    network: str = AUTO
    windows_s: tuple[tuple[float, ...], ...] = ()
    areas: str = ""
    refit: bool = False
    vocabulary: tuple[str, ...] = ()
    text_network: str = ""

    def __post_init__(self) -> None:
        check(self, "companions")
        choices = (AUTO, EDGES, PRIOR, *(name for name in registry.IMAGE_NETWORKS if name != "timm"))
        if self.network not in choices and not re.fullmatch(r"timm:[\w.]+", self.network, re.ASCII):
            raise MigvisError(
                f"companions: found network = {self.network!r}; expected one of {', '.join(choices)}, "
                "timm:ARCHITECTURE"
            )
        for window in self.windows_s:
            if len(window) != 2 or not -math.inf < window[0] < window[1] < math.inf:
                raise MigvisError(
                    f"companions: found the window {list(window)} in windows_s; expected its start and its "
                    "later end, seconds after onset"
                )
        names = Counter(f"{start:g} to {stop:g} s" for start, stop in self.windows_s)
        if twice := [name for name, n in names.items() if n > 1]:
            raise MigvisError(
                f"companions: found the window {twice[0]} {names[twice[0]]} times in windows_s; expected "
                "windows that differ, each once"
            )
        self._check_words()

    def _check_words(self) -> None:
        for word, n in Counter(self.vocabulary).items():
            if not word or word != word.strip() or not word.isprintable():
                raise MigvisError(
                    f"companions: found the word {word!r:.80} in vocabulary; expected text on one line, "
                    "without spaces around it"
                )
            if n > 1:
                raise MigvisError(
                    f"companions: found the word {word!r:.80} {n} times in vocabulary; expected each once"
                )
        if len(self.vocabulary) > MOST_WORDS:
            raise MigvisError(
                f"companions: found {len(self.vocabulary)} words in vocabulary; expected at most {MOST_WORDS}"
            )
        if bool(self.vocabulary) != bool(self.text_network):
            given, absent = ("vocabulary", "text_network")[:: 1 if self.vocabulary else -1]
            raise MigvisError(
                f"companions: found {given} without {absent}; expected both: the words of a vocabulary are "
                "set beside images by a network (clip:FOLDER)"
            )
        name = self.text_network.partition(":")[0]
        if name and name not in registry.TEXT_NETWORKS:
            raise MigvisError(
                f"companions: found text_network = {self.text_network!r}; expected one of "
                f"{nearest(name, registry.TEXT_NETWORKS)} (of clip as clip:FOLDER)"
            )


def read_vocabulary(path: str | Path) -> tuple[str, ...]:
    """Read the words of a vocabulary from a text file (UTF-8), one word or phrase per line.

    Empty lines are left out, and so is what stands on an earlier line already.

    Raises
    ------
    MigvisError
        If the file cannot be read or holds no words.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no text in UTF-8"
        raise MigvisError(
            f"vocabulary {printable(str(path))}: {why}; expected a text file with one word or phrase per line"
        ) from None
    words = tuple(dict.fromkeys(filter(None, (" ".join(line.split()) for line in lines))))
    if not words:
        raise MigvisError(
            f"vocabulary {printable(str(path))}: found no words; expected one word or phrase per line"
        )
    return words

"""A page that grows while the work lasts: the plan, the images, and what there is so far."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nwb_migvis.plot.axes import short_name
from nwb_migvis.report.charts import Chart, chart, latent_chart
from nwb_migvis.report.gallery import first_pairs
from nwb_migvis.report.rendering import render, write_text
from nwb_migvis.results import Results

_PAIRS = 4
"""Pairs of each group that are shown."""


class GrowingPage:
    """A page that is written again after each stage; while the work lasts, a browser loads it again.

    Parameters
    ----------
    out : Path
        The last version, which another function writes, takes its place.
    title : str
    stages : mapping of str to str
        In order, with what each does.
    shown : Chart
        Of the images.
    facts : mapping of str to str
        About the session and the plan.
    """

    def __init__(
        self, out: Path, *, title: str, stages: Mapping[str, str], shown: Chart, facts: Mapping[str, str]
    ) -> None:
        self._out, self._stages = out, dict(stages)
        self._seconds: dict[str, float] = {}
        self._content: dict[str, Any] = {"title": title, "shown": shown, "facts": dict(facts)}
        self._latents: list[Chart] = []
        self._curves: Chart | None = None
        self._edits: list[dict[str, Any]] = []
        self._since = time.perf_counter()
        self._write("The work has begun. This page loads itself again until it is complete.")

    def after(self, stage: str, results: Results | None = None, *, images: Any = None) -> None:
        """Write the page again after a stage, with what there is so far.

        Parameters
        ----------
        stage : str
        results : Results, optional
            Nothing of them has to be measured.
        images : xarray.DataArray (stimulus, y, x (, channel)), optional
            The shown images.
        """
        now = time.perf_counter()
        self._seconds[stage], self._since = now - self._since, now
        if results is not None:
            self._add(results, images)
        self._write("The work goes on. This page loads itself again until it is complete.")

    def _add(self, results: Results, images: Any) -> None:
        """Draw what is new: latents once, curves again, edits once."""
        groups = [str(name) for name in results.groups.index]
        if not self._latents:
            drawn = [latent_chart(results, group) for group in groups]
            self._latents = [one for one in drawn if one is not None]
        self._curves = chart(results.plot.training, "Losses on the validation stimuli in training.")
        if results.synthesized.sizes["edit"] and not self._edits:
            self._edits = [
                {"name": short_name(group, 60), "pairs": first_pairs(results, group, images, n_pairs=_PAIRS)}
                for group in groups
            ]

    def stop(self) -> None:
        """Say that the work stopped before its end, and how far it came."""
        at = next((name for name in self._stages if name not in self._seconds), "the end")
        self._write(f"The work stopped at {at}.", is_growing=False)

    def _write(self, state: str, *, is_growing: bool = True) -> None:
        text = render(
            "growing.html",
            **self._content,
            state=state,
            is_growing=is_growing,
            stages=self._states("being done" if is_growing else "stopped"),
            charts=[*self._latents, *([self._curves] if self._curves else [])],
            edits=self._edits,
        )
        write_text(self._out, text)

    def _states(self, first: str) -> list[tuple[str, str, str]]:
        """Return each stage with what it does and its state; `first` is that of the first one not done."""
        states = []
        for name, words in self._stages.items():
            if name in self._seconds:
                states.append((name, words, f"done in {self._seconds[name]:.0f} s"))
            else:
                states.append((name, words, first))
                first = "to come"
        return states

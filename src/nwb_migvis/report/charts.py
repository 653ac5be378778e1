"""Charts of a page: figures of `nwb_migvis.plot` as SVG in a data address."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np

from nwb_migvis import plot
from nwb_migvis.errors import MigvisError
from nwb_migvis.pictures import data_uri
from nwb_migvis.plot.axes import short_name
from nwb_migvis.plot.recorded import doses
from nwb_migvis.results import Results

MOST_PER_KIND = 6
"""Charts of one kind, such as one per label."""


@dataclass(frozen=True)
class Chart:
    """One chart.

    Attributes
    ----------
    uri, alt, caption : str
    """

    uri: str
    alt: str
    caption: str


def chart(
    draw: Callable[..., Any], caption: str, *, size_in: tuple[float, float] = (5.4, 3.4)
) -> Chart | None:
    """Return what `draw(ax=...)` draws; None where the results do not hold what it needs.

    Parameters
    ----------
    draw : callable
    caption : str
        Also its words for those who do not see it.
    size_in : (float, float)
    """
    from matplotlib import rc_context, rcdefaults
    from matplotlib.figure import Figure

    with warnings.catch_warnings(), rc_context():
        warnings.simplefilter("ignore")  # letters that the font lacks, and figures that are too tight
        rcdefaults()
        with plot.style(font_pt=9), rc_context({"svg.hashsalt": caption, "svg.fonttype": "path"}):
            figure = Figure(figsize=size_in, layout="constrained")
            try:
                draw(ax=figure.subplots())
            except MigvisError:
                return None
            stored = BytesIO()
            figure.savefig(stored, format="svg", dpi=120, metadata={"Date": None})
    return Chart(data_uri(stored.getvalue(), "image/svg+xml"), caption, caption)


def evidence_charts(results: Results) -> list[Chart]:
    """Return the charts of what is explained, decoded and moved by edits."""
    height = min(8.0, 1.6 + 0.4 * len(results.groups))
    tall = (5.4, height)
    made = [
        chart(
            results.plot.verdicts,
            "Parts of each verdict with 95 % intervals. Filled marks: the part holds.",
            size_in=tall,
        ),
        variance_chart(results),
        chart(
            results.plot.decoding,
            "Labels decoded from each group, beyond other labels, image features and time where that was "
            "measured. Gray: not measured.",
            size_in=(5.4, height + 0.6),
        ),
    ]
    made += [
        chart(
            _with(results.plot.selectivity, score=score, reader=reader),
            f"{score.capitalize()} by edits of each group, read by {short_name(reader)}. Gray: not measured.",
            size_in=(5.4, height + 0.6),
        )
        for reader in results.selectivity["reader"].values[:2].tolist()
        for score in ("transfer", "retention")
        if np.isfinite(results.selectivity[score].values).any()
    ]
    made += [
        chart(
            _with(results.plot.transfer, label=label, reader=reader),
            f"Transfer of {short_name(label)} with 95 % intervals, beside edits without guidance and with "
            f"shuffled targets, read by {short_name(reader)}.",
            size_in=(5.4, height + 0.4),
        )
        for label, reader in _readable(results)
    ]
    made += [
        chart(
            _with(results.plot.dose, group=group, label=label),
            f"{short_name(group)}: transfer and retention of {short_name(label)} by start step.",
        )
        for group, label in _doses(results)
    ]
    return [one for one in made if one is not None]


def variance_chart(results: Results) -> Chart | None:
    """Return the chart of the variance that each group explains."""
    size_in = (5.4, min(8.0, 1.6 + 0.4 * len(results.groups)))
    return chart(
        results.plot.variance, "Variance of the responses that each group explains.", size_in=size_in
    )


def population_charts(results: Results, places: np.ndarray | None) -> list[Chart]:
    """Return the charts of units and trainings."""
    where = ", by place," if places is not None else ""
    made = [
        chart(
            results.plot.reliability,
            "R2 of each unit from all latents, and its noise ceiling.",
        ),
        chart(
            _with(results.plot.loadings, places=places),
            f"Loadings of the units{where} on the latents: parameters of the model, not held-out numbers.",
            size_in=(5.4, 5.0),
        ),
        chart(results.plot.training, "Losses on the validation stimuli while the networks were trained."),
    ]
    return [one for one in made if one is not None]


def latent_chart(results: Results, group: str) -> Chart | None:
    """Return the test stimuli in the latents of a group, coloured by a label."""
    if not (results.latents["split"].values == "test").any():
        return None
    caption = f"Test stimuli in the first two principal axes of {short_name(group)}."
    return chart(_with(results.plot.latents, group=group), caption, size_in=(5.4, 3.6))


def _with(draw: Callable[..., Any], **given: Any) -> Callable[..., Any]:
    return lambda ax: draw(**given, ax=ax)


def _readable(results: Results) -> list[tuple[str, str]]:
    """Return labels that a reader can read, each with the first such reader; those of groups first."""
    table = results.selectivity
    own = [name for labels in results.groups["supervised_by"] for name in str(labels).split(",")]
    labels = [str(name) for name in table["label"].values]
    found = []
    for label in sorted(labels, key=lambda name: name not in own):
        for reader in map(str, table["reader"].values):
            if np.isfinite(table["transfer"].sel({"label": label, "reader": reader}).values).any():
                found.append((label, reader))
                break
    return found[:MOST_PER_KIND]


def _doses(results: Results) -> list[tuple[str, str]]:
    _, cells = doses(results)
    pairs = [
        (str(group), label)
        for group, labels in results.groups["supervised_by"].items()
        for label in str(labels).split(",")
        if label in cells.get(str(group), {})
    ]
    return pairs[:MOST_PER_KIND]

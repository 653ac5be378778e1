"""Further analyses of a page: a section each, made from the tables in the file."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any

from nwb_migvis.errors import printable
from nwb_migvis.plot.axes import short_name
from nwb_migvis.report.charts import Chart, chart
from nwb_migvis.results import Results
from nwb_migvis.results.analysis_table import analysis_lines, headlines, slices, title_of

_MOST_CHARTS = 6

_Own = tuple[str, Callable[[Results], Callable[..., Any]], tuple[float, float]]

_OWN: Mapping[str, tuple[_Own, ...]] = {
    "names": (
        (
            "What each end of each group's directions is called, and how far values there stand off.",
            lambda results: results.plot.names,
            (7.0, 4.2),
        ),
    ),
    "places": (
        (
            "Held-out images, and each group's map of covered places over them.",
            lambda results: results.plot.places,
            (5.4, 4.2),
        ),
        (
            "The same images, and each group's map of features over them.",
            lambda results: partial(results.plot.places, variable="feature_map"),
            (5.4, 4.2),
        ),
    ),
    "states": (
        (
            "An image edited towards each state, group by group; without such edits the counts expected in "
            "each state.",
            lambda results: results.plot.states,
            (5.4, 4.2),
        ),
    ),
}
"""Caption, figure and size of what single analyses draw beside the variables that they name first."""


@dataclass(frozen=True)
class Section:
    """What a page shows of an analysis.

    Attributes
    ----------
    name, title, text : str
    charts : list of Chart
    table : str
    variables : str
        All of them with their axes.
    """

    name: str
    title: str
    text: str
    charts: list[Chart]
    table: str
    variables: str


def sections(results: Results) -> list[Section]:
    """Return a section for each further analysis in the file."""
    return [_section(results, name) for name in results.analyses]


def _section(results: Results, name: str) -> Section:
    one = results.analyses[name]
    charts = [*islice(filter(None, _charts(results, name)), _MOST_CHARTS)]
    listed = ", ".join(f"{v} ({', '.join(map(str, x.dims))})" for v, x in one.data_vars.items())
    about = one.attrs.get("description")
    return Section(
        short_name(name),
        title_of(name, one),
        short_name(about, 400) if isinstance(about, str) else "",
        charts,
        "\n".join(analysis_lines(name, one)[1:]).strip() if headlines(one) else "",
        printable(short_name(listed, 600)),
    )


def _charts(results: Results, name: str) -> Iterator[Chart | None]:
    """Yield charts as they are asked for: the analysis' own figures, then what it names first."""
    for caption, draw, size_in in _OWN.get(name, ()):
        yield chart(draw(results), caption, size_in=size_in)
    one = results.analyses[name]
    for variable in headlines(one):
        for part, (words, _) in enumerate(slices(one, variable)):
            caption = (
                f"{short_name(variable)} of {short_name(name)}{f', {short_name(words)}' if words else ''}."
            )
            yield chart(_draw(results, name, variable, part), caption, size_in=(5.4, 4.2))


def _draw(results: Results, name: str, variable: str, part: int) -> Callable[..., Any]:
    return lambda ax: results.plot.analysis(name=name, variable=variable, part=part, ax=ax)

"""Further analyses of a page: a section each, made from the tables in the file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from nwb_migvis.errors import printable
from nwb_migvis.plot.axes import short_name
from nwb_migvis.report.charts import Chart, chart
from nwb_migvis.results import Results
from nwb_migvis.results.analysis_table import analysis_lines, headlines, slices, title_of

_MOST_CHARTS = 4


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
    charts: list[Chart] = []
    for variable in headlines(one):
        for part, (words, _) in enumerate(slices(one, variable)):
            caption = (
                f"{short_name(variable)} of {short_name(name)}{f', {short_name(words)}' if words else ''}."
            )
            drawn = chart(_draw(results, name, variable, part), caption, size_in=(5.4, 4.2))
            charts += [] if drawn is None or len(charts) >= _MOST_CHARTS else [drawn]
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


def _draw(results: Results, name: str, variable: str, part: int) -> Callable[..., Any]:
    return lambda ax: results.plot.analysis(name=name, variable=variable, part=part, ax=ax)

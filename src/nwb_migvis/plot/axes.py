"""What all figures share: axes, colours, sizes of print, and names that draw as they are written."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from nwb_migvis.errors import MigvisError, printable
from nwb_migvis.extras import FIGURES, require
from nwb_migvis.plain import nearest

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLUMN_IN, PAGE_IN = 3.35, 7.0
"""Widths of one column and of a page in print, inches."""

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#882255", "#999933")
"""Told apart by people who see fewer colours (Okabe and Ito 2008; the last two after Tol)."""

GRAY = "#767676"
_MOST_NAMES = 40
"""Names along an axis; of more, every n-th is written."""

_MOST_CHARACTERS = 28
_MOST_WRITTEN = 14
"""Columns of a matrix in which values are written."""


@contextmanager
def style(*, font_pt: float = 8) -> Iterator[None]:
    """Draw inside the block as print wants it: small type, no top and right spines, text that stays text.

    Parameters
    ----------
    font_pt : float
        Size of the type, points.

    Examples
    --------
    >>> from nwb_migvis import plot
    >>> with plot.style(font_pt=7):
    ...     pass
    """
    require(FIGURES, what="a figure")
    import matplotlib as mpl

    settings: Any = {
        "font.size": font_pt,
        "axes.titlesize": font_pt,
        "axes.labelsize": font_pt,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.linewidth": 0.6,
        "lines.linewidth": 1.0,
        "legend.fontsize": font_pt - 1,
        "legend.frameon": False,
        "figure.figsize": (COLUMN_IN, 0.75 * COLUMN_IN),
        "figure.constrained_layout.use": True,
        "pdf.fonttype": 42,
        "savefig.dpi": 300,
    }
    with mpl.rc_context(settings):
        yield


def own_axes(ax: Axes | None, *, width_in: float = COLUMN_IN, height_in: float = 0.75 * COLUMN_IN) -> Axes:
    """Return the axes that were given, or those of a new figure of pyplot."""
    if ax is not None:
        return ax
    require(FIGURES, what="a figure")
    from matplotlib import pyplot as plt

    return plt.subplots(figsize=(width_in, height_in), layout="constrained")[1]


def short_name(name: object, most: int = _MOST_CHARACTERS) -> str:
    """Return a name on one line of at most `most` characters."""
    text = printable(str(name))
    return text if len(text) <= most else f"{text[: most - 1]}…"


def set_title(ax: Any, text: str) -> None:
    """Give axes a title in which nothing is mathematics."""
    ax.set_title(printable(text), loc="left", parse_math=False)


def set_label(ax: Any, which: str, text: str) -> None:
    """Give the axis "x" or "y" a label in which nothing is mathematics."""
    getattr(ax, f"set_{which}label")(short_name(text, 60), parse_math=False)


def legend(ax: Any, **where: Any) -> None:
    """Add a legend in which nothing is mathematics."""
    for text in ax.legend(**where).get_texts():
        text.set_parse_math(False)


def name_ticks(ax: Any, which: str, names: Sequence[object], **text: Any) -> None:
    """Write names at 0, 1, 2, ... along the axis "x" or "y"; of very many, every n-th."""
    every = -(-len(names) // _MOST_NAMES) or 1
    places = range(0, len(names), every)
    words = [short_name(names[i]) for i in places]
    getattr(ax, f"set_{which}ticks")(places, labels=words, parse_math=False, **text)


def matrix(
    ax: Any, values: np.ndarray, *, rows: Sequence[object], columns: Sequence[object], label: str
) -> None:
    """Draw a matrix with a colour bar, NaN hatched; the values are written where there is room.

    Parameters
    ----------
    ax : Axes
    values : numpy.ndarray, shape (row, column)
        Colours span -1 to 1.
    rows, columns : sequence
        Their names.
    label : str
        What the values are.
    """
    ax.set_facecolor("#dddddd")
    picture = ax.imshow(values, cmap="PuOr_r", vmin=-1, vmax=1, aspect="auto", interpolation="nearest")
    name_ticks(ax, "x", columns, rotation=45, ha="right", rotation_mode="anchor")
    name_ticks(ax, "y", rows)
    ax.figure.colorbar(picture, ax=ax, label=label, shrink=0.9)
    if values.size > 150 or values.shape[1] > _MOST_WRITTEN:
        return
    for (i, j), value in np.ndenumerate(values):
        if np.isfinite(value):
            colour = "white" if abs(value) > 0.6 else "black"
            ax.text(j, i, f"{value:.2f}", ha="center", va="center", color=colour, fontsize="small")


def one_of(value: Any, choices: Sequence[Any], what: str, *, hint: str = "") -> Any:
    """Return the value, or the first choice where it is None; refuse what is none of them.

    Raises
    ------
    MigvisError
        Naming the nearest choice; or, where there is none at all, why (`hint`).
    """
    if not len(choices):
        raise MigvisError(f"found no {what} to draw{hint and f': {hint}'}; expected one or more")
    if value is None:
        return choices[0]
    if value not in choices:
        raise MigvisError(f"found {what} {value!r}; expected one of {nearest(str(value), choices)}")
    return value

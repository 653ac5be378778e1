"""Figures of results: one matplotlib function each, `ax=None` in, Axes out, nothing shown.

Each takes `Results` first and draws into `ax`, or into a figure of its own. `results.plot.latents(...)` is
`nwb_migvis.plot.latents(results, ...)`. Under `with plot.style():` figures have the sizes of print.
"""

from nwb_migvis.plot.analyses import analysis
from nwb_migvis.plot.axes import COLUMN_IN, PAGE_IN, style
from nwb_migvis.plot.companions import names, places, states
from nwb_migvis.plot.comparing import side_by_side
from nwb_migvis.plot.evidence import decoding, dose, selectivity, transfer, variance, verdicts
from nwb_migvis.plot.images import Pair, edit, edits, pairs, traversal
from nwb_migvis.plot.measured import draw_measured, measured_transfer, measured_units
from nwb_migvis.plot.population import latents, loadings, predicted, reliability, training

FIGURES = (
    "analysis",
    "decoding",
    "dose",
    "edit",
    "edits",
    "latents",
    "loadings",
    "names",
    "places",
    "predicted",
    "reliability",
    "selectivity",
    "states",
    "training",
    "transfer",
    "traversal",
    "variance",
    "verdicts",
)
"""Functions that draw."""

__all__ = [
    "COLUMN_IN",
    "FIGURES",
    "PAGE_IN",
    "Pair",
    "analysis",
    "decoding",
    "dose",
    "draw_measured",
    "edit",
    "edits",
    "latents",
    "loadings",
    "measured_transfer",
    "measured_units",
    "names",
    "pairs",
    "places",
    "predicted",
    "reliability",
    "selectivity",
    "side_by_side",
    "states",
    "style",
    "training",
    "transfer",
    "traversal",
    "variance",
    "verdicts",
]

"""Figures look as they did: each is compared with a stored picture, within a tolerance.

After a change that is meant to be seen, `python tests/test_plot_references.py` draws the pictures anew: look
at them.
"""

from pathlib import Path

import pytest
from test_plot import STIMULI, TRAINED, with_dose, with_rates

from nwb_migvis import plot

pytest.importorskip("matplotlib")

FOLDER = Path(__file__).parent / "data" / "figures"
TOLERANCE = 3
"""Root mean square of the difference, of 255. Another colour of a few points makes 4."""

RESULTS = with_dose(TRAINED)
FIGURES = [name for name in plot.FIGURES if name not in ("analysis", "names", "places", "states")]
"""A figure of a further analysis depends on the analysis, which its own tests make."""
GIVEN = {
    "dose": {"group": "pose", "label": "rotation_x"},
    "edit": {"images": STIMULI},
    "edits": {"images": STIMULI},
    "latents": {"split": None, "label": "category"},
    "traversal": {"images": STIMULI},
}


def draw(name: str, out: Path) -> None:
    """Draw a figure, small."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    mpl.rcdefaults()
    with plot.style(font_pt=6), mpl.rc_context({"text.hinting": "none", "text.antialiased": True}):
        figure = Figure(figsize=(3.2, 2.4), layout="constrained")
        results = with_rates(RESULTS) if name == "predicted" else RESULTS
        getattr(plot, name)(results, ax=figure.subplots(), **GIVEN.get(name, {}))
        figure.savefig(out, dpi=60, metadata={"Software": None})


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_looks_as_it_did(name, tmp_path):
    from matplotlib.testing.compare import compare_images

    drawn, stored = tmp_path / f"{name}.png", FOLDER / f"{name}.png"
    draw(name, drawn)
    assert compare_images(str(stored), str(drawn), tol=TOLERANCE) is None


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for figure in FIGURES:
        draw(figure, FOLDER / f"{figure}.png")

"""What the demo shows before it has any result: the first images, the plan, and a page that grows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nwb_migvis.analysis.study import Study
from nwb_migvis.config import Config
from nwb_migvis.errors import MigvisError
from nwb_migvis.report import GrowingPage, chart
from nwb_migvis.simulate import draw_factors, render_stimuli

N_STIMULI = 5760
"""Images of the demo."""

_ROWS, _COLUMNS = 3, 8
_CAPTION = "The first images of the session, with their categories."

PLAN = {
    "simulation": "renders 5,760 objects and draws the spikes of 160 units whose tuning is known",
    "latents": "learns groups of latents from the responses: pose, category, and two free ones",
    "prior": "teaches a diffusion model of images what the latents mean",
    "critic": "learns to score how well an image goes with the latents of a group",
    "edits": "changes held-out images towards the latents of others, one group at a time",
    "evidence": "measures on held-out images what holds of each group, beside controls",
}
"""Stages, with what each does."""


class FirstView:
    """A picture of the first images with the plan, and a page of both that grows as stages end.

    Parameters
    ----------
    folder : Path
        Where the picture goes.
    config : Config
    page : Path, optional
        Where the page goes; none is written where it is None.
    """

    def __init__(self, folder: Path, config: Config, *, page: Path | None) -> None:
        self.picture = folder / "first_look.png"
        factors = draw_factors(N_STIMULI, seed=config.seed).iloc[: _ROWS * _COLUMNS]
        images = render_stimuli(factors, seed=config.seed)
        categories = factors["category"].tolist()
        _draw(self.picture, images, categories)
        self._page: GrowingPage | None = None
        if page is not None:
            shown = chart(lambda ax: _tile(ax, images, categories), _CAPTION, size_in=(5.4, 2.6))
            assert shown is not None
            self._page = GrowingPage(
                page, title="A simulated session", stages=PLAN, shown=shown, facts=_facts(config)
            )

    def after(self, stage: str, study: Study | None = None) -> None:
        """Show what there is after a stage."""
        if self._page is not None:
            if study is None or stage == "evidence":  # the last version is about to be written
                self._page.after(stage)
                return
            so_far = study.so_far
            first = so_far[0] if isinstance(so_far, list) else so_far
            self._page.after(stage, first, images=study.sessions[0]["image"])

    @contextmanager
    def stopping(self) -> Iterator[None]:
        """Say on the page if the work inside the block stops before its end."""
        try:
            yield
        except BaseException:
            if self._page is not None:
                self._page.stop()
            raise


def _facts(config: Config) -> dict[str, str]:
    groups = [
        f"{group.name} ({', '.join(group.labels) or 'free'}; {group.size} latents)"
        for group in config.latents.groups
    ]
    return {
        "Session": f"{N_STIMULI:,} images of 32 x 32 px, each shown 20 times; 160 units",
        "Groups": "; ".join(groups),
        "Edits": f"{config.synthesis.n_pairs} pairs of held-out images per group, with controls",
        "Seed": str(config.seed),
    }


def _tile(ax: Any, images: Any, categories: list[str]) -> None:
    for i, (image, category) in enumerate(zip(images, categories, strict=True)):
        left, top = 1.08 * (i % _COLUMNS), 1.3 * (i // _COLUMNS)
        place = (left, left + 1, top + 1, top)
        ax.imshow(image, cmap="gray", vmin=0, vmax=255, extent=place, interpolation="nearest")
        ax.text(left + 0.5, top - 0.05, category, ha="center", va="bottom", fontsize="small")
    ax.set_xlim(0, 1.08 * _COLUMNS)
    ax.set_ylim(1.3 * _ROWS, -0.3)
    ax.set_aspect("equal")
    ax.set_axis_off()


def _draw(out: Path, images: Any, categories: list[str]) -> None:
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    lines = [f"{i}. {name}: {words}" for i, (name, words) in enumerate(PLAN.items(), 1)]
    with rc_context({"font.size": 8}):
        figure = Figure(figsize=(7, 4.6), layout="constrained")
        upper, lower = figure.subplots(2, 1, height_ratios=(3, 1.3))
        _tile(upper, images, categories)
        upper.set_title(_CAPTION, loc="left")
        lower.set_axis_off()
        lower.set_title("The plan", loc="left")
        lower.text(0, 1, "\n".join(lines), va="top", linespacing=1.5, transform=lower.transAxes)
        try:
            figure.savefig(out, dpi=150, metadata={"Software": None})
        except OSError as error:
            raise MigvisError(f"{out}: {error.strerror}; give another folder with --out") from None

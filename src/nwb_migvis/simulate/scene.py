"""What images show: solids or pictures from a folder, their light, and what is behind them."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nwb_migvis.errors import MigvisError
from nwb_migvis.plain import Json, plain
from nwb_migvis.simulate.backgrounds import Backdrop, Light, Photographs
from nwb_migvis.simulate.forms import SOLIDS
from nwb_migvis.simulate.pictures import PictureSet, compose, picture_layers
from nwb_migvis.simulate.render import FACTORS, POSE, draw_factors, render_masks, render_stimuli

Range = tuple[float, float]

IN_PLANE = ("rotation_z", "position_x", "position_y", "size")
"""What can be done to a flat picture."""

N_REFERENCE = 2048


@dataclass(frozen=True, kw_only=True)
class Scene:
    """How images are drawn; each range is of a uniform draw per image.

    Attributes
    ----------
    solids : str
        "objects" (animals, boats, ...), "compounds" or "superquadrics".
    pictures : path, optional
        A folder with pictures to compose in place of solids: files with transparency, and `labels.csv` with
        the columns `file` and `category`. They are turned and moved in the plane alone.
    photographs : path, optional
        A folder of photographs: random squares of them are behind the objects.
    background : str
        "textured" or "plain", where there are no photographs.
    object_level, object_contrast : (float, float)
        Gray levels of an object are (g - 1/2) * contrast + level.
    background_level, background_contrast : (float, float)
        Mean and standard deviation of what is behind; "plain" has no contrast.

    Raises
    ------
    MigvisError
        For an unknown name, a range that is not one, or a folder without images.
    """

    solids: str = "objects"
    pictures: str | Path | None = None
    photographs: str | Path | None = None
    background: str = "textured"
    object_level: Range = (0.5, 0.5)
    object_contrast: Range = (1.0, 1.0)
    background_level: Range = (0.27, 0.27)
    background_contrast: Range = (0.07, 0.07)
    _pictures: PictureSet | None = field(default=None, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.solids not in SOLIDS:
            raise MigvisError(f"solids {self.solids!r} are unknown; expected one of {', '.join(SOLIDS)}")
        for name in ("object_level", "object_contrast", "background_level", "background_contrast"):
            low, high = _range(name, getattr(self, name))
            object.__setattr__(self, name, (low, high))
        if self.pictures is not None:
            object.__setattr__(self, "_pictures", PictureSet.open(Path(self.pictures)))
        if self.photographs is not None:
            Photographs.open(Path(self.photographs))

    @property
    def is_default(self) -> bool:
        """Whether it is the scene of a session for which none was given."""
        return self.settings() == {}

    def settings(self) -> Json:
        """Return what differs from the defaults as plain values."""
        values = {each.name: getattr(self, each.name) for each in fields(self) if each.init}
        default = {each.name: each.default for each in fields(self)}
        return {name: plain(value) for name, value in values.items() if value != default[name]}

    @property
    def categories(self) -> tuple[str, ...]:
        """Names of the categories."""
        return tuple(SOLIDS[self.solids]) if self._pictures is None else self._pictures.categories

    @property
    def labels(self) -> tuple[str, ...]:
        """Factors that are labels of the images."""
        return (*(POSE if self._pictures is None else IN_PLANE), "category")

    def draw(self, n: int, *, seed: int) -> pd.DataFrame:
        """Draw the factors of n images, as `draw_factors` does; what cannot vary is 0.

        Pictures have the column `picture`, their row in the set; their shape parameters are the picture's.
        """
        factors = draw_factors(n, seed=seed, categories=self.categories)
        if self._pictures is None:
            return factors
        absent = [name for name in POSE if name not in IN_PLANE]
        chosen = self._pictures.draw(factors["category"].to_numpy(), seed=seed)
        shapes = self._pictures.shapes[chosen]
        known = dict.fromkeys(absent, 0.0) | {"shape_1": shapes[:, 0], "shape_2": shapes[:, 1]}
        return factors.assign(**known)[list(FACTORS)].assign(picture=chosen)

    @cached_property
    def reference(self) -> pd.DataFrame:
        """Factors over which a population's tuning is standardised."""
        return self.draw(N_REFERENCE, seed=0)

    def render(self, factors: pd.DataFrame, *, size_px: int, seed: int) -> NDArray[np.uint8]:
        """Render an image per row of factors, uint8 (n, y, x)."""
        light = None if self._has_default_light else self._light(len(factors), seed)
        photographs = None if self.photographs is None else Photographs.open(Path(self.photographs))
        backdrop = Backdrop(self.background, photographs=photographs, light=light)
        if self._pictures is not None:
            return compose(factors, self._pictures, backdrop, size_px=size_px, seed=seed)
        kinds = SOLIDS[self.solids]
        return render_stimuli(factors, size_px=size_px, seed=seed, backdrop=backdrop, kinds=kinds)

    def masks(self, factors: pd.DataFrame, *, size_px: int) -> NDArray[np.bool_]:
        """Say where the objects are that `render` draws, bool (n, y, x): at least half of the pixel."""
        if self._pictures is not None:
            return picture_layers(factors, self._pictures, size_px=size_px)[1] >= 0.5
        return render_masks(factors, size_px=size_px, kinds=SOLIDS[self.solids])

    @property
    def _has_default_light(self) -> bool:
        names = {"object_level", "object_contrast", "background_level", "background_contrast"}
        return self.photographs is None and not names & set(self.settings())

    def _light(self, n: int, seed: int) -> Light:
        """Draw the light of n images; row i of the same seed has the same light."""
        rng = np.random.default_rng([seed, 7])
        unit = rng.random((n, 4))
        names = ("object_level", "object_contrast", "background_level", "background_contrast")
        values = [
            low + unit[:, i] * (high - low) for i, (low, high) in enumerate(getattr(self, x) for x in names)
        ]
        return Light(*(value.astype(np.float32) for value in values))


def _range(name: str, value: object) -> Range:
    try:
        low, high = (float(edge) for edge in value)  # type: ignore[attr-defined]
    except (TypeError, ValueError):
        raise MigvisError(f"{name}: found {value!r}; expected two numbers, from and to") from None
    if not 0 <= low <= high <= 2:
        raise MigvisError(f"{name}: found {low:g} to {high:g}; expected 0 <= from <= to <= 2")
    return low, high

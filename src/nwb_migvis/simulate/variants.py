"""Simulated sessions that differ from the usual ones: some to choose settings by, the others to report.

Settings of a method that are chosen on the one half and reported on the other are not fitted to it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from nwb_migvis.errors import MigvisError
from nwb_migvis.plain import nearest
from nwb_migvis.simulate.scene import Scene
from nwb_migvis.simulate.session import simulate_session

CHOOSE, REPORT = "choose", "report"
"""What a variant is for."""

_MORE_LIGHT = MappingProxyType({"background_level": (0.1, 0.7), "background_contrast": (0.02, 0.15)})
_LOW_CONTRAST = MappingProxyType({"object_contrast": (0.4, 0.7), "object_level": (0.35, 0.6)})
_MIXED = MappingProxyType({"mixed": 160})


@dataclass(frozen=True)
class Variant:
    """A kind of simulated session.

    Attributes
    ----------
    name, use : str
        `use` is "choose" or "report".
    settings : mapping
        Keywords of `simulate_session`.
    scene : mapping
        Keywords of `Scene`.
    needs : tuple of str
        Folders that a user has to give: "photographs", "pictures".
    """

    name: str
    use: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    scene: Mapping[str, Any] = field(default_factory=dict)
    needs: tuple[str, ...] = ()

    def simulate(
        self,
        path: str | Path,
        *,
        seed: int = 0,
        folders: Mapping[str, str | Path] | None = None,
        **changes: Any,
    ) -> Path:
        """Write a session of this kind.

        Parameters
        ----------
        path : path
        seed : int
        folders : mapping of str to path, optional
            Folders by the names in `needs`.
        **changes
            Keywords of `simulate_session` that differ.

        Raises
        ------
        MigvisError
            If a folder is not given, or as `simulate_session`.
        """
        given = dict(folders or {})
        lacking = [name for name in self.needs if name not in given]
        if lacking:
            raise MigvisError(
                f"variant {self.name!r} needs a folder of {', '.join(lacking)}; expected it in folders"
            )
        chosen: dict[str, Any] = {**self.scene, **{name: given[name] for name in self.needs}}
        scene = Scene(**chosen)
        return simulate_session(path, seed=seed, scene=scene, **dict(self.settings) | changes)


def _size(n_stimuli: int, n_repeats: int, n_units: int, **more: Any) -> dict[str, Any]:
    """Return settings of a session, its units dealt to the planted groups as usual."""
    shares = {"pose": 0.28, "category": 0.25, "content": 0.22, "mixed": 0.25}
    units = {group: round(share * n_units) for group, share in shares.items()}
    return {"n_stimuli": n_stimuli, "n_repeats": n_repeats, "units": units, **more}


VARIANTS: dict[str, Variant] = {
    variant.name: variant
    for variant in (
        Variant("compounds", CHOOSE, _size(4000, 8, 160), {"solids": "compounds", **_MORE_LIGHT}),
        Variant(
            "superquadrics-dim", CHOOSE, _size(3000, 10, 120), {"solids": "superquadrics", **_LOW_CONTRAST}
        ),
        Variant("objects-few", CHOOSE, _size(1500, 12, 100), {**_MORE_LIGHT}),
        Variant(
            "compounds-photographs",
            CHOOSE,
            _size(3000, 8, 160),
            {"solids": "compounds", "background_level": (0.2, 0.6), "background_contrast": (0.08, 0.2)},
            ("photographs",),
        ),
        Variant(
            "pictures",
            CHOOSE,
            _size(4000, 8, 160),
            {"background_level": (0.15, 0.7), "background_contrast": (0.03, 0.12)},
            ("pictures",),
        ),
        Variant("objects-sparse", CHOOSE, _size(4000, 10, 200, tuning="sparse")),
        Variant(
            "superquadrics-pixels",
            CHOOSE,
            _size(3000, 10, 160, population="pixels"),
            {"solids": "superquadrics"},
        ),
        Variant("objects-mixed", CHOOSE, _size(4000, 8, 160) | {"units": _MIXED}, {**_LOW_CONTRAST}),
        Variant("superquadrics", REPORT, _size(4000, 8, 160), {"solids": "superquadrics", **_MORE_LIGHT}),
        Variant("compounds-dim", REPORT, _size(3000, 10, 120), {"solids": "compounds", **_LOW_CONTRAST}),
        Variant("compounds-few", REPORT, _size(1500, 20, 60), {"solids": "compounds"}),
        Variant(
            "superquadrics-photographs",
            REPORT,
            _size(3000, 8, 160),
            {"solids": "superquadrics", "background_level": (0.2, 0.6), "background_contrast": (0.08, 0.2)},
            ("photographs",),
        ),
        Variant(
            "pictures-photographs",
            REPORT,
            _size(4000, 8, 200),
            {"background_level": (0.2, 0.6), "background_contrast": (0.05, 0.15)},
            ("pictures", "photographs"),
        ),
        Variant(
            "superquadrics-sparse", REPORT, _size(6000, 4, 300, tuning="sparse"), {"solids": "superquadrics"}
        ),
        Variant(
            "compounds-pixels", REPORT, _size(4000, 10, 160, population="pixels"), {"solids": "compounds"}
        ),
        Variant("objects-monotone", REPORT, _size(3000, 6, 120, tuning="monotone"), {**_MORE_LIGHT}),
    )
}
"""All variants by name: eight to choose by, eight to report."""


def variant(name: str) -> Variant:
    """Return a variant by its name.

    Raises
    ------
    MigvisError
        For an unknown name.
    """
    if name not in VARIANTS:
        raise MigvisError(f"variant {name!r} is unknown; expected one of {nearest(name, VARIANTS, most=16)}")
    return VARIANTS[name]

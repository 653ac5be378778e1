"""Runs with flawless edits: objects drawn anew with what was asked for, so that the answer is known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from nwb_migvis.config import Config, GroupConfig
from nwb_migvis.simulate import Scene, population_of
from nwb_migvis.simulate.backgrounds import Backdrop
from nwb_migvis.simulate.ground_truth import read_settings
from nwb_migvis.simulate.render import POSE, render_stimuli

FLAWLESS_GROUPS = (GroupConfig(name="pose", labels=POSE), GroupConfig(name="category", labels=("category",)))
"""Groups of latents that an edit can be drawn for."""

_METHODS = ("pmi", "none", "shuffled")


@dataclass(frozen=True, eq=False)
class _Behind(Backdrop):
    """The backgrounds of other rows."""

    of: NDArray[np.int64] | None = None

    def behind(self, rows: NDArray[np.int64], size_px: int, *, seed: int) -> NDArray[np.float32]:
        """Return gray levels (row, y, x)."""
        return super().behind(rows if self.of is None else self.of[rows], size_px, seed=seed)


def write_flawless_run(
    session: str | Path,
    out: str | Path,
    *,
    config: Config,
    n_pairs: int = 24,
    share: float = 1.0,
) -> Path:
    """Fit latents to a simulated session, and write a run whose edits are drawn by the simulator.

    An edit of `pose` (or `category`) is the source's object before its own background with the target's pose
    (or category). "none" draws the source again, "shuffled" uses another target. `predicted_rate` is the
    true expected count.

    Parameters
    ----------
    session : path
        A session of `simulate_session` with `population="pixels"`, drawn from solids.
    out : path
        The file to write.
    config : Config
        Its groups are `FLAWLESS_GROUPS` and the free groups that it names. Evidence on the latents is
        measured with few draws, whatever it says.
    n_pairs : int
        Pairs of held-out images per group.
    share : float
        How far edits of the pose go: 1 is all the way.

    Returns
    -------
    Path
        `out`.
    """
    from nwb_migvis.analysis import Study
    from nwb_migvis.read import read_session
    from nwb_migvis.store import write_results

    settings = read_settings(session)
    free = tuple(group for group in config.latents.groups if not group.labels)
    groups = tuple(replace(g, size=4) for g in FLAWLESS_GROUPS) + free
    config = replace(config, latents=replace(config.latents, groups=groups))
    few = replace(config.evidence, n_permutations=9, n_bootstrap=9, stability_seeds=0)
    study = Study(read_session(session), replace(config, evidence=few))
    study.fit_latents()
    study.measure()
    ((results, weights),) = study.assembled()
    evidence = {"config": results.provenance["config"] | {"evidence": config.to_dict()["evidence"]}}
    results = replace(results, provenance=results.provenance | evidence)
    scene = Scene(background=settings["background"], **settings.get("scene", {}))
    drawn = _Drawn(scene, scene.draw(settings["n_stimuli"], seed=settings["seed"]), settings)
    test = np.flatnonzero(results.latents["split"].values == "test")
    edits = drawn.edits(test, n_pairs=n_pairs, share=share)
    window = settings["window_s"][1] - settings["window_s"][0]
    rate = population_of(settings).rate_hz(edits["image"].values) * window
    rows = np.asarray(results.units["unit_row"].values)
    edits = edits.assign(predicted_rate=(("edit", "unit"), rate[:, rows].astype(np.float32)))
    return write_results(replace(results, synthesized=edits), source=session, out=out, weights=weights)


@dataclass(frozen=True, eq=False)
class _Drawn:
    """What a session's images were drawn from."""

    scene: Scene
    factors: pd.DataFrame
    settings: Mapping[str, Any]

    def edits(self, test: NDArray[np.int64], *, n_pairs: int, share: float) -> xr.Dataset:
        """Draw edits of pairs of test stimuli by all methods, as `Results.synthesized`."""
        rng = np.random.default_rng([self.settings["seed"], 11])
        source = rng.choice(test, n_pairs, replace=n_pairs > len(test))
        category = self.factors["category"].to_numpy()
        targets = [rng.permutation(test[category[test] != category[row]])[:2] for row in source]
        images: list[NDArray[np.uint8]] = []
        columns: dict[str, list[Any]] = {name: [] for name in ("group", "method", "source", "target")}
        target = np.array([pair[0] for pair in targets])
        for group in FLAWLESS_GROUPS:
            for method in _METHODS:
                goal = {"pmi": target, "none": source, "shuffled": np.array([t[1] for t in targets])}[method]
                images.append(self._draw(source, goal, group.labels, share=share))
                columns["group"] += [group.name] * n_pairs
                columns["method"] += [method] * n_pairs
                columns["source"] += [f"im{row:04d}.png" for row in source]
                columns["target"] += [f"im{row:04d}.png" for row in target]
        n = len(columns["group"])
        zeros, ones = np.zeros(n), np.ones(n)
        coords: dict[str, Any] = {name: np.array(values, dtype=object) for name, values in columns.items()}
        coords |= {"role": np.full(n, "main", dtype=object), "direction": np.full(n, "", dtype=object)}
        coords |= {"strength": ones, "guidance": ones, "gamma": zeros, "seed": np.zeros(n, np.int64)}
        coords |= {"score_before": zeros, "score_after": zeros, "support": zeros}
        return xr.Dataset(
            {"image": (("edit", "y", "x"), np.concatenate(images))},
            coords={name: ("edit", values) for name, values in coords.items()},
        )

    def _draw(
        self, source: NDArray[np.int64], goal: NDArray[np.int64], names: tuple[str, ...], *, share: float
    ) -> NDArray[np.uint8]:
        from nwb_migvis.simulate.forms import SOLIDS

        changed = self.factors.iloc[source].reset_index(drop=True)
        for name in names:
            asked = self.factors[name].to_numpy()[goal]
            changed[name] = asked if name == "category" else changed[name] + share * (asked - changed[name])
        backdrop = _Behind(self.scene.background, of=source)
        return render_stimuli(
            changed,
            size_px=self.settings["size_px"],
            seed=self.settings["seed"],
            backdrop=backdrop,
            kinds=SOLIDS[self.scene.solids],
        )

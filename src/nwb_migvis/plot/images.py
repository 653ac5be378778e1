"""Pictures: edits beside their sources and targets, and traversals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from nwb_migvis.errors import MigvisError, printable
from nwb_migvis.pixels import resize_images
from nwb_migvis.plot.axes import COLUMN_IN, PAGE_IN, one_of, own_axes, set_title, short_name
from nwb_migvis.results import Results

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    Images = xr.DataArray | Mapping[str, np.ndarray] | None


@dataclass(frozen=True, eq=False)
class Pair:
    """One source and target with the edits between them.

    Attributes
    ----------
    source, target : str
        Stimuli.
    before, after : numpy.ndarray or None
        Their pixels at the size of the edits; where they are unknown, `before` is the source as the prior
        rebuilt it, and `after` is None.
    is_real : bool
        Whether `before` is the stimulus itself.
    steps : tuple of (float, numpy.ndarray)
        Strengths and edits, in rising order.
    """

    source: str
    target: str
    before: np.ndarray | None
    after: np.ndarray | None
    is_real: bool
    steps: tuple[tuple[float, np.ndarray], ...]


def pairs(
    results: Results, group: str, *, images: Images = None, role: str = "dose", method: str = "pmi"
) -> list[Pair]:
    """Return the pairs of a group in the order in which the seed drew them, none left out.

    Parameters
    ----------
    results : Results
    group : str
    images : xarray.DataArray (stimulus, y, x (, channel)) or mapping of str to array, optional
        The shown images, such as `read_session(path)["image"]`; resized to the edits' size.
    role : {"dose", "main", "further"}
    method : str
    """
    chosen = results.edits(group=group, role=role)
    chosen = chosen.isel(edit=np.flatnonzero(chosen["method"].values == method))
    rows: dict[tuple[str, str], list[int]] = {}
    for i, key in enumerate(zip(chosen["source"].values, chosen["target"].values, strict=True)):
        rows.setdefault((str(key[0]), str(key[1])), []).append(i)
    shown = stimuli(results, {name for key in rows for name in key}, images)
    rebuilt = _rebuilt(results)
    strength, image = chosen["strength"].values, chosen["image"].values
    return [
        Pair(
            source,
            target,
            shown.get(source, rebuilt.get(source)),
            shown.get(target),
            source in shown,
            tuple((float(strength[i]), image[i]) for i in sorted(own, key=lambda i: strength[i])),
        )
        for (source, target), own in rows.items()
    ]


def stimuli(results: Results, names: set[str], images: Images) -> dict[str, np.ndarray]:
    """Return the pixels of some stimuli at the size and with the channels of the edits."""
    if images is None:
        return {}
    like = results.synthesized["image"].shape[1:]
    found: dict[str, np.ndarray]
    if isinstance(images, xr.DataArray):
        place = {str(name): i for i, name in enumerate(images["stimulus"].values)}
        known = sorted(names & set(place))
        stack: Any = images.isel(stimulus=[place[name] for name in known]).values if known else []
        found = dict(zip(known, stack, strict=True))
    else:
        found = {name: np.asarray(images[name]) for name in sorted(names) if name in images}
    resized = {name: resize_images(image[None], (like[0], like[1]))[0] for name, image in found.items()}
    for name, image in resized.items():
        if image.shape != like:
            raise MigvisError(
                f"images: found {name!r} of shape {found[name].shape}; expected "
                f"{'colour' if len(like) == 3 else 'gray values'}, as the edits have"
            )
    return resized


def _rebuilt(results: Results) -> dict[str, np.ndarray]:
    """Return the unguided reconstructions by their source."""
    edits = results.synthesized
    rows = np.flatnonzero(edits["method"].values == "none")
    images = edits["image"].values
    return {str(edits["source"].values[i]): images[i] for i in rows[::-1]}


def edits(
    results: Results,
    *,
    group: str | None = None,
    images: Images = None,
    n_pairs: int = 4,
    ax: Axes | None = None,
) -> Axes:
    """Draw the first pairs of a group: source, edits at rising strength, target.

    Parameters
    ----------
    results : Results
    group : str, optional
        The first one where it is None.
    images : xarray.DataArray (stimulus, y, x (, channel)) or mapping of str to array, optional
        The shown images; without them sources are reconstructions and targets are blank.
    n_pairs : int
        Most pairs. The seed drew their order; successes and failures alike.
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    MigvisError
        If the run has no such group, or the group no edits.
    """
    group = _group(results, group)
    role = "dose" if "dose" in results.edits(group=group)["role"].values else "main"
    drawn = pairs(results, group, images=images, role=role)[:n_pairs]
    if not drawn:
        raise MigvisError(f"group {group!r} has no edits between stimuli; expected some; see Results.edits")
    strengths = sorted({strength for pair in drawn for strength, _ in pair.steps})
    rows = [[p.before, *(dict(p.steps).get(s) for s in strengths), p.after] for p in drawn]
    titles = ["source" if drawn[0].is_real else "rebuilt", *(f"{s:g} T" for s in strengths), "target"]
    ax = own_axes(ax, width_in=min(PAGE_IN, 0.8 * len(titles)), height_in=0.8 * len(rows) + 0.4)
    tile(ax, rows, titles=titles)
    set_title(ax, f"{short_name(group)}: {_labels(results, group)}")
    return ax


def edit(results: Results, index: int = 0, *, images: Images = None, ax: Axes | None = None) -> Axes:
    """Draw one edit: source, edit, target, and what changed from source to edit.

    Parameters
    ----------
    results : Results
    index : int
        Row of `results.synthesized`.
    images : xarray.DataArray or mapping of str to array, optional
        As for `edits`.
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes
        The difference is drawn around middle gray: brighter pixels became brighter.
    """
    n = results.synthesized.sizes["edit"]
    if not -n <= index < n:
        raise MigvisError(f"found edit {index}; expected a row of the run's {n} edits")
    one = results.synthesized.isel(edit=index)
    source, target, image = str(one["source"].item()), str(one["target"].item()), one["image"].values
    shown = stimuli(results, {source, target}, images)
    before = shown.get(source, _rebuilt(results).get(source))
    changed = None if before is None else difference(before, image)
    first = "source" if source in shown else "rebuilt"
    ax = own_axes(ax, width_in=COLUMN_IN, height_in=1.2)
    tile(ax, [[before, image, shown.get(target), changed]], titles=[first, "edit", "target", "change"])
    what = str(one["direction"].item()) or "target"
    set_title(ax, f"{short_name(one['group'].item())} ({short_name(what)}), {float(one['strength']):g} T")
    return ax


def traversal(
    results: Results,
    *,
    group: str | None = None,
    direction: str | None = None,
    n_sources: int = 4,
    images: Images = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw traversals of a group: one row per source, one column per length.

    Parameters
    ----------
    results : Results
    group, direction : str, optional
        The first ones where they are None.
    n_sources : int
        Most sources, in the order in which the seed drew them.
    images : xarray.DataArray or mapping of str to array, optional
        As for `edits`.
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes
    """
    group = _group(results, group)
    steps = traversals(results, group)
    direction = one_of(direction, list(steps), "direction", hint=f"group {group!r} has no traversals")
    chosen = list(steps[direction].items())[:n_sources]
    shown = stimuli(results, {source for source, _ in chosen}, images)
    rebuilt = _rebuilt(results)
    places = max(len(own) for _, own in chosen)
    rows, half = [], places // 2
    for source, own in chosen:
        pictures: list[Any] = [image for _, image in own]
        n_below = sum(gamma < 0 for gamma, _ in own)
        rows.append([*pictures[:n_below], shown.get(source, rebuilt.get(source)), *pictures[n_below:]])
    titles = ["", *[""] * places]
    if len(titles) > half:
        titles[sum(gamma < 0 for gamma, _ in chosen[0][1])] = "source"
    ax = own_axes(ax, width_in=min(PAGE_IN, 0.8 * len(titles)), height_in=0.8 * len(rows) + 0.4)
    tile(ax, rows, titles=titles)
    set_title(ax, f"{short_name(group)}, along {short_name(direction)}")
    return ax


def traversals(results: Results, group: str) -> dict[str, dict[str, list[tuple[float, np.ndarray]]]]:
    """Return the traversals of a group by direction and source: lengths (rising) and images."""
    chosen = results.edits(group=group, role="traversal")
    image, gamma = chosen["image"].values, chosen["gamma"].values
    steps: dict[str, dict[str, list[tuple[float, np.ndarray]]]] = {}
    for i in np.argsort(gamma, kind="stable"):
        direction, source = (str(chosen[name].values[i]) for name in ("direction", "source"))
        steps.setdefault(direction, {}).setdefault(source, []).append((float(gamma[i]), image[i]))
    order = list(dict.fromkeys(map(str, chosen["source"].values)))
    return {
        direction: {source: own[source] for source in order if source in own}
        for direction, own in steps.items()
    }


def tile(ax: Any, rows: Sequence[Sequence[np.ndarray | None]], *, titles: Sequence[str]) -> None:
    """Draw rows of images of one size in one Axes, a title above each column."""
    shape = next((image.shape for row in rows for image in row if image is not None), (1, 1))
    aspect, gap = shape[0] / shape[1], 0.06
    for i, row in enumerate(rows):
        top = i * (aspect + gap)
        for j, image in enumerate(row):
            if image is None:
                continue
            left = j * (1 + gap)
            place = (left, left + 1, top + aspect, top)
            ax.imshow(image, cmap="gray", vmin=0, vmax=255, extent=place, interpolation="nearest")
    ax.set_xlim(0, len(titles) * (1 + gap))
    ax.set_ylim(len(rows) * (aspect + gap), -0.35)
    ax.set_aspect("equal")
    ax.set_axis_off()
    for j, title in enumerate(titles):
        ax.text(
            j * (1 + gap) + 0.5,
            -0.06,
            printable(title),
            ha="center",
            va="bottom",
            fontsize="small",
            parse_math=False,
        )


def difference(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Return what changed around middle gray, uint8 (y, x): 128 + half of the change of the gray value."""
    one, two = (
        np.asarray(image, np.float64).mean(axis=2) if image.ndim == 3 else np.asarray(image, np.float64)
        for image in (before, after)
    )
    return np.clip(np.rint(128 + (two - one) / 2), 0, 255).astype(np.uint8)


def _group(results: Results, group: str | None) -> str:
    return one_of(group, [str(name) for name in results.groups.index], "group")


def _labels(results: Results, group: str) -> str:
    return short_name(results.groups["supervised_by"][group] or "free", 40)

"""What the design of a session keeps from being told, said before hours are spent on it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import xarray as xr

from nwb_migvis.config import SplitConfig
from nwb_migvis.evidence.order import MIN_READ, Order, image_from_time, label_from_time
from nwb_migvis.labels import Label, as_labels
from nwb_migvis.levels import Design, choose_design

SIZE = 0.05
"""Of the test whether a label is read from time."""

FEW_TESTED = 20
"""Test images (or levels) below which one split measures variance explained too roughly to call a group."""

FOLDS = 4
"""Fits that are advised then: of 80 images with 20 repeats, planted groups were called in 39 of 40 fits."""


def order_of(session: xr.Dataset) -> Order | None:
    """Return when a session's images were shown, None where it does not say."""
    if "start_time" not in session:
        return None
    return Order(session["stimulus_index"].values, session["start_time"].values, session.sizes["stimulus"])


def labels_from_time(
    labels: Mapping[str, Label], order: Order, design: Design, *, seed: int
) -> dict[str, str]:
    """Return the labels that cannot be told from time, with how."""
    why = {}
    for name, label in labels.items():
        score, p_value = label_from_time(label, order, exchange=design.by_label[name], seed=seed)
        if score > MIN_READ and p_value < SIZE:
            why[name] = f"time: {name} is read from the time of presentation alone (R2 {score:.2f})"
    return why


def design_notes(session: xr.Dataset) -> list[str]:
    """Say what of a session's labels or images cannot be tested, or only if its settings say more.

    Parameters
    ----------
    session : xarray.Dataset
        As `read_session` returns it.
    """
    arrays = {
        str(name): coord.values.astype(np.float64) if coord.dtype == bool else coord.values
        for name, coord in session.coords.items()
        if coord.dims == ("stimulus",) and name != "stimulus"
    }
    labels = as_labels(arrays)
    design = choose_design(labels, n=session.sizes["stimulus"], supervising=list(labels))
    notes = [*design.notes, *(f"{name} is not tested: {why}" for name, why in design.unmeasured.items())]
    order = order_of(session)
    if order is not None:
        if from_time := image_from_time(order):
            notes.append(f"responses to images are confounded with {from_time}")
        confounded = labels_from_time(labels, order, design, seed=0)
        notes += [f"{name} is confounded with {why}" for name, why in confounded.items()]
    return list(dict.fromkeys([*notes, *_few_tested(design)]))


def _few_tested(design: Design) -> list[str]:
    """Say so where one split of the settings' defaults tests on too few images."""
    n, share = design.split.n_levels, SplitConfig().test
    n_tested = round(share * n)
    if n_tested >= FEW_TESTED:
        return []
    what = "images" if n == design.split.level.size else "levels"
    return [
        f"one split tests on {n_tested} of {n} {what}, too few to measure variance explained well; "
        f"split.folds = {FOLDS} makes {FOLDS} fits that test on {FOLDS * n_tested} of them"
    ]

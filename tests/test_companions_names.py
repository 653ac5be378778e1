"""Names of groups and of their ends, on planted truth."""

import numpy as np
import pytest

pytest.importorskip("sklearn")
from nwb_migvis import Study
from nwb_migvis.companions.names import lean
from nwb_migvis.config import GroupConfig
from nwb_migvis.labels import Label
from nwb_migvis.testing import mock_session, tiny_config

GROUPS = tuple(GroupConfig(name=name, size=2) for name in ("a", "b", "c", "blind"))


def _study(by="stimulus", **levels):
    """Groups that tell size (with which position_x goes), hue, which wraps, category, and nothing."""
    n, rng = 400, np.random.default_rng(3)
    session = mock_session(n_stimuli=n, n_repeats=1, size_px=None)
    size = (session["size"].values - 0.7) / 0.115
    hue = rng.uniform(0, 360, n)
    position = 0.6 * size + 0.8 * rng.normal(size=n)
    session = session.assign_coords(
        {"hue": ("stimulus", hue), "position_x": ("stimulus", position), **levels}
    ).drop_vars(["rotation_x", "rotation_y", "rotation_z"])
    is_face = session["category"].values == "face"
    angle = np.deg2rad(hue)
    z = np.stack([2 * size, 0 * size, np.cos(angle), 0.5 * np.sin(angle), 2 * is_face, 0 * size], 1)
    z = np.concatenate([z, rng.normal(size=(n, 2))], 1) + 0.3 * rng.normal(size=(n, 8))
    options = {"evidence": {"n_permutations": 499, "n_bootstrap": 99}, "latents": {"circular": {"hue": 360}}}
    study = Study(session, tiny_config(**options, split={"by": by, "test": 0.4}))
    study.use_latents(z, groups=GROUPS)
    return study


def test_planted_groups_and_ends_are_named_and_a_blind_one_is_not():
    found = _study().compute("names")
    assert found["name"].values.tolist() == ["size", "hue", "category", ""]
    ends = found["end_name"].sel(axis=1)
    low, high = (ends.sel(group="a", end=end).item() for end in ("low", "high"))
    assert {low, high} == {"size low", "size high"}
    assert (
        "category face" in ends.sel(group="c").values and (found["end_name"].sel(group="blind") == "").all()
    )
    angle = [float(text.split()[-1]) for text in ends.sel(group="b").values.tolist()]
    assert abs(np.cos(np.deg2rad(angle))).min() > 0.9 and abs(abs(angle[0] - angle[1]) - 180) < 30
    assert found["image"].shape == (4, 2, 2, 8)


def test_an_order_of_time_is_not_a_name():
    study = _study()
    session = study.sessions[0]
    start = session["size"].values[session["stimulus_index"].values].argsort().argsort() * 0.2
    again = Study(session.assign(start_time=("presentation", start)), study.config)
    again.use_latents(study.latents.mean, groups=GROUPS)
    found = again.compute("names")
    assert "size is not tested: time" in found.attrs["note"]
    assert np.isnan(found["told"].sel(label="size")).all() and "size" not in found["name"].values[0]


def test_the_lean_of_an_end_is_a_difference_of_means():
    rng = np.random.default_rng(0)
    x, rows = rng.normal(size=(60, 1)), np.arange(12)
    order = np.stack([rng.permutation(60) for _ in range(19)])
    code = Label.of("x", x[:, 0]).code()
    expected = (x[:12].mean() - x[12:].mean()) / x.std()
    cell = lean(x, rows, order, code=code)
    assert cell.size == pytest.approx(abs(expected)) and cell.value == ("high" if expected > 0 else "low")
    assert lean(x, x[:, 0].argsort()[-12:], order, code=code).p == 0.05


@pytest.mark.parametrize("kind", ["number", "class", "angle"])
def test_the_lean_of_blind_ends_is_beyond_chance_as_often_as_it_should_be(kind):
    rng, p = np.random.default_rng(1), []
    values = {"number": rng.normal(size=80), "class": rng.choice(list("abcd"), 80), "angle": rng.random(80)}
    label = Label.of("x", values[kind], period=1.0 if kind == "angle" else 0.0)
    code = label.code()
    x = code.encode(label.values).astype(float)
    for _ in range(300):
        order = np.stack([rng.permutation(80) for _ in range(39)])
        p.append(lean(x, rng.permutation(80)[:16], order, code=code).p)
    assert 0.02 < np.mean(np.array(p) <= 0.05) < 0.09
    assert np.mean(p) == pytest.approx(0.5, abs=0.06)

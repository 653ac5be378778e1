"""What edits look like: planted copies, planted change, planted variance."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import xarray as xr

from nwb_migvis import Config
from nwb_migvis.analysis.appearance import describe_edits
from nwb_migvis.analysis.context import Context
from nwb_migvis.analysis.edits import SessionEdits
from nwb_migvis.analysis.scoring import edit_scoring
from nwb_migvis.evidence.appearance import (
    extreme_stimuli,
    feature_components,
    feature_transfer,
    memorisation,
    nearest_distance,
    realism,
    start_dependence,
)
from nwb_migvis.evidence.transfer import Draws
from nwb_migvis.groups import LatentGroups


def pictures(n, *, seed, shape=(8, 8)):
    return np.random.default_rng(seed).integers(0, 256, (n, *shape), dtype=np.uint8)


def pixels(images):
    return images.reshape(len(images), -1).astype(float)


def test_a_copy_is_found_however_pale_and_a_negative_is_farthest():
    train = pictures(30, seed=0)
    pale = (train[:5] * 0.5 + 60).astype(np.uint8)
    assert (nearest_distance(train[:5], train) < 1e-3).all()
    assert (nearest_distance(pale, train) < 0.05).all()
    assert nearest_distance(255 - train[:1], train[:1]) == pytest.approx(2.0)
    assert nearest_distance(pictures(50, seed=1), train[:1]).mean() == pytest.approx(np.sqrt(2), abs=0.05)


def test_memorised_images_are_told_from_new_ones():
    train, held_out = pictures(100, seed=0), pictures(200, seed=1)
    noise = np.random.default_rng(2).integers(-9, 10, (40, 8, 8))
    copies = (train[:40].astype(int) + noise).clip(0, 255).astype(np.uint8)
    found = memorisation({"copies": copies, "new": pictures(300, seed=3)}, train=train, held_out=held_out)
    assert found["held_out"]["close"] == pytest.approx(0.01)
    assert found["copies"]["close"] == 1.0
    assert found["new"]["close"] < 0.05
    assert found["copies"]["median"] < 0.3 * found["new"]["median"]
    assert found["new"]["n"] == 300


def test_realism_stands_beside_two_real_sets_of_the_same_size():
    held_out = pictures(80, seed=0, shape=(2, 2))
    sets = {"real": pictures(60, seed=1, shape=(2, 2)), "flat": np.full((60, 2, 2), 9, np.uint8)}
    sets["few"] = sets["flat"][:3]
    found = realism(sets, held_out=held_out, features={"pixels": pixels}, seed=0)["pixels"]
    assert set(found) == {"real", "flat"}
    assert found["real"]["n"] == 40
    assert found["real"]["distance"] < 3 * found["real"]["real"]
    assert found["flat"]["distance"] > 10 * found["flat"]["real"]
    again = realism(sets, held_out=held_out, features={"pixels": pixels}, seed=0)["pixels"]
    assert again == found


def test_several_images_of_one_source_are_no_further_from_real_ones():
    held_out = pictures(120, seed=0, shape=(3, 3))
    once = pictures(30, seed=1, shape=(3, 3))
    four = np.concatenate([once] * 4)
    found = realism(
        {"once": once, "four": four, "taken as apart": four},
        held_out=held_out,
        features={"pixels": pixels},
        seed=0,
        sources={"once": np.arange(30), "four": np.tile(np.arange(30), 4)},
    )["pixels"]
    assert (found["once"]["n"], found["four"]["n"], found["taken as apart"]["n"]) == (30, 30, 60)
    ratio = {name: cell["distance"] / cell["real"] for name, cell in found.items()}
    assert ratio["four"] == pytest.approx(ratio["once"], rel=0.1)
    assert ratio["taken as apart"] > 1.2 * ratio["four"]


def _edits(images, **coords):
    return xr.Dataset(
        {"image": (("edit", "y", "x"), images)}, coords={k: ("edit", v) for k, v in coords.items()}
    )


def test_feature_transfer_finds_a_planted_mixture():
    images = pictures(60, seed=0)
    stimulus = [f"im{i}" for i in range(60)]
    rng = np.random.default_rng(1)
    source, target = rng.integers(0, 60, (2, 40))
    mixed = (0.25 * images[source] + 0.7 * images[target]).astype(np.uint8)
    both = np.concatenate([mixed, images[source]])
    names = np.array(stimulus)
    found = feature_transfer(
        _edits(
            both,
            group=["a"] * 80,
            method=["pmi"] * 40 + ["none"] * 40,
            source=np.tile(names[source], 2),
            target=np.tile(names[target], 2),
        ),
        images=images,
        stimulus=stimulus,
        components=feature_components(pixels, images),
        draws=Draws(0, 20, 19),
    )["a"]
    assert found["pmi"].transfer == pytest.approx(0.7, abs=0.02)
    assert found["pmi"].retention == pytest.approx(0.25, abs=0.02)
    assert found["none"].transfer == pytest.approx(0, abs=0.02)
    assert found["none"].retention == pytest.approx(1, abs=0.02)
    assert found["pmi"].p_value == 0.05


def test_components_keep_the_variance_that_there_is():
    images = pictures(40, seed=0, shape=(3, 3))
    found = feature_components(pixels, images)(images)
    assert found.shape == (40, 9)
    np.testing.assert_allclose((found**2).sum(), ((pixels(images) - pixels(images).mean(0)) ** 2).sum())


def test_start_dependence_splits_planted_variance():
    rng = np.random.default_rng(0)
    by_source, by_step = rng.integers(0, 100, (6, 4, 4)), rng.integers(0, 100, (5, 4, 4))
    source, step = (index.ravel() for index in np.meshgrid(np.arange(6), np.arange(5), indexing="ij"))
    coords = {"source": source.astype(str), "gamma": step.astype(float), "direction": ["ones"] * 30}
    images = {
        "start": by_source[source],
        "moved": by_step[step],
        "both": by_source[source] + by_step[step],
    }
    for name, shown in images.items():
        edits = _edits(shown.astype(np.uint8), group=[name] * 30, **coords)
        found = start_dependence(edits, components=pixels)[name]
        assert sum(found.values()) == pytest.approx(1)
        assert found["within"] == pytest.approx(0, abs=1e-9)
        expected = {"start": 1.0, "moved": 0.0}.get(name)
        if expected is None:
            assert 0.2 < found["between_sources"] < 0.8
        else:
            assert found["between_sources"] == pytest.approx(expected, abs=1e-9)


def test_extremes_are_the_ends_of_the_projection():
    latents = np.column_stack([np.arange(20.0), np.zeros(20), -np.arange(20.0)])
    found = extreme_stimuli(
        latents,
        [f"im{i:02d}" for i in range(20)],
        directions={("a", "ones"): np.ones(2), ("b", "pc1"): np.array([2.0])},
        groups=LatentGroups(("a", "b"), (2, 1), ((), ())),
        k=2,
    )
    assert found["a"]["ones"] == {"bottom": ["im00", "im01"], "top": ["im19", "im18"]}
    assert found["b"]["pc1"] == {"bottom": ["im19", "im18"], "top": ["im00", "im01"]}


def test_a_session_without_labels_is_described_by_edges():
    images, rng = pictures(40, seed=0, shape=(16, 16)), np.random.default_rng(1)
    n, stimulus = 24, np.array([f"im{i}" for i in range(40)])
    rows = rng.integers(20, 40, (2, n))
    role = np.repeat(["main", "traversal"], [16, 8])
    edits = _edits(
        images[rows[0]],
        group=["a"] * n,
        method=["pmi"] * n,
        role=role,
        source=stimulus[rows[0]],
        target=np.where(role == "main", stimulus[rows[1]], ""),
        gamma=np.where(role == "main", 0.0, np.tile([1.0, 2.0], 12)),
        direction=np.where(role == "main", "", "ones"),
    )
    edits["source"] = ("edit", np.where(role == "main", edits["source"], np.repeat(stimulus[:12], 2)))
    made = SessionEdits(
        images,
        edits,
        z=rng.normal(size=(40, 2)),
        directions={("a", "ones"): np.ones(2)},
        trained_on=images[:20],
    )
    split = np.repeat(["train", "test"], 20)
    fitted = SimpleNamespace(split=split, labels={}, groups=LatentGroups(("a",), (2,), ((),)))
    scoring = edit_scoring(stimulus, fitted, made, [], context=Context(Config()))
    found = describe_edits(fitted, made, scoring, seed=0)
    names = {"memorisation", "frechet", "feature_transfer", "side_effects", "start", "extremes"}
    assert set(found) == names
    assert set(found["frechet"]) == {"edges"}
    assert set(found["memorisation"]) == {"held_out", "pmi"}
    assert found["feature_transfer"]["a"]["pmi"]["retention"] == pytest.approx(1)
    assert json.loads(json.dumps(found)) == found

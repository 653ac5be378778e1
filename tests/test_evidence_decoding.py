import numpy as np
import pytest
import xarray as xr
from scipy import stats

from nwb_migvis.evidence.appearance import frechet_distance
from nwb_migvis.evidence.decoding import decode_labels, own_group_gap
from nwb_migvis.groups import LatentGroups
from nwb_migvis.labels import as_labels

GROUPS = LatentGroups(("a", "b"), (2, 2), ((), ()))
ALONE = LatentGroups(("a",), (2,), ((),))


def test_labels_are_decoded_from_the_group_that_holds_them():
    rng = np.random.default_rng(0)
    z = rng.normal(size=(400, 4))
    noise = rng.normal(size=400)
    labels = {
        "curved": z[:, 0] ** 2 + 0.5 * noise,
        "angle": np.rad2deg(np.arctan2(z[:, 3], z[:, 2])),
        "kind": np.where(z[:, 2] > 0, "left", "right").astype(object),
        "flat": np.zeros(400),
    }
    labels["kind"][:50] = ""
    found = decode_labels(
        z, as_labels(labels, circular={"angle": 360.0}), groups=GROUPS, n_permutations=99, seed=0
    )
    score = found["score"]
    # Variance of z^2 is 2, of the noise 0.25: no more than 8 / 9 can be decoded.
    assert 0.8 < score.sel(group="a", label="curved") < 8 / 9 + 0.04
    assert abs(score.sel(group="b", label="curved")) < 0.05
    assert score.sel(group="b", label="angle") > 0.6 and abs(score.sel(group="a", label="angle")) < 0.05
    assert score.sel(group="b", label="kind") > 0.93
    assert score.sel(group="a", label="kind") == pytest.approx(0.5, abs=0.1)
    assert found["score_all"].sel(label="angle") > 0.45
    assert np.isnan(score.sel(label="flat")).all() and np.isnan(found["p_value"].sel(label="flat")).all()
    assert found["p_value"].sel(group="a", label="curved") == 0.01
    assert found["p_value"].sel(group="b", label="kind") == 0.01
    assert found["p_value"].sel(group="b", label="curved") > 0.02


def test_decoding_p_values_are_uniform_without_information():
    p = []
    for seed in range(60):
        rng = np.random.default_rng([1, seed])
        z, labels = rng.normal(size=(40, 2)), as_labels({"x": rng.normal(size=40)})
        found = decode_labels(z, labels, groups=ALONE, n_permutations=49, seed=seed)
        p.append(found["p_value"].item())
    assert stats.kstest(p, "uniform").pvalue > 0.01


def test_too_few_labelled_stimuli_are_not_decoded():
    x = np.where(np.arange(60) < 19, np.arange(60), np.nan)
    found = decode_labels(
        np.random.default_rng(2).normal(size=(60, 2)), as_labels({"x": x}), groups=ALONE, seed=0
    )
    assert np.isnan(found["score"].item())


def test_own_group_gap_by_hand():
    score = xr.DataArray(
        [[0.8, 0.6, 0.2, np.nan], [0.1, 0.3, 0.9, np.nan], [0.4, 0.2, 0.5, np.nan]],
        dims=("group", "label"),
        coords={"group": ["pose", "kind", "free"], "label": ["x", "y", "k", "flat"]},
    )
    gaps = own_group_gap(score, supervised_by={"pose": ("x", "y"), "kind": ("k",), "free": ()})
    assert gaps == pytest.approx({"pose": 0.7 - 0.3, "kind": 0.9 - 0.5})
    assert np.isnan(own_group_gap(score, supervised_by={"pose": ("flat",)})["pose"])


def test_frechet_distance_of_diagonal_gaussians():
    rng = np.random.default_rng(3)
    sd_a, sd_b, shift = np.array([1.0, 2.0, 3.0]), np.array([2.0, 2.0, 1.0]), np.array([1.0, 0.0, -2.0])
    a, b = sd_a * rng.normal(size=(20000, 3)), sd_b * rng.normal(size=(20000, 3)) + shift
    expected = (shift**2).sum() + ((sd_a - sd_b) ** 2).sum()
    assert frechet_distance(a[:4000], b[:4000]) == pytest.approx(expected, rel=0.05)
    assert frechet_distance(a[:300], a[:300]) == pytest.approx(0, abs=1e-9)
    assert np.isnan(frechet_distance(a[:1], b))


def test_frechet_distance_with_more_features_than_images():
    rng = np.random.default_rng(4)
    a, b = rng.normal(size=(2, 20, 50))
    turned = np.linalg.qr(rng.normal(size=(50, 50)))[0]
    assert frechet_distance(a @ turned, b @ turned) == pytest.approx(frechet_distance(a, b))
    assert frechet_distance(a, b) > 0

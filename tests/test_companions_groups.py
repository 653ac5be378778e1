"""Concepts, windows and areas of groups, on planted truth."""

import numpy as np
import pytest

pytest.importorskip("sklearn")
from nwb_migvis import MigvisError, Study, read_session
from nwb_migvis.companions.concepts import N_ENDS, coherence, unbiased_cka
from nwb_migvis.companions.ends import axis_scores
from nwb_migvis.companions.held import held_sessions
from nwb_migvis.companions.where_and_when import counts_in
from nwb_migvis.config import GroupConfig
from nwb_migvis.evidence.stability import linear_cka
from nwb_migvis.testing import mock_session, tiny_config, write_tiny_session

OPTIONS = {
    "evidence": {"n_permutations": 199, "n_bootstrap": 99, "min_reliability": 0.0},
    "companions": {"network": "edges"},
    "split": {"by": "stimulus"},
}
GROUPS = (GroupConfig(name="a", size=2), GroupConfig(name="b", size=3), GroupConfig(name="blind", size=2))


def _planted(session, seed=0, noise=0.2):
    """Latents of three groups: size, category, and neither."""
    rng = np.random.default_rng(seed)
    n = session.sizes["stimulus"]
    size = session["size"].values
    place = np.unique(session["category"].values, return_inverse=True)[1]
    a = np.stack([3 * (size - size.mean()) / size.std(), rng.normal(size=n)], 1)
    b = rng.normal(size=(8, 3))[place] * 2
    z = np.concatenate([a, b, rng.normal(size=(n, 2))], 1)
    return z + noise * rng.normal(size=z.shape)


def test_axes_are_those_of_the_training_rows():
    rng = np.random.default_rng(0)
    z = rng.normal(size=(200, 3)) * [1, 5, 1]
    z[100:, 0] *= 100
    score = axis_scores(z, train=np.arange(100))[0]
    assert abs(np.corrcoef(score[:100], z[:100, 1])[0, 1]) > 0.99
    assert score[:100].std() == pytest.approx(1)


def test_coherent_ends_are_told_from_others():
    rng = np.random.default_rng(0)
    score = rng.normal(size=100)
    features = rng.normal(size=(100, 5))
    features[np.argsort(score)[-N_ENDS:]] += 5
    order = np.stack([rng.permutation(100) for _ in range(199)])
    value, null = coherence(features, [score], order)
    assert value[0, 1] > 0.8 and (null[:, 0, 1] < value[0, 1]).all()
    assert null.mean() == pytest.approx(0, abs=0.05) and null.shape == (199, 1, 2)


def test_cka_is_unbiased_and_invariant_to_rotation():
    rng = np.random.default_rng(0)
    a = rng.normal(size=(50, 4))
    turn = np.linalg.qr(rng.normal(size=(4, 4)))[0]
    order = np.stack([rng.permutation(50) for _ in range(200)])
    value, null = unbiased_cka(a, a @ turn, order)
    assert value == pytest.approx(1) and abs(null.mean()) < 0.02
    assert np.mean([linear_cka(a, a[own]) for own in order]) > 0.05
    assert np.isnan(unbiased_cka(a, np.ones((50, 2)), order)[0])


@pytest.mark.parametrize("same", [True, False])
def test_animals_share_the_concepts_that_were_planted_in_both(same):
    first = mock_session(n_stimuli=400, n_repeats=2, size_px=None, seed=1)
    sessions = [first.assign_attrs(source=f"{name}.nwb") for name in "ab"]
    study = Study(sessions, tiny_config(**OPTIONS))
    rng, one = np.random.default_rng(5), _planted(first, seed=0)
    other = one + 0.3 * rng.normal(size=one.shape) if same else rng.normal(size=one.shape)
    study.use_latents([one, other], groups=GROUPS)
    found = study.compute("concepts")
    matched = found["concept"].values
    if same:
        assert (matched[:3] == matched[3:]).all() and len(set(matched.tolist())) == 3
        assert found["n_sessions"].values.tolist() == [2] * 6
    else:
        assert (matched == -1).all() and found["n_sessions"].values.tolist() == [1] * 6
    assert found["image"].dims == ("group", "end", "rank") and "coherence" not in found


def test_windows_and_areas_are_measured_with_the_model_of_the_run(tmp_path):
    path = write_tiny_session(tmp_path / "session.nwb", n_stimuli=120, n_repeats=4)
    session = read_session(path).assign_coords(area=("unit", np.array(["V4"] * 16 + ["IT"] * 8)))
    few = {"n_permutations": 19, "n_bootstrap": 19, "min_reliability": 0.0}
    options = OPTIONS | {
        "evidence": few,
        "companions": {"windows_s": [[0.07, 0.17], [0.12, 0.17]], "areas": "area"},
    }
    study = Study(session, tiny_config(**options, latents={"n_steps": 20}))
    study.fit_latents()
    found = study.compute("windows")
    assert found["window"].values.tolist() == ["0.07 to 0.17 s", "0.12 to 0.17 s"]
    assert np.isfinite(found["variance"]).all() and found["told"].dims == ("window", "group", "label")
    (held,) = held_sessions(study)
    np.testing.assert_array_equal(counts_in(held, (0.07, 0.17)), session["spike_count"].values)
    assert (counts_in(held, (0.12, 0.17)) <= session["spike_count"].values).all()
    areas = study.compute("areas")
    assert areas["area"].values.tolist() == ["IT", "V4"] and areas["n_units"].values.tolist() == [8, 16]
    loading = study.latents.model.loading()[16:, :6]
    assert float(areas["loading"][0, 0]) == pytest.approx(np.sqrt((loading**2).mean()), rel=1e-5)
    study.use_latents(np.zeros((120, 2)))
    with pytest.raises(MigvisError, match="the latents were given as an array"):
        study.compute("areas")

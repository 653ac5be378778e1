"""Concepts, windows and areas of groups, on planted truth."""

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("sklearn")
from nwb_migvis import MigvisError, Study, read_session
from nwb_migvis.companions.concepts import N_ENDS, coherence
from nwb_migvis.companions.ends import axis_scores
from nwb_migvis.companions.held import held_sessions
from nwb_migvis.companions.kernels import unbiased_cka
from nwb_migvis.companions.refitting import fit_again, matched_order
from nwb_migvis.companions.seeds import SeedGroups
from nwb_migvis.companions.where_and_when import by_window, counts_in
from nwb_migvis.config import GroupConfig
from nwb_migvis.evidence.stability import linear_cka
from nwb_migvis.groups import LatentGroups
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


def test_cka_without_kernels_is_that_of_kernels():
    rng = np.random.default_rng(3)
    n, order = 30, np.stack([rng.permutation(30) for _ in range(5)])
    a, b = rng.normal(size=(n, 4)) * [3, 1, 1, 0.1], rng.normal(size=(n, 2))

    def centred(x):
        k = x @ x.T
        np.fill_diagonal(k, 0)
        rows = k.sum(axis=0)
        k = k - (rows[:, None] + rows[None]) / (n - 2) + rows.sum() / ((n - 1) * (n - 2))
        np.fill_diagonal(k, 0)
        return k

    k, m = centred(a), centred(b)
    norm = np.sqrt((k * k).sum() * (m * m).sum())
    value, null = unbiased_cka(a + 5, b - 7, order)
    assert value == pytest.approx((k * m).sum() / norm)
    np.testing.assert_allclose(null, [(k * m[np.ix_(own, own)]).sum() / norm for own in order])


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


def test_the_order_of_groups_is_found_again_where_free_ones_changed_places():
    groups = LatentGroups(("label", "free_1", "free_2", "free_3"), (2, 3, 3, 2), (("size",), (), (), ()))
    rng = np.random.default_rng(0)
    first = rng.normal(size=(100, 10))
    swapped = first[:, [8, 9, 5, 6, 7, 2, 3, 4, 0, 1]] + 0.1 * rng.normal(size=(100, 10))
    # The supervised group keeps its place, and free_3 has another size than what it is like.
    assert matched_order(groups, first, swapped).tolist() == [0, 1, 5, 6, 7, 2, 3, 4, 8, 9]


@pytest.fixture(scope="module")
def refitted(tmp_path_factory):
    """Windows and areas of a study, each fitted anew; the first window is the run's own."""
    path = write_tiny_session(tmp_path_factory.mktemp("refit") / "s.nwb", n_stimuli=120, n_repeats=4)
    area = np.array(["V4"] * 16 + ["IT"] * 6 + [""] * 2)
    session = read_session(path).assign_coords(area=("unit", area))
    companions = {"windows_s": [[0.07, 0.17], [0.12, 0.17]], "areas": "area", "refit": True}
    few = {"n_permutations": 19, "n_bootstrap": 19, "min_reliability": 0.0}
    config = tiny_config(**OPTIONS | {"evidence": few, "companions": companions}, latents={"n_steps": 20})
    study = Study(session, config)
    study.fit_latents()
    return study


def test_a_window_that_is_the_runs_own_gives_the_runs_groups_when_it_is_fitted_anew(refitted):
    found = refitted.compute("windows")
    np.testing.assert_allclose(found["similarity"].values[0], 1, atol=1e-6)
    assert (found["similarity"].values[1] < 0.999).all()
    (held,) = held_sessions(refitted)
    alone = by_window(
        replace(held, config=replace(held.config, companions=replace(held.config.companions, refit=False)))
    )
    for name in ("variance", "told", "variance_p"):
        np.testing.assert_allclose(found[name].values[0], alone[name].values[0], atol=1e-6)
    assert "similarity" not in alone and (found["similarity_p"].values[0] == 1 / 20).all()
    assert "similarity" in found.attrs["headline"]


def _of_noise_alone(n_repeats):
    """A study whose units share factors of every presentation, none of an image; areas are fitted anew."""
    rng = np.random.default_rng(3)
    session = mock_session(n_stimuli=240, n_repeats=n_repeats, size_px=None)
    n = session.sizes["presentation"]
    rate = np.exp(1 + 0.6 * rng.normal(size=(n, 3)) @ rng.normal(size=(3, 24)))
    session = session.assign(spike_count=(("presentation", "unit"), rng.poisson(rate).astype(np.uint16)))
    session = session.assign_coords(area=("unit", np.repeat(["V4", "IT"], 12)))
    few = {"n_permutations": 199, "n_bootstrap": 19, "min_reliability": -1.0}
    companions = {"areas": "area", "refit": True}
    config = tiny_config(**OPTIONS | {"evidence": few, "companions": companions}, latents={"n_steps": 60})
    study = Study(session, config)
    study.fit_latents()
    return study


def test_noise_of_the_same_trials_makes_groups_alike_and_is_no_evidence():
    found = _of_noise_alone(4).compute("areas")
    assert found["similarity"].max() > 0.1  # of latents that the same noise moves
    assert (np.abs(found["similarity_of_halves"]) < 0.1).all()
    assert (found["similarity_p"] > 0.01).all()


def test_without_repeats_similarity_is_not_tested():
    found = _of_noise_alone(1).compute("areas")
    assert np.isfinite(found["similarity"]).all() and np.isnan(found["similarity_p"]).all()


def test_areas_are_fitted_anew_and_small_ones_have_no_values(refitted):
    found = refitted.compute("areas").sel(area=["IT", "V4"])
    assert np.isnan(found["variance"].values[0]).all() and np.isnan(found["similarity"].values[0]).all()
    assert np.isfinite(found["similarity"].values[1]).all() and np.isfinite(found["loading"].values[1]).all()
    assert found.attrs["note"] == "fewer than 10 units, not fitted again: IT (6)"
    (held,) = held_sessions(refitted)
    counts = refitted.sessions[0]["spike_count"].values[:, :16]
    again = fit_again(held, counts.astype(float), where="V4")
    assert again.loading().shape == (16, held.latents.groups.n_latents)
    first = np.sqrt((again.loading()[:, :6] ** 2).mean())
    assert float(found["loading"][1, 0]) == pytest.approx(first, rel=1e-5)
    with pytest.raises(MigvisError, match=r"^V4: none of the 3 units ever changes its spike count"):
        fit_again(held, np.ones((len(counts), 3)), where="V4")


@pytest.fixture(scope="module")
def tuned():
    """A study of units 0 to 7, tuned to pose (area P), and 8 to 15, tuned to category (area C)."""
    session = mock_session(n_stimuli=300, n_repeats=6, size_px=None)
    area = np.array(["P"] * 8 + ["C"] * 8 + [""] * 8)
    options = OPTIONS | {"companions": {"areas": "area", "windows_s": [[0.07, 0.12], [0.12, 0.17]]}}
    study = Study(
        session.assign_coords(area=("unit", area)), tiny_config(**options, latents={"n_steps": 400})
    )
    study.fit_latents()
    return study


def test_labels_are_read_in_the_area_that_is_tuned_to_them(tuned):
    found = tuned.compute("areas")
    told = found["told"].max("group")
    assert float(told.sel(area="C", label="category")) > float(told.sel(area="P", label="category")) + 0.2
    assert float(told.sel(area="P", label="rotation_z")) > float(told.sel(area="C", label="rotation_z")) + 0.2
    assert (found["told_q"].sel(area="C", label="category") < 0.05).any()
    assert not (found["told_q"].sel(area="P", label="category") < 0.05).any()
    own = found["variance"].sel(group="category")
    assert float(own.sel(area="C")) > float(own.sel(area="P")) + 0.2


@pytest.mark.parametrize("refit", [False, True])
def test_labels_are_read_in_the_window_that_has_them(tuned, monkeypatch, refit):
    def counts_in(held, window_s):
        counts = held.session["spike_count"].values.astype(float)
        if window_s[0] < 0.1:
            counts[:, 8:] = np.random.default_rng(0).permutation(counts[:, 8:])
        return counts

    monkeypatch.setattr("nwb_migvis.companions.where_and_when.counts_in", counts_in)
    (held,) = held_sessions(tuned)
    companions = replace(held.config.companions, refit=refit)
    found = by_window(replace(held, config=replace(held.config, companions=companions)))
    told = found["told"].sel(label="category", group="category").values
    assert told[1] > told[0] + 0.2 and abs(told[0]) < 0.1
    if refit:
        assert found["similarity"].sel(group="category").values[1] > 0.99


def _fits(rng, n=300, noise=0.3):
    """Three fits of one session: groups a and b are in all, in another order, c is new in each."""
    a, b = rng.normal(size=(n, 2)), rng.normal(size=(n, 3))
    fits = []
    for k in range(3):
        both = [a @ np.linalg.qr(rng.normal(size=(2, 2)))[0], b @ np.linalg.qr(rng.normal(size=(3, 3)))[0]]
        own = [z + noise * rng.normal(size=z.shape) for z in (both if k == 0 else both[::-1])]
        # All groups encode the same responses, so that c is alike beyond chance, too, and still not the same.
        fits.append([*own, rng.normal(size=(n, 2)) + 0.3 * a])
    return fits


def test_groups_that_every_seed_finds_are_told_from_those_that_none_finds_again():
    rng = np.random.default_rng(0)
    fits = _fits(rng)
    found = SeedGroups(fits, np.stack([rng.permutation(300) for _ in range(199)]))
    assert found.n_fits.tolist() == [2, 2, 0]
    assert found.cluster[0][0] == found.cluster[1][1] == found.cluster[2][1]
    assert found.cluster[0][2] == -1
    assert found.similarity.shape == (3, 6) and found.null.shape == (199, 3, 6)
    assert found.similarity[2].max() > np.quantile(found.null, 0.999)
    one = SeedGroups([[fit[0]] for fit in fits[:1]] + [[fits[1][1]]], np.arange(300)[None])
    assert one.strangers == 0


def test_seeds_are_those_that_the_evidence_was_measured_with(monkeypatch):
    session = mock_session(n_stimuli=120, size_px=None)
    few = {"n_permutations": 99, "n_bootstrap": 9, "stability_seeds": 1}
    study = Study(session, tiny_config(**OPTIONS | {"evidence": few}, latents={"n_steps": 5, "n_hidden": 8}))
    study.fit_latents()
    assert "n_seeds" not in study.compute("concepts") and study.reseeded() == []
    study.measure()
    with monkeypatch.context() as patch:
        patch.setattr("nwb_migvis.analysis.latents.fit_sessions", None)
        found = study.compute("concepts")
    assert found["seed_group"].values[0].startswith("fit 2: ") and found["n_seeds"].max() <= 1
    first = next(iter(study.latents.groups))
    z = [fit[:, study.latents.groups.slices[first]] for fit in (study.latents.mean, study.reseeded()[0][0])]
    test = study.latents.split == "test"
    value = unbiased_cka(z[0][test].astype(float), z[1][test].astype(float), np.arange(test.sum())[None])[0]
    assert float(found["seed_similarity"][0, 0]) == pytest.approx(value)
    study.fit_latents()
    assert study.reseeded() == []


def test_seeds_are_fitted_where_the_settings_ask_for_it():
    session = mock_session(n_stimuli=120, size_px=None)
    few = {"n_permutations": 19, "n_bootstrap": 9, "stability_seeds": 1}
    options = OPTIONS | {"evidence": few, "companions": {"network": "edges", "refit": True}}
    study = Study(session, tiny_config(**options, latents={"n_steps": 5, "n_hidden": 8}))
    study.fit_latents()
    found = study.compute("concepts")
    fits = study.reseeded()
    groups = study.measure()
    assert len(fits) == 1 and study.reseeded()[0] is fits[0]
    assert found.sizes["seed_group"] == len(groups) and groups["stability"].notna().all()

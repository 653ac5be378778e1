"""Population states: planted clusters are found, continua have none."""

import numpy as np
import pytest
import xarray as xr

pytest.importorskip("sklearn")
from sklearn.metrics import adjusted_mutual_info_score
from sklearn.mixture import GaussianMixture

from nwb_migvis import MigvisError, Study, read_results, read_session
from nwb_migvis.companions.held import held_sessions
from nwb_migvis.companions.states import Adjusted, standing_apart, valley_p
from nwb_migvis.config import GroupConfig
from nwb_migvis.latents.protocol import LatentModelKind
from nwb_migvis.networks.weights import pack
from nwb_migvis.registry import LATENT_MODELS
from nwb_migvis.testing import mock_session, tiny_config, write_tiny_session


def _clusters(n, seed, spread=0.25):
    rng = np.random.default_rng(seed)
    centre = np.array([[0, 0, 0], [3, 0, 0], [0, 3, 0], [0, 0, 3]])
    of = rng.integers(0, 4, n)
    return centre[of] + spread * rng.normal(size=(n, 3)), of


def test_planted_clusters_are_found():
    (x, _), (new, of) = _clusters(600, 0), _clusters(400, 1)
    found = standing_apart(x, new, levels=np.arange(400), rng=np.random.default_rng(0))
    assert found.n_states == 4 and adjusted_mutual_info_score(of, found.state) > 0.95
    assert (np.diff(np.bincount(found.state)) <= 0).all()


@pytest.mark.parametrize("kind", ["gaussian", "cube", "ring", "skewed", "heavy"])
def test_a_continuum_is_one_state(kind):
    rng = np.random.default_rng(3)
    turn = rng.uniform(0, 2 * np.pi, 1000)
    x = {
        "gaussian": rng.normal(size=(1000, 4)),
        "cube": rng.uniform(size=(1000, 3)),
        "ring": np.stack([np.cos(turn), np.sin(turn)], 1) + 0.1 * rng.normal(size=(1000, 2)),
        "skewed": rng.gamma(2, size=(1000, 3)),
        "heavy": rng.standard_t(3, size=(1000, 3)),
    }[kind]
    found = standing_apart(x[:600], x[600:], levels=np.arange(400), rng=np.random.default_rng(0))
    assert found.n_states == 1


def test_trials_of_one_image_count_once():
    x, _ = _clusters(600, 0)
    few = np.repeat(_clusters(6, 1)[0], 60, axis=0)
    found = standing_apart(x, few, levels=np.repeat(np.arange(6), 60), rng=np.random.default_rng(0))
    assert found.n_states == 1


def test_the_valley_test_is_two_binomial_tests():
    mixture = GaussianMixture(2)
    mixture.means_, mixture.covariances_ = np.array([[0.0], [1.0]]), np.ones((2, 1, 1))
    x = np.array([0.0] * 5 + [0.5] * 1 + [1.0] * 7)[:, None]
    component = (x[:, 0] > 0.4).astype(int)
    assert valley_p(x, component, (1, 0), mixture=mixture) == pytest.approx(7 / 64)
    assert valley_p(x[:5], component[:5], (1, 0), mixture=mixture) == 1


def test_the_valley_test_is_exact_at_its_limit():
    rng, mixture, p = np.random.default_rng(0), GaussianMixture(2), []
    mixture.means_, mixture.covariances_ = np.array([[0.0], [1.0]]), np.ones((2, 1, 1))
    for _ in range(400):
        x = rng.uniform(-1 / 6, 7 / 6, 120)[:, None]
        p.append(valley_p(x, (x[:, 0] > 0.5).astype(int), (1, 0), mixture=mixture))
    assert np.mean(np.array(p) < 0.05) < 0.05


def test_information_is_adjusted_as_scikit_learn_does():
    rng = np.random.default_rng(0)
    x = rng.integers(0, 5, 200)
    y = np.where(rng.random(200) < 0.5, x % 3, rng.integers(0, 3, 200))
    score = Adjusted.of(x, y)
    assert score.value(x, y) == pytest.approx(adjusted_mutual_info_score(x, y))
    assert score.of_weights(np.ones((1, 200)))[0] == pytest.approx(adjusted_mutual_info_score(x, y))
    assert abs(np.mean([score.value(x, rng.permutation(y)) for _ in range(200)])) < 0.01


def _study(by_category):
    session = mock_session(n_stimuli=400, size_px=None)
    category = session["category"].values
    rng = np.random.default_rng(0)
    place = np.unique(category, return_inverse=True)[1] % 4
    centre = np.eye(4) * 4 if by_category else np.zeros((4, 4))
    study = Study(session, tiny_config(evidence={"n_permutations": 199}, split={"by": "stimulus"}))
    study.use_latents(centre[place] + 0.4 * rng.normal(size=(400, 4)))
    return study


def test_states_that_follow_a_category_are_set_against_it():
    found = _study(by_category=True).compute("states")
    assert int(found["n_states"]) == 4
    assert float(found["agreement"].sel({"with": "category"})) > 0.6
    assert float(found["agreement_q"].sel({"with": "category"})) < 0.05
    assert float(found["agreement"].sel({"with": "size"})) < 0.1
    assert found["share"].sum() == pytest.approx(1)


def test_a_label_that_names_the_levels_is_left_out():
    session = mock_session(n_stimuli=800, size_px=None)
    name = np.array([f"object {i // 2:03d}" for i in range(800)], dtype=object)
    shape = np.array(["round", "long"], dtype=object)[np.arange(800) // 4 % 2]
    session = session.assign_coords({"object": ("stimulus", name), "shape": ("stimulus", shape)})
    study = Study(session, tiny_config(evidence={"n_permutations": 19}, split={"by": "object"}))
    place = np.arange(800) // 4 % 4
    study.use_latents(4 * np.eye(4)[place] + 0.4 * np.random.default_rng(0).normal(size=(800, 4)))
    found = study.compute("states")
    assert int(found["n_states"]) > 1
    assert "shape" in found["with"].values and "object" not in found["with"].values


def test_without_states_nothing_is_said_of_labels():
    found = _study(by_category=False).compute("states")
    assert int(found["n_states"]) == 1 and np.isnan(found["agreement"]).all()
    assert "no cluster of trials stands apart" in found.attrs["note"]


GROUPS = tuple(GroupConfig(name=name, size=2) for name in ("where", "idle"))


class Planted:
    """A linear model: latents are the root counts of four units, each unit follows all latents."""

    groups = GROUPS
    weight = np.random.default_rng(5).normal(size=(24, 4)).astype(np.float32)

    def encode(self, average):
        mean = np.sqrt(np.asarray(average)[:, :4]).astype(np.float32)
        return mean, np.full_like(mean, -4.0)

    def rates(self, z):
        return 99.0 + np.asarray(z, np.float64) @ self.weight.T

    def loading(self):
        return self.weight

    def to_bytes(self):
        return pack("planted", {}, {})


@pytest.fixture
def planted():
    LATENT_MODELS.register(
        "planted", LatentModelKind(lambda *given, **how: [Planted()], lambda data: Planted())
    )
    yield Planted()
    LATENT_MODELS.unregister("planted")


def test_counts_change_by_the_weights_of_the_group_that_moves(planted):
    session = mock_session(n_stimuli=300, n_repeats=2, size_px=None)
    rng = np.random.default_rng(0)
    at = rng.integers(0, 3, session.sizes["presentation"])
    counts = rng.poisson(30, session["spike_count"].shape)
    counts[:, :2] = rng.poisson(np.array([[4, 4], [60, 4], [4, 60]])[at])
    session["spike_count"] = (("presentation", "unit"), counts.astype(np.uint16))
    study = Study(
        session, tiny_config(evidence={"n_permutations": 19}, split={"by": "stimulus", "test": 0.4})
    )
    study.use_latents(planted)
    found = study.compute("states")
    assert int(found["n_states"]) == 3
    (held,) = held_sessions(study)
    own = held.latents
    trials = planted.encode(own.spike_count[found["trial"].values])[0].astype(float)
    state = found["state_of_trial"].values
    step = np.stack([trials[state == k].mean(0) for k in range(3)]) - trials.mean(0)
    for g, group in enumerate(GROUPS):
        latents = slice(2 * g, 2 * g + 2)
        expected = step[:, latents] @ Planted.weight[:, latents].T
        np.testing.assert_allclose(found["change"].sel(group=group.name), expected, atol=1e-3)
        size = np.sqrt((expected**2).mean(1))
        np.testing.assert_allclose(found["moved"].sel(group=group.name), size, atol=1e-3)
    assert (found["moved"].sel(group="where") > 5 * found["moved"].sel(group="idle")).all()
    assert "the session has no pixels" in found.attrs["note"] and "picture" not in found


@pytest.fixture(scope="module")
def edited():
    """A study with states that follow the category, and tiny networks."""
    session = mock_session(n_stimuli=300, n_repeats=1, size_px=16)
    place = np.unique(session["category"].values, return_inverse=True)[1] % 3
    rng = np.random.default_rng(0)
    z = np.concatenate([4 * np.eye(3)[place], np.zeros((300, 1))], 1) + 0.4 * rng.normal(size=(300, 4))
    small = {"prior": {"n_steps": 2}, "critic": {"n_steps": 3}, "synthesis": {"n_steps": 2, "guidance": 2.0}}
    few = {"n_permutations": 19, "n_bootstrap": 9}
    study = Study(session, tiny_config(evidence=few, split={"by": "stimulus", "test": 0.4}, **small))
    study.use_latents(z, groups=GROUPS)
    return study


def test_images_are_edited_towards_states_once_there_is_a_critic(edited):
    before = edited.compute("states")
    assert int(before["n_states"]) == 3 and "there is no critic" in before.attrs["note"]
    assert "picture" not in before and "moved" not in before
    edited.train_prior()
    edited.train_critic()
    found = edited.compute("states")
    assert found["picture"].shape == (3, 2, 2, 16, 16) and found.attrs["note"] == ""
    assert edited.done == ("latents", "prior", "critic")
    state, stimulus = found["state_of_trial"].values, edited.sessions[0]["stimulus"].values.tolist()
    rows = [stimulus.index(name) for name in found["stimulus_of_trial"].values]
    mean = edited.latents.mean[rows]
    centre = np.stack([mean[state == k].mean(0) for k in range(3)])
    source = found["source_stimulus"].values.tolist()
    again = edited.edit_towards(centre, source=source)["image"].values
    np.testing.assert_array_equal(found["picture"].values.reshape(12, 16, 16), again[:12])
    np.testing.assert_array_equal(found["rebuilt_picture"], again[12:])
    shown = edited.sessions[0]["image"].isel(stimulus=[stimulus.index(name) for name in source])
    np.testing.assert_array_equal(found["source_picture"], shown)
    assert (found["picture"] != found["rebuilt_picture"].values[None, None]).any()
    assert ((found["picture_support"] >= 0) & (found["picture_support"] <= 100)).all()
    xr.testing.assert_equal(found["agreement"], before["agreement"])


def test_an_edit_towards_the_latents_of_a_stimulus_is_an_edit_towards_it(edited):
    if "critic" not in edited.done:
        edited.train_prior()
        edited.train_critic()
    source, target = (str(edited.sessions[0]["stimulus"].values[i]) for i in (3, 8))
    own = edited.edit_towards(edited.latents.mean[[8]], source=source)
    assert own["method"].values.tolist() == ["pmi", "pmi", "none"]
    assert own["target"].values.tolist() == ["0", "0", ""]
    for i, group in enumerate(GROUPS):
        by_name = edited.edit(group=group.name, source=source, target=target)
        np.testing.assert_array_equal(own["image"][i], by_name["image"][0])
        assert float(own["support"][i]) == float(by_name["support"][0])


@pytest.mark.parametrize(
    ("latents", "source", "session", "message"),
    [
        (np.zeros((1, 3)), "im0000.png", 0, r"found the shape \(1, 3\) or values .*; expected \(goal, 4\)"),
        (np.full((1, 4), np.nan), "im0000.png", 0, r"values that are not finite; expected \(goal, 4\)"),
        (
            np.zeros((1, 4)),
            ["im0000.png", "x"],
            0,
            "source: found 'x'; expected ids of the session's stimuli",
        ),
        (np.zeros((1, 4)), [], 0, "source: found no stimulus; expected one or more ids"),
        (np.zeros((1, 4)), "im0000.png", 1, "session 1 does not exist or has no pixels"),
    ],
)
def test_goals_and_sources_that_do_not_fit_are_refused(edited, latents, source, session, message):
    if "critic" not in edited.done:
        edited.train_prior()
        edited.train_critic()
    with pytest.raises(MigvisError, match=message):
        edited.edit_towards(latents, source=source, session=session)


def test_goals_need_a_critic():
    study = Study(mock_session(n_stimuli=60), tiny_config())
    with pytest.raises(MigvisError, match="found no critic; expected some to edit; first call train_critic"):
        study.edit_towards(np.zeros((1, 4)), source="im0000.png")


@pytest.mark.slow
def test_a_written_run_gives_its_networks_back_for_states(tmp_path, call, monkeypatch):
    from nwb_migvis.companions import states

    def halves(train, test, *, levels, rng):
        return states.Clusters((test[:, 0] > np.median(test[:, 0])).astype(int), 2)

    monkeypatch.setattr(states, "standing_apart", halves)
    path = write_tiny_session(tmp_path / "session.nwb", n_stimuli=120)
    small = {"prior": {"n_steps": 2}, "critic": {"n_steps": 3}, "synthesis": {"n_steps": 2, "n_pairs": 4}}
    study = Study(read_session(path), tiny_config(latents={"n_steps": 5}, **small))
    for step in (study.fit_latents, study.train_prior, study.train_critic, study.edit, study.measure):
        step()
    expected = study.compute("states")
    out = study.write(tmp_path / "run.nwb")
    code, text, errors = call("analyse", out, "--with", "states", "--out", tmp_path / "again.nwb")
    assert (code, errors) == (0, "") and "Recurring population states" in text
    found = read_results(tmp_path / "again.nwb").analyses["states"]
    xr.testing.assert_allclose(found, read_results(out).analyses["states"])
    assert found["picture"].shape == expected["picture"].shape

"""A study: its steps in a notebook's order, done again, missing, swapped, interrupted, and written."""

from dataclasses import replace

import numpy as np
import pytest
import xarray as xr

from nwb_migvis import (
    MigvisError,
    Results,
    Study,
    compare_runs,
    load_models,
    read_results,
    read_session,
    run,
)
from nwb_migvis.config import GroupConfig
from nwb_migvis.registry import ANALYSES
from nwb_migvis.store import validate_file
from nwb_migvis.testing import mock_session, tiny_config, write_tiny_session

TINY = tiny_config()


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return write_tiny_session(tmp_path_factory.mktemp("study") / "session.nwb")


@pytest.fixture(scope="module")
def ran(path):
    out = path.with_name("ran.nwb")
    return run(path, out=out, config=TINY), out


@pytest.fixture(scope="module")
def study(path):
    study = Study(read_session(path), TINY)
    study.run()
    return study


def test_its_results_are_those_of_a_run(study, ran):
    results, _ = ran
    assert isinstance(study.results, Results)
    assert study.results.groups.equals(results.groups)
    for table in ("latents", "units", "synthesized", "selectivity", "decoding"):
        assert getattr(study.results, table).identical(getattr(results, table)), table
    assert study.results.provenance["weights"] == results.provenance["weights"]
    assert study.results.provenance["config"] == results.provenance["config"]


def test_each_step_returns_what_it_made_and_says_which_it_misses(path):
    study = Study(read_session(path), TINY)
    assert "next: fit_latents() or use_latents(...)" in repr(study)
    for early, missing in [
        (study.train_prior, "found no latents; expected some to train .*; first call fit_latents"),
        (study.train_critic, r"found no prior; .*first call train_prior\(\) or use_prior"),
        (study.edit, "found no critic"),
        (study.measure, "found no latents"),
        (lambda: study.results, r"found no evidence; .* first call measure\(\)"),
        (lambda: study.latents_of(read_session(path)), "found no latents"),
    ]:
        with pytest.raises(MigvisError, match=missing):
            early()
    latents = study.fit_latents()
    assert latents.mean.shape == (120, 24)
    assert list(latents.groups) == ["numeric", "category", "free_1", "free_2"]
    table = study.measure()
    assert table.index.tolist() == list(latents.groups)
    assert study.results.synthesized.sizes["edit"] == 0
    assert len(repr(study).splitlines()) <= 12
    assert "latents, evidence" in repr(study)
    assert study._repr_html_().startswith("<pre>Study")


def test_a_step_that_is_done_again_undoes_those_behind_it(path):
    study = Study(read_session(path), TINY)
    study.fit_latents()
    before = study.train_prior()
    study.train_critic()
    study.edit(group="category", n=1)
    again = study.train_prior()
    assert again.to_bytes() == before.to_bytes()
    with pytest.raises(MigvisError, match="found no critic"):
        study.edit()
    study.fit_latents()
    with pytest.raises(MigvisError, match="found no prior"):
        study.train_critic()


def test_latents_of_ones_own_take_the_place_of_a_fit(path, tmp_path):
    session = read_session(path)
    study = Study(session, TINY)
    rng = np.random.default_rng(0)
    size = session["size"].values.astype(float)
    own = np.stack([(size - size.mean()) / size.std(), *rng.normal(size=(2, size.size))], axis=1)
    groups = [GroupConfig(name="size", size=1, labels=("size",)), GroupConfig(name="noise", size=2)]
    latents = study.use_latents(own, groups=groups)
    np.testing.assert_allclose(latents.mean, own, rtol=1e-6)
    study.train_prior()
    study.train_critic()
    source, target = session["stimulus"].values[[3, 7]]
    edits = study.edit(group="size", source=source, target=target)
    assert edits.sizes["edit"] == 1
    assert (edits["source"].item(), edits["target"].item()) == (source, target)
    table = study.measure()
    assert table.loc["size", "decoding"] > 0.9
    assert table["variance_explained"].isna().all()
    assert "given as an array" in study.results.provenance["notes"][0]
    out = study.write(tmp_path / "own.nwb")
    assert read_results(out).latents["mean"].dtype == np.float32
    assert [f for f in validate_file(out) if f.importance == "error"] == []
    assert load_models(out).latents is None
    with pytest.raises(MigvisError, match="given as an array"):
        study.latents_of(session)


@pytest.mark.parametrize(
    ("own", "groups", "message"),
    [
        (np.zeros((7, 2)), None, r"shape \(7, 2\).*expected numbers of shape \(120, n_latents\)"),
        (np.zeros((120, 2)), [GroupConfig(name="a", size=3)], "found 2 latents and groups of 3"),
        (np.full((120, 2), np.nan), None, "240 latents that are not finite"),
        (np.full((120, 2), "x"), None, "expected numbers"),
    ],
)
def test_arrays_that_are_no_latents_of_the_session(path, own, groups, message):
    with pytest.raises(MigvisError, match=message):
        Study(read_session(path), TINY).use_latents(own, groups=groups)


def test_groups_of_an_array_may_come_with_it(path):
    own = np.random.default_rng(0).normal(size=(120, 3))
    labelled = xr.DataArray(own, dims=("stimulus", "latent"), coords={"group": ("latent", ["a", "a", "b"])})
    latents = Study(read_session(path), TINY).use_latents(labelled)
    assert dict(zip(latents.groups.names, latents.groups.sizes, strict=True)) == {"a": 2, "b": 1}
    mixed = labelled.assign_coords(group=("latent", ["a", "b", "a"]))
    with pytest.raises(MigvisError, match="side by side"):
        Study(read_session(path), TINY).use_latents(mixed)


def test_the_networks_of_a_file_go_into_another_study(path, ran):
    results, out = ran
    models = load_models(out)
    assert repr(models).startswith("Models: latents, prior, critic; LatentGroups: numeric (6;")
    study = Study(read_session(path), models.config)
    latents = study.use_latents(models.latents)
    np.testing.assert_array_equal(latents.mean, results.latents["mean"].values)
    study.use_prior(models.prior)
    study.use_critic(models.critic)
    assert study.edit().identical(results.synthesized.drop_vars("predicted_rate"))
    study.measure()
    assert study.results.groups.equals(results.groups)


def test_networks_that_do_not_fit_are_refused(path, ran):
    models = load_models(ran[1])
    study = Study(read_session(path), TINY)
    with pytest.raises(MigvisError, match="found no latents"):
        study.use_prior(models.prior)
    study.use_latents(np.random.default_rng(0).normal(size=(120, 2)))
    with pytest.raises(MigvisError, match=r"groups of \[6, 6, 6, 6\] latents; expected .* study, \[2\]"):
        study.use_prior(models.prior)
    plain = replace(
        TINY,
        prior=replace(TINY.prior, conditional=False),
        synthesis=replace(TINY.synthesis, source_guidance=0.0, guidance_scale=0.0),
    )
    study = Study(read_session(path), plain)
    study.use_latents(np.random.default_rng(0).normal(size=(120, 2)))
    study.train_prior()
    with pytest.raises(MigvisError, match="the critic was trained with groups of"):
        study.use_critic(models.critic)


def test_new_trials_are_encoded_by_unit(study, path):
    window = read_session(path, window_s=(0.07, 0.12))
    shuffled = window.isel(unit=np.random.default_rng(0).permutation(window.sizes["unit"]))
    there = study.latents_of(window)
    assert there["mean"].shape == (120, 24)
    assert there["n_presentations"].values.tolist() == [4] * 120
    assert study.latents_of(shuffled).identical(there)
    same = study.latents_of(read_session(path))
    np.testing.assert_array_equal(same["mean"], study.latents.mean)
    with pytest.raises(MigvisError, match="found no unit"):
        study.latents_of(window.isel(unit=slice(3)))


def test_an_edit_that_the_plan_made_comes_out_the_same_by_name(path, study):
    planned = study.results.synthesized
    main = (planned["role"] == "main") & (planned["method"] == "pmi") & (planned["group"] == "category")
    first = planned.isel(edit=int(np.flatnonzero(main.values)[0]))
    other = Study(read_session(path), TINY)
    other.fit_latents(), other.train_prior(), other.train_critic()
    edit = other.edit(group="category", source=first["source"].item(), target=first["target"].item())
    np.testing.assert_array_equal(edit["image"].values[0], first["image"].values)
    with pytest.raises(MigvisError, match="group 'categry' is unknown"):
        other.edit(group="categry")


def test_a_training_that_was_interrupted_goes_on(path, tmp_path, monkeypatch):
    from nwb_migvis.synthesis.prior.training import ImageTraining

    config = replace(TINY, cache=str(tmp_path / "absent"), prior=replace(TINY.prior, n_steps=6))
    whole = Study(read_session(path), replace(config, cache=""))
    whole.fit_latents()
    expected = whole.train_prior().to_bytes()
    study = Study(read_session(path), config)
    study.fit_latents()
    monkeypatch.setattr("nwb_migvis.synthesis.prior.training.CHECKPOINT_EVERY", 2)
    taken, step = [], ImageTraining.step

    def interrupted(self):
        if len(taken) == 4:
            taken.append("interrupted")
            raise KeyboardInterrupt
        taken.append("step")
        step(self)

    monkeypatch.setattr(ImageTraining, "step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        study.train_prior()
    assert study.train_prior().to_bytes() == expected
    assert taken == [*["step"] * 4, "interrupted", *["step"] * 2]


def test_two_sessions_in_memory_and_no_file_to_write_to(tmp_path):
    session = mock_session().drop_vars("image", errors="ignore")
    session.attrs["source"] = "nowhere.nwb"
    study = Study(session, TINY)
    study.run()
    assert study.results.synthesized.sizes["edit"] == 0
    with pytest.raises(MigvisError, match="found no pixels of the images; expected some to train"):
        study.train_prior()
    with pytest.raises(MigvisError, match="found no file that the session was read from"):
        study.write(tmp_path / "out.nwb")
    with pytest.raises(MigvisError, match="found 0 sessions"):
        Study([])


def test_what_it_writes_can_be_set_beside_a_run(study, ran, path, tmp_path):
    out = study.write(tmp_path / "study.nwb")
    assert [f for f in validate_file(out) if f.importance == "error"] == []
    again = read_results(out)
    assert again.groups.equals(ran[0].groups)
    assert again.provenance["inputs"] == ran[0].provenance["inputs"]
    comparison = compare_runs([ran[0], again], ["run", "study"])
    assert all(name.startswith("reading.") for name in comparison.settings.index)


def test_a_registered_analysis_is_computed_from_the_steps_that_it_needs(study, path):
    class Spread:
        needs = ("latents",)

        @staticmethod
        def compute(study):
            return xr.Dataset({"spread": ("latent", study.latents.mean.std(axis=0))})

    with pytest.raises(MigvisError, match="analysis 'spread' is unknown"):
        study.compute("spread")
    ANALYSES.register("spread", Spread)
    try:
        spread = study.compute("spread")
        assert spread["spread"].shape == (24,)
        results = study.results
        assert results.analyses["spread"]["spread"].equals(spread["spread"].assign_coords(latent=range(24)))
        with pytest.raises(MigvisError, match="found no latents; expected some to compute 'spread'"):
            Study(read_session(path), TINY).compute("spread")
    finally:
        ANALYSES.unregister("spread")

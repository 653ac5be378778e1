"""A unit that was not observed has no count: averages, latents and evidence are of what was observed."""

from __future__ import annotations

import re
from dataclasses import replace

import h5py
import numpy as np
import pytest
import torch
import xarray as xr
from layouts import add_intervals, new_file, write
from test_pipeline_evidence import SMALL, population

from nwb_migvis import MigvisError, read_results, read_session, run
from nwb_migvis.analysis import Study, sweep
from nwb_migvis.analysis.latents import average_counts
from nwb_migvis.analysis.observed import with_missing_counts
from nwb_migvis.config import GroupConfig, LatentsConfig
from nwb_migvis.evidence.halves import Halves
from nwb_migvis.evidence.order import Order, without_drift
from nwb_migvis.evidence.reliability import split_half_correlation
from nwb_migvis.evidence.ridge import fit_ridge
from nwb_migvis.evidence.variance import group_variance
from nwb_migvis.groups import LatentGroups
from nwb_migvis.latents.checks import constant_units
from nwb_migvis.latents.label_weights import LabelWeights
from nwb_migvis.latents.linear import fit_linear
from nwb_migvis.latents.objective import Objective, Repeats, initial_vae, mean_of_counted
from nwb_migvis.report import group_table

SHORT = replace(
    SMALL,
    latents=replace(SMALL.latents, n_steps=60),
    evidence=replace(SMALL.evidence, n_permutations=9, n_bootstrap=9),
)
DIMS = ("presentation", "unit")


def masked(session, observed, *, other_counts=0):
    counts = np.where(observed, session["spike_count"].values, other_counts).astype(np.uint16)
    return session.assign(spike_count=(DIMS, counts), observed=(DIMS, observed))


def all_observed(session):
    return np.ones(session["spike_count"].shape, dtype=bool)


def assert_same(one, two):
    assert one.groups.equals(two.groups)
    for part in ("latents", "units", "decoding"):
        xr.testing.assert_identical(getattr(one, part), getattr(two, part))


@pytest.fixture(scope="module")
def session():
    return population(0, n_stimuli=120)


def test_presentations_without_any_unit_are_as_if_removed_by_hand(session):
    rows = np.random.default_rng(1).permutation(session.sizes["presentation"])[:150]
    observed = all_observed(session)
    observed[rows] = False
    found = Study(masked(session, observed), SHORT).run()
    by_hand = session.isel(presentation=np.setdiff1d(np.arange(session.sizes["presentation"]), rows))
    assert_same(found, Study(by_hand, SHORT).run())
    assert found.provenance["session"]["dropped"] == {"no unit was observed": 150}
    assert found.provenance["session"]["n_dropped"] == 150


def test_stimuli_that_no_unit_saw_are_gone(session):
    observed = all_observed(session)
    observed[session["stimulus_index"].values == 3] = False
    found = with_missing_counts(masked(session, observed))
    assert found["stimulus"].values.tolist() == np.delete(session["stimulus"].values, 3).tolist()
    shown = found["stimulus"].values[found["stimulus_index"].values]
    is_left = session["stimulus_index"].values != 3
    expected = session["stimulus"].values[session["stimulus_index"].values[is_left]]
    assert shown.tolist() == expected.tolist()
    with pytest.raises(MigvisError, match="no unit was observed in any"):
        Study(masked(session, 0 * observed), SHORT)


@pytest.mark.parametrize("likelihood", ["poisson", "gaussian"])
def test_counts_that_are_missing_say_nothing_and_a_whole_mask_changes_nothing(session, likelihood):
    config = replace(SHORT, latents=replace(SHORT.latents, likelihood=likelihood))
    assert_same(Study(masked(session, all_observed(session)), config).run(), Study(session, config).run())
    observed = np.random.default_rng(2).random(session["spike_count"].shape) < 0.8
    observed[:, 4] &= session["stimulus_index"].values > 10
    silent, loud = (Study(masked(session, observed, other_counts=n), config).run() for n in (0, 999))
    assert_same(silent, loud)
    assert np.isfinite(silent.latents["mean"]).all()
    note = f"16 of 16 units were not observed .*: {100 * (~observed).mean():.1f} % of counts are missing"
    assert any(re.match(note, each) for each in silent.provenance["notes"])


def test_a_unit_that_was_lost_has_the_reliability_of_the_presentations_before(session):
    observed = all_observed(session)
    observed[400:, 2] = False
    found = Study(masked(session, observed), SHORT).run()
    whole, short = (Study(part, SHORT).run() for part in (session, session.isel(presentation=slice(400))))
    for name in ("reliability", "noise_ceiling"):
        values = found.units[name].values
        np.testing.assert_array_equal(np.delete(values, 2), np.delete(whole.units[name].values, 2))
    index = session["stimulus_index"].values
    counts = session["spike_count"].values
    own = split_half_correlation(counts[:400, 2:3], index[:400], n_stimuli=120, seed=5)
    lost = np.where(observed, counts, np.nan)
    np.testing.assert_array_equal(split_half_correlation(lost, index, n_stimuli=120, seed=5)[2], own[0])
    assert found.units["reliability"][2] == short.units["reliability"][2]


def test_averages_are_over_the_presentations_in_which_a_unit_was_observed(session):
    counts, index = session["spike_count"].values, session["stimulus_index"].values
    observed = np.random.default_rng(3).random(counts.shape) < 0.5
    observed[index == 7, 1] = False
    average = average_counts(np.where(observed, counts, np.nan), index, 120)
    assert np.isnan(average[7, 1])
    for unit, stimulus in ((0, 0), (1, 5), (8, 119)):
        own = counts[(index == stimulus) & observed[:, unit], unit]
        assert average[stimulus, unit] == pytest.approx(own.mean())


def test_latents_of_a_population_half_of_which_is_missing_stay():
    """Other units stand in for those that come and go; silence in their place is taken for a response."""
    session = population(5, n_stimuli=160)
    counts, index = session["spike_count"].values, session["stimulus_index"].values
    observed = np.ones(counts.shape, dtype=bool)
    rng = np.random.default_rng(6)
    for unit in range(0, 16, 2):
        gone = rng.permutation(160)[:80]
        observed[np.isin(index, gone), unit] = False
    read = {}
    for name, one in {
        "missing": masked(session, observed),
        "as silence": masked(session, observed).drop_vars("observed"),
    }.items():
        study = Study(one, SMALL)
        study.fit_latents()
        z, test = study.latents.mean[:, :2], study.latents.split == "test"
        fit = fit_ridge(z[~test], session["x"].values[~test, None]).predict(z[test])[:, 0]
        read[name] = np.corrcoef(fit, session["x"].values[test])[0, 1]
    assert read["missing"] > 0.85
    assert read["missing"] > read["as silence"] + 0.02


@pytest.mark.parametrize("model", ["pca", "fa", "plain-vae", "swap-vae"])
def test_every_model_takes_missing_counts(session, model):
    observed = np.random.default_rng(4).random(session["spike_count"].shape) < 0.7
    observed[session["stimulus_index"].values < 4, 3] = False
    config = replace(SHORT, latents=replace(SHORT.latents, model=model))
    silent, loud = (Study(masked(session, observed, other_counts=n), config).run() for n in (0, 999))
    assert_same(silent, loud)
    assert np.isfinite(silent.latents["mean"]).all()


@pytest.mark.parametrize("kind", ["pca", "fa"])
def test_the_posterior_of_a_linear_model_is_that_given_the_units_there_are(kind):
    rng = np.random.default_rng(7)
    average = rng.gamma(2.0, 2.0, (60, 6))
    model = fit_linear(average, kind=kind, groups=SMALL.latents.groups[:1])
    part = average[:5].copy()
    part[1, 2] = part[3, :2] = np.nan
    mean, log_var = model.encode(part)
    x = (np.sqrt(part) - model.mean) / model.scale
    for row in range(5):
        units = np.isfinite(x[row])
        joint = model.weight[units] @ model.weight[units].T + np.diag(model.noise[units])
        gain = model.weight[units].T @ np.linalg.inv(joint)
        np.testing.assert_allclose(mean[row], gain @ x[row, units], rtol=1e-4, atol=1e-5)
        covariance = np.eye(2) - gain @ model.weight[units]
        np.testing.assert_allclose(log_var[row], np.log(np.diag(covariance)), rtol=1e-4, atol=1e-5)


def test_two_sessions_one_of_which_lost_a_unit(session):
    other = population(0, n_stimuli=120).isel(unit=slice(None, None, -1)).assign_attrs(source="other")
    observed = all_observed(session)
    observed[300:, 5] = False
    config = replace(SHORT, evidence=replace(SHORT.evidence, min_reliability=0.0))
    first, second = Study([masked(session, observed), other], config).run()
    assert first.provenance["shared_with"][0]["n_shared"] == 120
    assert np.isfinite(first.provenance["shared_with"][0]["variance_other"])
    assert any("1 of 16 units" in note for note in first.provenance["notes"])
    assert not any("not observed" in note for note in second.provenance["notes"])


def test_halves_and_likelihood_are_of_the_counts_there_are():
    counts = np.array([[5, np.nan], [1, 7], [3, np.nan], [4, 2]])
    repeats = Repeats.of(counts, np.array([0, 0, 0, 1]), 2, torch.device("cpu"))
    first, second, n = repeats.halves(torch.arange(2), torch.Generator().manual_seed(0))
    assert n.tolist() == [[1, 1 - int(torch.isfinite(first[0, 1]))], [1, 1]]
    assert first[0, 0] * 2 + second[0, 0] == 9
    assert (first[0, 1] == 7) if torch.isfinite(first[0, 1]) else (second[0, 1] == 7)
    assert first[1].tolist() == second[1].tolist() == [4, 2]
    np.testing.assert_array_equal(repeats.average(), [[3, 7], [4, 2]])
    values = torch.tensor([[1.0, 100.0], [2.0, 6.0]])
    assert mean_of_counted(values, torch.tensor([[2, 0], [1, 1]])) == 3
    assert mean_of_counted(values, torch.tensor([[2], [1]])) == values.mean()


@pytest.mark.parametrize("likelihood", ["poisson", "gaussian"])
def test_the_loss_does_not_depend_on_the_rate_of_a_unit_that_was_not_observed(session, likelihood):
    index, split = session["stimulus_index"].values, np.full(120, "train")
    counts = session["spike_count"].values.astype(float)
    counts[:, 3] = np.nan
    repeats = Repeats.of(counts, index, 120, torch.device("cpu"))
    groups, targets = (GroupConfig(name="free", size=2),), [(torch.zeros(120, 0), [])]
    config = replace(SHORT.latents, likelihood=likelihood)
    vae = initial_vae(repeats, groups, targets, split=split, config=config, seed=0)
    objective = Objective(
        vae, repeats, targets, config=config, label_weights=[LabelWeights(torch.zeros(0), ())]
    )
    objective(torch.arange(120), torch.Generator().manual_seed(0)).backward()
    moved = vae.decoder.weight.grad.abs().sum(1)
    assert moved[3] == 0
    assert (moved[[2, 4]] > 0).all()
    assert all(torch.isfinite(weight.grad).all() for weight in vae.parameters())


def test_drift_is_told_from_the_counts_there_are():
    rng = np.random.default_rng(11)
    index = np.concatenate([rng.permutation(40) for _ in range(12)])
    order = Order(index, np.arange(480.0), 40)
    gain = np.exp(np.linspace(-0.7, 0.7, 480))
    counts = rng.poisson(8 * gain[:, None] * np.ones(6)).astype(float)
    lost = counts.copy()
    lost[200:300, 1] = np.nan
    lost[index < 5, 2] = np.nan
    whole, part = without_drift(counts, order), without_drift(lost, order)
    np.testing.assert_allclose(part[:, [0, 3, 4, 5]], whole[:, [0, 3, 4, 5]])
    assert (np.isnan(part) == np.isnan(lost)).all()
    for unit, window in ((1, slice(300, 480)), (2, slice(0, 480))):
        left = np.nanmean(part[window, unit]) / np.nanmean(whole[window, unit])
        assert left == pytest.approx(1, abs=0.1)
    assert abs(np.corrcoef(part[np.isfinite(part[:, 2]), 2], gain[np.isfinite(part[:, 2])])[0, 1]) < 0.15


def viewing(path, keep, observed_s=None):
    """Write those of 320 presentations of 80 images that `keep` says, and when all units were observed."""
    rng = np.random.default_rng(12)
    shown = np.concatenate([rng.permutation(80) for _ in range(4)])
    starts = 10 + 0.4 * np.arange(320)
    trains = [np.sort(rng.uniform(0, 140, 1500)) for _ in range(8)]
    nwb = new_file([])
    nwb.units = None
    for train in trains:
        more = {} if observed_s is None else {"obs_intervals": np.array(observed_s, float)}
        nwb.add_unit(spike_times=train, **more)
    add_intervals(nwb, "shows", starts[keep], image_name=[f"im{k:02d}" for k in shown[keep]])
    return write(nwb, path)


def test_files_of_the_same_presentations_have_the_same_results(tmp_path):
    """Counts, reliability and latents are those of a file without the unobserved presentations."""
    every = np.ones(320, dtype=bool)
    keep = every.copy()
    keep[150:230] = False
    gone_s = (10 + 0.4 * 150 - 0.1, 10 + 0.4 * 230 - 0.1)
    paths = [
        viewing(tmp_path / "masked.nwb", every, [[0, gone_s[0]], [gone_s[1], 200]]),
        viewing(tmp_path / "by_hand.nwb", keep),
    ]
    sessions = [read_session(path, stimulus="image_name") for path in paths]
    np.testing.assert_array_equal(sessions[0]["spike_count"], sessions[1]["spike_count"])
    assert sessions[0].attrs["dropped"] == {"no unit was observed": 80}
    groups = (GroupConfig(name="free", size=2),)
    config = replace(SHORT, latents=replace(SHORT.latents, groups=groups))
    assert_same(*(run(path, stimulus="image_name", config=config) for path in paths))


def test_a_unit_that_was_lost_is_said_in_the_results(tmp_path):
    path = viewing(tmp_path / "a.nwb", np.ones(320, dtype=bool), [[0, 200]])
    with h5py.File(path, "r+") as file:
        file["units/obs_intervals"][2] = [0, 70]
    groups = (GroupConfig(name="free", size=2),)
    config = replace(SHORT, latents=replace(SHORT.latents, groups=groups))
    run(path, stimulus="image_name", config=config)
    written = read_results(tmp_path / "a_migvis.nwb")
    assert any(note.startswith("1 of 8 units were not observed") for note in written.provenance["notes"])
    assert "1 of 8 units were not observed" in group_table(written)


def test_new_trials_with_a_unit_missing_are_encoded(session):
    study = Study(session, SHORT)
    study.fit_latents()
    observed = all_observed(session)
    observed[:, 0] = False
    without = study.latents_of(masked(session, observed))["mean"]
    assert np.isfinite(without).all()
    assert not np.array_equal(without, study.latents.mean)


def test_a_sweep_leaves_out_what_is_missing(session):
    observed = np.random.default_rng(8).random(session["spike_count"].shape) < 0.8
    tables = [
        sweep(masked(session, observed, other_counts=n), config=SHORT, free_groups=(1,), sizes=(2,))
        for n in (0, 999)
    ]
    assert tables[0].equals(tables[1])
    assert np.isfinite(tables[0]["bits_per_spike"]).all()


def test_ridge_fits_each_output_to_the_rows_that_have_it():
    rng = np.random.default_rng(9)
    x, y = rng.normal(size=(50, 4)), rng.normal(size=(50, 3))
    y[30:, 1] = np.nan
    y[:, 2] = np.nan
    x[:, 3] = 2.0
    new = rng.normal(size=(7, 4))
    found = fit_ridge(x, y, penalty=0.1).predict(new)
    for column, rows in ((0, slice(None)), (1, slice(30))):
        alone = fit_ridge(
            x[rows], y[rows, [column]][:, None] if column > 9 else y[rows, column : column + 1], penalty=0.1
        )
        np.testing.assert_allclose(found[:, column], alone.predict(new)[:, 0])
    assert np.isnan(found[:, 2]).all()
    chosen = fit_ridge(x[:30], y[:30, 1:2]).penalty
    only = np.full((50, 1), np.nan)
    only[:30] = y[:30, 1:2]
    assert fit_ridge(x, only).penalty == chosen


def test_variance_of_a_unit_is_of_the_stimuli_that_have_it():
    """The r2 of a unit that half of the stimuli lack is that of a fit to the others alone."""
    rng = np.random.default_rng(10)
    z = rng.normal(size=(200, 3))
    drive = z @ rng.normal(size=(3, 5))
    half_a, half_b = (drive + 0.3 * rng.normal(size=drive.shape) for _ in range(2))
    train = np.arange(200) < 140
    lacks = np.arange(200) % 2 == 0
    lost_a, lost_b = half_a.copy(), half_b.copy()
    lost_a[lacks, 4] = lost_b[lacks, 4] = np.nan
    groups = LatentGroups.of([replace(SMALL.latents.groups[0], size=3)])

    def r2(a, b, rows):
        halves = Halves(a[rows], b[rows], z[rows], z[rows], train[rows], ~train[rows])
        return group_variance(halves, groups, n_permutations=9, seed=0)

    every = np.ones(200, dtype=bool)
    found, whole, part = r2(lost_a, lost_b, every), r2(half_a, half_b, every), r2(half_a, half_b, ~lacks)
    np.testing.assert_allclose(found.r2[:4], whole.r2[:4], atol=1e-3)
    assert found.r2[4] == pytest.approx(part.r2[4], abs=1e-3)
    assert found.explained["pose"] > 0.95
    assert found.explained_p["pose"] == 0.1


def test_constant_units_are_told_by_what_was_observed():
    counts = np.array([[0, 3, np.nan], [0, np.nan, np.nan], [1, 3, np.nan]])
    assert constant_units(counts).tolist() == [False, True, True]


def test_counts_that_are_nan_without_a_mask_are_refused(session):
    counts = session["spike_count"].values.astype(float)
    counts[7, 3] = np.nan
    broken = session.assign(spike_count=(DIMS, counts))
    with pytest.raises(MigvisError, match="not counts, the first nan at presentation 7, unit 3"):
        Study(broken, SHORT)
    observed = all_observed(session)
    observed[7, 4] = False
    with pytest.raises(MigvisError, match="not counts, the first nan at presentation 7, unit 3"):
        Study(broken.assign(observed=(DIMS, observed)), SHORT)


def test_a_model_with_one_unit():
    session = population(1, n_stimuli=120).isel(unit=[0])
    observed = all_observed(session)
    observed[::7] = False
    config = replace(SHORT, latents=LatentsConfig(groups=SMALL.latents.groups[:1], n_steps=20, n_hidden=8))
    found = Study(masked(session, observed), config)
    found.fit_latents()
    assert np.isfinite(found.latents.mean).all()

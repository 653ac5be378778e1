"""Verdicts of whole fits on small populations whose truth is known, without files."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from nwb_migvis import Config, MigvisError
from nwb_migvis.analysis import Study, sweep
from nwb_migvis.analysis.context import Context
from nwb_migvis.analysis.latents import fit_sessions, half_stability
from nwb_migvis.analysis.sessions import Sessions
from nwb_migvis.cli import main
from nwb_migvis.config import EvidenceConfig, GroupConfig, LatentsConfig
from nwb_migvis.report import group_table, sweep_table

GROUPS = (
    GroupConfig(name="pose", size=2, labels=("x",)),
    GroupConfig(name="kind", size=2, labels=("kind",)),
)
SMALL = Config(
    n_threads=1,
    latents=LatentsConfig(groups=GROUPS, n_steps=300, n_hidden=16, n_layers=1, batch_size=64, patience=4),
    evidence=EvidenceConfig(
        n_permutations=99, n_bootstrap=99, stability_seeds=0, readers=("conv", "kernel"), encoder="edges"
    ),
)


def population(seed, *, n_stimuli=200, n_repeats=6, blind=False):
    """Half of the units follow a number (unless blind to it), half a category; the labels tell both."""
    rng = np.random.default_rng(seed)
    x, kind = rng.uniform(-1.7, 1.7, n_stimuli), rng.integers(0, 3, n_stimuli)
    pose = np.zeros((n_stimuli, 8)) if blind else x[:, None] * rng.choice([-0.9, 0.9], 8)
    log_rate = np.concatenate([pose, rng.normal(0, 0.9, (3, 8))[kind]], axis=1)
    index = np.tile(np.arange(n_stimuli), n_repeats)
    counts = rng.poisson(3 * np.exp(log_rate)[index])
    return session_of(counts, index, {"x": x, "kind": np.array(["a", "b", "c"], dtype=object)[kind]})


def session_of(counts, index, labels):
    return xr.Dataset(
        {
            "spike_count": (("presentation", "unit"), counts.astype(np.uint16)),
            "stimulus_index": ("presentation", index.astype(np.int64)),
        },
        coords={
            "unit": np.arange(counts.shape[1]),
            "stimulus": np.array([f"s{i}" for i in range(index.max() + 1)], dtype=object),
            **{name: ("stimulus", values) for name, values in labels.items()},
        },
        attrs={"source": "none"},
    )


def words(groups):
    return [verdict.split(":")[0] for verdict in groups["verdict"]]


def groups_of(session, config=SMALL):
    return Study(session, config).run().groups


@pytest.fixture(scope="module")
def told():
    return Study(population(0), SMALL).run()


def test_planted_groups_are_established(told):
    assert words(told.groups) == ["established", "established"]
    assert told.groups["verdict"].iloc[0].startswith("established: repeatable, decoded")
    assert (told.decoding["beyond"].sel(group="pose", label="x") > 0.5).all()
    assert (told.groups["decoding_q"] < 0.05).all() and np.isfinite(told.groups["own_group_gap"]).all()
    assert told.decoding["score"].sel(group="pose", label="x") > 0.5
    assert (told.decoding["chance"].sel(label="kind") < 0.5).all()
    assert told.groups["participation_ratio"].between(1, 2).all()
    text = group_table(told)
    assert "Labels decoded from each group" in text and "not established" not in text


def test_labels_without_a_supervised_group_leave_no_gap():
    free = tuple(GroupConfig(name=f"free_{i}", size=2) for i in (1, 2))
    latents = replace(SMALL.latents, groups=free, n_steps=20)
    groups = groups_of(population(1), replace(SMALL, latents=latents))
    assert groups["own_group_gap"].dtype == np.float64 and groups["own_group_gap"].isna().all()


def test_the_estimated_information_has_the_stars_of_its_own_null(told):
    groups = told.groups.assign(information_nats=[5.9, 1.2], information_p=[0.006, 0.2])
    lines = group_table(replace(told, groups=groups)).splitlines()
    pose, kind = (next(line for line in lines if line.startswith(name)) for name in ("pose", "kind"))
    assert "5.900*" in pose and "5.900**" not in pose  # .012 of two groups
    assert "1.200 " in kind


def test_a_population_blind_to_a_label_does_not_establish_its_group():
    found = Study(population(1, blind=True), SMALL).run()
    assert words(found.groups) == ["not established", "established"]
    assert "not established" in group_table(found)


def test_units_that_carry_nothing_change_no_verdict(told):
    session = population(0)
    noise = np.random.default_rng(5).poisson(2.0, (session.sizes["presentation"], 10))
    labels = {"x": session["x"].values, "kind": session["kind"].values}
    counts = np.concatenate([session["spike_count"].values, noise], axis=1)
    found = groups_of(session_of(counts, session["stimulus_index"].values, labels))
    assert words(found) == words(told.groups)


def test_the_order_of_units_does_not_matter(told):
    order = np.random.default_rng(6).permutation(16)
    found = groups_of(population(0).isel(unit=order))
    assert words(found) == words(told.groups)
    # Another fit, since the first weights meet other units: alike, not equal.
    numbers = ["variance_explained", "decoding"]
    np.testing.assert_allclose(found[numbers], told.groups[numbers], atol=0.3)


def test_permuted_labels_call_no_more_groups_than_they_may():
    p = []
    for seed in range(8):
        session = population(seed)
        order = np.random.default_rng([8, seed]).permutation(session.sizes["stimulus"])
        session["x"], session["kind"] = (("stimulus", session[k].values[order]) for k in ("x", "kind"))
        found = groups_of(session)
        assert (found["variance_explained_q"] < 0.05).any()
        p.append(found["decoding_p"].min() * 2)
    # Under the null the least of two p-values, doubled, is under 0.05 with a chance of about 0.05.
    assert np.sum(np.array(p) <= 0.05) <= 3


def test_the_verdict_without_repeats_rests_on_decoding():
    found = Study(population(2, n_repeats=1), SMALL).run()
    assert found.groups["variance_explained"].isna().all()
    assert set(words(found.groups)) <= {"established", "not established"}
    assert any("repeats" in note for note in found.provenance["notes"])


def test_stability_is_measured_when_asked(told):
    assert "stability" not in told.groups
    config = replace(SMALL, evidence=replace(SMALL.evidence, stability_seeds=1))
    stability = groups_of(population(0), config)["stability"]
    assert stability.between(0.5, 1).all()


@pytest.mark.parametrize("of", ["units", "stimuli"])
def test_halves_of_the_data_agree_on_supervised_groups(of):
    context = Context(SMALL)
    (latents,) = fit_sessions(Sessions.of([population(3)]), context)
    found = half_stability(latents, context, seed=1, of=of)
    assert found.index.tolist() == ["pose", "kind"] and (found > 0.3).all()


def test_a_sweep_compares_settings_and_skips_what_does_not_fit():
    config = replace(SMALL, latents=replace(SMALL.latents, n_steps=40))
    found = sweep(population(4), config=config, free_groups=(1,), sizes=(2, 30))
    assert found[["free_groups", "group_size", "latents"]].to_numpy().tolist() == [[1, 2, 6]]
    row = found.iloc[0]
    assert row["dependence"] < 1 and 0 < row["dependence_q"] <= 1 and 0 <= row["stability"] <= 1
    assert np.isfinite(row["decoding"])
    assert "Nothing was chosen" in sweep_table(found, title="s.nwb")
    with pytest.raises(MigvisError, match="training stimuli for 90 latents"):
        sweep(population(4), config=config, free_groups=(1,), sizes=(30,))
    pd.testing.assert_frame_equal(found, sweep(population(4), config=config, free_groups=(1,), sizes=(2,)))


def test_counts_that_are_none_are_refused():
    session = population(0)
    counts = session["spike_count"].values.astype(float)
    counts[7, 3] = np.nan
    with pytest.raises(MigvisError, match="1 values that are not counts, the first nan at presentation 7"):
        Study(session.assign(spike_count=(("presentation", "unit"), counts)), SMALL).run()
    still = xr.ones_like(session["spike_count"])
    with pytest.raises(MigvisError, match="none of the 16 units ever changes"):
        Study(session.assign(spike_count=still), SMALL).run()


def test_constant_units_are_kept_and_named():
    session = population(0)
    session["spike_count"][:, 2] = 4
    session["spike_count"][:, 5] = 0
    results = Study(session, SMALL).run()
    assert any("2 of 16 units never change" in note for note in results.provenance["notes"])
    assert np.isnan(results.units["reliability"].values[[2, 5]]).all()
    assert np.isfinite(results.latents["mean"]).all()


def test_labels_that_are_missing_everywhere_are_named():
    session = population(0)
    missing = ("stimulus", np.full(session.sizes["stimulus"], np.nan))
    with pytest.raises(MigvisError, match="label 'x' has 0 values on 140 training stimuli"):
        Study(session.assign_coords(x=missing), SMALL).run()
    empty = ("stimulus", np.full(session.sizes["stimulus"], "", dtype=object))
    with pytest.raises(MigvisError, match="label 'kind' has 0 classes"):
        Study(session.assign_coords(kind=empty), SMALL).run()


def test_too_few_stimuli_say_how_many_are_needed():
    config = replace(SMALL, latents=replace(SMALL.latents, groups=()))
    with pytest.raises(MigvisError, match="42 training stimuli for 24 latents; expected at least 48; lower"):
        Study(population(0, n_stimuli=60), config).run()


def test_the_command_prints_a_sweep_and_writes_nothing(tmp_path, monkeypatch, capsys):
    table = pd.DataFrame(
        {
            "free_groups": [1],
            "group_size": [3],
            "latents": [9],
            "bits_per_spike": [0.2],
            "dependence": [0.05],
            "dependence_q": [0.2],
            "stability": [0.9],
            "decoding": [np.nan],
        }
    )
    asked = []
    monkeypatch.setattr(
        "nwb_migvis.runs.sweep_file", lambda path, **given: asked.append((path, given)) or table
    )
    with pytest.raises(SystemExit) as ended:
        main(["run", str(tmp_path / "s.nwb"), "--sweep", "--seed", "3", "--where", "correct"])
    assert ended.value.code == 0
    ((path, given),) = asked
    assert path.endswith("s.nwb") and given["config"].seed == 3 and given["where"] == "correct"
    printed = capsys.readouterr().out
    assert "0.050 (q 0.200)" in printed and "Nothing was chosen" in printed
    assert list(tmp_path.iterdir()) == []

"""Several sessions around one latent space: shared stimuli hold it together, each file has its results."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from pynwb import NWBHDF5IO

from nwb_migvis import MigvisError, read_results, read_session, run, synthesize_more
from nwb_migvis.analysis import Study
from nwb_migvis.analysis.context import Context
from nwb_migvis.analysis.latents import average_counts
from nwb_migvis.analysis.networks import Pictures, obtain_prior
from nwb_migvis.cli import main
from nwb_migvis.config import GroupConfig, LatentsConfig, SplitConfig
from nwb_migvis.evidence.between import cross_variance
from nwb_migvis.evidence.halves import Halves
from nwb_migvis.evidence.stability import match_groups
from nwb_migvis.groups import LatentGroups
from nwb_migvis.labels import as_labels
from nwb_migvis.latents import LatentTask, Recording, linked_pairs, split_shared_stimuli
from nwb_migvis.latents.fit import fit_latents
from nwb_migvis.latents.protocol import load_latent_model
from nwb_migvis.read import read_sessions
from nwb_migvis.runs.destinations import choose_destinations
from nwb_migvis.simulate import draw_counts, draw_factors, draw_population, render_stimuli
from nwb_migvis.simulate.nwb import add_presentations, add_units, new_file
from nwb_migvis.simulate.render import POSE, Stimuli
from nwb_migvis.simulate.spikes import draw_schedule, spike_trains
from nwb_migvis.store import Destination, validate_file, write_results
from nwb_migvis.testing import tiny_config

GROUPS = (
    GroupConfig(name="size", size=2, labels=("size",)),
    GroupConfig(name="kind", size=2, labels=("kind",)),
    GroupConfig(name="free", size=2),
)
CONFIG = LatentsConfig(groups=GROUPS, n_steps=400, n_hidden=48, batch_size=64)


def _shown(*rows, n):
    return np.stack([np.isin(np.arange(n), r) for r in rows])


def test_a_shared_stimulus_is_in_one_part_and_every_part_has_some():
    shown = _shown(range(150), range(100, 300), range(110, 140), n=300)
    split = split_shared_stimuli(shown, "abc", SplitConfig(), rng=np.random.default_rng(0))
    assert set(split) == {"train", "validation", "test"}
    for kind in np.unique(shown, axis=1).T:
        alike = split[(shown == kind[:, None]).all(axis=0)]
        for part, fraction in (("train", 0.7), ("validation", 0.1), ("test", 0.2)):
            assert abs((alike == part).sum() - fraction * alike.size) <= 1, (kind, part)
    again = split_shared_stimuli(shown, "abc", SplitConfig(), rng=np.random.default_rng(0))
    np.testing.assert_array_equal(split, again)
    other = split_shared_stimuli(shown, "abc", SplitConfig(), rng=np.random.default_rng(1))
    assert (split != other).any()


def test_a_session_too_small_to_split_is_named():
    shown = _shown(range(100), range(85, 100), n=100)
    with pytest.raises(MigvisError, match=r"small\.nwb: 15 stimuli split into"):
        split_shared_stimuli(shown, ["big.nwb", "small.nwb"], SplitConfig(), rng=np.random.default_rng(0))


def test_sessions_may_be_linked_through_others():
    shown = _shown(range(50), range(30, 90), range(70, 120), n=120)
    assert linked_pairs(shown, "abc") == [(0, 1), (1, 2)]
    shown[1, 70:72] = False
    with pytest.raises(
        MigvisError, match=r"c: shares too few images .*\(0 with a, 18 with b\).* at least 20"
    ):
        linked_pairs(shown, "abc")


def _population(seed=0, *, n_each=220, n_shared=60, n_repeats=6, n_units=36, n_sessions=2):
    """Sessions of which a third of the units follows a number, a category, and something unlabelled."""
    rng = np.random.default_rng(seed)
    step = n_each - n_shared
    n = step * (n_sessions - 1) + n_each
    size, hidden = rng.uniform(-1.7, 1.7, (2, n))
    kind = rng.integers(0, 3, n)
    m = n_units // 3
    recordings, log_rates = [], []
    for s in range(n_sessions):
        rows = np.arange(s * step, s * step + n_each)
        log_rate = np.log(3) + np.concatenate(
            [
                size[:, None] * rng.choice([-0.6, 0.6], m),
                rng.normal(0, 0.6, (3, m))[kind],
                hidden[:, None] * rng.choice([-0.6, 0.6], m),
            ],
            axis=1,
        )
        index = np.repeat(np.arange(n_each), n_repeats)
        counts = rng.poisson(np.exp(log_rate)[rows[index]]).astype(np.uint16)
        recordings.append(Recording(f"{s}.nwb", counts, index, rows))
        log_rates.append(log_rate)
    labels = {"size": size, "kind": np.array(["x", "y", "z"], dtype=object)[kind]}
    return recordings, labels, log_rates


def _fit(recordings, labels, config=CONFIG, seed=0, groups=GROUPS):
    n = labels["size"].size
    names = [recording.name for recording in recordings]
    shown = _shown(*(recording.stimulus_row for recording in recordings), n=n)
    split = split_shared_stimuli(shown, names, SplitConfig(), rng=np.random.default_rng(0))
    task = LatentTask(as_labels(labels), groups, split, linked_pairs(shown, names))
    models = fit_latents(recordings, task, config=config, seed=seed)
    return models, split, shown


def _encode(model, recording):
    counts = recording.spike_count, recording.stimulus_index
    return model.encode(average_counts(*counts, recording.stimulus_row.size))[0]


def _r2(model, z, log_rate):
    with torch.no_grad():
        predicted = model.vae.rate(torch.as_tensor(z)).log().numpy()
    return 1 - ((predicted - log_rate) ** 2).sum() / ((log_rate - log_rate.mean(0)) ** 2).sum()


@pytest.fixture(scope="module")
def pair():
    recordings, labels, log_rates = _population(n_sessions=2)
    models, split, shown = _fit(recordings, labels)
    held_out = np.flatnonzero(shown.all(axis=0) & (split == "test"))
    latents = [
        _encode(model, recording)[np.searchsorted(recording.stimulus_row, held_out)]
        for model, recording in zip(models, recordings, strict=True)
    ]
    return recordings, labels, [rate[held_out] for rate in log_rates], models, latents


def test_latents_of_one_session_predict_the_other(pair):
    _, _, log_rates, models, latents = pair
    for i, model in enumerate(models):
        own, other = (_r2(model, latents[j], log_rates[i]) for j in (i, 1 - i))
        assert own > 0.7
        assert other > 0.8 * own


def test_groups_match_one_to_one(pair):
    *_, latents = pair
    groups = LatentGroups(("size", "kind", "free"), (2, 2, 2), ((), (), ()))
    found = match_groups(*latents, groups_a=groups, groups_b=groups)
    assert found.partner == {name: name for name in groups}


def test_without_the_pairing_latents_say_nothing_across():
    recordings, labels, log_rates = _population()
    a, b = recordings
    shuffled = a.stimulus_row.copy()
    both = np.isin(a.stimulus_row, b.stimulus_row)
    shuffled[both] = np.random.default_rng(0).permutation(shuffled[both])
    unlabelled = {"size": labels["size"], "kind": labels["kind"]}
    free = (GroupConfig(name="free", size=4),)
    wrong = [replace(a, stimulus_row=shuffled), b]
    models, split, shown = _fit(wrong, unlabelled, replace(CONFIG, groups=free), groups=free)
    held_out = np.flatnonzero(shown.all(axis=0) & (split == "test"))
    z = _encode(models[0], a)[np.searchsorted(a.stimulus_row, held_out)]
    assert _r2(models[1], z, log_rates[1][held_out]) < 0.1


def test_the_way_to_the_latents_is_shared_and_the_ends_are_not(pair):
    _, _, _, (a, b), _ = pair
    assert torch.equal(a.vae.posterior.weight, b.vae.posterior.weight)
    assert torch.equal(a.vae.trunk[1].weight, b.vae.trunk[1].weight)
    assert torch.equal(a.vae.numeric_heads[0].weight, b.vae.numeric_heads[0].weight)
    assert not torch.equal(a.vae.trunk[0].weight, b.vae.trunk[0].weight)
    assert not torch.equal(a.vae.decoder.weight, b.vae.decoder.weight)
    again = load_latent_model(b.to_bytes())
    average = np.random.default_rng(0).uniform(0, 9, (5, 36))
    np.testing.assert_array_equal(again.encode(average)[0], b.encode(average)[0])


def test_the_same_seed_gives_the_same_bytes_and_test_stimuli_have_no_say(pair):
    recordings, labels, *_ = pair
    short = replace(CONFIG, n_steps=15)
    models, split, _ = _fit(recordings, labels, short)
    spoiled = []
    for recording in recordings:
        counts = recording.spike_count.copy()
        counts[split[recording.stimulus_row[recording.stimulus_index]] == "test"] = 0
        spoiled.append(replace(recording, spike_count=counts))
    wrong = {"size": np.where(split == "test", 1e6, labels["size"]), "kind": labels["kind"]}
    again, *_ = _fit(spoiled, wrong, short)
    assert [m.to_bytes() for m in models] == [m.to_bytes() for m in again]
    other, *_ = _fit(recordings, labels, short, seed=1)
    assert models[0].to_bytes() != other[0].to_bytes()


def test_three_sessions_of_different_sizes_in_a_chain():
    recordings, labels, _ = _population(n_sessions=3, n_each=100, n_shared=30)
    kept = recordings[2].spike_count[:, :20]
    recordings[2] = replace(recordings[2], spike_count=kept)
    models, *_ = _fit(recordings, labels, replace(CONFIG, n_steps=20))
    assert [model.loading().shape for model in models] == [(36, 6), (36, 6), (20, 6)]


def test_a_session_with_too_few_stimuli_for_the_latents_is_named():
    recordings, labels, _ = _population(n_each=60, n_shared=30)
    groups = (GroupConfig(name="free", size=25),)
    with pytest.raises(MigvisError, match=r"0\.nwb: \d+ training stimuli for 25 latents"):
        _fit(recordings, labels, groups=groups)


def test_a_session_whose_units_never_respond_is_named():
    recordings, labels, _ = _population(n_each=60, n_shared=30)
    recordings[1] = replace(recordings[1], spike_count=np.zeros_like(recordings[1].spike_count))
    with pytest.raises(MigvisError, match=r"1\.nwb: none of the 36 units ever changes"):
        _fit(recordings, labels)


def test_a_conditional_prior_learns_from_every_session_and_any_other_from_each_image_once():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 255, (40, 8, 8), dtype=np.uint8)
    shown = np.concatenate([np.arange(30), np.arange(10, 40)])
    latents, train = rng.normal(size=(60, 4)), np.arange(40) % 4 > 0
    split = np.where(train, "train", "test")
    groups = LatentGroups(("a", "b"), (2, 2), ((), ()))

    def trained(rows, z, conditional):
        plain = replace(TINY.synthesis, source_guidance=0.0, guidance_scale=0.0)
        config = replace(TINY, prior=replace(TINY.prior, conditional=conditional), synthesis=plain)
        pictures = Pictures(images, split, z, rows, groups, {})
        return obtain_prior(pictures, None, Context(config)).to_bytes()

    only_second, unseen = latents.copy(), latents.copy()
    only_second[45:] += 1
    unseen[~train[shown]] += 1
    for conditional in (False, True):
        usual = trained(shown, latents, conditional)
        assert trained(shown, unseen, conditional) == usual
        assert (trained(shown, only_second, conditional) != usual) == conditional
    assert trained(np.arange(40), latents[:40], False) == trained(shown, latents, False)


def _linear_session(n=300, seed=0):
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(n, 4))
    clean = z @ rng.normal(size=(4, 15))
    halves = tuple(clean + rng.normal(size=clean.shape) for _ in range(2))
    own = tuple(z + 0.1 * rng.normal(size=z.shape) for _ in range(2))
    part = np.arange(n) % 3
    return halves, own, part != 0, part == 0, rng


def test_variance_across_sessions_is_that_of_the_latents_given():
    halves, own, train, test, rng = _linear_session()
    halves = Halves(*halves, *own, train=train, test=test)
    same = cross_variance(halves, own)
    assert same.n_stimuli == 100
    assert same.other == same.own
    assert same.own == pytest.approx(1, abs=0.1)
    mixed = tuple(z[:, [1, 0, 3, 2]] for z in own)
    assert cross_variance(halves, mixed).other < 0.3
    strange = tuple(rng.permutation(z) for z in own)
    assert cross_variance(halves, strange).other < 0


def test_variance_across_sessions_needs_shared_test_stimuli_with_repeats():
    halves, own, train, test, _ = _linear_session()
    other = tuple(z.copy() for z in own)
    for z in other:
        z[np.flatnonzero(test)[9:]] = np.nan
    found = cross_variance(Halves(*halves, *own, train=train, test=test), other)
    assert found.n_stimuli == 9
    assert np.isnan([found.own, found.other]).all()


TINY = tiny_config()
ROWS = (np.arange(60), np.arange(10, 72))
SMALL = replace(
    TINY,
    latents=LatentsConfig(
        groups=(
            GroupConfig(name="pose", size=2, labels=POSE),
            GroupConfig(name="category", size=2, labels=("category",)),
            GroupConfig(name="free", size=2),
        ),
        n_steps=60,
        n_hidden=32,
        batch_size=32,
    ),
    prior=replace(TINY.prior, conditional=True),
    synthesis=replace(
        TINY.synthesis,
        n_pairs=8,
        methods=("pmi", "none"),
        dose=(0.9,),
        gammas=(1.0,),
        directions=("ones", "size"),
        n_samples=4,
    ),
    evidence=replace(TINY.evidence, stability_seeds=1),
)


def _write(path, rows, *, seed, n_units, pixels=True):
    """Write a simulated session that saw some of the images that all such sessions choose from."""
    factors = draw_factors(100, seed=5)
    images = render_stimuli(factors, size_px=16, seed=5)
    names = [f"im{i:04d}.png" for i in rows]
    population = draw_population(
        dict.fromkeys(("pose", "category", "content", "mixed"), n_units // 4), seed=seed
    )
    order, onset = draw_schedule(len(rows), 4, seed=seed)
    counts = draw_counts(population.rate_hz(factors.iloc[rows]), order, 0.1, seed=seed)
    nwbfile = new_file({"seed": seed})
    add_presentations(nwbfile, Stimuli(names, images[rows], factors.iloc[rows]), order, onset)
    if not pixels:
        nwbfile.stimulus.pop("presentations")
        nwbfile.stimulus_template.pop("images")
    add_units(nwbfile, list(spike_trains(counts, onset, (0.07, 0.17), seed=seed)))
    with NWBHDF5IO(path, "w") as io:
        io.write(nwbfile)
    return path


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sessions")
    return [
        _write(folder / f"{name}.nwb", rows, seed=seed, n_units=n)
        for name, rows, seed, n in zip("ab", ROWS, (1, 2), (24, 16), strict=True)
    ]


@pytest.fixture(scope="module")
def ran(files):
    return run(files, config=SMALL)


@pytest.mark.slow
def test_each_file_gets_its_own_results(ran, files):
    for results, path, rows, n_units in zip(ran, files, ROWS, (24, 16), strict=True):
        assert results.latents["stimulus"].values.tolist() == [f"im{i:04d}.png" for i in rows]
        assert results.units.sizes == {"unit": n_units, "latent": 6}
        np.testing.assert_array_equal(results.units["unit"], read_session(path)["unit"])
        assert list(results.groups.index) == ["pose", "category", "free"]
        measured = ["variance_explained", "mi_bound_nats", "stability"]
        assert np.isfinite(results.groups[measured].to_numpy()).all()
        written = path.with_name(f"{path.stem}_migvis.nwb")
        assert read_results(written).latents.equals(results.latents)
    assert [f for f in validate_file(written) if f.importance == "error"] == []


@pytest.mark.slow
def test_a_shared_stimulus_has_one_split_and_edits_stay_at_home(ran):
    a, b = (dict(zip(r.latents["stimulus"].values, r.latents["split"].values, strict=True)) for r in ran)
    both = a.keys() & b.keys()
    assert len(both) == 50
    assert all(a[name] == b[name] for name in both)
    for results, split in zip(ran, (a, b), strict=True):
        edits = results.synthesized
        assert edits.sizes["edit"] > 0
        assert {split[name] for name in edits["source"].values} == {"test"}
        assert {split[name] for name in edits["target"].values if name} == {"test"}


@pytest.mark.slow
def test_provenance_names_the_other_session_and_how_well_it_agrees(ran, files):
    for i, results in enumerate(ran):
        provenance, other = results.provenance, files[1 - i].name
        assert [entry["path"] for entry in provenance["inputs"]] == [files[i].name, other]
        (record,) = provenance["shared_with"]
        assert (record["session"], record["n_shared"], record["n_test"]) == (other, 50, 10)
        assert np.isfinite([record["variance_own"], record["variance_other"]]).all()
        assert sorted(record["groups_matched"].values()) == sorted(results.groups.index)
        assert any(f"shared with {other} (50 images in common)" in note for note in provenance["notes"])
    weights = [results.provenance["weights"] for results in ran]
    assert weights[0]["prior"] == weights[1]["prior"]
    assert weights[0]["critic"] == weights[1]["critic"]
    assert weights[0]["vae"] != weights[1]["vae"]


@pytest.mark.slow
def test_one_prior_is_described_alike_in_every_file(ran):
    a, b = (results.provenance["appearance"]["memorisation"]["samples"] for results in ran)
    assert (a["n"], a["median"]) == (4, b["median"])
    for results in ran:
        prior = results.provenance["config"]["prior"]
        assert (prior["conditional"], prior["size_px"], prior["channels"]) == (True, 16, [8, 16])
        assert set(results.synthesized["direction"].values) == {"", "ones", "size"}


@pytest.mark.slow
def test_further_edits_of_a_file_need_no_other(ran, files, tmp_path):
    made = ran[1].synthesized
    first = made.isel(edit=int(np.flatnonzero(made["method"].values == "pmi")[0]))
    asked = {name: str(first[name].values) for name in ("group", "source", "target")}
    shutil.copy(files[1].with_name("b_migvis.nwb"), tmp_path / "alone.nwb")
    again = synthesize_more(tmp_path / "alone.nwb", **asked).synthesized.isel(edit=-1)
    np.testing.assert_array_equal(again["image"], first["image"])


def test_a_direction_that_a_session_does_not_have(files, tmp_path):
    config = replace(
        SMALL,
        latents=replace(SMALL.latents, n_steps=1),
        synthesis=replace(SMALL.synthesis, directions=("sise",)),
    )
    with pytest.raises(MigvisError, match=r"a\.nwb: direction 'sise' is unknown; expected one such as size"):
        run(files, out=tmp_path, config=config)


@pytest.mark.slow
def test_the_command_line_writes_the_same_into_a_folder(ran, files, tmp_path, capsys):
    (tmp_path / "tiny.toml").write_text(SMALL.to_toml())
    out = tmp_path / "out"
    out.mkdir()
    arguments = [
        "run",
        "--no-report",
        *map(str, files),
        "--out",
        str(out),
        "--config",
        str(tmp_path / "tiny.toml"),
    ]
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    printed = capsys.readouterr().out
    assert stopped.value.code == 0
    for results, path in zip(ran, files, strict=True):
        written = out / f"{path.stem}_migvis.nwb"
        assert f"wrote {written}" in printed
        again = read_results(written)
        assert again.provenance["weights"] == results.provenance["weights"]
        for name in ("latents", "units", "synthesized", "selectivity"):
            assert getattr(again, name).equals(getattr(results, name)), name


@pytest.fixture
def no_work(monkeypatch):
    monkeypatch.setattr(Study, "run", lambda _: pytest.fail("work was done"))


def test_destinations_are_checked_before_any_work(files, tmp_path, no_work):
    a, b = (shutil.copy(path, tmp_path / path.name) for path in files)
    taken = tmp_path / "b_migvis.nwb"
    taken.write_bytes(b"mine")
    before = sorted(tmp_path.iterdir())
    for arguments, found in [
        ({"source": [a, b]}, r"b_migvis\.nwb exists already"),
        ({"source": [a, a]}, "twice"),
        ({"source": [a, tmp_path / "." / "a.nwb"]}, "twice"),
        ({"source": [a, b], "out": tmp_path / "x.nwb"}, "is not a folder; expected one for the results of 2"),
        ({"source": [a, b], "in_place": True, "out": tmp_path}, "both in_place and out"),
        ({"source": [a, tmp_path / "absent.nwb"]}, "absent"),
        ({"source": []}, "found 0 sessions"),
    ]:
        with pytest.raises(MigvisError, match=found):
            run(**arguments, config=SMALL)
    assert sorted(tmp_path.iterdir()) == before
    assert taken.read_bytes() == b"mine"


def test_no_two_sessions_are_written_to_one_file(files, tmp_path):
    ends = {"name": "migvis", "expected_bytes": 0}
    beside, together = Destination(overwrite=True), Destination(out=tmp_path, overwrite=True)
    same = [tmp_path / folder / "s.nwb" for folder in "xy"]
    for path, file in zip(same, files, strict=True):
        path.parent.mkdir()
        shutil.copy(file, path)
    with pytest.raises(MigvisError, match=r"would hold the results of .*expected a file for each session"):
        choose_destinations(same, together, **ends)
    assert len(choose_destinations(same, beside, **ends)) == 2
    source = tmp_path / "x" / "s_migvis.nwb"
    shutil.copy(files[1], source)
    with pytest.raises(MigvisError, match="is taken by"):
        choose_destinations([same[0], source], beside, **ends)


def test_a_session_may_lack_labels_that_another_has(files):
    a, b = (session.drop_vars("image") for session in read_sessions(files))
    config = replace(SMALL, latents=replace(SMALL.latents, n_steps=1), evidence=TINY.evidence)
    study = Study([a, b.drop_vars(["category", "size"])], config)
    whole, partly = (results.groups for results in study.run())
    assert whole["supervised_by"].equals(partly["supervised_by"])
    assert np.isfinite(whole.loc[["pose", "category"], "variance_beyond_labels"]).all()
    assert np.isfinite(partly.loc["pose", "variance_beyond_labels"])
    assert np.isnan(partly.loc["category", "variance_beyond_labels"])
    assert not partly.loc["category", "verdict"].startswith("established")
    assert np.isnan(partly.loc["category", "decoded"])


def test_too_few_shared_images(files, tmp_path):
    alone = _write(tmp_path / "alone.nwb", np.arange(55, 100), seed=3, n_units=8)
    with pytest.raises(MigvisError, match=r"alone\.nwb: shares too few images .*\(5 with a\.nwb\)"):
        run([files[0], alone], out=tmp_path, config=SMALL)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["alone.nwb"]


@pytest.mark.slow
def test_a_failure_in_the_second_file_leaves_the_first_whole(ran, files, tmp_path, monkeypatch):
    a, b = (Path(shutil.copy(path, tmp_path / path.name)) for path in files)

    def only_the_first(results, *, source, **keywords):
        if source == b:
            raise MigvisError("the disk is full")
        return write_results(results, source=source, **keywords)

    made = [(results, {}) for results in ran]
    monkeypatch.setattr("nwb_migvis.runs.running.write_results", only_the_first)
    monkeypatch.setattr(Study, "run", lambda _, **__: None)
    monkeypatch.setattr(Study, "assembled", lambda _: made)
    with pytest.raises(MigvisError, match=r"disk is full \(already written, and whole: .*a_migvis\.nwb\)"):
        run([a, b], config=SMALL)
    assert read_results(tmp_path / "a_migvis.nwb").latents.equals(ran[0].latents)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.nwb", "a_migvis.nwb", "b.nwb"]


@pytest.mark.slow
def test_in_place_and_a_session_without_pixels(files, tmp_path):
    a = Path(shutil.copy(files[0], tmp_path / "a.nwb"))
    bare = _write(tmp_path / "bare.nwb", ROWS[1], seed=2, n_units=16, pixels=False)
    plain = replace(SMALL, prior=TINY.prior, evidence=TINY.evidence)
    shown, unseen = run([a, bare], in_place=True, config=plain, stimulus="stimulus")
    assert shown.synthesized.sizes["edit"] > 0
    assert unseen.synthesized.sizes["edit"] == 0
    assert set(unseen.provenance["weights"]) == {"vae"}
    assert any("synthesis was skipped" in note for note in unseen.provenance["notes"])
    for path, results in ((a, shown), (bare, unseen)):
        assert read_results(path).latents.equals(results.latents)
        assert path.with_name(f"{path.name}.bak").exists()

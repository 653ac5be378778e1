"""The whole path on small files: what `run` returns, writes and says."""

import hashlib
import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pynwb
import pytest
import xarray as xr

from nwb_migvis import Config, MigvisError, read_results, read_session, run, simulate_session
from nwb_migvis.analysis import Study
from nwb_migvis.config import (
    GroupConfig,
    PriorConfig,
)
from nwb_migvis.report import draw_edits
from nwb_migvis.results import EDIT_COORDS, GROUP_COLUMNS
from nwb_migvis.store import read_weights, validate_file
from nwb_migvis.synthesis.prior import training as prior_training
from nwb_migvis.synthesis.prior.model import load_prior
from nwb_migvis.testing import tiny_config, write_tiny_session

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"

pytestmark = pytest.mark.slow

TINY = tiny_config()
FEW_EDITS = replace(TINY.synthesis, n_pairs=2, n_dose=0, n_traversal=0, n_samples=0, methods=("pmi",))
BRIEF = replace(TINY, synthesis=FEW_EDITS)
"""The same latents as `TINY`, and as few edits as a run can make."""


@pytest.fixture(scope="module")
def session(tmp_path_factory):
    return write_tiny_session(tmp_path_factory.mktemp("session") / "session.nwb")


@pytest.fixture(scope="module")
def ran(session):
    out = session.with_name("out.nwb")
    return run(session, out=out, config=TINY), out


def test_results_are_what_the_contract_says(ran, session):
    results, _ = ran
    n_stimuli, n_units = 120, 24
    assert list(results.groups.columns) == [c for c in GROUP_COLUMNS if c != "stability"]
    assert list(results.groups.index) == ["numeric", "category", "free_1", "free_2"]
    assert results.groups.loc["category", "supervised_by"] == "category"
    assert results.groups.loc["free_1", "supervised_by"] == ""
    assert set(results.groups.loc["numeric", "supervised_by"].split(",")) == {
        *("rotation_x", "rotation_y", "rotation_z", "position_x", "position_y", "size")
    }
    assert dict(results.latents.sizes) == {"stimulus": n_stimuli, "latent": 24}
    assert set(results.latents["split"].values) == {"train", "validation", "test"}
    assert (results.latents["n_presentations"] == 4).all()
    assert dict(results.units.sizes) == {"unit": n_units, "latent": 24}
    assert set(results.units.data_vars) == {"loading", "r2", "noise_ceiling", "reliability"}
    np.testing.assert_array_equal(results.units["unit"], read_session(session)["unit"])
    edits = results.synthesized
    assert set(edits.coords) == set(EDIT_COORDS)
    assert edits["image"].dtype == np.uint8
    assert edits["image"].shape[1:] == (16, 16)
    assert (results.groups["mi_cap_nats"] == np.log(24)).all()
    assert results.groups["mi_p"].between(0, 1).all()


def test_edits_are_held_out_pairs_under_every_method(ran):
    results, _ = ran
    edits = results.synthesized
    split = dict(zip(results.latents["stimulus"].values, results.latents["split"].values, strict=True))
    assert {split[name] for name in edits["source"].values} == {"test"}
    assert {split[name] for name in edits["target"].values if name} == {"test"}
    count = edits["image"][:, 0, 0].to_dataframe().groupby(["role", "method", "group"]).size()
    assert (count["main"] == 10).all()
    assert set(count["main"].index.get_level_values("method")) == {"pmi", "none", "shuffled"}
    assert (count["traversal"] == 2 * 4).all()
    assert (count["dose"] == 2 * 2).all()


def test_the_file_reads_back_as_what_was_returned(ran):
    results, out = ran
    again = read_results(out)
    pd.testing.assert_frame_equal(again.groups, results.groups, check_exact=True)
    for name in ("latents", "units", "synthesized", "selectivity", "decoding"):
        xr.testing.assert_allclose(getattr(again, name), getattr(results, name), rtol=0, atol=0)
    assert again.provenance["config"] == results.provenance["config"]
    assert Config.from_dict(again.provenance["config"]).latents.groups[1].name == "category"


def test_the_file_is_valid(ran):
    _, out = ran
    assert pynwb.validate(path=out) == []
    assert [f for f in validate_file(out) if f.importance != "best_practice_suggestion"] == []


def test_provenance_says_how(ran, session):
    results, _ = ran
    provenance = results.provenance
    assert provenance["inputs"][0]["sha256"] == hashlib.sha256(session.read_bytes()).hexdigest()
    assert provenance["n_threads"] == 1
    assert set(provenance["weights"]) == {"vae", "critic", "prior"}
    assert {"torch", "pynwb", "python"} <= set(provenance["versions"])
    assert provenance["config"]["prior"]["size_px"] == 16
    json.dumps(provenance)


def test_the_same_command_gives_the_same_arrays(ran, session, tmp_path):
    results, _ = ran
    again = run(session, out=tmp_path / "again.nwb", config=TINY)
    assert again.provenance["weights"] == results.provenance["weights"]
    assert again.groups.equals(results.groups)
    for name in ("latents", "units", "synthesized", "selectivity", "decoding"):
        assert getattr(again, name).identical(getattr(results, name))
    other = run(session, out=tmp_path / "other.nwb", config=replace(BRIEF, seed=1))
    assert not other.latents["mean"].equals(results.latents["mean"])


def test_in_place_keeps_the_original_beside(session, tmp_path):
    copy = tmp_path / "copy.nwb"
    shutil.copy(session, copy)
    before = copy.read_bytes()
    run(copy, in_place=True, name="second", config=BRIEF)
    assert read_results(copy).name == "second"
    assert copy.with_name("copy.nwb.bak").read_bytes() == before
    assert read_session(copy)["spike_count"].equals(read_session(session)["spike_count"])


def test_reading_options_reach_the_reader_and_the_record_and_a_list_of_one_gives_a_list(session, tmp_path):
    reading = {"window_s": (0.1, 0.2), "units": "id < 10"}
    (results,) = run([session], out=tmp_path / "o.nwb", config=BRIEF, **reading)
    assert results.name == "migvis"
    assert results.units.sizes["unit"] == 10
    assert results.provenance["reading"] == {"window_s": [0.1, 0.2], "units": "id < 10"}


def test_refusals_come_before_any_work(session, tmp_path, monkeypatch):
    monkeypatch.setattr(Study, "run", lambda _: pytest.fail("work was done"))
    taken = tmp_path / "taken.nwb"
    taken.write_bytes(b"mine")
    with pytest.raises(MigvisError, match="exists already"):
        run(session, out=taken, config=TINY)
    assert taken.read_bytes() == b"mine"
    with pytest.raises(MigvisError, match="absent"):
        run(session, out=tmp_path / "absent" / "o.nwb", config=TINY)


def test_a_source_that_changes_meanwhile_is_refused(session, tmp_path, monkeypatch):
    copy = tmp_path / "copy.nwb"
    shutil.copy(session, copy)
    real = Study.run

    def touch(*arguments, **keywords):
        found = real(*arguments, **keywords)
        with copy.open("ab") as file:
            file.write(b" ")
        return found

    monkeypatch.setattr(Study, "run", touch)
    with pytest.raises(MigvisError, match="was changed since it was read"):
        run(copy, out=tmp_path / "o.nwb", config=BRIEF)
    assert not (tmp_path / "o.nwb").exists()


def test_a_file_cannot_make_the_report_evaluate_or_open_anything(ran, tmp_path):
    _, out = ran
    evil = tmp_path / "evil.nwb"
    shutil.copy(out, evil)
    target = tmp_path / "written"
    query = f"@pd.io.common.os.system('touch {target}')"
    with h5py.File(evil, "r+") as file:
        attributes = file["analysis/migvis/model"].attrs
        provenance = json.loads(attributes["provenance"])
        provenance["reading"] = {"units": query, "images": str(tmp_path), "allow_outside": True}
        attributes["provenance"] = json.dumps(provenance)
    assert read_results(evil).provenance["reading"]["units"] == query
    assert draw_edits(evil) == tmp_path / "evil_migvis_edits.png"
    assert not target.exists()
    with pytest.raises(MigvisError, match="does not fit"):
        read_session(out, units=query)
    assert not target.exists()


@pytest.mark.parametrize("name", ["absent/x.png", "x.pdf", "folder"])
def test_figures_that_cannot_be_written(name, ran, tmp_path):
    _, out = ran
    with pytest.raises(MigvisError, match="expected the path of a PNG"):
        draw_edits(out, out=tmp_path / name)


def test_images_smaller_than_the_network_are_padded_and_traversals_may_be_left_out(tmp_path):
    units = {"pose": 8, "category": 8, "content": 4, "mixed": 4}
    path = simulate_session(tmp_path / "s.nwb", n_stimuli=120, n_repeats=2, size_px=8, units=units)
    config = replace(
        TINY,
        prior=replace(TINY.prior, size_px=5, patch_px=2),
        synthesis=replace(TINY.synthesis, n_pairs=2, n_traversal=0, n_dose=0),
    )
    results = run(path, config=config)
    assert results.synthesized["image"].shape[1:] == (5, 5)
    assert set(results.synthesized["role"].values) == {"main"}
    assert results.provenance["appearance"]["start"] == {}


@pytest.mark.parametrize("device", ["cuda:99", "cpu:x"])
def test_a_device_that_this_machine_lacks_is_refused_before_anything_is_read(
    session, tmp_path, monkeypatch, device
):
    monkeypatch.setattr("nwb_migvis.runs.running.read_session", None)
    with pytest.raises(MigvisError, match=f"'{device}' cannot be used"):
        run(session, out=tmp_path / "o.nwb", config=replace(TINY, device=device))


ZHANG = DATA / "it_zhang_desimone" / "zd_it_pseudopopulation.nwb"


@pytest.mark.skipif(not ZHANG.exists(), reason="the folder of real recordings is absent")
def test_a_real_session_without_pixels_is_analysed_but_not_edited(tmp_path):
    groups = (
        GroupConfig(name="object", size=3, labels=("stimulus_id",)),
        GroupConfig(name="position", size=3, labels=("stimulus_position",)),
    )
    config = replace(TINY, latents=replace(TINY.latents, groups=groups))
    results = run(ZHANG, out=tmp_path / "o.nwb", config=config, stimulus="stimulus_ID_position")
    assert results.latents.sizes == {"stimulus": 21, "latent": 6}
    assert results.units.sizes["unit"] == 132
    assert results.synthesized.sizes["edit"] == 0
    assert np.isnan(results.groups["mi_bound_nats"]).all()
    notes = results.provenance["notes"]
    assert "synthesis was skipped" in notes[0]
    assert "variance explained was not measured" in notes[1]
    assert "label decoding was not measured" in notes[-1]
    assert set(results.provenance["weights"]) == {"vae"}
    assert read_results(tmp_path / "o.nwb").latents.equals(results.latents)


@pytest.mark.skipif(not ZHANG.exists(), reason="the folder of real recordings is absent")
def test_too_many_latents_for_a_small_real_session(tmp_path):
    with pytest.raises(MigvisError, match="training stimuli for 24 latents"):
        run(ZHANG, out=tmp_path / "o.nwb", config=TINY, stimulus="stimulus_ID_position")


def test_without_the_extra_the_command_says_what_to_install(session):
    code = (
        "import importlib.util as u; find = u.find_spec\n"
        "u.find_spec = lambda name, *a: None if name == 'torch' else find(name, *a)\n"
        f"from nwb_migvis.cli import main; main(['run', {str(session)!r}])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1
    assert "pip install 'nwb-migvis[models]'" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"source": None}, "source is None; expected a path"),
        ({"source": b"a.nwb"}, "source is b'a.nwb'; expected a path"),
        ({"source": [None]}, "source is None; expected a path"),
        ({"source": []}, "found 0 sessions"),
        ({"source": "a.nwb", "config": {"seed": 1}}, "config is {'seed': 1}; expected a Config"),
    ],
)
def test_misuse_in_python_is_one_line(arguments, message):
    with pytest.raises(MigvisError, match=message):
        run(**arguments)


def test_a_prior_to_start_from(session, tmp_path):
    with pytest.raises(MigvisError, match="no such folder"):
        run(session, out=tmp_path / "a.nwb", config=replace(TINY, prior=PriorConfig(start="absent")))
    renders = replace(TINY, prior=PriorConfig(start="renders", n_steps=1))
    with pytest.raises(MigvisError, match=r"32 x 32 px, grayscale; the session's are 16 x 16 px"):
        run(session, out=tmp_path / "a.nwb", config=renders)
    assert not list(tmp_path.iterdir())
    larger = simulate_session(tmp_path / "larger.nwb", n_stimuli=120, n_repeats=2, units={"pose": 4})
    synthesis = replace(FEW_EDITS, source_guidance=1.0)
    told = PriorConfig(start="renders", conditional=True, n_steps=1, batch_size=4)
    evidence = replace(TINY.evidence, information_draws=1)
    results = run(larger, config=replace(TINY, prior=told, synthesis=synthesis, evidence=evidence))
    used = results.provenance["config"]["prior"]
    assert (used["start"], used["channels"], used["size_px"]) == ("renders", [64, 128, 128], 32)
    assert results.synthesized["image"].shape[1:] == (32, 32)
    assert load_prior(read_weights(tmp_path / "larger_migvis.nwb")["prior"]).is_conditional
    assert np.isfinite(results.groups["information_nats"]).all()
    assert results.groups["information_p"].between(0.05, 1).all()
    again = read_results(tmp_path / "larger_migvis.nwb").groups
    pd.testing.assert_frame_equal(again, results.groups, check_exact=True)


def test_a_killed_run_goes_on_from_its_cache_to_the_same_results(ran, session, tmp_path, monkeypatch):
    cached = replace(TINY, cache=str(tmp_path / "new" / "cache"))
    monkeypatch.setattr(prior_training, "CHECKPOINT_EVERY", 2)
    loss, steps = prior_training.denoising_loss, []

    def counted(*arguments, **more):
        steps.append(0)
        if len(steps) == 4:
            raise KeyboardInterrupt
        return loss(*arguments, **more)

    monkeypatch.setattr(prior_training, "denoising_loss", counted)
    out = tmp_path / "out.nwb"
    with pytest.raises(KeyboardInterrupt):
        run(session, out=out, config=cached)
    again = run(session, out=out, config=cached)
    assert len(steps) == 4 + 2
    assert again.synthesized.identical(ran[0].synthesized)
    assert again.provenance["weights"] == ran[0].provenance["weights"]
    assert again.provenance["config"] == ran[0].provenance["config"]
    (entry,) = (tmp_path / "new" / "cache").iterdir()
    assert entry.is_dir()


def test_a_cache_that_is_no_folder_is_refused_before_any_work(session, tmp_path):
    (tmp_path / "file").write_text("")
    cached = replace(TINY, cache=str(tmp_path / "file"))
    with pytest.raises(MigvisError, match=r"cache .*file: File exists; give another folder"):
        run(session, out=tmp_path / "out.nwb", config=cached)

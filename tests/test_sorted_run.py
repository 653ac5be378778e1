"""Sorted units on disk to results in NWB, from the command line."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from layouts import image_folder, new_file, unknown_series, write
from pynwb import NWBHDF5IO
from test_read_sorted_session import TOML

from nwb_migvis import read_results, read_session
from nwb_migvis.config import GroupConfig
from nwb_migvis.store import validate_file

core = pytest.importorskip("spikeinterface.core")

N_STIMULI, N_REPEATS = 40, 3
GROUPS = (GroupConfig(name="area", size=2, labels=("area",)), GroupConfig(name="free", size=2))


@pytest.fixture(scope="module")
def home(tmp_path_factory, least_config):
    """A folder with an analyzer, presentations, images, metadata, a raw session, and settings."""
    home = tmp_path_factory.mktemp("sorted")
    recording, sorting = core.generate_ground_truth_recording(
        durations=[20.0], num_units=5, num_channels=4, seed=0
    )
    analyzer = core.create_sorting_analyzer(
        sorting, recording, format="binary_folder", folder=home / "analyzer", sparse=False
    )
    analyzer.compute(["random_spikes", "noise_levels", "templates"], verbose=False)
    analyzer.compute("quality_metrics", metric_names=["snr", "firing_rate"], verbose=False)
    shown = np.random.default_rng(0).permutation(np.tile(np.arange(N_STIMULI), N_REPEATS))
    table = pd.DataFrame({"start_time": 0.2 + 0.15 * np.arange(len(shown)), "stimulus": shown})
    table["stimulus"] = [f"im{k:02d}" for k in shown]
    table["category"] = ["xy"[k % 2] for k in shown]
    table["area"] = np.sin(shown)
    table["correct"] = np.arange(len(shown)) != 5
    table.loc[9, "stimulus"] = ""
    table.to_csv(home / "p.csv", index=False)
    image_folder(home / "images", {f"im{k:02d}.png": k for k in range(N_STIMULI)})
    (home / "meta.toml").write_text(TOML)
    config = replace(least_config, latents=replace(least_config.latents, groups=GROUPS))
    (home / "tiny.toml").write_text(config.to_toml())
    raw = new_file([])
    raw.units = None
    raw.add_acquisition(unknown_series("voltage"))
    write(raw, home / "raw.nwb")
    return home


def sorted_run(home, *more):
    return (
        "run",
        "--no-report",
        home / "analyzer",
        "--presentations",
        home / "p.csv",
        "--config",
        home / "tiny.toml",
        "--t-start",
        0,
        *more,
    )


def test_a_new_session_with_results(home, call, tmp_path):
    out = tmp_path / "new.nwb"
    snr = core.load(home / "analyzer").get_extension("quality_metrics").get_data()["snr"]
    code, printed, errors = call(
        *sorted_run(home, "--images", home / "images", "--metadata", home / "meta.toml", "--out", out),
        *("--unit-query", f"snr > {snr.min()}", "--where", "correct"),
    )
    assert (code, errors) == (0, ""), errors
    assert printed.endswith(f"wrote {out}\n")
    assert [path.name for path in tmp_path.iterdir()] == ["new.nwb"]
    with NWBHDF5IO(out, "r") as io:
        nwb = io.read()
        assert (nwb.identifier, nwb.subject.subject_id) == ("monkey-1", "M")
        assert len(nwb.units) == 4
        assert nwb.units["snr"].data[:].min() > snr.min()
        assert len(nwb.intervals["image_table"]) == N_STIMULI * N_REPEATS
        assert len(nwb.stimulus_template["presented_images"].images) == N_STIMULI
        assert "migvis" in nwb.analysis
    results = read_results(out)
    assert results.units.sizes["unit"] == 4
    assert results.synthesized.sizes["edit"] > 0
    assert list(results.groups.index)[:2] == ["area", "free"]
    provenance = results.provenance
    assert provenance["reading"]["unit_query"] == f"snr > {snr.min()}"
    assert provenance["reading"]["t_start"] == 0
    assert provenance["reading"]["window_s"] == [0.07, 0.17]
    named = {entry["path"]: entry.get("sha256") for entry in provenance["inputs"]}
    assert list(named) == ["analyzer", "p.csv", "meta.toml"]
    assert named["p.csv"] == hashlib.sha256((home / "p.csv").read_bytes()).hexdigest()
    session = read_session(out, where="correct")
    assert (session.attrs["n_blank"], session.attrs["n_dropped"]) == (1, 1)
    assert not [finding for finding in validate_file(out) if finding.importance == "error"]


def test_an_analyzer_without_its_recording_asks_for_its_start(home, call):
    asked = sorted_run(home, "--metadata", home / "meta.toml", "--out", home / "never.nwb")
    at = asked.index("--t-start")
    code, _, errors = call(*asked[:at], *asked[at + 2 :])
    assert code == 1
    assert len(errors.strip().splitlines()) == 1
    assert "--t-start" in errors
    assert not (home / "never.nwb").exists()
    code, _, errors = call("inspect", home / "raw.nwb", "--t-start", 3)
    assert code == 1 and "--presentations" in errors


def test_a_folder_of_sorted_units_is_inspected_before_a_run(home, call):
    code, printed, errors = call("inspect", home / "analyzer")
    assert (code, errors) == (0, "")
    lines = dict(line.split(maxsplit=1) for line in printed.splitlines()[:-1])
    assert lines["units"] == "5" and lines["clock"].startswith("unknown") and "snr (" in lines["columns"]
    assert printed.splitlines()[-1].startswith(
        f"next: nwb-migvis inspect {home / 'analyzer'} --presentations"
    )
    asked = ("--presentations", home / "p.csv", "--images", home / "images", "--t-start", 0)
    query = ("--unit-query", "snr > -1", "--where", "correct")
    code, printed, errors = call("inspect", home / "analyzer", *asked, *query, "--no-estimate")
    assert (code, errors) == (0, ""), errors
    assert "sorting (presentations)" in printed and "area (numeric, 40 values)" in printed
    assert "archive" not in printed
    *_, last = printed.splitlines()
    assert last.startswith(f"next: nwb-migvis run {home / 'analyzer'} --") and "--t-start 0" in last
    code, printed, _ = call("inspect", home / "analyzer", "--json")
    contents = json.loads(printed)
    assert code == 0 and contents["n_units"] == 5 and contents["has_recording"] is False
    code, _, errors = call("inspect", home / "images")
    assert code == 1 and "expected a folder that it saved" in errors


def test_units_and_results_into_a_copy_of_a_session(home, call):
    before = (home / "raw.nwb").read_bytes()
    code, printed, errors = call(*sorted_run(home, "--into", home / "raw.nwb", "--quiet"))
    out = home / "raw_migvis.nwb"
    assert (code, errors) == (0, ""), errors
    assert "synthesis was skipped" in printed
    assert (home / "raw.nwb").read_bytes() == before
    with NWBHDF5IO(out, "r") as io:
        nwb = io.read()
        assert nwb.acquisition["voltage"].data[:].tolist() == [1.0, 2.0]
        assert len(nwb.units) == 5
    results = read_results(out)
    assert results.synthesized.sizes["edit"] == 0
    assert results.latents.sizes["stimulus"] == N_STIMULI
    code, _, errors = call(*sorted_run(home, "--into", home / "raw.nwb"))
    assert code == 1
    assert "raw_migvis.nwb exists already" in errors
    assert not list(home.glob(".*"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{home}/analyzer"], "is a folder; expected an NWB file; .* --presentations"),
        (["{home}/analyzer", "--into", "{home}/raw.nwb"], "found --into without --presentations"),
        (["{home}/raw.nwb", "--unit-query", "snr > 1"], "found --unit-query without --presentations"),
        (["{sorted}"], "found neither of --into and --metadata"),
        (["{sorted}", "--into", "{home}/raw.nwb", "--metadata", "{home}/meta.toml"], "found both of --into"),
        (["{sorted}", "{home}/raw.nwb", "--into", "{home}/raw.nwb"], "found 2 paths with --presentations"),
        (["{sorted}", "--into", "{home}/raw.nwb", "--in-place"], "found --in-place with --presentations"),
        (["{sorted}", "--into", "{home}/raw.nwb", "--stimulus", "x"], "found --stimulus with"),
        (["{sorted}", "--into", "{home}/raw.nwb", "--channel-order", "bgr"], "found --channel-order with"),
        (["{sorted}", "--into", "{home}/absent.nwb"], "absent.nwb: found nothing"),
        (["{sorted}", "--into", "{home}/meta.toml"], "meta.toml is not an HDF5 file"),
        (["{sorted}", "--metadata", "{home}/absent.toml"], "metadata .*absent.toml: No such file"),
        (
            ["{sorted}", "--metadata", "{home}/meta.toml", "--images", "{home}/no"],
            "images folder .* does not",
        ),
        (
            ["{sorted}", "--metadata", "{home}/meta.toml", "--unit-query", "snr > 1e9"],
            "selects none of the 5",
        ),
        (["{sorted}", "--metadata", "{home}/meta.toml", "--unit-query", ""], "--unit-query is empty"),
        (["{sorted}", "--metadata", "{home}/meta.toml", "--where", "hot"], "no presentation column 'hot'"),
        (["{sorted}", "--metadata", "{home}/meta.toml", "--out", "{home}/no/x.nwb"], "no is not a folder"),
        (
            ["{home}/images", "--presentations", "{home}/p.csv", "--metadata", "{home}/meta.toml"],
            "cannot be loaded",
        ),
        (
            ["{home}/p.csv", "--presentations", "{home}/p.csv", "--metadata", "{home}/meta.toml"],
            "is not a folder",
        ),
        (
            ["{home}/analyzer", "--presentations", "{home}/no.csv", "--metadata", "{home}/meta.toml"],
            "no.csv: No",
        ),
    ],
)
def test_misuse_is_one_line(home, call, arguments, message):
    whole = []
    for argument in arguments:
        if argument == "{sorted}":
            whole += [home / "analyzer", "--presentations", home / "p.csv", "--t-start", "0"]
        else:
            whole.append(argument.format(home=home))
    before = sorted(home.iterdir())
    code, printed, errors = call("run", *whole)
    assert (code, printed) == (1, "")
    assert len(errors.strip().splitlines()) == 1
    assert re.search(message, errors), errors
    assert ".tmp" not in errors
    assert sorted(home.iterdir()) == before

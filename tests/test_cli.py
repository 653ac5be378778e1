"""The command line as a user meets it: exit codes, one line on stderr, what is printed."""

import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import h5py
import pytest

from nwb_migvis import read_results, simulate_session
from nwb_migvis.cli import main

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="module")
def home(tmp_path_factory, least_config):
    folder = tmp_path_factory.mktemp("home")
    units = {"pose": 4, "category": 4, "content": 2, "mixed": 2}
    simulate_session(folder / "session.nwb", seed=1, n_stimuli=120, n_repeats=4, size_px=16, units=units)
    (folder / "tiny.toml").write_text(least_config.to_toml())
    return folder


@pytest.mark.slow
def test_simulate_inspect_run_report_validate(home, call, tmp_path):
    session, out = tmp_path / "s.nwb", tmp_path / "o.nwb"
    code, printed, _ = call(
        "simulate", session, "--seed", "3", "--n-stimuli", "100", "--n-repeats", "2", "--size", "16"
    )
    assert (code, printed) == (0, f"wrote {session}\n")
    code, printed, _ = call("inspect", session, "--no-estimate")
    assert code == 0
    assert "category" in printed
    code, printed, errors = call("run", session, "--out", out, "--config", home / "tiny.toml", "--quiet")
    assert (code, errors) == (0, "")
    assert "free_2" in printed
    assert str(out) in printed
    assert printed.rstrip().endswith(f"wrote {tmp_path / 'o_report.html'}")
    assert (tmp_path / "o_report.html").read_text(encoding="utf-8").startswith("<!doctype html>")
    code, printed, errors = call("report", out, "--out", tmp_path / "edits.png")
    assert (code, errors) == (0, "")
    assert "category" in printed
    assert (tmp_path / "edits.png").read_bytes().startswith(b"\x89PNG")
    code, printed, _ = call("validate", out)
    assert code == 0
    assert printed.endswith("; holds results of migvis\n")
    code, printed, errors = call("validate", session)
    assert (code, errors) == (0, "")
    assert "valid" in printed.splitlines()[-1]
    assert "holds no results" in printed.splitlines()[-1]


def test_inspect_prints_the_keys_of_the_contract_as_json(home, call):
    code, printed, _ = call("inspect", home / "session.nwb", "--json")
    found = json.loads(printed)
    assert code == 0
    assert found["n_units"] == 12
    assert found["n_presentations"] == 480
    assert found["n_stimuli"] == 120
    assert list(found["image_shape"]) == [16, 16]
    assert {"layout", "labels"} <= set(found)
    assert "category" in found["labels"]


@pytest.fixture(scope="module")
def written(home):
    """The output of one run with many options, over a file that was there; no test changes it."""
    out = home / "written.nwb"
    out.write_bytes(b"mine")
    options = "--name mine --units 'id < 5' --window 0.05 0.15 --seed 9 --preset quick --device cpu"
    with pytest.raises(SystemExit) as stopped:
        arguments = [
            "run",
            "--no-report",
            home / "session.nwb",
            "--out",
            out,
            "--config",
            home / "tiny.toml",
            "--quiet",
            "--overwrite",
        ]
        main([*map(str, arguments), *shlex.split(options)])
    assert stopped.value.code == 0
    return out


@pytest.mark.slow
def test_options_reach_the_run(written):
    results = read_results(written, "mine")
    assert results.units.sizes["unit"] == 5
    assert results.provenance["reading"]["window_s"] == [0.05, 0.15]
    assert results.provenance["config"]["seed"] == 9


def _damaged(home, tmp_path, *, drop=None):
    path = tmp_path / "damaged.nwb"
    shutil.copy(home / "session.nwb", path)
    with h5py.File(path, "r+") as file:
        for name in drop or ():
            del file[name]
    return path


def _nan_spikes(home, tmp_path):
    path = _damaged(home, tmp_path)
    with h5py.File(path, "r+") as file:
        file["units/spike_times"][3] = float("nan")
    return path


def _no_spikes(home, tmp_path):
    path = _damaged(home, tmp_path)
    with h5py.File(path, "r+") as file:
        file["units/spike_times_index"][:] = 0
    return path


def _not_nwb(home, tmp_path):
    path = tmp_path / "text.nwb"
    path.write_text("no HDF5")
    return path


def _other_hdf5(home, tmp_path):
    path = tmp_path / "other.nwb"
    with h5py.File(path, "w") as file:
        file["x"] = 1
    return path


def _truncated(home, tmp_path):
    path = tmp_path / "short.nwb"
    content = (home / "session.nwb").read_bytes()
    path.write_bytes(content[: len(content) // 2])
    return path


BAD = {
    "absent": (lambda home, tmp: tmp / "absent.nwb", "absent.nwb"),
    "a folder": (lambda home, tmp: tmp, "expected an NWB file"),
    "not HDF5": (_not_nwb, "text.nwb"),
    "not NWB": (_other_hdf5, "other.nwb"),
    "truncated": (_truncated, "short.nwb"),
    "no units": (lambda home, tmp: _damaged(home, tmp, drop=["units"]), "nits"),
    "no spike times": (
        lambda home, tmp: _damaged(home, tmp, drop=["units/spike_times", "units/spike_times_index"]),
        "spike_times",
    ),
    "no spikes": (_no_spikes, "spike"),
    "NaN spike times": (_nan_spikes, "NaN"),
}


@pytest.mark.parametrize("what", BAD)
@pytest.mark.parametrize("verb", ["inspect", "run"])
def test_bad_input_is_one_line_and_exit_code_one(what, verb, home, call, tmp_path):
    make, named = BAD[what]
    path = make(home, tmp_path)
    before = sorted(tmp_path.iterdir())
    code, printed, errors = call(verb, path)
    assert (code, printed) == (1, "")
    assert len(errors.strip().splitlines()) == 1
    assert named in errors
    assert sorted(tmp_path.iterdir()) == before


def test_no_stimuli(home, call, tmp_path):
    path = _damaged(home, tmp_path)
    with h5py.File(path, "r+") as file:
        del file["stimulus/presentation"]
        file.create_group("stimulus/presentation")
        del file["intervals"]
    code, _, errors = call("run", path)
    assert code == 1
    assert "stimul" in errors


def test_an_output_that_exists_already(home, call, tmp_path):
    out = tmp_path / "o.nwb"
    out.write_bytes(b"mine")
    code, _, errors = call(
        "run", home / "session.nwb", "--no-report", "--out", out, "--config", home / "tiny.toml"
    )
    assert code == 1
    assert "--overwrite" in errors
    assert out.read_bytes() == b"mine"


def test_a_file_that_another_process_is_writing(home, call, tmp_path):
    path = tmp_path / "busy.nwb"
    shutil.copy(home / "session.nwb", path)
    code = "import h5py, sys; f = h5py.File(sys.argv[1], 'r+'); print('open', flush=True); sys.stdin.read()"
    environment = os.environ | {"HDF5_USE_FILE_LOCKING": "TRUE"}
    with subprocess.Popen(
        [sys.executable, "-c", code, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
    ) as other:
        assert other.stdout is not None
        other.stdout.readline()
        exit_code, _, errors = call("run", path, "--in-place")
        other.communicate()
    assert exit_code == 1
    assert len(errors.strip().splitlines()) == 1
    assert "another process" in errors or "elsewhere" in errors


@pytest.mark.skipif(not DATA.exists(), reason="the folder of real recordings is absent")
def test_a_real_session_whose_images_are_elsewhere(call, tmp_path):
    session = DATA / "nwb_dicarlo_layout" / "session_no_images.nwb"
    for arguments, named in [
        ([], "--images"),
        (["--images", tmp_path / "absent"], "absent"),
        (["--images", tmp_path], "640"),
    ]:
        code, _, errors = call("run", session, *arguments)
        assert code == 1, arguments
        assert len(errors.strip().splitlines()) == 1
        assert named in errors


@pytest.mark.parametrize(
    "arguments", [["run"], ["run", "x", "--speed", "3"], ["fly"], ["run", "x", "--preset", "slow"]]
)
def test_a_command_line_that_does_not_parse(arguments, call):
    code, _, errors = call(*arguments)
    assert code == 2
    assert "Usage" in errors


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--units", ""], "--units is empty"),
        (["--images", ""], "--images is empty"),
        (["--window", "0", "inf"], "is not finite"),
        (["--window", "0.2", "0.1"], "is empty"),
    ],
)
def test_options_without_a_sensible_value(arguments, message, home, call):
    for verb in ("inspect", "run"):
        code, _, errors = call(verb, home / "session.nwb", *arguments)
        assert code == 1
        assert message in errors


def test_the_switches_of_reading_images(home, call):
    code, printed, _ = call(
        "inspect", home / "session.nwb", "--resize", 8, 9, "--channel-order", "bgr", "--json"
    )
    assert code == 0
    assert json.loads(printed)["image_shape"] == [8, 9]


@pytest.mark.slow
def test_validate_finds_a_damaged_file(written, call, tmp_path):
    out = Path(shutil.copy(written, tmp_path / "o.nwb"))
    with h5py.File(out, "r+") as file:
        del file["analysis/mine/latent_groups"]
    code, printed, errors = call("validate", out)
    assert code == 1
    assert printed.startswith("error")
    assert len(errors.strip().splitlines()) == 1

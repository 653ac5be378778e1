"""What a new user meets: help without arguments, settings as a file, near names, short lists, a log."""

import json
import os
import re
import tomllib
import warnings

import numpy as np
import pytest

from nwb_migvis import Config, MigvisError, progress
from nwb_migvis.config import PRESETS, GroupConfig
from nwb_migvis.config.commented import commented_toml
from nwb_migvis.plain import nearest
from nwb_migvis.plot.recorded import curves
from nwb_migvis.runs import finding_lines
from nwb_migvis.store import Finding
from nwb_migvis.testing import mock_results, mock_session, tiny_config


@pytest.mark.parametrize("preset", PRESETS)
def test_every_setting_is_printed_with_what_it_means(call, preset):
    code, printed, errors = call("config", "--preset", preset)
    assert (code, errors) == (0, "")
    assert Config.from_dict(tomllib.loads(printed)) == PRESETS[preset]
    lines = printed.splitlines()
    assert max(map(len, lines)) <= 110
    for line, before in zip(lines[1:], lines, strict=False):
        if re.match(r"\w+ = ", line) and not before.startswith("#"):
            # A setting without a comment of its own says everything by its name.
            assert line.split(" = ")[0] in UNEXPLAINED, line


UNEXPLAINED = {"batch_size", "learning_rate", "layers_per_block", "ema_decay", "weight_decay", "dropout"}


def test_groups_are_printed_as_they_are_read():
    latents = tiny_config().latents
    config = tiny_config(latents={"groups": [GroupConfig(name="a b", labels=("x",))]})
    assert latents.groups == ()
    assert Config.from_dict(tomllib.loads(commented_toml(config))) == config


def test_without_arguments_the_command_says_what_to_do_first(call):
    code, printed, errors = call()
    assert (code, errors) == (0, "")
    for word in ("demo", "inspect", "run", "report", "config", "completion"):
        assert f"nwb-migvis {word}" in printed


def test_near_names_are_suggested(call):
    code, _, errors = call("inspct")
    assert code == 2 and "did you mean 'inspect'?" in errors
    code, _, errors = call("run", "x.nwb", "--prest", "quick")
    assert code == 2 and "--preset" in errors
    for values, word in (
        ({"prior": {"n_step": 3}}, "n_steps"),
        ({"latents": {"likelihood": "poison"}}, "poisson"),
        ({"preset": "quik"}, "quick"),
    ):
        with pytest.raises(MigvisError, match=re.escape(f"(did you mean '{word}'?)")):
            Config.from_dict(values)
    with pytest.raises(MigvisError, match=re.escape("(did you mean 'category'?)")):
        mock_results().edits(group="categry")
    assert nearest("zzz", ["pose", "category"]) == "pose, category"
    assert nearest("x", map(str, range(20)), most=3) == "0, 1, 2 and 17 more"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_complete_commands(call, shell):
    code, printed, errors = call("completion", shell)
    assert (code, errors) == (0, "")
    assert printed.startswith("# add to ~/.") and "_NWB_MIGVIS_COMPLETE" in printed


def test_findings_of_one_kind_are_one_line():
    kind = "best_practice_violation"
    findings = [Finding(kind, f"column 'c{i}' has {i} rows", f"/units/c{i}") for i in range(9)]
    findings += [Finding("error", f"bad {i}", f"/x{i}") for i in range(2)]
    findings.append(Finding("best_practice_suggestion", "no subject", "/"))
    assert finding_lines(findings) == [
        "error: /x0: bad 0",
        "error: /x1: bad 1",
        f"{kind} (9 times): /units/c0, /units/c1, /units/c2 and 6 more: column 'c0' has 0 rows",
        "best_practice_suggestion: /: no subject",
    ]


def test_stages_are_said_and_logged(tmp_path, monkeypatch):
    monkeypatch.setattr(progress, "_quiet", False)  # a command before may have had --quiet
    said, log = [], tmp_path / "run.log"
    with progress.telling(said.append, log=log), progress.stage("latents"):
        bar = progress.progress(range(2), what="VAE")
        assert list(bar) == [0, 1]
        bar.show_loss(2, 0.25)
        warnings.warn("careful", UserWarning, stacklevel=1)
    assert said == ["latents ..."]
    lines = log.read_text(encoding="utf-8").splitlines()
    dated = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d\d:\d\d ")
    assert all(dated.match(line) for line in lines)
    words = [dated.sub("", line) for line in lines]
    assert words[1:4] == [
        "latents begins",
        "VAE: step 2, loss on the validation stimuli 0.25",
        "warning: UserWarning: careful",
    ]
    assert re.fullmatch(r"latents took \d+\.\d s", words[4])
    with pytest.raises(MigvisError, match="give another --log"), progress.telling(None, log=tmp_path):
        pass
    with pytest.raises(ValueError, match="oh"), progress.telling(None, log=log):
        raise ValueError("oh")
    assert log.read_text(encoding="utf-8").rstrip().endswith("ended: ValueError: oh")


def test_a_run_keeps_the_curves_of_its_trainings():
    from nwb_migvis import Study

    study = Study(mock_session(size_px=None), tiny_config(latents={"n_steps": 200}))
    study.fit_latents()
    study.measure()
    (step, loss) = next(iter(curves(study.results).values()))
    np.testing.assert_array_equal(step, [100, 200])
    assert np.isfinite(loss).all()
    json.dumps(study.results.provenance["training"])


def test_ctrl_c_says_how_to_go_on(call, monkeypatch):
    from nwb_migvis import runs

    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(runs, "run_files", interrupt)
    code, _, errors = call("run", "x.nwb")
    assert code == 130 and "with --cache DIR" in errors
    code, _, errors = call("run", "x.nwb", "--cache", "c")
    assert code == 130 and "the same command goes on" in errors
    monkeypatch.setattr("nwb_migvis.demo.run_demo", interrupt)
    code, _, errors = call("demo", "--out", "d")
    assert code == 130 and "give another with --out" in errors


def test_bars_are_nested_where_somebody_watches(monkeypatch, capsys):
    monkeypatch.setattr(progress, "_quiet", False)
    for is_watched in (False, True):
        monkeypatch.setattr(progress, "is_watched", lambda seen=is_watched: seen)
        said = []
        with progress.telling(said.append), progress.working(["latents", "prior", "edits"]):
            with progress.stage("prior"):
                bar = progress.progress(range(3), what="diffusion prior")
                for step in bar:
                    bar.show_loss(step, 0.5)
            with progress.stage("edits"):
                pass
        shown = capsys.readouterr().err
        if not is_watched:
            assert shown == "" and said == ["prior ...", "edits ..."]
            continue
        assert said == []
        for words in ("prior (0 of 3 stages done", "edits (2 of 3 stages done", "diffusion prior: "):
            assert words in shown


def test_an_inspection_ends_with_the_command_to_type(call, session, monkeypatch):
    monkeypatch.setitem(PRESETS, "quick", tiny_config())
    code, printed, errors = call("inspect", session, "--window", "0.1", "0.2", "--allow-long-window")
    assert (code, errors) == (0, "")
    command = f"next: nwb-migvis run {session} --window 0.1 0.2 --allow-long-window"
    *_, estimate, last = printed.splitlines()
    assert last == command
    assert re.match(r"run here: (some \d+ s and \d\.\d GB of memory|not estimated: )", estimate)


def test_a_quoted_date_says_what_to_remove(tmp_path):
    from nwb_migvis.sorting.metadata import SessionMetadata

    path = tmp_path / "meta.toml"
    path.write_text('[session]\nsession_start_time = "2026-01-31T09:30:00+01:00"\n')
    with pytest.raises(MigvisError, match="remove the quotes"):
        SessionMetadata.from_toml(path)


def test_commands_let_others_have_their_cores(call, monkeypatch):
    for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT"):
        monkeypatch.delenv(name, raising=False)
    call()
    assert os.environ["GOMP_SPINCOUNT"] == "10000"
    monkeypatch.setenv("GOMP_SPINCOUNT", "7")
    call()
    assert os.environ["GOMP_SPINCOUNT"] == "7"
    monkeypatch.delenv("GOMP_SPINCOUNT")
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    call()
    assert "GOMP_SPINCOUNT" not in os.environ

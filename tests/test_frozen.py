"""Files of released versions are read for ever: each was written once, by `tests/data/write_frozen.py`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from data.write_frozen import digests

from nwb_migvis import MigvisError, read_results, read_session, synthesize_more
from nwb_migvis.config import Config
from nwb_migvis.store import validate_file

FROZEN = sorted((Path(__file__).parent / "data").glob("frozen_*.nwb"))
SCORE = 1e-3
"""Nats that the critic's scores may differ by between machines."""


@pytest.fixture(params=FROZEN, ids=[path.stem for path in FROZEN])
def frozen(request):
    return request.param


def test_there_is_a_file_of_every_release():
    assert [path.stem for path in FROZEN] == ["frozen_0_1_0"]


def test_every_array_is_read_as_on_the_day(frozen):
    recorded = json.loads(frozen.with_suffix(".json").read_text())
    for name, was in recorded.items():
        now = digests(frozen, name)
        assert {key: now.get(key) for key in was} == was


def test_runs_stand_side_by_side(frozen):
    with pytest.raises(MigvisError, match=r"migvis.*second"):
        read_results(frozen)
    for name in ("migvis", "second"):
        results = read_results(frozen, name)
        config = Config.from_dict(results.provenance["config"])
        assert config.n_threads == 1
        assert [group.name for group in config.latents.groups] == list(results.groups.index)


def test_the_session_beside_the_runs_is_still_read(frozen):
    session = read_session(frozen)
    results = read_results(frozen, "migvis")
    assert session["stimulus"].values.tolist() == results.latents["stimulus"].values.tolist()
    assert session["unit"].values.tolist() == results.units["unit"].values.tolist()


def test_it_is_valid(frozen):
    assert [f for f in validate_file(frozen) if f.importance != "best_practice_suggestion"] == []


def test_its_weights_make_its_edits_again(frozen, tmp_path):
    results = read_results(frozen, "migvis")
    edits = results.synthesized
    main = (edits["role"] == "main") & (edits["method"] == "pmi") & (edits["group"] == "pose")
    wanted = edits.isel(edit=int(np.flatnonzero(main.values)[0]))
    made = synthesize_more(
        frozen,
        group="pose",
        source=str(wanted["source"].item()),
        target=str(wanted["target"].item()),
        name="migvis",
        out=tmp_path / "more.nwb",
    )
    assert made.synthesized.sizes["edit"] == edits.sizes["edit"] + 1
    again = made.synthesized.isel(edit=-1)
    difference = again["image"].values.astype(int) - wanted["image"].values.astype(int)
    assert np.abs(difference).mean() < 1, "the stored weights no longer make the stored edit"
    for score in ("score_before", "score_after"):
        np.testing.assert_allclose(again[score], wanted[score], atol=SCORE, rtol=SCORE)
    before = read_results(tmp_path / "more.nwb", "second")
    assert before.groups.equals(read_results(frozen, "second").groups)


def test_pynwb_alone_reads_it(frozen):
    code = f"""
import sys
from pynwb import NWBHDF5IO
with NWBHDF5IO({str(frozen)!r}, "r") as io:
    run = io.read().analysis["migvis"]
    print(list(run.latent_groups["group"][:] if "group" in run.latent_groups.colnames
               else run.latent_groups.to_dataframe().iloc[:, 0]))
    print(run.stimulus_latents.to_dataframe().shape[0], run.synthesized_images["image"].data.shape)
assert "nwb_migvis" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    results = read_results(frozen, "migvis")
    groups, sizes = done.stdout.splitlines()
    assert all(name in groups for name in results.groups.index)
    shape = results.synthesized["image"].shape
    assert sizes == f"{results.latents.sizes['stimulus']} {shape}"

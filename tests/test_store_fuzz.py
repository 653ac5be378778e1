"""The benchmarks that make harm, in short: hostile files and folders, full disks, kills, another user."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="forks, limits and mounts as on Linux")


def ends_well(script: str, *arguments: str) -> str:
    command = [sys.executable, "-W", "ignore", str(BENCHMARKS / script), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=580)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@on_linux
def test_hostile_result_files_and_priors_end_well():
    pytest.importorskip("torch", reason="stored models are built")
    said = ends_well("fuzz_results.py", "--n", "6", "--priors", "5", "--seed", "3")
    assert "of seed 3: " in said and "validate names " in said


@on_linux
def test_full_disks_kills_and_two_writers_leave_all_of_the_old_or_of_the_new():
    said = ends_well("fault_sweeps.py", "--disks", "2", "--kills", "2", "--pairs", "1")
    assert "disks: 2 tried, 0 with a fault" in said


@on_linux
def test_another_user_without_a_home_works_in_the_one_folder_that_is_theirs(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import other_user

    if not other_user.is_possible():
        pytest.skip("needs root, and the right to mount")
    said = ends_well("other_user.py", "--commands", "recover", "report")
    assert "well: recover: exit 0" in said and "BAD" not in said

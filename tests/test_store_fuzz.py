"""Result files that were made to harm end in results or in one line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


def test_hostile_result_files_end_well():
    pytest.importorskip("torch", reason="stored models are built")
    script = Path(__file__).parents[1] / "benchmarks" / "fuzz_results.py"
    command = [sys.executable, "-W", "ignore", script, "--n", "20", "--seed", "3"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=580)
    assert done.returncode == 0, done.stdout + done.stderr

"""Damaged files end in a clear error or a read."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def test_damaged_files_end_well():
    script = Path(__file__).parents[1] / "benchmarks" / "fuzz_reading.py"
    done = subprocess.run([sys.executable, script, "--n", "25"], capture_output=True, text=True, timeout=580)
    assert done.returncode == 0, done.stdout + done.stderr

"""Time `import nwb_migvis` against `import pynwb, xarray`, which it needs in any case.

    python benchmarks/bench_import.py --n 15

Each is imported in fresh interpreters, one after the other in turns, so that both meet the same load. CPU
time of an interpreter is counted, from which waiting for other processes is absent. Compiled files and the
cache of pynwb are there from a first import of each that does not count.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys

STATEMENTS = {
    "base": "import pynwb, xarray",
    "extension": "import ndx_migvis",
    "package": "import nwb_migvis",
}


def cpu_seconds(statement: str) -> float:
    """Return the CPU time, user and system, of an interpreter that does nothing else."""
    process = subprocess.Popen([sys.executable, "-W", "ignore", "-c", statement])
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{statement}: ended with {process.returncode}")
    return usage.ru_utime + usage.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--n", type=int, default=15, help="interpreters per statement")
    options = parser.parse_args()
    for statement in STATEMENTS.values():
        cpu_seconds(statement)
    seconds = {name: [] for name in STATEMENTS}
    for _ in range(options.n):
        for name, statement in STATEMENTS.items():
            seconds[name].append(cpu_seconds(statement))
    for name, statement in STATEMENTS.items():
        ratios = [s / b for s, b in zip(seconds[name], seconds["base"], strict=True)]
        least, middle = min(seconds[name]), statistics.median(seconds[name])
        print(
            f"{statement:24s} least {least:.3f} s ({least / min(seconds['base']):.3f}), "
            f"median {middle:.3f} s ({middle / statistics.median(seconds['base']):.3f}), "
            f"median of ratios in turn {statistics.median(ratios):.3f}"
        )


if __name__ == "__main__":
    main()

"""What a training step of a small network takes beside a busy process, by how OpenMP's threads wait.

    python benchmarks/bench_busy_cores.py --threads 2 --busy 0 2

Each way of waiting is a process of its own, since OpenMP reads it once: its default, and the spin count that
the command line sets. Ratios are to the default on a machine left alone, in the same run.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys

from busy import busy

WAYS = {"default": {}, "spin 10000": {"GOMP_SPINCOUNT": "10000"}, "passive": {"OMP_WAIT_POLICY": "PASSIVE"}}

STEP = """
import sys, time, torch
torch.set_num_threads(int(sys.argv[1]))
layer = lambda: [torch.nn.Conv2d(32, 32, 3, padding=1), torch.nn.GroupNorm(8, 32), torch.nn.SiLU()]
network = torch.nn.Sequential(*[part for _ in range(8) for part in layer()])
x = torch.randn(32, 32, 16, 16)
network(x).sum().backward()
start = time.perf_counter()
for _ in range(10):
    network(x).sum().backward()
print((time.perf_counter() - start) / 10)
"""


def step_s(threads: int, way: str) -> float:
    """Return the seconds that a step takes in a process that waits in this way."""
    given = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_"))}
    command = [sys.executable, "-c", STEP, str(threads)]
    done = subprocess.run(command, env=given | WAYS[way], capture_output=True, text=True, check=True)
    return float(done.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--busy", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--n", type=int, default=3, help="repeats")
    options = parser.parse_args()
    alone = None
    for n_busy in options.busy:
        with busy(n_busy):
            seconds: dict[str, list[float]] = {way: [] for way in WAYS}
            for _ in range(options.n):
                for way in WAYS:
                    seconds[way].append(step_s(options.threads, way))
        median = {way: statistics.median(each) for way, each in seconds.items()}
        alone = alone or median["default"]
        print(f"{n_busy} busy:", ", ".join(f"{way} {value / alone:.2f}" for way, value in median.items()))


if __name__ == "__main__":
    main()

"""One training in two processes that accelerate starts: the weights of one process."""

import subprocess
import sys

import numpy as np
import pytest
import torch

from nwb_migvis.networks.ranks import ALONE, Ranks
from nwb_migvis.testing import tiny_config, write_tiny_session

pytest.importorskip("accelerate")

SCRIPT = """
import sys
from dataclasses import replace

import numpy as np
import torch
from nwb_migvis.config import PriorConfig
from nwb_migvis.groups import LatentGroups, LatentScale
from nwb_migvis.synthesis.conditions import Conditions
from nwb_migvis.synthesis.prior.training import train_prior

torch.set_num_threads(1)


def train(path):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (40, 8, 8), dtype=np.uint8)
    z = rng.normal(size=(40, 3))
    conditions = Conditions(z, LatentGroups(("a", "b"), (1, 2), ((), ())), LatentScale.of(z))
    config = PriorConfig(size_px=8, channels=(32, 32), n_steps=50, batch_size=7, precision="float32")
    prior = train_prior(images, config=config, seed=0, conditions=conditions)
    from nwb_migvis.networks.ranks import ranks

    torch.save(prior.denoiser.state_dict(), f"{path}/{ranks().n}-{ranks().index}.pt")


if __name__ == "__main__":
    from accelerate import debug_launcher

    train(sys.argv[1])
    from nwb_migvis.networks.ranks import ranks

    ranks.cache_clear()
    debug_launcher(train, (sys.argv[1],), num_processes=2)
"""


def test_two_processes_end_with_the_weights_of_one(tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", tmp_path / "script.py", tmp_path], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    one, first, second = (torch.load(tmp_path / f"{name}.pt") for name in ("1-0", "2-0", "2-1"))
    for name, weights in one.items():
        assert torch.equal(first[name], second[name]), name
        np.testing.assert_allclose(first[name], weights, rtol=0, atol=1e-5, err_msg=name)
    assert any(not torch.equal(first[name], weights) for name, weights in one.items())


@pytest.mark.parametrize("n_rows", [1, 7, 8])
def test_parts_of_a_batch_are_all_of_it_and_their_shares_its_mean(n_rows):
    rows = torch.arange(n_rows, dtype=torch.float64)
    all_ranks = [Ranks(2, i) for i in range(2)]
    assert torch.cat([rows[r.part(n_rows)] for r in all_ranks]).tolist() == rows.tolist()
    shares = [r.share_of_mean(rows[r.part(n_rows)].mean().nan_to_num(), n_rows) for r in all_ranks]
    assert float(sum(shares)) == pytest.approx(float(rows.mean()))
    assert ALONE.share_of_mean(rows.mean(), n_rows).item() == rows.mean().item()


@pytest.mark.slow
def test_a_run_in_two_processes_is_written_once(tmp_path, monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    session = write_tiny_session(tmp_path / "session.nwb", n_repeats=2)
    (tmp_path / "tiny.toml").write_text(tiny_config(evidence={"readers": ["kernel"]}).to_toml())
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m"]
    run = ["nwb_migvis", "run", session, "--config", tmp_path / "tiny.toml", "--no-report", "--quiet"]
    done = subprocess.run([*launch, *run], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("wrote ") == 1

    from nwb_migvis import read_results

    assert read_results(tmp_path / "session_migvis.nwb").provenance["n_processes"] == 2

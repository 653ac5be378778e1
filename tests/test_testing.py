"""The public helpers for tests: what is in memory is what is in files."""

import doctest
import hashlib
import subprocess
import sys

import numpy as np
import pytest

from nwb_migvis import Config, MigvisError, read_results, read_session
from nwb_migvis.store import write_results
from nwb_migvis.testing import (
    MOCK_WEIGHTS,
    configs,
    mock_results,
    mock_session,
    tiny_config,
    write_tiny_session,
)


def test_importing_it_loads_neither_torch_nor_pytest():
    code = "import sys, nwb_migvis.testing; print(*[m for m in ('torch', 'pytest') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


@pytest.mark.parametrize("seed", [1, 4])
def test_a_mock_session_is_what_its_file_reads_as(tmp_path, seed):
    settings = {
        "seed": seed,
        "n_stimuli": 30,
        "n_repeats": 2,
        "units": {"pose": 3, "category": 2, "mixed": 1},
    }
    read = read_session(write_tiny_session(tmp_path / "tiny.nwb", **settings))
    mock = mock_session(**settings)
    assert set(mock.attrs) == set(read.attrs)
    own = {name: read.attrs[name] for name in ("source", "identifier")}
    assert mock.assign_attrs(own).identical(read.load())
    assert {name: v.dtype for name, v in mock.variables.items()} == {
        name: v.dtype for name, v in read.variables.items()
    }


def test_a_mock_session_without_pixels():
    whole, blind = mock_session(n_stimuli=10), mock_session(n_stimuli=10, size_px=None)
    assert blind.identical(whole.drop_vars("image"))


def test_tiny_settings_change_where_they_are_asked_to():
    config = tiny_config(seed=3, latents={"n_steps": 7})
    assert isinstance(config, Config)
    assert (config.seed, config.latents.n_steps) == (3, 7)
    assert tiny_config(seed=3, latents={"n_steps": 7}) == config != tiny_config()
    assert config.prior == tiny_config().prior
    with pytest.raises(MigvisError, match="steps"):
        tiny_config(latents={"steps": 7})


def test_examples_of_the_docstrings():
    assert doctest.testmod(configs).failed == 0


@pytest.mark.parametrize("without", [(), ("edits",), ("labels", "evidence"), ("stability",)])
def test_mock_results_are_read_back_as_they_are(tmp_path, without):
    session = mock_session(n_stimuli=12, units={"pose": 4})
    path = write_tiny_session(tmp_path / "tiny.nwb", n_stimuli=12, units={"pose": 4})
    results = mock_results(
        units=session["unit"].values, stimuli=session["stimulus"].values.tolist(), without=without
    )
    written = read_results(write_results(results, source=path, weights=MOCK_WEIGHTS))
    assert written.synthesized.sizes["edit"] == (0 if "edits" in without else 7)
    assert written.selectivity.sizes["label"] == (0 if "labels" in without else 2)
    assert ("stability" in written.groups) == ("stability" not in without)
    np.testing.assert_array_equal(written.latents["mean"], results.latents["mean"])
    assert written.provenance["weights"]["vae"] == hashlib.sha256(MOCK_WEIGHTS["vae"]).hexdigest()


def test_an_unknown_part_of_mock_results_is_refused():
    with pytest.raises(MigvisError, match="found 'edit'; expected some of"):
        mock_results(without=["edit"])

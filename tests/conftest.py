"""What test files share: the shortest run, a small session, the command line, threads of workers."""

import os
import shutil
from pathlib import Path

# Workers share the cores, so each keeps to one thread. These are read when numpy and torch are imported.
if "PYTEST_XDIST_WORKER" in os.environ:
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = "1"

import pytest
from examples import write_session

from nwb_migvis.cli import main
from nwb_migvis.config import EvidenceConfig
from nwb_migvis.testing import tiny_config

LONGEST = ("documents", "pipeline", "store_fuzz", "notebook", "pipeline_evidence", "features", "further")
"""Files that take longest begin first, so that none is left to one worker when the others have ended."""


def pytest_configure(config):
    config.option.loadscopereorder = False  # xdist would begin with the files of most tests


def pytest_collection_modifyitems(items):
    place = {f"test_{name}.py": i for i, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path.name, len(place)))


@pytest.fixture(scope="session")
def least_config():
    """Settings of the shortest run that makes every kind of edit, with labels that have to be readable."""
    return tiny_config(
        latents={"n_steps": 30, "n_hidden": 16},
        prior={"n_steps": 3},
        critic={"n_steps": 5},
        synthesis={"n_pairs": 6, "n_traversal": 1},
        evidence={"min_reader_score": EvidenceConfig().min_reader_score},
    )


@pytest.fixture(scope="session")
def pristine(tmp_path_factory) -> Path:
    """A small session that no test changes."""
    return write_session(tmp_path_factory.mktemp("pristine") / "session.nwb")


@pytest.fixture
def session(pristine, tmp_path) -> Path:
    """A copy of it for one test; some files define sessions of their own."""
    return Path(shutil.copy(pristine, tmp_path / "session.nwb"))


@pytest.fixture
def call(capsys):
    """Run the command line here; return exit code, stdout and stderr."""

    def _call(*arguments):
        with pytest.raises(SystemExit) as stopped:
            main([str(argument) for argument in arguments])
        printed = capsys.readouterr()
        return stopped.value.code, printed.out, printed.err

    return _call


@pytest.fixture(scope="module")
def cluster():
    """A scheduler of dask with two workers, each a process with one thread."""
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=":0", memory_limit=0
    ) as cluster:
        yield cluster


@pytest.fixture
def engines(request):
    """Give the arguments that name an engine: of joblib with two processes, of dask with that cluster."""

    def _arguments(name):
        if name == "dask":
            address = request.getfixturevalue("cluster").scheduler_address
            return {"engine": "dask", "engine_kwargs": {"address": address}}
        return {"engine": name, "engine_kwargs": {"n_jobs": 2} if name == "joblib" else {}}

    return _arguments

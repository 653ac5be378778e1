"""The notebook of the documents runs from its first cell to its last, with settings that take seconds."""

from __future__ import annotations

from pathlib import Path

import pytest

from nwb_migvis.testing import write_tiny_session

NOTEBOOK = Path(__file__).resolve().parents[1] / "docs" / "notebooks" / "study.ipynb"

TINY = """
from nwb_migvis.config import PRESETS
from nwb_migvis.testing import tiny_config

few = {"n_pairs": 4, "n_dose": 1, "n_traversal": 1, "methods": ["pmi"], "dose": [0.9], "n_steps": 2}
PRESETS["quick"] = tiny_config(
    latents={"n_steps": 10}, prior={"n_steps": 2}, critic={"n_steps": 3}, synthesis=few,
    evidence={
        "n_permutations": 9, "n_bootstrap": 9, "stability_seeds": 0, "reader_steps": 2, "information_draws": 1
    },
)
"""


@pytest.fixture(scope="module")
def notebook():
    return pytest.importorskip("nbformat").read(NOTEBOOK, as_version=4)


def test_it_holds_no_outputs(notebook):
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert len(code) > 5
    assert all(not cell.outputs and cell.execution_count is None for cell in code)


@pytest.mark.slow
def test_it_runs_in_a_kernel(notebook, tmp_path):
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    write_tiny_session(tmp_path / "session.nwb")
    notebook.cells.insert(0, nbformat.v4.new_code_cell(TINY))
    client = nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}})
    client.execute()
    shown = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    kinds = {kind for output in shown for kind in output.get("data", {})}
    assert {"image/png", "text/html"} <= kinds
    assert (tmp_path / "study.nwb").is_file()
    assert any("latent groups, on held-out stimuli" in output.get("text", "") for output in shown)

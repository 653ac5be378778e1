"""The reports of real sessions in a browser: one with pixels and one without."""

from pathlib import Path

import pytest
from browser import needs_browser, use

from nwb_migvis import run
from nwb_migvis.report import write_report
from nwb_migvis.testing import tiny_config

DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "nwb_dicarlo_layout"

pytest.importorskip("jinja2")

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("name", ["session_with_images.nwb", "session_no_images.nwb"])
def test_the_report_of_a_real_session(name, tmp_path):
    needs_browser()
    if not (DATA / name).exists():
        pytest.skip(f"the recording {name} is not here")
    out = tmp_path / "out.nwb"
    reading = {"stimulus": "stimulus_filename"} if name == "session_no_images.nwb" else {}
    few = {"n_pairs": 4, "n_dose": 2, "n_traversal": 1, "n_samples": 0}
    results = run(DATA / name, out=out, config=tiny_config(synthesis=few), **reading)
    use(write_report(out), has_edits=bool(results.synthesized.sizes["edit"]))
    assert bool(results.synthesized.sizes["edit"]) == (name == "session_with_images.nwb")

"""The demo, from its command to its last line, on a small session and few steps."""

import re
from dataclasses import replace

import pytest
from browser import needs_browser, use

from nwb_migvis import demo, read_results
from nwb_migvis.testing import tiny_config, write_tiny_session

pytest.importorskip("matplotlib")
pytest.importorskip("jinja2")

pytestmark = pytest.mark.slow


@pytest.fixture
def small(monkeypatch):
    """The demo's groups with settings of seconds, and a session of seconds."""
    whole = demo.demo_config

    def config(seed=0, *, train_prior=False):
        few = {"n_pairs": 4, "n_dose": 1, "n_traversal": 0, "n_samples": 0}
        tiny = tiny_config(seed=seed, latents={"n_steps": 30, "n_hidden": 16}, synthesis=few)
        groups = whole(seed, train_prior=train_prior).latents.groups
        return replace(tiny, latents=replace(tiny.latents, groups=groups))

    monkeypatch.setattr(demo, "demo_config", config)
    monkeypatch.setattr(demo, "simulate_session", lambda path, *, seed: write_tiny_session(path))


def test_the_demo_ends_with_the_path_of_its_page(small, call, tmp_path):
    code, printed, errors = call("demo", "--out", tmp_path / "demo", "--seed", "3")
    assert code == 0, errors
    out, page = tmp_path / "demo" / "session_migvis.nwb", tmp_path / "demo" / "session_migvis_report.html"
    assert printed.splitlines()[-1] == f"report      {page}"
    assert re.findall(r"^\d/\d", printed, flags=re.MULTILINE) == ["1/4", "2/4", "3/4", "4/4"]
    assert list(read_results(out).groups.index) == ["pose", "category", "free_1", "free_2"]
    assert 'http-equiv="refresh"' not in page.read_text(encoding="utf-8")
    code, _, errors = call("demo", "--out", tmp_path / "demo")
    assert code == 1 and "exists already" in errors
    needs_browser()
    use(page)

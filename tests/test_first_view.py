"""What is shown while a demo works: the plan, the first images, and a page that grows; a line per stage."""

import re
from dataclasses import replace

import numpy as np
import pytest
from test_report import Seen

from nwb_migvis import Study, progress
from nwb_migvis.analysis.state import STEPS
from nwb_migvis.config import GroupConfig
from nwb_migvis.demo import demo_config
from nwb_migvis.first_view import PLAN, FirstView
from nwb_migvis.simulate import draw_factors, render_stimuli
from nwb_migvis.testing import mock_session, tiny_config

pytest.importorskip("matplotlib")


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    """The versions of a page over a short study, what was said, and the log."""
    folder = tmp_path_factory.mktemp("view")
    page, log = folder / "page.html", folder / "log.txt"
    progress.set_quiet(False)
    view = FirstView(folder, demo_config(), page=page)
    few = {"n_pairs": 4, "n_dose": 1, "n_traversal": 0, "methods": ["pmi"], "dose": [0.5], "n_samples": 0}
    groups = [GroupConfig(name="category", labels=("category",), size=2)]
    config = tiny_config(
        latents={"n_steps": 200, "n_hidden": 16, "groups": groups},
        prior={"n_steps": 2},
        critic={"n_steps": 3},
        synthesis=few,
        evidence={
            "n_permutations": 9,
            "n_bootstrap": 9,
            "stability_seeds": 1,
            "reader_steps": 2,
            "information_draws": 0,
        },
    )
    config = replace(config, split=replace(config.split, folds=2))
    versions, said = [page.read_text(encoding="utf-8")], []
    study = Study(mock_session(), config)

    def after(step):
        view.after(step, study)
        versions.append(page.read_text(encoding="utf-8"))

    with progress.telling(said.append, log=log):
        study.run(after=after)
    return {"view": view, "page": page, "versions": versions, "said": said, "log": log, "study": study}


def test_each_stage_is_said_once(shown):
    stages = ["latents", "prior", "critic", "edits", "further fits", "evidence"]
    assert shown["said"] == [f"{stage} ..." for stage in stages]
    log = shown["log"].read_text(encoding="utf-8")
    begun = re.findall(r"^\S+ (.+) begins$", log, flags=re.MULTILINE)
    assert [name for name in begun if ", " not in name] == stages
    assert begun.count("further fits, latents") == 2
    assert set(shown["study"].seconds) == set(stages)


def test_curves_are_those_of_the_first_fit(shown):
    curves = shown["study"].results.provenance["training"]
    log = shown["log"].read_text(encoding="utf-8")
    noted = re.findall(r" latents: step 100, loss on the validation stimuli (\S+)", log)
    assert len(set(noted)) == 3  # the fit, another seed, another fold
    assert f"{curves['latents']['loss'][0]:.6g}" == noted[0]


def test_the_page_grows_and_ends(shown):
    first, *later = shown["versions"]
    assert len(later) == len(STEPS)
    assert first.count("being done") == 1 and first.count("to come") == len(PLAN) - 1
    for version in shown["versions"]:
        assert 'http-equiv="refresh"' in version
        assert all((a.get("src") or "data:").startswith("data:") for _, a in Seen(version).tags)
    assert "So far" not in first and "Test stimuli in the first two principal axes" in later[0]
    assert "edited towards" not in later[2] and "edited towards" in later[3]
    assert "Losses on the validation stimuli" in later[0]
    with pytest.raises(KeyboardInterrupt), shown["view"].stopping():
        raise KeyboardInterrupt
    last = shown["page"].read_text(encoding="utf-8")
    assert "The work stopped at simulation" in last and 'http-equiv="refresh"' not in last


def test_the_first_images_are_those_of_the_session(shown):
    assert shown["view"].picture.stat().st_size > 10_000
    factors = draw_factors(40, seed=3)
    np.testing.assert_array_equal(
        render_stimuli(factors.iloc[:8], seed=3), render_stimuli(factors, seed=3)[:8]
    )

"""The estimate of what a run takes: counted from the settings, with seconds per step that are measured."""

from dataclasses import replace

import numpy as np
import pytest

from nwb_migvis import Config, progress
from nwb_migvis.analysis import rehearsal
from nwb_migvis.analysis.rehearsal import Sizes, estimate_run
from nwb_migvis.testing import tiny_config

LABELS = {"size": 0, "category": 4}
PICTURED = Sizes(1, 12, 400, 100, (16, 16), LABELS)
STEP_S = {"latents": 0.01, "prior": 1.0, "critic": 2.0, "edits": 4.0, "inversion": 9.0, "reader": 0.5}


@pytest.fixture
def measured(monkeypatch):
    """Three groups, and seconds per step that are known."""
    monkeypatch.setattr(rehearsal, "_rehearse", lambda *_: ({**STEP_S, "description": 0.1}, 3))


def test_seconds_are_steps_times_seconds_per_step(measured):
    few = {
        "n_steps": 4,
        "methods": ("pmi", "none"),
        "n_pairs": 32,
        "dose": (),
        "n_traversal": 0,
        "n_samples": 0,
    }
    config = tiny_config(
        latents={"n_steps": 100},
        prior={"n_steps": 7},
        critic={"n_steps": 10},
        synthesis=few,
        evidence={"stability_seeds": 2, "reader_steps": 20, "information_draws": 0},
    )
    seconds = estimate_run(PICTURED, config).seconds
    assert seconds["latents"] == pytest.approx(1.0) and seconds["further fits"] == pytest.approx(2.0)
    assert seconds["prior"] == pytest.approx(7.0) and seconds["critic"] == pytest.approx(22.0)
    # Three batches of pairs; one batch of sources, in 1.2 evaluations per step (2 here); one that is rebuilt.
    assert seconds["edits"] == pytest.approx(3 * 4.0 + 1.2 * 4.5 + 4.5)
    searched = replace(config, synthesis=replace(config.synthesis, inversion="searched"))
    # The sources in 6 of 9 evaluations.
    assert estimate_run(PICTURED, searched).seconds["edits"] == pytest.approx(3 * 4.0 + 6 * 1.0 + 1.0)
    assert seconds["evidence"] == pytest.approx(20 * 0.5 + 100 * 0.1 + 300 * rehearsal.STATISTICS_S)


def test_without_pixels_nothing_is_learned_of_images(measured):
    sizes = Sizes(2, 12, 400, 100, None, {})
    assert set(estimate_run(sizes, Config()).seconds) == {"latents", "further fits", "evidence"}


def test_a_rehearsal_times_every_kind_of_work_in_silence(capsys):
    said = []
    with progress.telling(said.append):
        config = tiny_config(prior={"autoencoder": True}, synthesis={"batch_size": 4})
        step_s, n_groups = rehearsal._rehearse(PICTURED, config)
    assert n_groups == 4 and set(step_s) == {*STEP_S, "autoencoder", "description"}
    assert all(np.isfinite(value) and value > 0 for name, value in step_s.items() if name != "description")
    assert said == [] and capsys.readouterr() == ("", "")
    text = str(estimate_run(PICTURED, tiny_config(synthesis={"batch_size": 4})))
    assert text.startswith("some ") and "GB of memory (latents" in text and "left alone" in text


def test_sizes_are_those_of_an_inspection():
    one = {
        "n_units": 5,
        "n_presentations": 30,
        "n_stimuli": 10,
        "image_shape": [8, 9, 3],
        "labels": {
            "size": {"kind": "numeric", "n_values": 9},
            "kind": {"kind": "categorical", "n_values": 2},
        },
    }
    assert Sizes.of(one) == Sizes(1, 5, 30, 10, (8, 9, 3), {"size": 0, "kind": 2})
    other = {**one, "image_shape": None, "labels": {}}
    both = Sizes.of({"sessions": [other, one], "n_stimuli": 14})
    assert both == Sizes(2, 10, 60, 14, (8, 9, 3), {"size": 0, "kind": 2})

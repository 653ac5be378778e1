"""What others add by name: entries of this process and of other packages, and what is refused."""

import re
from dataclasses import dataclass
from importlib.metadata import EntryPoint

import numpy as np
import pytest
import torch
from networks import untrained_networks

from nwb_migvis import MigvisError
from nwb_migvis.config import METHODS as BUILT_IN
from nwb_migvis.config import SynthesisConfig
from nwb_migvis.groups import LatentGroups
from nwb_migvis.registry import METHODS, Registry
from nwb_migvis.synthesis.editing.batch import EditNetworks
from nwb_migvis.synthesis.editing.methods import Method, none
from nwb_migvis.synthesis.editing.plan import plan_edits
from nwb_migvis.synthesis.editing.synthesize import EditStimuli, synthesize


@pytest.fixture
def kinds():
    return Registry("kind", "a_group", needs=("shape", "size"), builtin={"ones": "numpy:ones_like"})


@pytest.fixture
def points(monkeypatch):
    """Entry points of other packages, as they would be installed: a list to add to."""
    installed = []
    monkeypatch.setattr(
        "nwb_migvis.registry.entry_points", lambda group: [p for p in installed if p.group == group]
    )
    return installed


def test_an_entry_is_registered_used_and_removed(kinds):
    entry = np.zeros(3)
    assert kinds.register("zeros", entry) is entry
    assert kinds["zeros"] is entry and "zeros" in kinds
    assert (list(kinds), len(kinds)) == (["ones", "zeros"], 2)
    kinds.register("zeros", entry)
    kinds.unregister("zeros")
    assert list(kinds) == ["ones"] and "zeros" not in kinds
    kinds.unregister("zeros")


def test_a_decorator_registers_and_leaves_what_it_decorates(kinds):
    @kinds.register("unit")
    class Unit:
        shape, size = (1,), 1

    assert kinds["unit"] is Unit and isinstance(Unit, type)


@pytest.mark.parametrize("name", ["ones", "zeros", "theirs"])
def test_a_name_is_given_once(kinds, points, name):
    points.append(EntryPoint("theirs", "numpy:pi", "a_group"))
    kinds.register("zeros", np.zeros(3))
    with pytest.raises(MigvisError, match=f"^kind '{name}' exists already; give it another name$"):
        kinds.register(name, np.zeros(4))


def test_an_entry_that_lacks_something_is_refused_with_what_it_lacks(kinds):
    message = "^kind 'word': it is a str without shape, size; expected shape, size$"
    with pytest.raises(MigvisError, match=message):
        kinds.register("word", "text")
    assert "word" not in kinds
    with pytest.raises(MigvisError, match="it is a function without edit, other_target, other_group"):
        METHODS.register("plain function", lambda batch: batch.image)


def test_an_unknown_name_suggests_the_nearest(kinds):
    message = "kind 'onse' is unknown; expected one of ones; did you mean 'ones'?"
    with pytest.raises(MigvisError, match=f"^{re.escape(message)}$"):
        kinds["onse"]
    with pytest.raises(MigvisError, match=r"expected one of ones$"):
        kinds["zzzz"]


def test_every_built_in_method_loads():
    assert tuple(METHODS)[: len(BUILT_IN)] == BUILT_IN
    for name in BUILT_IN:
        assert isinstance(METHODS[name], Method)
    assert METHODS["none"] is none


def test_an_entry_point_of_another_package_is_an_entry(kinds, points):
    with pytest.raises(MigvisError, match="unknown"):
        kinds["theirs"]
    points.append(EntryPoint("theirs", "nwb_migvis.synthesis.editing.methods:shuffled", "another_group"))
    assert "theirs" not in kinds
    points.append(EntryPoint("theirs", "test_registry:ENTRY", "a_group"))
    assert kinds["theirs"] is ENTRY
    assert list(kinds) == ["ones", "theirs"]


ENTRY = np.arange(3)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (
            "no_such_module:x",
            "cannot be loaded: ModuleNotFoundError: No module named 'no_such_module';",
        ),
        ("numpy:absent", "cannot be loaded: AttributeError: .*; reinstall or remove that package"),
        ("test_registry_that_ends:x", "cannot be loaded: SystemExit: two lines; reinstall"),
        (
            "numpy:__name__",
            r"numpy:__name__ of the package \?.* is a str without shape, size;",
        ),
    ],
)
def test_an_entry_point_that_cannot_be_used_is_named(kinds, points, value, message, tmp_path, monkeypatch):
    (tmp_path / "test_registry_that_ends.py").write_text("raise SystemExit('two\\nlines')")
    monkeypatch.syspath_prepend(tmp_path)
    points.append(EntryPoint("theirs", value, "a_group"))
    assert "theirs" in kinds
    with pytest.raises(MigvisError, match=f"^kind 'theirs'.*{message}") as refused:
        kinds["theirs"]
    assert "\n" not in str(refused.value)


GROUPS = LatentGroups(("a", "b"), (1, 1), ((), ()))


@dataclass(frozen=True)
class TowardsGray:
    """Guidance that takes the clean image of each denoising step to (1 - share) times itself."""

    alpha_bar: torch.Tensor
    share: torch.Tensor

    def shift(self, x_t, t, eps, x0_hat):
        a = self.alpha_bar[t]
        return self.share[:, None, None, None] * (a / (1 - a)).sqrt() * x0_hat


class ByGray:
    """An editor that cannot be hashed, as a plain dataclass cannot."""

    __hash__ = None

    def __eq__(self, other):
        return isinstance(other, ByGray)

    def __call__(self, batch):
        return by_gray(batch)


def by_gray(batch):
    return batch.denoise(TowardsGray(batch.networks.prior.alpha_bar, batch.length))


def test_a_method_that_is_added_makes_edits_without_any_change_elsewhere():
    with pytest.raises(MigvisError, match="methods = 'towards-gray'; expected one of pmi"):
        SynthesisConfig(methods=("pmi", "towards-gray"))
    METHODS.register("towards-gray", Method(ByGray()))
    try:
        few = {"n_steps": 4, "n_pairs": 3, "n_dose": 0, "n_traversal": 0, "batch_size": 4}
        alone = {"source_guidance": 0.0, "guidance_scale": 0.0, "guidance": 1.0, "inversion": "searched"}
        config = SynthesisConfig(methods=("pmi", "none", "towards-gray"), **few, **alone)
        images = np.random.default_rng(0).integers(0, 255, (12, 8, 8), dtype=np.uint8)
        prior, critic = untrained_networks((8, 8))
        plan = plan_edits(np.arange(12), GROUPS, labels={}, config=config, rng=np.random.default_rng(1))
        stimuli = EditStimuli(np.arange(12).astype(str), images, np.zeros((12, 2), dtype=np.float32))
        edits = synthesize(plan, stimuli, EditNetworks(prior, critic, GROUPS), config=config, seed=0)
    finally:
        METHODS.unregister("towards-gray")
    gray = edits["image"].values[edits["method"].values == "towards-gray"].astype(int)
    others = edits["image"].values[edits["method"].values != "towards-gray"].astype(int)
    assert len(gray) == 6 and np.isfinite(edits["score_after"]).all()
    # The clean image is 0 at every step: the mean of the pixels, but for what is left of the noise at step 0.
    assert (np.abs(gray - prior.scale.mean) <= 2).all()
    assert (np.abs(others - prior.scale.mean).max((1, 2)) > 20).all()

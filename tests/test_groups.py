"""Latent groups and their scale."""

import numpy as np
import pytest

from nwb_migvis.config import GroupConfig
from nwb_migvis.groups import LatentGroups, LatentScale

GROUPS = LatentGroups.of(
    [GroupConfig(name="pose", size=3, labels=("x", "y")), GroupConfig(name="free", size=2)]
)


def test_groups_tell_where_their_latents_stand():
    assert list(GROUPS) == ["pose", "free"]
    assert GROUPS.slices == {"pose": slice(0, 3), "free": slice(3, 5)}
    assert GROUPS.of_latent.tolist() == ["pose"] * 3 + ["free"] * 2
    assert GROUPS.supervised_by == {"pose": ("x", "y"), "free": ()}
    assert (len(GROUPS), GROUPS.n_latents, GROUPS.index("free")) == (2, 5, 1)
    assert repr(GROUPS) == "LatentGroups: pose (3; x, y), free (2; free)"
    assert GROUPS._repr_html_().count("<tr>") == 3


def test_latents_are_split_by_group_whatever_array_holds_them():
    torch = pytest.importorskip("torch")
    z = np.arange(10.0).reshape(2, 5)
    for array in (z, torch.as_tensor(z)):
        parts = GROUPS.split(array)
        np.testing.assert_array_equal(parts["pose"], z[:, :3])
        np.testing.assert_array_equal(parts["free"], z[:, 3:])
    with pytest.raises(ValueError, match="found 4 latents; expected the 5"):
        GROUPS.split(z[:, :4])


def test_a_scale_makes_training_latents_standard_and_can_be_undone():
    torch = pytest.importorskip("torch")
    z = np.random.default_rng(0).normal(3, 2, (200, 4)).astype(np.float32)
    scale = LatentScale.of(z)
    standard = scale.standardise(z)
    np.testing.assert_allclose(standard.mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(standard.std(0, ddof=1), 1, atol=1e-5)
    np.testing.assert_allclose(scale.restore(standard), z, atol=1e-5)
    on_device = scale.standardise(torch.as_tensor(z))
    np.testing.assert_array_equal(on_device.numpy(), standard)


def test_a_latent_that_does_not_vary_is_not_divided_by_zero():
    pytest.importorskip("torch")
    assert np.isfinite(
        LatentScale.of(np.ones((5, 2), np.float32)).standardise(np.ones((1, 2), np.float32))
    ).all()

"""The optimiser of priors: orthogonal updates, and torch's own where that is defined."""

import pytest
import torch
from torch import nn

from nwb_migvis.networks.muon import Muon, orthogonal


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("shape", [(3, 16, 40), (3, 40, 16), (1, 8, 8)])
def test_matrices_come_out_orthogonal_along_their_own_singular_vectors(shape):
    matrices = random(*shape)
    found = orthogonal(matrices)
    assert found.shape == matrices.shape and found.dtype == matrices.dtype
    left, values, right = torch.linalg.svd(matrices, full_matrices=False)
    well = values > 0.05 * values.amax(1, keepdim=True)
    along = (left.mT @ found @ right.mT).diagonal(dim1=1, dim2=2)[well]
    assert float(along.min()) > 0.6 and float(along.max()) < 1.3
    assert float((found - left @ right).norm() / found.norm()) < 0.35


def test_a_gradient_of_zeros_changes_nothing_but_by_decay():
    weight = nn.Parameter(random(4, 2, 3, 3))
    before = weight.detach().clone()
    weight.grad = torch.zeros_like(weight)
    Muon([weight], 0.1, weight_decay=0.5).step()
    torch.testing.assert_close(weight.detach(), 0.95 * before)


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="this torch has no Muon")
def test_matrices_are_updated_as_by_torch():
    ours, theirs = (nn.Parameter(random(12, 20)) for _ in range(2))
    given = {"lr": 0.02, "weight_decay": 0.1, "momentum": 0.95}
    optimisers = Muon([ours], **given), torch.optim.Muon([theirs], adjust_lr_fn="match_rms_adamw", **given)
    for seed in range(5):
        for weight, optimiser in zip((ours, theirs), optimisers, strict=True):
            weight.grad = random(12, 20, seed=seed + 1)
            optimiser.step()
    moved = (theirs.detach() - random(12, 20)).norm()
    assert float((ours.detach() - theirs.detach()).norm() / moved) < 0.03


def test_what_is_no_matrix_is_updated_as_by_adam():
    ours, theirs = (nn.Parameter(random(7)) for _ in range(2))
    optimisers = Muon([ours], 0.01, weight_decay=0.3), torch.optim.Adam([theirs], lr=0.01)
    for seed in range(5):
        for weight, optimiser in zip((ours, theirs), optimisers, strict=True):
            weight.grad = random(7, seed=seed + 1)
            optimiser.step()
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


def test_a_convolution_is_the_matrix_of_its_outputs():
    convolution, matrix = nn.Parameter(random(6, 2, 3, 3)), nn.Parameter(random(6, 2, 3, 3).reshape(6, 18))
    gradient = random(6, 2, 3, 3, seed=1)
    for weight in (convolution, matrix):
        weight.grad = gradient.reshape(weight.shape)
        Muon([weight], 0.02).step()
    torch.testing.assert_close(convolution.detach().reshape(6, 18), matrix.detach(), rtol=0, atol=0)

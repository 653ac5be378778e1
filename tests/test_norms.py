"""Group normalisation by the faster of two kernels: same numbers, gradients, weights and memory format."""

import pytest
import torch
from torch import nn

from nwb_migvis.config import PriorConfig
from nwb_migvis.networks.norms import GroupNorm, with_fast_norms
from nwb_migvis.synthesis.critic.features import ConvolutionalFeatures
from nwb_migvis.synthesis.prior.model import new_denoiser


def _both(n_channels: int, dtype: torch.dtype) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Return output and gradient of torch's normalisation and of ours, for a tensor with channels last."""
    generator = torch.Generator().manual_seed(0)
    made = torch.randn((3, n_channels, 6, 5), generator=generator).mul(3).add(1).to(dtype)
    theirs, ours = nn.GroupNorm(8, n_channels), GroupNorm(8, n_channels)
    for norm in (theirs, ours):
        nn.init.normal_(norm.weight, generator=torch.Generator().manual_seed(1))
    found = []
    for norm in (theirs, ours):
        x = made.contiguous(memory_format=torch.channels_last).requires_grad_(True)
        y = norm(x)
        y.float().pow(3).sum().backward()
        found.append([y.detach(), x.grad, norm.weight.grad])
    return found[0], found[1]


@pytest.mark.parametrize("n_channels", [32, 64, 128, 192])
def test_it_is_torchs_normalisation_but_for_rounding(n_channels):
    theirs, ours = _both(n_channels, torch.bfloat16)
    for expected, found in zip(theirs, ours, strict=True):
        scale = float(expected.float().abs().max())
        torch.testing.assert_close(found.float(), expected.float(), atol=0.02 * scale, rtol=0)
    assert ours[0].is_contiguous(memory_format=torch.channels_last)
    for expected, found in zip(*_both(n_channels, torch.float32), strict=True):
        torch.testing.assert_close(found, expected, atol=0, rtol=0)


@pytest.mark.parametrize(
    ("n_channels", "side", "is_slow"),
    [(64, 16, True), (192, 31, True), (64, 32, False), (128, 16, False), (256, 16, False)],
)
def test_only_what_the_kernel_of_channels_last_is_slow_for_goes_to_the_other(
    monkeypatch, n_channels, side, is_slow
):
    seen = []
    monkeypatch.setattr(nn.GroupNorm, "forward", lambda self, x: seen.append(x.is_contiguous()) or x)
    x = torch.zeros(2, n_channels, side, side).contiguous(memory_format=torch.channels_last)
    norm = GroupNorm(8, n_channels)
    assert norm(x.bfloat16()).is_contiguous(memory_format=torch.channels_last)
    norm(x)
    assert seen == [is_slow, False]


def test_priors_and_critics_have_them_and_weights_keep_their_names():
    denoiser = new_denoiser(1, PriorConfig(size_px=16, channels=(16, 16)))
    for network in (denoiser, ConvolutionalFeatures(1, channels=(8, 8))):
        kinds = {type(module) for module in network.modules() if isinstance(module, nn.GroupNorm)}
        assert kinds == {GroupNorm}
    plain = nn.Sequential(nn.Conv2d(1, 16, 3), nn.GroupNorm(4, 16))
    before = {name: tensor.clone() for name, tensor in plain.state_dict().items()}
    after = with_fast_norms(plain).state_dict()
    assert list(after) == list(before) and all(torch.equal(after[name], before[name]) for name in before)

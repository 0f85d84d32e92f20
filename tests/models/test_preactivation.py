"""The pre-activation ResNet beside timm's block of the same kind."""

from functools import partial

import pytest
import torch
from timm.layers import BatchNormAct2d
from timm.models.resnetv2 import DownsampleConv, PreActBasic
from torch import nn

from wa.models.preactivation import PreActivationBlock, PreActivationResNet


def varied(net: nn.Module) -> nn.Module:
    """With statistics and weights that matter, in float64."""
    torch.manual_seed(1)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 2)
            nn.init.normal_(module.bias)
    return net.double().eval()


@pytest.mark.parametrize("channels, wide, stride", [(8, 8, 1), (8, 16, 2)])
def test_a_block_is_timms(channels, wide, stride):
    ours = varied(PreActivationBlock(channels, wide, stride))
    conv = partial(nn.Conv2d, bias=False)

    def same_size(inputs, outputs, kernel, **options):
        return conv(inputs, outputs, kernel, padding=kernel // 2, **options)

    theirs = PreActBasic(
        channels,
        wide,
        stride=stride,
        conv_layer=same_size,
        norm_layer=BatchNormAct2d,
        proj_layer=DownsampleConv,
    )
    names = {"bn": "norm", "conv3": "downsample.conv"}
    state = {}
    for name, value in ours.state_dict().items():
        for short, long in names.items():
            name = name.replace(short, long)
        state[name] = value
    theirs.load_state_dict(state, strict=False)
    assert not {key for key in theirs.state_dict() if "num_batches" not in key} - state.keys()
    x = torch.randn(3, channels, 8, 8, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(theirs.double().eval()(x), ours(x))


def test_depth_32_has_the_layers_of_the_authors_network():
    net = PreActivationResNet(5, 3)
    layers = [module for module in net.modules() if isinstance(module, nn.Conv2d)]
    assert len([layer for layer in layers if layer.kernel_size == (3, 3)]) == 31
    assert [
        (layer.in_channels, layer.out_channels) for layer in layers if layer.kernel_size == (1, 1)
    ] == [
        (16, 32),
        (32, 64),
    ]
    norms = [module for module in net.modules() if isinstance(module, nn.BatchNorm2d)]
    assert len(norms) == 31
    assert net(torch.zeros(2, 3, 32, 32)).shape == (2, 64)


def test_folding_batch_norms_changes_no_feature():
    net = varied(PreActivationResNet(2, 3))
    x = torch.randn(3, 3, 16, 16, dtype=torch.float64)
    with torch.no_grad():
        before = net(x)
        net.fold_batch_norm()
        torch.testing.assert_close(net(x), before)
    assert sum(isinstance(module, nn.Identity) for module in net.modules()) == 6

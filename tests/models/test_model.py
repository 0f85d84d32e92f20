"""The model: the ResNets, the classifier that grows, and checkpoints that do not fit.

The ResNets are compared with their published sizes, a naive forward pass, and torchvision.
"""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from wa.checkpoint import read_checkpoint, write_checkpoint
from wa.errors import UserError
from wa.models.backbones import build
from wa.models.model import CilClassifier, CilModel, build_model, load_tensors
from wa.models.resnet import BasicBlock

SIZES = {"resnet20": 0.27, "resnet32": 0.46, "resnet44": 0.66, "resnet56": 0.85, "resnet110": 1.7}


@pytest.mark.parametrize("name", SIZES)
def test_parameters_in_millions_as_in_table_6_of_he_et_al(name):
    count = sum(p.numel() for p in build(name, 3).parameters()) / 1e6
    assert count == pytest.approx(SIZES[name], abs=0.01 if SIZES[name] < 1 else 0.05)


def naive_conv(x, w, stride):
    """3x3 convolution with padding 1, by its definition."""
    x = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    size = (x.shape[2] - 3) // stride + 1
    out = np.zeros((len(x), len(w), size, size))
    for i in range(size):
        for j in range(size):
            patch = x[:, :, i * stride : i * stride + 3, j * stride : j * stride + 3]
            out[:, :, i, j] = np.einsum("bchw,ochw->bo", patch, w)
    return out


def naive_norm(x, state, name):
    """Batch norm in evaluation mode, by its definition."""
    keys = ("weight", "bias", "running_mean", "running_var")
    weight, bias, mean, var = (state[f"{name}.{k}"].astype(float)[:, None, None] for k in keys)
    return (x - mean) / np.sqrt(var + 1e-5) * weight + bias


def naive_resnet20(images, state):
    """float (B, 3, H, W) to features (B, 64), as section 4.2 of the paper describes it."""

    def convolve_and_norm(x, convolution, norm, stride=1):
        return naive_norm(naive_conv(x, state[f"{convolution}.weight"], stride), state, norm)

    x = np.maximum(convolve_and_norm(images, "conv1", "bn1"), 0)
    for stage, channels in ((1, 16), (2, 32), (3, 64)):
        for block in range(3):
            at = f"layer{stage}.{block}"
            stride = 2 if stage > 1 and block == 0 else 1
            out = np.maximum(convolve_and_norm(x, f"{at}.conv1", f"{at}.bn1", stride), 0)
            out = convolve_and_norm(out, f"{at}.conv2", f"{at}.bn2")
            shortcut = x[:, :, ::stride, ::stride]  # option A: every second pixel, zero channels
            zeros = np.zeros((len(x), channels - shortcut.shape[1], *shortcut.shape[2:]))
            x = np.maximum(out + np.concatenate([shortcut, zeros], axis=1), 0)
    return x.mean(axis=(2, 3))


def test_forward_pass_against_a_naive_one():
    torch.manual_seed(0)
    net = build("resnet20", 3)
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):  # statistics that change the output
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    net.eval()
    state = {k: v.numpy() for k, v in net.state_dict().items()}
    images = torch.randn(2, 3, 8, 8)
    expected = naive_resnet20(images.numpy().astype(float), state)
    with torch.no_grad():
        np.testing.assert_allclose(net(images).numpy(), expected, atol=1e-4, rtol=1e-4)


def test_resnet18_is_torchvisions_with_another_beginning():
    """It begins with a convolution of 3 x 3 and does not pool. Its blocks start as the identity."""
    from torchvision.models import resnet18

    torch.manual_seed(0)
    theirs, ours = resnet18(), build("resnet18", 3)
    theirs.conv1 = torch.nn.Conv2d(3, 64, 3, 1, 1, bias=False)
    theirs.maxpool = theirs.fc = torch.nn.Identity()
    for module in theirs.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.weight.data.uniform_(0.5, 1)
            module.running_mean.normal_()
    assert ours.features == 512
    blocks = [module for module in ours.modules() if isinstance(module, BasicBlock)]
    assert len(blocks) == 8 and all((block.bn2.weight == 0).all() for block in blocks)
    state = {}
    for name, tensor in theirs.state_dict().items():
        name = name.replace("downsample.0", "conv3").replace("downsample.1", "bn3")
        if "num_batches" not in name:
            state[name] = tensor.numpy()
    load_tensors(ours, state, "")
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(ours.eval()(x), theirs.eval()(x), rtol=1e-4, atol=1e-5)


def test_classifier_grows_by_a_head_and_keeps_the_old_ones():
    torch.manual_seed(0)
    classifier, x = CilClassifier(8), torch.randn(3, 8)
    classifier.grow(5)
    before = classifier(x)
    classifier.grow(2)
    assert classifier(x).shape == (3, 7)
    assert torch.equal(classifier(x)[:, :5], before)
    assert torch.equal(before, F.linear(x, classifier.heads[0].weight, classifier.heads[0].bias))


def test_a_checkpoint_comes_back_as_it_was(tmp_path):
    model = CilModel("resnet8", 1, [4, 2], bias=False)
    facts = {"backbone": "resnet8", "in_channels": 1, "task_sizes": [4, 2], "bias": False}
    write_checkpoint(tmp_path / "m.safetensors", model.tensors(), facts)
    tensors, read = read_checkpoint(tmp_path / "m.safetensors")
    again = build_model(tensors, read, "m.safetensors")
    assert read.pop("content_sha256")
    assert read == facts
    state = again.state_dict()
    for name, tensor in model.state_dict().items():
        assert torch.equal(state[name], tensor), name


def test_a_checkpoint_that_does_not_fit_names_both_shapes():
    five, four = CilModel("resnet8", 1, [5]), CilModel("resnet8", 1, [4])
    message = r"heads.0.bias is \(4,\) in the file and \(5,\) in the model"
    with pytest.raises(UserError, match=message):
        load_tensors(five, four.tensors(), "some.safetensors")


def test_a_torn_checkpoint_is_refused_by_name(tmp_path):
    path = tmp_path / "m.safetensors"
    write_checkpoint(path, {"a": np.arange(1000.0)}, {})
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UserError, match=r"m.safetensors is damaged"):
        read_checkpoint(path)


def test_new_rows_as_pycil_draws_them():
    """convs/linears.py of PyCIL: kaiming_uniform(nonlinearity="linear"), and biases of zero.

    The bound of the weights is sqrt(3 / d).
    """
    torch.manual_seed(0)
    kaiming, plain = CilClassifier(64, init="kaiming"), CilClassifier(64)
    kaiming.grow(1000)
    plain.grow(1000)
    head = kaiming.heads[0]
    assert head.weight.abs().max().item() == pytest.approx((3 / 64) ** 0.5, rel=1e-3)
    assert not head.bias.any()
    assert plain.heads[0].weight.abs().max().item() == pytest.approx(1 / 8, rel=1e-3)
    assert plain.heads[0].bias.any()
    head.bias.data.fill_(1)
    kaiming.redraw()
    assert not head.bias.any() and head.weight.abs().max() > 1 / 8


@pytest.mark.parametrize("strict", [True, False])
def test_the_tensors_of_a_checkpoint_load_as_a_state_dict(tmp_path, strict):
    model = CilModel("resnet8", 1, [3, 2])
    write_checkpoint(tmp_path / "m.safetensors", model.tensors(), {})
    state = load_file(tmp_path / "m.safetensors")
    again = CilModel("resnet8", 1, [3, 2])
    again.load_state_dict(state, strict=strict)
    assert all(torch.equal(again.state_dict()[name], value) for name, value in state.items())
    del state["backbone.conv1.weight"]
    if strict:
        with pytest.raises(RuntimeError, match="conv1"):
            again.load_state_dict(state)

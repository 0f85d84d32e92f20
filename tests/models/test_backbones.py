"""Backbones of timm and torchvision.

They compute what the library computes, and take weights from files. Wrong names and files are
refused.
"""

import copy
import pickle
import subprocess
import sys

import pytest
import timm
import torch
import torchvision
from helpers import ROOT
from safetensors.torch import save_file

from wa.checkpoint import read_checkpoint, write_checkpoint
from wa.errors import UserError
from wa.models import backbones, names
from wa.models.model import CilModel, build_model


def varied(net: torch.nn.Module) -> torch.nn.Module:
    """The network in evaluation mode, with batch-norm statistics that change its output."""
    torch.manual_seed(1)
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 2)
    return net.eval()


@pytest.mark.parametrize("suffix", ["safetensors", "pth"])
@pytest.mark.parametrize("library", ["timm", "torchvision"])
def test_pretrained_weights_give_the_librarys_own_features(tmp_path, library, suffix):
    """The file has a classifier of 1000 classes, as such files have. It is left out."""
    if library == "timm":
        theirs = varied(timm.create_model("resnet18"))
    else:
        theirs = varied(torchvision.models.resnet18())
    file = tmp_path / f"weights.{suffix}"
    if suffix == "safetensors":
        save_file(theirs.state_dict(), file)
    else:
        torch.save({"state_dict": theirs.state_dict()}, file)
    ours = backbones.build(f"{library}/resnet18", 3, (64, 64), str(file)).eval()
    theirs.fc = torch.nn.Identity()
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        assert ours.features == 512 and torch.equal(ours(x), theirs(x))
    assert not any("num_batches" in name or "fc" in name for name in ours.state_dict())


@pytest.mark.parametrize(
    "name, channels, side, features",
    [
        ("timm/vit_tiny_patch16_224", 3, 32, 192),
        ("timm/mobilenetv3_small_050", 1, 32, 1024),  # timm's num_features is another number
        ("torchvision/vit_b_32", 3, 64, 768),
        ("torchvision/efficientnet_b0", 3, 32, 1280),
    ],
)
def test_checkpoints_of_other_networks_come_back(tmp_path, name, channels, side, features):
    model = CilModel(name, channels, [3, 2], size=(side, side)).eval()
    assert model.backbone.features == features
    facts = {
        "backbone": name,
        "in_channels": channels,
        "task_sizes": [3, 2],
        "bias": True,
        "input_size": [side, side],
    }
    write_checkpoint(tmp_path / "m.safetensors", model.tensors(), facts)
    again = build_model(*read_checkpoint(tmp_path / "m.safetensors"), "m.safetensors")
    x = torch.randn(2, channels, side, side)
    with torch.no_grad():
        assert torch.equal(again.eval()(x), model(x)) and model(x).shape == (2, 5)


@pytest.mark.parametrize("depth", [8, 32])
def test_a_signed_network_is_the_other_without_its_last_relu(depth):
    usual = varied(backbones.build(f"resnet{depth}", 3))
    signed = backbones.build(f"signed_resnet{depth}", 3).eval()
    signed.load_state_dict(usual.state_dict())
    ends = []
    for net in (usual, signed):
        net.layer3.register_forward_hook(lambda module, x, out: ends.append(out))
    features = [
        net(torch.randn(2, 3, 16, 16, generator=torch.manual_seed(0))) for net in (usual, signed)
    ]
    assert (ends[1] < 0).any() and torch.equal(ends[0], ends[1].relu())
    assert torch.equal(features[1], ends[1].mean((2, 3)))


def test_own_backbones_take_weights_too(tmp_path):
    net = varied(backbones.build("resnet8", 3))
    save_file(net.state_dict(), tmp_path / "w.safetensors")
    again = backbones.build("resnet8", 3, pretrained=str(tmp_path / "w.safetensors")).eval()
    x = torch.randn(2, 3, 16, 16)
    assert torch.equal(net(x), again(x))


class Evil:
    def __reduce__(self):
        return (print, ("this ran",))


def refused(message: str, name: str, channels: int = 3, side: int = 32, pretrained="") -> None:
    """build() must raise an error of one line with this message."""
    with pytest.raises(UserError, match=message) as error:
        backbones.build(name, channels, (side, side), str(pretrained))
    assert "\n" not in str(error.value)


def test_names_that_are_not_backbones():
    refused("timm has no model 'resnt18'; did you mean .*timm/resnet18", "timm/resnt18")
    message = "torchvision has no model 'resnet19'; did you mean .*torchvision/resnet18"
    refused(message, "torchvision/resnet19")
    names = ("timm/hf_hub:x", "timm/../x", "resnet19", "timm/", None, "keras/resnet18")
    assert not any(backbones.is_name(name) for name in names)


def test_images_that_a_backbone_cannot_take():
    refused("torchvision's must take images of 3 channels", "torchvision/resnet18", 1)
    message = "vit_tiny_patch16_224 cannot take images of 3 x 8 x 8"
    refused(message, "timm/vit_tiny_patch16_224", side=8)


def test_files_that_are_not_weights(tmp_path, capsys):
    refused("none.pth does not exist", "resnet8", pretrained=tmp_path / "none.pth")
    (tmp_path / "evil.pth").write_bytes(pickle.dumps({"weight": Evil()}, 2))
    refused("evil.pth cannot be read as weights", "resnet8", pretrained=tmp_path / "evil.pth")
    assert "this ran" not in capsys.readouterr().out
    torch.save([1, 2], tmp_path / "list.pth")
    refused("does not hold a state dict", "resnet8", pretrained=tmp_path / "list.pth")


@pytest.mark.parametrize("name", ["timm/resnet18", "torchvision/resnet18", "resnet8"])
def test_weights_of_another_network(tmp_path, name):
    torch.save({"a": torch.zeros(1)}, tmp_path / "other.pth")
    refused(f"other.pth does not fit {name}", name, pretrained=tmp_path / "other.pth")


def test_the_libraries_are_imported_only_where_they_are_asked_for():
    code = "import sys, wa.models.backbones as b; b.build('resnet8', 3)"
    code += "; print('timm' in sys.modules, 'torchvision' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert run.stdout.split() == ["False", "False"], run.stderr


def test_names_are_read_from_the_libraries_without_importing_them():
    registered = set(timm.models._registry._model_entrypoints)
    assert names.library_models("timm") == registered
    ours = set(torchvision.models.list_models(torchvision.models))
    assert names.library_models("torchvision") == ours
    names.check("timm/resnet18.a1_in1k")
    with pytest.raises(UserError, match="timm has no model 'resnt18'; did you mean timm/resnet18"):
        names.check("timm/resnt18")


class ThroughTorchsFunction:
    """Instead of torch's function, which has no kernels for a CPU. It counts its calls."""

    calls = 0

    @classmethod
    def apply(cls, x, weight, bias, mean, var, eps, momentum, group, processes):
        cls.calls += 1
        return torch.nn.functional.batch_norm(x, mean, var, weight, bias, True, momentum, eps)


@pytest.mark.parametrize("name", ["resnet8", "timm/mobilenetv3_small_050", "torchvision/resnet18"])
def test_synchronized_batch_norms_compute_the_same_network(name, monkeypatch):
    """Played: torch takes the CPU for a GPU, and this process for one of two.

    With equal images in both, the statistics of both together are those of one.
    """
    torch.manual_seed(0)
    model = CilModel(name, 3, [4], size=(64, 64)).train()
    norms = sum(isinstance(m, torch.nn.modules.batchnorm._BatchNorm) for m in model.modules())
    x, plain = torch.randn(4, 3, 64, 64), copy.deepcopy(model)
    torch.manual_seed(1)  # for dropout
    expected = plain(x)

    model = backbones.synchronize_batch_norm(model)
    monkeypatch.setattr(torch._C, "_get_privateuse1_backend_name", lambda: "cpu")
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda group: 2)
    monkeypatch.setattr(torch.nn.modules.batchnorm, "sync_batch_norm", ThroughTorchsFunction)
    ThroughTorchsFunction.calls = 0
    torch.manual_seed(1)
    assert torch.equal(model(x), expected)
    assert ThroughTorchsFunction.calls == norms
    # The same tensors, so the next task and other programs read the checkpoint.
    assert model.tensors().keys() == plain.tensors().keys()
    for tensor, array in plain.tensors().items():
        assert (model.tensors()[tensor] == array).all(), tensor

"""Backbones of timm and torchvision: the same function as the library's own, weights from files, what is said of wrong names."""

import pickle
import subprocess
import sys

import pytest
import timm
import torch
import torchvision
from helpers import ROOT
from safetensors.torch import save_file

from wa.checkpoint import write_checkpoint
from wa.errors import UserError
from wa.models import backbones, names
from wa.models.model import CilModel, load_model


def varied(net: torch.nn.Module) -> torch.nn.Module:
    """With statistics and weights that matter."""
    torch.manual_seed(1)
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 2)
    return net.eval()


@pytest.mark.parametrize("suffix", ["safetensors", "pth"])
@pytest.mark.parametrize("library", ["timm", "torchvision"])
def test_pretrained_weights_give_the_librarys_own_features(tmp_path, library, suffix):
    """The file has a classifier of 1000 classes, as such files have, and is read without it."""
    theirs = varied(
        timm.create_model("resnet18") if library == "timm" else torchvision.models.resnet18()
    )
    file = tmp_path / f"weights.{suffix}"
    save_file(theirs.state_dict(), file) if suffix == "safetensors" else torch.save(
        {"state_dict": theirs.state_dict()}, file
    )
    ours = backbones.build(f"{library}/resnet18", 3, (64, 64), str(file)).eval()
    theirs.fc = torch.nn.Identity()
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        assert ours.features == 512 and torch.equal(ours(x), theirs(x))
    assert not any("num_batches" in name or "fc" in name for name in ours.state_dict())


@pytest.mark.parametrize("name, channels, side, features", [
    ("timm/vit_tiny_patch16_224", 3, 32, 192),
    ("timm/mobilenetv3_small_050", 1, 32, 1024),  # its features are not what timm calls num_features
    ("torchvision/vit_b_32", 3, 64, 768),
    ("torchvision/efficientnet_b0", 3, 32, 1280),
])  # fmt: skip
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
    again, _ = load_model(tmp_path / "m.safetensors")
    x = torch.randn(2, channels, side, side)
    with torch.no_grad():
        assert torch.equal(again.eval()(x), model(x)) and model(x).shape == (2, 5)


def test_own_backbones_take_weights_too(tmp_path):
    net = varied(backbones.build("resnet8", 3))
    save_file(net.state_dict(), tmp_path / "w.safetensors")
    again = backbones.build("resnet8", 3, pretrained=str(tmp_path / "w.safetensors")).eval()
    x = torch.randn(2, 3, 16, 16)
    assert torch.equal(net(x), again(x))


class Evil:
    def __reduce__(self):
        return (print, ("this ran",))


def test_what_is_no_backbone_and_no_weights_is_said(tmp_path, capsys):
    def refused(message: str, name: str, channels=3, side=32, **options):
        with pytest.raises(UserError, match=message) as error:
            backbones.build(name, channels, (side, side), **options)
        assert "\n" not in str(error.value)

    refused("timm has no model 'resnt18'; did you mean .*timm/resnet18", "timm/resnt18")
    refused(
        "torchvision has no model 'resnet19'; did you mean .*torchvision/resnet18",
        "torchvision/resnet19",
    )
    refused("torchvision's must take images of 3 channels", "torchvision/resnet18", 1)
    refused(
        "vit_tiny_patch16_224 cannot take images of 3 x 8 x 8", "timm/vit_tiny_patch16_224", side=8
    )
    refused("none.pth does not exist", "resnet8", pretrained=str(tmp_path / "none.pth"))
    (tmp_path / "evil.pth").write_bytes(pickle.dumps({"weight": Evil()}, 2))
    refused("evil.pth cannot be read as weights", "resnet8", pretrained=str(tmp_path / "evil.pth"))
    assert "this ran" not in capsys.readouterr().out
    torch.save([1, 2], tmp_path / "list.pth")
    refused("does not hold a state dict", "resnet8", pretrained=str(tmp_path / "list.pth"))
    for name in ("timm/resnet18", "torchvision/resnet18", "resnet8"):
        torch.save({"a": torch.zeros(1)}, tmp_path / "other.pth")
        refused(f"other.pth does not fit {name}", name, pretrained=str(tmp_path / "other.pth"))
    assert not any(
        map(
            backbones.is_name,
            ("timm/hf_hub:x", "timm/../x", "resnet19", "timm/", None, "keras/resnet18"),
        )
    )


def test_the_libraries_are_imported_only_where_they_are_asked_for():
    code = "import sys, wa.models.backbones as b; b.build('resnet8', 3); print(*(name in sys.modules for name in ('timm', 'torchvision')))"
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

"""Backbones that grow: by whole networks, and by their last stage."""

import pytest
import torch
from torch import nn

from wa.checkpoint import classifier, read_checkpoint, write_checkpoint
from wa.errors import UserError
from wa.models.cosine_classifiers import ProxyClassifier
from wa.models.model import CilModel, build_model, growth

NAMES = ["network", "stage"]


def grown(part: str, times: int = 2, backbone: str = "resnet8") -> CilModel:
    """A model of 4 + 2 classes whose batch norms have statistics."""
    torch.manual_seed(0)
    model = CilModel(backbone, 3, [4], size=(32, 32))
    for _ in range(times):
        model.classifier.grow(2)
        model.grow(part)
        model.train()(torch.randn(8, 3, 32, 32))
    return model.eval()


def outputs(branches: nn.ModuleList, x: torch.Tensor) -> list[torch.Tensor]:
    return [branch(x) for branch in branches]


@torch.no_grad()
def test_features_are_those_of_all_networks():
    model, x = grown("network"), torch.randn(2, 3, 32, 32)
    parts = outputs(model.backbone.branches, x)
    assert len(parts) == 3 and model.backbone.features == 192 and model.width == 64
    assert not torch.equal(parts[1], parts[2])
    torch.testing.assert_close(model.backbone(x), torch.cat(parts, dim=1))


@torch.no_grad()
@pytest.mark.parametrize("backbone", ["resnet8", "torchvision/resnet18"])
def test_stages_share_the_stages_before(backbone):
    model, x = grown("stage", backbone=backbone), torch.randn(2, 3, 32, 32)
    net = getattr(model.backbone, "net", model.backbone)
    stage, inputs = (net.layer4 if hasattr(net, "layer4") else net.layer3), []
    stage.register_forward_hook(lambda module, args, output: inputs.append(args[0]))
    features = model.backbone(x)
    means = [maps.mean(dim=(2, 3)) for maps in outputs(stage.branches, inputs[0])]
    assert features.shape == (2, model.backbone.features) and model.width * 3 == features.shape[1]
    torch.testing.assert_close(features, torch.cat(means, dim=1), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("part", NAMES)
def test_what_was_learned_stays_when_a_model_grows(part):
    torch.manual_seed(0)
    model, x = CilModel("resnet8", 3, [4, 3]), torch.randn(8, 3, 32, 32)
    before = model.train()(x), model.backbone.eval()(x)
    heads = [head.weight.clone() for head in model.classifier.heads]
    bias = model.classifier.heads[0].bias.clone()
    model.grow(part)
    model.eval()
    torch.testing.assert_close(model.backbone(x), before[1].repeat(1, 2))  # a copy of the last one
    old, new = model.classifier.heads
    assert torch.equal(old.weight[:, :64], heads[0]) and torch.equal(old.bias, bias)
    assert old.weight[:, 64:].std() > 0
    assert new.weight.shape == (3, 128) and not torch.equal(new.weight[:, :64], heads[1])
    assert new.weight.abs().max() <= 128**-0.5  # drawn as for 128 features


@pytest.mark.parametrize("part", NAMES)
def test_only_the_newest_branch_learns_and_counts_statistics(part):
    model = grown(part)
    trained = {name for name, p in model.backbone.named_parameters() if p.requires_grad}
    branches = {name for name in trained if "branches" in name}
    assert branches and all("branches.2." in name for name in branches)
    assert (trained == branches) == (part == "network")  # the stages before are shared
    before = {k: v.clone() for k, v in model.backbone.state_dict().items()}
    model.train()(torch.randn(8, 3, 32, 32))
    changed = {k for k, v in model.backbone.state_dict().items() if not torch.equal(v, before[k])}
    assert changed and not any("branches.0." in k or "branches.1." in k for k in changed)
    model.backbone.requires_grad_(False)
    before = {k: v.clone() for k, v in model.backbone.state_dict().items()}
    model.train()(torch.randn(8, 3, 32, 32))
    assert all(torch.equal(v, before[k]) for k, v in model.backbone.state_dict().items())


@pytest.mark.parametrize("part", NAMES)
def test_a_checkpoint_of_a_grown_model_comes_back(part, tmp_path):
    model, file = grown(part), tmp_path / "m.safetensors"
    facts = {"backbone": "resnet8", "in_channels": 3, "task_sizes": [4, 2, 2], "bias": True}
    assert growth(model) == {"grown": part, "branches": 3}
    write_checkpoint(file, model.tensors(), facts | growth(model))
    again = build_model(*read_checkpoint(file), "m.safetensors")
    x = torch.randn(2, 3, 32, 32)
    assert torch.equal(again.eval()(x), model(x))
    assert all(p.requires_grad for p in again.parameters())
    weight, _ = classifier(*read_checkpoint(file), file)
    assert weight.shape == (8, 192)
    again.classifier.grow(1)
    again.grow(part)
    assert growth(again)["branches"] == 4 and again.backbone(x).shape == (2, 256)
    for wrong, said in (
        ({"branches": 2}, "does not fit the model"),
        ({"branches": 10**9}, "fewer branches than its header says"),
        ({"branches": 0}, "branches = 0"),
        ({"grown": "head"}, "grown = "),
    ):
        write_checkpoint(file, model.tensors(), facts | growth(model) | wrong)
        with pytest.raises(UserError, match=said):
            build_model(*read_checkpoint(file), "m.safetensors")


def test_a_backbone_that_does_not_end_in_a_stage_is_refused():
    model = CilModel("preact_resnet8", 3, [4])
    with pytest.raises(UserError, match="must end in one of the stages"):
        model.grow("stage")
    model.grow("network")
    assert model.backbone.features == 128


def test_all_proxies_of_a_class_take_more_features():
    model = CilModel("resnet8", 3, [4, 2], classifier=ProxyClassifier)
    before = model.classifier.proxies()
    model.grow()
    proxies = model.classifier.proxies()
    assert proxies.shape == (6, 10, 128) and torch.equal(proxies[:4, :, :64], before[:4])


def test_a_head_with_more_classes_than_features_grows():
    model = CilModel("resnet8", 3, [100, 2])
    before = [p.clone() for p in model.classifier.heads[0].parameters()]
    model.grow()
    weight, bias = model.classifier.heads[0].parameters()
    assert torch.equal(weight[:, :64], before[0]) and torch.equal(bias, before[1])


def test_layers_for_training_alone_are_no_part_of_a_model_until_they_are_added():
    model = CilModel("resnet8", 3, [4])
    names = set(model.tensors())
    model.auxiliary = nn.Linear(2, 2)
    assert set(model.tensors()) - names == {"auxiliary.weight", "auxiliary.bias"}

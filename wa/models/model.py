"""The model: a backbone, and a classifier that gets one new head per task."""

import copy
from collections import OrderedDict
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from wa.checkpoint import classifier as heads_of
from wa.checkpoint import model_of
from wa.errors import UserError
from wa.files import check, is_count
from wa.models import backbones
from wa.models.branches import PARTS, branches_of


class CilClassifier(nn.Module):
    """One linear head for each task. Together they give a logit for each class seen so far.

    features: their number, d. init: how new weights are drawn, see new_head.
    """

    def __init__(self, features: int, bias: bool = True, init: str = "torch"):
        super().__init__()
        self.features, self.bias, self.init = features, bias, init
        self.heads = nn.ModuleList()

    def new_head(self, classes: int) -> nn.Linear:
        """A linear layer, drawn from torch's generator on the CPU.

        init `torch`: as in nn.Linear, weights and biases are from U(-1/sqrt(d), 1/sqrt(d)).
        init `kaiming`: weights are from U(-sqrt(3/d), sqrt(3/d)), and biases are zero (PyCIL,
        convs/linears.py, SimpleLinear).
        """
        head = nn.Linear(self.features, classes, self.bias)
        if self.init == "kaiming":
            nn.init.kaiming_uniform_(head.weight, nonlinearity="linear")
            if head.bias is not None:
                nn.init.zeros_(head.bias)
        return head

    def grow(self, classes: int) -> None:
        """Add a head for the classes of a new task. The old heads stay as they are."""
        self.heads.append(self.new_head(classes))

    @torch.no_grad()
    def widen(self, features: int) -> None:
        """Take more features. The old heads keep their weights, and get new ones beside them.

        The head of the newest task is drawn anew.
        """
        self.features = features
        for heads in self.children():
            for head in heads:
                wide = self.new_head(head.out_features)
                for name, p in list(head.named_parameters()):
                    fresh = wide.get_parameter(name).to(p.device)
                    if head is not heads[-1]:
                        fresh[tuple(map(slice, p.shape))] = p
                    setattr(head, name, nn.Parameter(fresh, p.requires_grad))
                head.in_features = features

    @torch.no_grad()
    def clip(self) -> None:
        """Set negative weights to 0. Training does it after each step (Zhao et al., CVPR 2020)."""
        for head in self.heads:
            head.weight.clamp_(min=0)

    @torch.no_grad()
    def redraw(self) -> None:
        """Draw new weights for all heads, in place, from torch's generator on the CPU."""
        for head in self.heads:
            fresh = self.new_head(head.out_features)
            for p, new in zip(head.parameters(), fresh.parameters(), strict=True):
                p.copy_(new)

    def forward(self, x: Tensor) -> Tensor:
        """Features (B, d) to logits (B, classes), in the order in which classes were learned."""
        return torch.cat([head(x) for head in self.heads], dim=1)


class CilModel(nn.Module):
    """Images, normalised float (B, C, H, W), to logits, float (B, classes).

    backbone, in_channels, size, pretrained: see wa.models.backbones.build.
    task_sizes: the number of classes of each task. bias, init: see CilClassifier. classifier: the
    class of the classifier, for algorithms with another one.

    grown, branches: the part of the backbone that grew, and how many copies of it there are.
    auxiliary: layers that an algorithm needs for training alone. No checkpoint has them.
    """

    def __init__(
        self,
        backbone: str,
        in_channels: int,
        task_sizes: list[int],
        bias: bool = True,
        size: tuple[int, int] | None = None,
        pretrained: str = "",
        init: str = "torch",
        classifier: type[CilClassifier] = CilClassifier,
    ):
        super().__init__()
        self.backbone = backbones.build(backbone, in_channels, size, pretrained)
        self.classifier = classifier(self.backbone.features, bias, init)
        for classes in task_sizes:
            self.classifier.grow(classes)
        self.grown, self.branches = "", 1
        self.auxiliary: nn.Module = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.backbone(x))

    def grow(self, part: str = "network") -> None:
        """Add a branch: a copy of the last one. The others are frozen from now on.

        part: `network`, the whole backbone, or `stage`, its last stage. Features of the new branch
        come last. The classifier takes them too, see CilClassifier.widen. Raises UserError if the
        backbone does not end in a stage.
        """
        self.backbone, branches = branches_of(self.backbone, part)
        branch = copy.deepcopy(branches[-1])
        branches.requires_grad_(False)
        branches.append(branch.requires_grad_(True))
        self.backbone.features += self.width
        self.grown, self.branches = part, len(branches)
        self.classifier.widen(self.backbone.features)

    @property
    def width(self) -> int:
        """The features of one branch."""
        return self.classifier.features // self.branches

    def train(self, mode: bool = True) -> "CilModel":
        """As in torch. But the batch norms of frozen parts keep their statistics."""
        super().train(mode)
        for part in self.backbone.modules():
            frozen = [not p.requires_grad for p in part.parameters()]
            if frozen and all(frozen):
                part.eval()
        return self

    def load_state_dict(self, state: Mapping[str, Tensor], *args: object, **options: object):
        """As in torch. A dict without torch's metadata, such as a checkpoint's, loads as well.

        Without it, torch takes the batch-norms for those of an old version, which lacked
        num_batches_tracked. It would add the number, which there is none of here.
        """
        if not hasattr(state, "_metadata"):
            state = OrderedDict(state)
            state._metadata = self.state_dict()._metadata
        return super().load_state_dict(state, *args, **options)

    def tensors(self) -> dict[str, np.ndarray]:
        """The parameters and buffers as numpy arrays, as a checkpoint holds them."""
        return {name: tensor.detach().cpu().numpy() for name, tensor in self.state_dict().items()}


def load_tensors(module: nn.Module, tensors: dict[str, np.ndarray], path: str) -> None:
    """Load arrays into a module, in place. path: where they are from.

    Raises UserError if they do not fit. It names the first array that does not, and both shapes.
    """
    state = module.state_dict()
    for name in sorted(state.keys() | tensors.keys()):
        here = tuple(state[name].shape) if name in state else "absent"
        there = tensors[name].shape if name in tensors else "absent"
        if here != there:
            raise UserError(
                f"{path} does not fit the model: {name} is {there} in the file and {here} in the"
                " model"
            )
    for name, array in tensors.items():
        state[name].copy_(torch.from_numpy(array))


def are_sides(value: object) -> bool:
    return (
        isinstance(value, list)
        and len(value) == 2
        and all(is_count(side) and side <= 4096 for side in value)
    )


# What the header of a checkpoint must say, so that a model can be built from it.
HEADER = {
    "backbone": (
        backbones.is_name,
        f"one of {', '.join(backbones.BACKBONES)}, timm/NAME or torchvision/NAME",
    ),
    "in_channels": (lambda v: is_count(v) and v in (1, 3), "1 or 3"),
    "bias": (lambda v: isinstance(v, bool), "true or false"),
    "input_size": (
        lambda v: v is None or are_sides(v),
        "height and width of the images that the backbone takes",
    ),
    "grown": (lambda v: v in PARTS, f"one of {', '.join(PARTS)}"),
    "branches": (is_count, "how many copies there are of what has grown"),
}
# Of what an old checkpoint, or that of a network that never grew, does not say.
UNSAID = {"input_size": None, "grown": PARTS[0], "branches": 1}


def growth(model: CilModel) -> dict:
    """The entries of a header that say how the backbone has grown. None if it has not."""
    return {"grown": model.grown, "branches": model.branches} if model.branches > 1 else {}


def build_model(
    tensors: dict[str, np.ndarray],
    header: dict,
    path: str,
    classifier: type[CilClassifier] = CilClassifier,
) -> CilModel:
    """The model of a checkpoint that was read, on the CPU. path: the file, for errors.

    classifier: its class, for algorithms with another one.

    Raises UserError if the tensors and the header do not describe a model.
    """
    header = UNSAID | header
    check(header, HEADER, path)
    heads_of(tensors, header, path)  # it checks that the heads have the shapes of the header
    if header["branches"] > len(tensors):
        raise UserError(f"{path} cannot be used: it has fewer branches than its header says")
    size = tuple(header["input_size"] or (32, 32))  # an old checkpoint's backbone takes any
    model = CilModel(
        header["backbone"],
        header["in_channels"],
        header["task_sizes"],
        header["bias"],
        size,
        classifier=classifier,
    )
    for _ in range(header["branches"] - 1):
        model.grow(header["grown"])
    model.requires_grad_(True)
    load_tensors(model, model_of(tensors), path)
    return model

"""Backbones that grow: copies of a network, or of its last stage, side by side.

DER (Yan et al., CVPR 2021) adds a network for each task. MEMO (Zhou et al., ICLR 2023) adds a last
stage, and the networks share the stages before it. `CilModel.grow` does both.
"""

import torch
from torch import Tensor, nn

from wa.errors import UserError
from wa.models.feature_maps import STAGE

PARTS = ("network", "stage")  # what may have branches


class Branches(nn.Module):
    """Modules that take the same input, (B, C, ...). Their outputs are joined to (B, n C', ...).

    features: those of all branches together, if the first is a whole network.
    """

    def __init__(self, first: nn.Module):
        super().__init__()
        self.branches = nn.ModuleList([first])
        self.features = getattr(first, "features", 0)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([branch(x) for branch in self.branches], dim=1)


def last_stage(backbone: nn.Module) -> str:
    """The name of the last of the stages layer1, layer2, and so on.

    Raises UserError if there is none, or if layers with parameters come after it.
    """
    stages = [name for name, _ in backbone.named_modules() if STAGE.fullmatch(name)]
    *_, (last, _) = backbone.named_parameters()
    if not stages or not last.startswith(f"{stages[-1]}."):
        raise UserError(
            "this algorithm adds a last stage for each task, so the backbone must end in one of the"
            " stages layer1, layer2, and so on. Use a ResNet, such as resnet32"
        )
    return stages[-1]


def branches_of(backbone: nn.Module, part: str) -> tuple[nn.Module, nn.ModuleList]:
    """The backbone whose part has branches, and the branches. It has one if it never grew."""
    if part == "network":
        grown = backbone if isinstance(backbone, Branches) else Branches(backbone)
        return grown, grown.branches
    name = last_stage(backbone)
    stage = backbone.get_submodule(name)
    if not isinstance(stage, Branches):
        stage = Branches(stage)
        backbone.set_submodule(name, stage)
    return backbone, stage.branches

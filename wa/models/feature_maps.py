"""The feature maps that a backbone computes on its way: the output of each of its stages."""

import re

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wa.errors import UserError

STAGE = re.compile(r"(net\.)?layer\d+")


class FeatureMaps:
    """The maps of the last forward pass of a backbone, first stage first, float (B, C, H, W).

    The stages are the modules layer1, layer2, and so on, as in the ResNets here, of timm and of
    torchvision. Raises UserError if the backbone has none.
    """

    def __init__(self, backbone: nn.Module):
        stages = [module for name, module in backbone.named_modules() if STAGE.fullmatch(name)]
        if not stages:
            raise UserError(
                "this algorithm compares feature maps of the stages layer1, layer2, and so on, and"
                " the backbone has none. Use a ResNet"
            )
        self.maps: list[Tensor] = [Tensor()] * len(stages)
        for place, stage in enumerate(stages):
            stage.register_forward_hook(self.keep(place))

    def keep(self, place: int):
        def hook(stage: nn.Module, inputs: tuple, output: Tensor) -> None:
            self.maps[place] = output

        return hook


def pooled(maps: Tensor) -> Tensor:
    """The sums of squared maps over each row and column, with length 1. maps: (B, C, H, W)."""
    squares = maps.float().square()
    sums = torch.cat([squares.sum(dim=3).flatten(1), squares.sum(dim=2).flatten(1)], dim=1)
    return F.normalize(sums, dim=1)

"""Classifiers that compare directions: the cosines of features with rows, or with proxies."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wa.models.model import CilClassifier

PROXIES = 10  # of each class


class CosineClassifier(CilClassifier):
    """The cosines of the features and the rows, times one learned scale."""

    def __init__(self, features: int, bias: bool = False, init: str = "torch"):
        super().__init__(features, False, init)
        self.sigma = nn.Parameter(torch.ones(()))

    def cosines(self, x: Tensor) -> Tensor:
        """Features (B, d) to cosines (B, classes)."""
        rows = torch.cat([head.weight for head in self.heads])
        return F.normalize(x, dim=1) @ F.normalize(rows, dim=1).T

    def forward(self, x: Tensor) -> Tensor:
        return self.sigma * self.cosines(x)


class ProxyClassifier(CilClassifier):
    """The similarity of features to several proxies of each class (Douillard et al., ECCV 2020).

    The first proxy of a class is a row of its task's head.
    """

    def __init__(self, features: int, bias: bool = False, init: str = "torch"):
        super().__init__(features, False, init)
        self.more = nn.ModuleList()  # the other proxies of each task, beside its head
        self.eta = nn.Parameter(torch.ones(()))

    def grow(self, classes: int) -> None:
        super().grow(classes)
        self.more.append(self.new_head(classes * (PROXIES - 1)))

    def proxies(self) -> Tensor:
        """All proxies, (classes, K, d)."""
        parts = [
            torch.cat([head.weight[:, None], more.weight.unflatten(0, (-1, PROXIES - 1))], dim=1)
            for head, more in zip(self.heads, self.more, strict=True)
        ]
        return torch.cat(parts)

    def forward(self, x: Tensor) -> Tensor:
        similarity = F.normalize(x, dim=1) @ F.normalize(self.proxies().flatten(0, 1), dim=1).T
        similarity = similarity.float().unflatten(1, (-1, PROXIES))
        return (similarity.softmax(dim=2) * similarity).sum(dim=2)


def centres(features: Tensor, count: int, rounds: int = 10) -> Tensor:
    """The centres of `count` clusters, by k-means: (count, d). features: (n, d)."""
    found = features[torch.arange(count, device=features.device) * len(features) // count]
    for _ in range(rounds):
        nearest = torch.cdist(features, found).argmin(dim=1)
        members = F.one_hot(nearest, count).T.to(features.dtype)
        size = members.sum(dim=1, keepdim=True)
        found = torch.where(size > 0, members @ features / size.clamp(min=1), found)
    return found

"""Pre-activation ResNets for small images.

He et al., "Identity Mappings in Deep Residual Networks", ECCV 2016. Batch-norm and ReLU come before
each convolution, and nothing comes after the sum of a block. Where the size changes, a 1x1
convolution of the activated input is the shortcut. The authors of WA use depth 32 for CIFAR
(preresnet32.py in bwbwzhao/Weight-Aligning).
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval


class PreActivationBlock(nn.Module):
    def __init__(self, in_channels: int, channels: int, stride: int):
        super().__init__()
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.project = stride > 1 or in_channels != channels
        if self.project:
            self.conv3 = nn.Conv2d(in_channels, channels, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        active = F.relu(self.bn1(x))
        shortcut = self.conv3(active) if self.project else x
        out = F.relu(self.bn2(self.conv1(active)), inplace=True)
        return self.conv2(out) + shortcut


class PreActivationResNet(nn.Module):
    """Images, float (B, in_channels, H, W), to features, float (B, 64). Of depth 6 blocks + 2."""

    features = 64

    def __init__(self, blocks: int, in_channels: int = 3):
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, 16, 3, padding=1, bias=False)
        self.layer1 = stage(16, 16, 1, blocks)
        self.layer2 = stage(16, 32, 2, blocks)
        self.layer3 = stage(32, 64, 2, blocks)
        self.bn = nn.BatchNorm2d(64)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            elif isinstance(module, nn.BatchNorm2d):
                module.num_batches_tracked = None  # as in wa/models/resnet.py

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer3(self.layer2(self.layer1(self.conv1(x))))
        return torch.mean(F.relu(self.bn(x), inplace=True), dim=(2, 3))

    def fold_batch_norm(self) -> None:
        """Put the second batch-norm of each block into the convolution before it.

        The function stays the same in evaluation mode. The first batch-norm of a block follows no
        convolution.
        """
        self.eval()
        for block in self.modules():
            if isinstance(block, PreActivationBlock):
                block.conv1 = fuse_conv_bn_eval(block.conv1, block.bn2)
                block.bn2 = nn.Identity()


def stage(in_channels: int, channels: int, stride: int, blocks: int) -> nn.Sequential:
    first = PreActivationBlock(in_channels, channels, stride)
    return nn.Sequential(
        first, *(PreActivationBlock(channels, channels, 1) for _ in range(blocks - 1))
    )


def preact_resnet8(in_channels: int) -> PreActivationResNet:
    return PreActivationResNet(1, in_channels)


def preact_resnet32(in_channels: int) -> PreActivationResNet:
    return PreActivationResNet(5, in_channels)

"""The ResNets for CIFAR: He et al., "Deep Residual Learning for Image Recognition", CVPR 2016, section 4.2.

Depth 6n + 2: a 3x3 convolution, three stages of n blocks with 16, 32 and 64 channels, the mean over the image. Where
the size changes, the shortcut takes every second pixel and pads the channels with zeros (option A): no parameters.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval


class BasicBlock(nn.Module):
    def __init__(self, in_channels: int, channels: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.stride = stride
        self.new_channels = channels - in_channels

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)), inplace=True)
        out = self.bn2(self.conv2(out))
        if self.stride > 1 or self.new_channels:
            x = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.new_channels))
        return F.relu(out + x, inplace=True)


class CifarResNet(nn.Module):
    """Images, float (B, in_channels, H, W), to features, float (B, 64)."""

    features = 64

    def __init__(self, depth: int, in_channels: int = 3):
        super().__init__()
        n = (depth - 2) // 6
        self.conv1 = nn.Conv2d(in_channels, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = nn.Sequential(*(BasicBlock(16, 16, 1) for _ in range(n)))
        self.layer2 = nn.Sequential(BasicBlock(16, 32, 2), *(BasicBlock(32, 32, 1) for _ in range(n - 1)))
        self.layer3 = nn.Sequential(BasicBlock(32, 64, 2), *(BasicBlock(64, 64, 1) for _ in range(n - 1)))
        for m in self.modules():
            if isinstance(m, nn.Conv2d):
                nn.init.kaiming_normal_(m.weight, mode="fan_out", nonlinearity="relu")
            elif isinstance(m, nn.BatchNorm2d):
                m.num_batches_tracked = None  # only a momentum of None reads it, and counting is a kernel a layer and step

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x)), inplace=True)
        x = self.layer3(self.layer2(self.layer1(x)))
        return torch.mean(x, dim=(2, 3))

    def fold_batch_norm(self) -> None:
        """Put each batch-norm into the convolution before it: the same function in evaluation mode, in half the passes."""
        self.eval()
        for module in list(self.modules()):
            for bn in [name for name, child in module.named_children() if isinstance(child, nn.BatchNorm2d)]:
                conv = bn.replace("bn", "conv")
                setattr(module, conv, fuse_conv_bn_eval(getattr(module, conv), getattr(module, bn)))
                setattr(module, bn, nn.Identity())


BACKBONES = {f"resnet{depth}": depth for depth in (8, 20, 32, 44, 56, 110)}  # 8 is for the digits


def build(name: str, in_channels: int) -> CifarResNet:
    return CifarResNet(BACKBONES[name], in_channels)

"""The ResNets for small images: He et al., "Deep Residual Learning for Image Recognition", CVPR 2016.

`resnet20` to `resnet110` are section 4.2's for CIFAR, of depth 6n + 2: a 3x3 convolution, three stages of n blocks with 16, 32
and 64 channels, the mean over the image. Where the size changes, the shortcut takes every second pixel and pads the channels
with zeros (option A): no parameters. `resnet18` is section 4.1's for ImageNet as the field uses it on CIFAR (DER: Yan et al.,
CVPR 2021): four stages of 2 blocks with 64 to 512 channels and 1x1 convolutions as shortcuts (option B), but a first
convolution of 3x3 and no pooling after it.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval


class BasicBlock(nn.Module):
    def __init__(self, in_channels: int, channels: int, stride: int, project: bool = False):
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.stride = stride
        self.new_channels = channels - in_channels
        self.project = project and (stride > 1 or self.new_channels > 0)
        if self.project:
            self.conv3 = nn.Conv2d(in_channels, channels, 1, stride, bias=False)
            self.bn3 = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)), inplace=True)
        out = self.bn2(self.conv2(out))
        if self.project:
            x = self.bn3(self.conv3(x))
        elif self.stride > 1 or self.new_channels:
            x = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.new_channels))
        return F.relu(out + x, inplace=True)


class CifarResNet(nn.Module):
    """Images, float (B, in_channels, H, W), to features, float (B, features)."""

    def __init__(
        self, channels: tuple[int, ...], blocks: int, in_channels: int = 3, project: bool = False
    ):
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels[0], 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels[0])
        self.features, self.stages = channels[-1], len(channels)
        for stage, (before, wide) in enumerate(
            zip((channels[0], *channels), channels, strict=False), 1
        ):
            first = BasicBlock(before, wide, 1 if stage == 1 else 2, project)
            self.add_module(
                f"layer{stage}",
                nn.Sequential(first, *(BasicBlock(wide, wide, 1) for _ in range(blocks - 1))),
            )
        for m in self.modules():
            if isinstance(m, nn.Conv2d):
                nn.init.kaiming_normal_(m.weight, mode="fan_out", nonlinearity="relu")
            elif project and isinstance(m, BasicBlock):
                nn.init.zeros_(
                    m.bn2.weight
                )  # blocks start as the identity (Goyal et al., 2017), as in DER's code
            elif isinstance(m, nn.BatchNorm2d):
                m.num_batches_tracked = None  # only a momentum of None reads it, and counting is a kernel a layer and step

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x)), inplace=True)
        for stage in range(1, self.stages + 1):
            x = getattr(self, f"layer{stage}")(x)
        return torch.mean(x, dim=(2, 3))

    def fold_batch_norm(self) -> None:
        """Put each batch-norm into the convolution before it: the same function in evaluation mode, in half the passes."""
        self.eval()
        for module in list(self.modules()):
            for bn in [
                name for name, child in module.named_children() if isinstance(child, nn.BatchNorm2d)
            ]:
                conv = bn.replace("bn", "conv")
                setattr(module, conv, fuse_conv_bn_eval(getattr(module, conv), getattr(module, bn)))
                setattr(module, bn, nn.Identity())


def resnet8(in_channels: int) -> CifarResNet:
    return CifarResNet((16, 32, 64), 1, in_channels)


def resnet20(in_channels: int) -> CifarResNet:
    return CifarResNet((16, 32, 64), 3, in_channels)


def resnet32(in_channels: int) -> CifarResNet:
    return CifarResNet((16, 32, 64), 5, in_channels)


def resnet44(in_channels: int) -> CifarResNet:
    return CifarResNet((16, 32, 64), 7, in_channels)


def resnet56(in_channels: int) -> CifarResNet:
    return CifarResNet((16, 32, 64), 9, in_channels)


def resnet110(in_channels: int) -> CifarResNet:
    return CifarResNet((16, 32, 64), 18, in_channels)


def resnet18(in_channels: int) -> CifarResNet:
    return CifarResNet((64, 128, 256, 512), 2, in_channels, project=True)

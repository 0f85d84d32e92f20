"""The ResNets for small images.

He et al., "Deep Residual Learning for Image Recognition", CVPR 2016.

`resnet20` to `resnet110` are those of section 4.2 for CIFAR. Their depth is 6n + 2: a convolution
of 3 x 3, then three stages of n blocks with 16, 32 and 64 channels, then the mean over the image.
Where the size changes, the shortcut takes every second pixel and adds channels of zeros (option A).
It has no parameters.

`resnet18` is that of section 4.1 for ImageNet, as it is usually changed for CIFAR (DER: Yan et al.,
CVPR 2021). It has four stages of 2 blocks with 64 to 512 channels. Its shortcuts are convolutions
of 1 x 1 (option B). The first convolution is 3 x 3, and there is no pooling after it.

`signed_resnet8` and `signed_resnet32` have no ReLU at the end of the last block, so that features
may be negative. Methods that compare directions need this: LUCIR (Hou et al., CVPR 2019, section
3.2) and PODNet.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval


class BasicBlock(nn.Module):
    """Two convolutions of 3 x 3 and a shortcut.

    float (B, in_channels, H, W) to float (B, channels, H / stride, W / stride), rounded up.
    project: take option B where the shortcut cannot be the identity.
    """

    signed = False  # True: no ReLU at the end

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
        out = out + x
        return out if self.signed else F.relu(out, inplace=True)


class CifarResNet(nn.Module):
    """Images, float (B, in_channels, H, W), to features, float (B, features).

    channels: of each stage. blocks: the number of blocks of each stage. project: see BasicBlock.
    signed: the last block has no ReLU at the end.
    """

    def __init__(
        self,
        channels: tuple[int, ...],
        blocks: int,
        in_channels: int = 3,
        project: bool = False,
        signed: bool = False,
    ):
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels[0], 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels[0])
        self.features, self.stages = channels[-1], len(channels)
        before = channels[0]
        for stage, wide in enumerate(channels, 1):
            first = BasicBlock(before, wide, 1 if stage == 1 else 2, project)
            rest = [BasicBlock(wide, wide, 1) for _ in range(blocks - 1)]
            self.add_module(f"layer{stage}", nn.Sequential(first, *rest))
            before = wide
        getattr(self, f"layer{self.stages}")[-1].signed = signed
        for m in self.modules():
            if isinstance(m, nn.Conv2d):
                nn.init.kaiming_normal_(m.weight, mode="fan_out", nonlinearity="relu")
            elif project and isinstance(m, BasicBlock):
                # Blocks start as the identity (Goyal et al., 2017), as in DER's code.
                nn.init.zeros_(m.bn2.weight)
            elif isinstance(m, nn.BatchNorm2d):
                # Only a momentum of None reads the counter. Counting costs a kernel per layer.
                m.num_batches_tracked = None

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x)), inplace=True)
        for stage in range(1, self.stages + 1):
            x = getattr(self, f"layer{stage}")(x)
        return torch.mean(x, dim=(2, 3))

    def fold_batch_norm(self) -> None:
        """Put each batch norm into the convolution before it, in place.

        In evaluation mode, the function is the same, with half as many passes over the features.
        """
        self.eval()
        for module in list(self.modules()):
            for name, child in list(module.named_children()):
                if isinstance(child, nn.BatchNorm2d):
                    convolution = name.replace("bn", "conv")
                    fused = fuse_conv_bn_eval(getattr(module, convolution), child)
                    setattr(module, convolution, fused)
                    setattr(module, name, nn.Identity())


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


def signed_resnet8(in_channels: int) -> CifarResNet:
    return CifarResNet((16, 32, 64), 1, in_channels, signed=True)


def signed_resnet32(in_channels: int) -> CifarResNet:
    return CifarResNet((16, 32, 64), 5, in_channels, signed=True)

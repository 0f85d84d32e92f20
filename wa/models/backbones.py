"""Backbones by name: the ResNets for small images of wa/models/resnet.py, any of timm (`timm/resnet18`) and of torchvision's.

`timm/vit_tiny_patch16_224`, `torchvision/resnet18`: without classifier, with new weights or those of a local file. timm and
torchvision are imported here and only where they are asked for; nothing is ever downloaded.
"""

from pathlib import Path

import torch
from torch import Tensor, nn

from wa.errors import UserError
from wa.models import preactivation, resnet
from wa.models.names import FOREIGN, unknown

# Our own, by name. Each takes the number of channels of the images. It returns a module from images,
# float (B, C, H, W), to features, float (B, features), which has the attribute `features`.
BACKBONES = {
    "resnet8": resnet.resnet8,  # for the digits
    "resnet20": resnet.resnet20,
    "resnet32": resnet.resnet32,
    "resnet44": resnet.resnet44,
    "resnet56": resnet.resnet56,
    "resnet110": resnet.resnet110,
    "resnet18": resnet.resnet18,
    "preact_resnet8": preactivation.preact_resnet8,
    "preact_resnet32": preactivation.preact_resnet32,
}


def is_name(name: object) -> bool:
    return isinstance(name, str) and (name in BACKBONES or FOREIGN.fullmatch(name) is not None)


class Foreign(nn.Module):
    """Another library's network without its classifier: float (B, C, H, W) to features (B, features)."""

    def __init__(self, name: str, net: nn.Module, in_channels: int, size: tuple[int, int]):
        super().__init__()
        self.net = net
        for module in net.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.num_batches_tracked = None  # as in wa/models/resnet.py
        training = net.training
        try:
            with torch.no_grad():
                shape = net.eval()(torch.zeros(1, in_channels, *size)).shape
        except (RuntimeError, AssertionError, ValueError) as error:
            raise UserError(
                f"backbone {name} cannot take images of {in_channels} x {size[0]} x {size[1]}: {error}"
            ) from None
        if len(shape) != 2:
            raise UserError(
                f"backbone {name} gives no vector of features, but {tuple(shape)}: choose another"
            )
        net.train(training)
        self.features = shape[1]

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


def read_weights(file: str) -> dict[str, Tensor]:
    """The tensors of a .safetensors file, or of one of torch's, whose pickle may hold nothing but tensors."""
    try:
        if Path(file).suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(file)
        state = torch.load(file, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise UserError(f"pretrained: {file} is not there") from None
    except Exception as error:  # of either library, whatever a broken file provokes
        raise UserError(
            f"pretrained: {file} cannot be read as weights ({str(error).splitlines()[0]:.100})"
        ) from None
    for key in ("state_dict", "model"):
        state = state.get(key, state) if isinstance(state, dict) else state
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise UserError(f"pretrained: {file} holds no state dict")
    return state


def load(net: nn.Module, state: dict[str, Tensor]) -> None:
    wrong = [
        k
        for keys in net.load_state_dict(state, strict=False)
        for k in keys
        if not k.endswith("num_batches_tracked")
    ]
    if wrong:
        raise RuntimeError(f"{len(wrong)} names are of one side only, for instance {wrong[:3]}")


def from_timm(
    name: str, in_channels: int, size: tuple[int, int], state: dict[str, Tensor] | None
) -> nn.Module:
    import timm

    model = name.split("/")[1]
    if not timm.is_model(model):
        raise unknown(name)
    config = timm.get_pretrained_cfg(model)
    options = (
        {"img_size": size}
        if config and config.fixed_input_size and config.input_size[1:] != size
        else {}
    )
    if (
        state is not None
    ):  # timm adapts them: first convolutions to grey images, position embeddings to their number
        options |= {
            "pretrained": True,
            "pretrained_cfg_overlay": {"state_dict": state, "custom_load": False},
        }
    net = timm.create_model(model, num_classes=0, in_chans=in_channels, **options)
    if state is not None and (
        missing := [k for k in net.state_dict() if k not in state and "num_batches" not in k]
    ):
        raise RuntimeError(
            f"it lacks {len(missing)} tensors, for instance {missing[:3]}"
        )  # of which timm says nothing
    return net


def from_torchvision(
    name: str, in_channels: int, size: tuple[int, int], state: dict[str, Tensor] | None
) -> nn.Module:
    from torchvision import models

    model = name.split("/")[1]
    if model not in models.list_models(models):
        raise unknown(name)
    net = models.get_model(
        model, weights=None, **({"image_size": size[0]} if model.startswith("vit_") else {})
    )
    linear = [key for key, module in net.named_modules() if isinstance(module, nn.Linear)]
    if in_channels != 3 or not linear or getattr(net, "aux_logits", False):
        raise UserError(
            f"backbone {name}: torchvision's must take images of 3 channels and end in one linear layer; try timm's"
        )
    net.set_submodule(linear[-1], nn.Identity())
    if state is not None:
        load(net, {k: v for k, v in state.items() if not k.startswith(f"{linear[-1]}.")})
    return net


def build(
    name: str, in_channels: int, size: tuple[int, int] | None = None, pretrained: str = ""
) -> nn.Module:
    """A backbone for images of `size` (height, width); ours take any. pretrained: a file of weights."""
    state = read_weights(pretrained) if pretrained else None
    try:
        if match := FOREIGN.fullmatch(name):
            net = {"timm": from_timm, "torchvision": from_torchvision}[match[1]](
                name, in_channels, size, state
            )
            return Foreign(name, net, in_channels, size)
        net = BACKBONES[name](in_channels)
        if state is not None:
            load(net, state)
        return net
    except RuntimeError as error:
        if state is None:
            raise
        raise UserError(
            f"pretrained: {pretrained} does not fit {name}: {' '.join(str(error).split())[:300]}"
        ) from None

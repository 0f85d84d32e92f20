"""Backbones by name: those of wa/models/resnet.py, and any network of timm or torchvision.

    build("resnet32", 3)
    build("timm/vit_tiny_patch16_224", 3, (224, 224))
    build("torchvision/resnet18", 3, (64, 64), pretrained="weights.pth")

A network of timm or torchvision comes without its classifier. Its weights are new, or those of a
local file: nothing is ever downloaded. Both libraries are imported only if they are asked for.
"""

from pathlib import Path

import torch
from torch import Tensor, nn

from wa.errors import UserError
from wa.models import preactivation, resnet
from wa.models.names import FOREIGN, unknown

# Our own, by name. Each takes the number of channels of the images, and returns a module. It maps
# images, float (B, C, H, W), to features, float (B, features). `features` is its attribute.
BACKBONES = {
    "resnet8": resnet.resnet8,  # for the digits
    "resnet20": resnet.resnet20,
    "resnet32": resnet.resnet32,
    "resnet44": resnet.resnet44,
    "resnet56": resnet.resnet56,
    "resnet110": resnet.resnet110,
    "resnet18": resnet.resnet18,
    "signed_resnet8": resnet.signed_resnet8,
    "signed_resnet32": resnet.signed_resnet32,
    "preact_resnet8": preactivation.preact_resnet8,
    "preact_resnet32": preactivation.preact_resnet32,
}


def is_name(name: object) -> bool:
    """Whether it can be the name of a backbone. The libraries are not asked."""
    return isinstance(name, str) and (name in BACKBONES or FOREIGN.fullmatch(name) is not None)


class Foreign(nn.Module):
    """Another library's network without its classifier.

    Images, float (B, C, H, W), to features, float (B, features). size: (height, width).
    Raises UserError if the network does not take such images, or returns something else.
    """

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
                f"backbone {name} cannot take images of"
                f" {in_channels} x {size[0]} x {size[1]}: {error}"
            ) from None
        if len(shape) != 2:
            raise UserError(
                f"backbone {name} must give a vector of features for each image, but its output"
                f" has the shape {tuple(shape)}. Choose another backbone"
            )
        net.train(training)
        self.features = shape[1]

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


def synchronize_batch_norm(model: nn.Module) -> nn.Module:
    """The model, with batch norms that take the statistics of all processes together.

    The tensors of a checkpoint stay the same. torch has such batch norms for GPUs only.
    """
    if any(isinstance(module, Foreign) for module in model.modules()):
        # torch's would lose the activations of timm's BatchNormAct2d.
        from timm.layers import convert_sync_batchnorm as convert
    else:
        convert = nn.SyncBatchNorm.convert_sync_batchnorm
    model = convert(model)
    for module in model.modules():
        if isinstance(module, nn.SyncBatchNorm):
            # torch insists on the counter. It is no part of a checkpoint, as everywhere here.
            counter = torch.zeros((), dtype=torch.int64)
            module.register_buffer("num_batches_tracked", counter, persistent=False)
    return model


def read_weights(file: str) -> dict[str, Tensor]:
    """The tensors of a file: .safetensors, or what torch.save wrote.

    A pickle is refused if it holds anything but tensors. Raises UserError.
    """
    try:
        if Path(file).suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(file)
        state = torch.load(file, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise UserError(f"pretrained: {file} does not exist") from None
    except Exception as error:  # a broken file can raise anything in either library
        raise UserError(
            f"pretrained: {file} cannot be read as weights ({str(error).splitlines()[0]:.100})"
        ) from None
    for key in ("state_dict", "model"):
        if isinstance(state, dict):
            state = state.get(key, state)
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise UserError(f"pretrained: {file} does not hold a state dict")
    return state


def load(net: nn.Module, state: dict[str, Tensor]) -> None:
    """Load weights. Raises RuntimeError if the names of the tensors are not those of `net`."""
    missing, unexpected = net.load_state_dict(state, strict=False)
    names = [*missing, *unexpected]
    wrong = [name for name in names if not name.endswith("num_batches_tracked")]
    if wrong:
        raise RuntimeError(
            f"{len(wrong)} tensors are only in one of the two, for instance {wrong[:3]}"
        )


def from_timm(
    name: str, in_channels: int, size: tuple[int, int], state: dict[str, Tensor] | None
) -> nn.Module:
    """A network of timm without its classifier. Raises UserError if timm does not have it."""
    import timm

    model = name.split("/")[1]
    if not timm.is_model(model):
        raise unknown(name)
    options = {}
    config = timm.get_pretrained_cfg(model)
    if config and config.fixed_input_size and config.input_size[1:] != size:
        options["img_size"] = size
    if state is not None:
        # timm loads them itself: it adapts the first convolution to grey images, and the position
        # embeddings to the size of the images.
        options["pretrained"] = True
        options["pretrained_cfg_overlay"] = {"state_dict": state, "custom_load": False}
    net = timm.create_model(model, num_classes=0, in_chans=in_channels, **options)
    if state is not None:
        names = [name for name in net.state_dict() if "num_batches" not in name]
        missing = [name for name in names if name not in state]
        if missing:  # timm does not say so
            raise RuntimeError(f"it lacks {len(missing)} tensors, for instance {missing[:3]}")
    return net


def from_torchvision(
    name: str, in_channels: int, size: tuple[int, int], state: dict[str, Tensor] | None
) -> nn.Module:
    """A network of torchvision without its last linear layer.

    Raises UserError if torchvision does not have it, or if it cannot be used.
    """
    from torchvision import models

    model = name.split("/")[1]
    if model not in models.list_models(models):
        raise unknown(name)
    options = {"image_size": size[0]} if model.startswith("vit_") else {}
    net = models.get_model(model, weights=None, **options)
    linear = [key for key, module in net.named_modules() if isinstance(module, nn.Linear)]
    if in_channels != 3 or not linear or getattr(net, "aux_logits", False):
        raise UserError(
            f"backbone {name}: torchvision's must take images of 3 channels and end in one linear"
            " layer. Try a network of timm"
        )
    net.set_submodule(linear[-1], nn.Identity())
    if state is not None:
        load(net, {k: v for k, v in state.items() if not k.startswith(f"{linear[-1]}.")})
    return net


def build(
    name: str, in_channels: int, size: tuple[int, int] | None = None, pretrained: str = ""
) -> nn.Module:
    """A backbone: images, float (B, in_channels, H, W), to features, float (B, features).

    size: (height, width) of the images. The backbones of this project take any.
    pretrained: a file of weights.

    Raises UserError if the library is not installed or does not have it, or if it does not fit the
    images or weights.
    """
    state = read_weights(pretrained) if pretrained else None
    match = FOREIGN.fullmatch(name)
    try:
        if match:
            make = {"timm": from_timm, "torchvision": from_torchvision}[match[1]]
            return Foreign(name, make(name, in_channels, size, state), in_channels, size)
        net = BACKBONES[name](in_channels)
        if state is not None:
            load(net, state)
        return net
    except ModuleNotFoundError as error:
        raise UserError(
            f"{name} needs {error.name}, which is not installed. In the folder of this program:"
            " pip install '.[train]'"
        ) from None
    except RuntimeError as error:
        if state is None:
            raise
        reason = " ".join(str(error).split())[:300]
        raise UserError(f"pretrained: {pretrained} does not fit {name}: {reason}") from None

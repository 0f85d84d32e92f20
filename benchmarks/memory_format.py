"""The two memory formats in float32 on a CPU: how exact they are, and how fast.

    OMP_NUM_THREADS=1 .venv/bin/python benchmarks/memory_format.py

The reference is float64. The errors are relative, in the norm of the whole tensor. The speeds are
those of a training step of ResNet-32 without a teacher, in turns, so that other work on the machine
slows down both.
"""

import copy
import time

import torch
import torch.nn.functional as F
from torch import nn

from wa.models.model import CilModel

FORMATS = {"channels_last": torch.channels_last, "contiguous": torch.contiguous_format}


def error(value: torch.Tensor, exact: torch.Tensor) -> float:
    return ((value.double() - exact).norm() / exact.norm()).item()


def batch_norm_error(memory_format: torch.memory_format) -> float:
    torch.manual_seed(0)
    x, norm = torch.rand(128, 16, 32, 32) + 1, nn.BatchNorm2d(16)
    exact = copy.deepcopy(norm).double()(x.double())
    return error(norm(x.contiguous(memory_format=memory_format)), exact)


def gradient(model: nn.Module, x: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
    model.zero_grad(set_to_none=True)
    F.cross_entropy(model(x), label).backward()
    return torch.cat([p.grad.flatten() for p in model.parameters()])


def main() -> None:
    torch.manual_seed(0)
    start = CilModel("resnet32", 3, [50])
    images, label = torch.randn(128, 3, 32, 32), torch.randint(0, 50, (128,))
    exact = gradient(copy.deepcopy(start).double(), images.double(), label)
    models = {name: copy.deepcopy(start).to(memory_format=f) for name, f in FORMATS.items()}
    inputs = {name: images.contiguous(memory_format=f) for name, f in FORMATS.items()}
    seconds = {name: [] for name in FORMATS}
    for _ in range(8):
        for name, model in models.items():
            started = time.perf_counter()
            gradient(model, inputs[name], label)
            seconds[name].append(time.perf_counter() - started)
    for name, memory_format in FORMATS.items():
        off = error(gradient(copy.deepcopy(models[name]), inputs[name], label), exact)
        print(
            f"{name}: batch-norm off by {batch_norm_error(memory_format):.1e},"
            f" gradient by {off:.1e}, {128 / min(seconds[name][1:]):.0f} images/s"
        )


if __name__ == "__main__":
    main()

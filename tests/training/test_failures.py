"""Errors of torch become one line that says what to change. No GPU is needed."""

import sys
from unittest.mock import MagicMock

import pytest
import torch
from helpers import task_options

from wa.errors import UserError
from wa.models import backbones, resnet
from wa.study.settings import Settings
from wa.training import engine, train
from wa.training.failures import in_words

FULL = """CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 79.11 GiB \
of which 1.20 GiB is free. Process 7 has 77.9 GiB memory in use.
See documentation for Memory Management"""
ON_A_CPU = (
    "[enforce fail at alloc_cpu.cpp:127] data. DefaultCPUAllocator: can't allocate memory: you"
    " tried to allocate 1000000000000 bytes. Error code 12 (Cannot allocate memory)\n"
)


@pytest.mark.parametrize("error", [torch.OutOfMemoryError(FULL), RuntimeError(ON_A_CPU)])
def test_too_little_memory_says_what_to_change(error):
    with pytest.raises(UserError, match="too little memory") as said, in_words(Settings()):
        raise error
    text = str(said.value)
    assert "batch_size below 128" in text and "runs_per_gpu" in text and "\n" not in text


def test_a_real_allocation_on_a_cpu_is_recognized():
    with pytest.raises(UserError, match="too little memory"), in_words(Settings()):
        torch.empty(2**60, dtype=torch.uint8)


class Refusing(resnet.CifarResNet):
    """Its last operation has no deterministic algorithm, on any device."""

    def forward(self, x):
        features = super().forward(x)
        return features.clone().put_(torch.tensor([0]), features.detach()[0, :1])


def test_a_backbone_that_cannot_be_deterministic_says_so(digits, tmp_path, monkeypatch):
    """In the first step of the first epoch, so before anything is trained."""
    monkeypatch.setitem(backbones.BACKBONES, "resnet8", lambda c: Refusing((16, 32, 64), 1, c))
    options = [*map(str, task_options(digits, tmp_path)), "--epochs", "1"]
    monkeypatch.setattr(sys, "argv", ["train", *options])
    with pytest.raises(UserError, match=r"resnet8: put_ cannot .* `deterministic: false`"):
        train.main()
    monkeypatch.setattr(sys, "argv", ["train", *options, "--no-deterministic"])
    train.main()
    assert (tmp_path / "trained.safetensors").exists()


def test_a_step_that_cannot_be_recorded_says_so(monkeypatch):
    for name in ("graph", "CUDAGraph", "current_stream"):
        monkeypatch.setattr(torch.cuda, name, MagicMock())
    torch.cuda.graph.return_value.__exit__.return_value = False

    def step(batch):
        raise RuntimeError("Cannot copy between CPU and CUDA tensors during CUDA capture\n...")

    recorder = engine.RecordedStep(step)
    recorder.inputs[2] = []
    with pytest.raises(UserError, match=r"Cannot copy between .* `cuda_graphs: false`"):
        recorder.record(2)


def test_other_errors_pass():
    with pytest.raises(RuntimeError, match="shapes"), in_words(Settings()):
        raise RuntimeError("shapes cannot be multiplied")

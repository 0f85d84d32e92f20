"""Images on their way to a GPU: in chunks, and only if they fit. No GPU is needed."""

import numpy as np
import pytest
import torch

from wa.data import batches
from wa.training import launch

GPU = torch.device("cuda")


@pytest.mark.parametrize("n", [0, 1, 8, 20, 21])
def test_images_pass_through_the_main_memory_in_chunks(n, monkeypatch):
    monkeypatch.setattr(batches, "CHUNK", 8 * 2 * 2 * 3)  # 8 images
    images = np.random.default_rng(0).integers(0, 256, (30, 2, 2, 3), dtype=np.uint8)
    take, reads = batches.take, []
    monkeypatch.setattr(
        batches, "take", lambda arrays, where: reads.append(len(where)) or take(arrays, where)
    )
    index = np.random.default_rng(1).permutation(30)[:n]
    arrays = [torch.from_numpy(images[:12]), torch.from_numpy(images[12:])]
    found = batches.to_device(arrays, torch.from_numpy(index), torch.device("cpu"))
    assert (found.numpy() == images[index]).all()
    assert sum(reads) == n and max(reads, default=0) <= 8


def test_an_image_larger_than_a_chunk_passes_alone(monkeypatch):
    monkeypatch.setattr(batches, "CHUNK", 1)
    images = np.arange(24, dtype=np.uint8).reshape(2, 2, 2, 3)
    where = torch.tensor([1, 0, 1])
    found = batches.to_device([torch.from_numpy(images)], where, torch.device("cpu"))
    assert (found.numpy() == images[[1, 0, 1]]).all()


@pytest.fixture
def gpu(monkeypatch):
    """A GPU of 80 bytes. Its use can be set."""
    use = {"free": 80, "allocated": 0}
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (use["free"], 80))
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda _: use["allocated"])
    return use


def test_all_images_together_take_half_of_a_gpu(gpu):
    assert batches.fits(40, GPU) and not batches.fits(41, GPU)
    gpu |= {"free": 50, "allocated": 30}  # the training images are there, now the test images
    assert batches.fits(10, GPU) and not batches.fits(11, GPU)


def test_trainings_that_share_a_gpu_have_equal_shares(gpu, monkeypatch):
    """They start together, so each sees the whole GPU free."""
    monkeypatch.setattr(launch, "lease", lambda names, count, runs: (0, ["0"]))
    monkeypatch.setattr(launch.os, "dup2", lambda *_: None)
    monkeypatch.setattr(launch.os, "set_inheritable", lambda *_: None)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    monkeypatch.setenv("WA_RUNS_PER_GPU", "1")
    launch.use_gpus(1, 4)
    assert batches.fits(10, GPU) and not batches.fits(11, GPU)


class Stream:
    """Instead of a CUDA stream. It notes what happens in it."""

    current = "computing"

    def __init__(self, name: str, events: list[str]):
        self.name, self.events = name, events

    def __enter__(self):
        Stream.current = self.name

    def __exit__(self, *_):
        Stream.current = "computing"

    def wait_stream(self, other):
        self.events.append(f"{self.name} waits for {other.name}")


class Pinned:
    """Instead of a gathered batch, and of its copy on the GPU."""

    def __init__(self, events: list[str]):
        self.events = events

    def result(self):
        return self

    def to(self, device, non_blocking):
        assert device == GPU and non_blocking
        self.events.append(f"copied in {Stream.current}")
        return self

    def record_stream(self, stream):
        self.events.append(f"kept for {stream.name}")

    def permute(self, *_):
        return self


def test_streamed_images_are_copied_beside_the_computation(digits, monkeypatch):
    events: list[str] = []
    computing = Stream("computing", events)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: computing)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: stream)
    packed, rows = np.load(digits / "train_images.npy"), np.arange(8)
    images = batches.Images([packed], rows, rows, np.zeros(8), torch.device("cpu"))
    images.device, images.copying = GPU, Stream("copying", events)
    images.on_device(Pinned(events))
    assert events == ["copied in copying", "computing waits for copying", "kept for computing"]


def test_memory_that_others_use_is_left_alone(gpu):
    gpu["free"] = 20
    assert batches.fits(10, GPU) and not batches.fits(11, GPU)

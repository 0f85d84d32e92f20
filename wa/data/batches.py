"""The images of a task, on the device, batch by batch.

On a CPU, the packed array is mapped into memory and batches are gathered from it. On a GPU, the
images of a task lie in its memory as bytes. If they would take more than half of what the training
may use, they are streamed: a thread gathers the next batches from the mapped file while the GPU
computes.
"""

import os
import warnings
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from wa.data.scenario import LEAST

AHEAD = 3  # batches that are gathered while the GPU computes
CHUNK = 2**26  # bytes of images that pass through the main memory at once, on their way to a GPU


def split(order: Tensor, batch_size: int, processes: int) -> list[Tensor]:
    """The batches of an epoch. order: int64 (n,), the rows of the images in their order.

    If the last batch has fewer than LEAST images for each process, it joins the one before.
    So 40 images in batches of 13 become 13, 13 and 14.
    """
    batches = list(order.split(batch_size))
    if len(batches) > 1 and len(batches[-1]) < LEAST * processes:
        last = batches.pop()
        batches[-1] = torch.cat([batches[-1], last])
    return batches


def fits(size: int, device: torch.device) -> bool:
    """Whether `size` more bytes of images may lie in the memory of a GPU.

    All images of a training may take half of its share of the memory, because training needs some
    too. Trainings that share a GPU (runs_per_gpu) have equal shares. So two that start together do
    not count the same bytes. The images must be free, too.
    """
    free, total = torch.cuda.mem_get_info(device)
    share = total / int(os.environ.get("WA_RUNS_PER_GPU", "1"))
    so_far = torch.cuda.memory_allocated(device)  # other images, because nothing else is there yet
    return so_far + size <= share / 2 and size <= free / 2


def to_device(packed: np.ndarray, index: np.ndarray, device: torch.device) -> Tensor:
    """The images packed[index] on a device, uint8 (n, H, W, C).

    The array may be larger than the main memory, so they go through it in chunks.
    """
    images = torch.empty(len(index), *packed.shape[1:], dtype=torch.uint8, device=device)
    few = max(1, CHUNK // packed[:1].nbytes)
    for first in range(0, len(index), few):
        some = torch.from_numpy(packed[index[first : first + few]])
        images[first : first + few].copy_(some)
    return images


class Images:
    """Some images of a packed data set.

    folder, split: which array. index: int64 (n,), which of its images. label: int64 (n,), the
    position of each image's class in the class order.

    `index` and `label` are tensors on the device. `pixels` are uint8 (N, H, W, C): all images of
    the array if they are mapped, else only those of the index.
    """

    def __init__(
        self, folder: Path, split: str, index: np.ndarray, label: np.ndarray, device: torch.device
    ):
        packed = np.load(folder / f"{split}_images.npy", mmap_mode="r", allow_pickle=False)
        self.device = device
        self.index = torch.from_numpy(index).to(device)
        self.label = torch.from_numpy(label).to(device)
        self.mapped = device.type == "cpu" or not fits(packed[:1].nbytes * len(index), device)
        self.streamed = self.mapped and device.type != "cpu"
        self.copying: torch.cuda.Stream | None = None  # the stream of copies to a GPU
        # torch warns that the array is read-only. Nothing here writes to it.
        with warnings.catch_warnings(action="ignore"):
            self.pixels = (
                torch.from_numpy(packed) if self.mapped else to_device(packed, index, device)
            )

    def __len__(self) -> int:
        return len(self.index)

    def batch(self, rows: Tensor) -> Tensor:
        """Some images, uint8 (B, C, H, W), channels last, on the device.

        rows: int64 (B,), positions in `index`, on the device. The images must not be streamed.
        """
        where = self.index[rows] if self.mapped else rows
        return self.pixels.index_select(0, where).permute(0, 3, 1, 2)

    def batches(self, batches: Sequence[Tensor]) -> Iterator[Tensor]:
        """Several batches of images, each as `batch` returns it. They may be streamed.

        batches: the rows of each batch, on the CPU.
        """
        if self.streamed:
            yield from self.stream(batches)
        else:
            for rows in batches:
                yield self.batch(rows.to(self.device))

    def gather(self, index: Tensor, rows: Tensor) -> Tensor:
        """The mapped images of index[rows], uint8 (B, H, W, C), in pinned memory for a GPU."""
        pinned = torch.empty(
            len(rows),
            *self.pixels.shape[1:],
            dtype=torch.uint8,
            pin_memory=self.device.type == "cuda",
        )
        return torch.index_select(self.pixels, 0, index[rows], out=pinned)

    def stream(self, batches: Sequence[Tensor]) -> Iterator[Tensor]:
        """As `batches`, with images that a thread gathers ahead.

        They are copied to a GPU in a stream of their own, while the step before is computed.
        """
        gather = partial(self.gather, self.index.cpu())
        if self.device.type == "cuda":
            self.copying = torch.cuda.Stream(self.device)
        waiting: deque[Future[Tensor]] = deque()
        with ThreadPoolExecutor(1) as thread:
            for rows in batches:
                waiting.append(thread.submit(gather, rows))
                if len(waiting) > AHEAD:
                    yield self.on_device(waiting.popleft())
            while waiting:
                yield self.on_device(waiting.popleft())

    def on_device(self, gathered: "Future[Tensor]") -> Tensor:
        """A gathered batch, uint8 (B, C, H, W), channels last, on the device."""
        pinned = gathered.result()
        if self.copying is None:
            return pinned.to(self.device).permute(0, 3, 1, 2)
        computing = torch.cuda.current_stream(self.device)
        with torch.cuda.stream(self.copying):
            images = pinned.to(self.device, non_blocking=True)
        computing.wait_stream(self.copying)
        images.record_stream(computing)  # its memory is not used anew before the step is done
        return images.permute(0, 3, 1, 2)

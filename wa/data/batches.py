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
from copy import copy

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


def tensor(array: np.ndarray) -> Tensor:
    """An array that nothing writes to, as a tensor with the same memory."""
    with warnings.catch_warnings(action="ignore"):  # torch warns that the array is read-only
        return torch.from_numpy(array)


def take(arrays: Sequence[Tensor], where: Tensor, out: Tensor | None = None) -> Tensor:
    """The rows `where` of several arrays that count as one, int64 (B,).

    arrays: each (n, ...). out: the tensor (B, ...) to write to. None: a new one.
    """
    if len(arrays) == 1:
        return torch.index_select(arrays[0], 0, where, out=out)
    if out is None:
        out = torch.empty(len(where), *arrays[0].shape[1:], dtype=arrays[0].dtype)
    start = 0
    for array in arrays:
        inside = (where >= start) & (where < start + len(array))
        out[inside] = array.index_select(0, where[inside] - start)
        start += len(array)
    return out


def to_device(arrays: Sequence[Tensor], where: Tensor, device: torch.device) -> Tensor:
    """The rows `where` of several arrays on a device, uint8 (n, H, W, C).

    The arrays may be larger than the main memory, so they go through it in chunks.
    """
    images = torch.empty(len(where), *arrays[0].shape[1:], dtype=torch.uint8, device=device)
    few = max(1, CHUNK // arrays[0][:1].nbytes)
    for first in range(0, len(where), few):
        images[first : first + few].copy_(take(arrays, where[first : first + few]))
    return images


class Images:
    """Some images of packed arrays.

    arrays: uint8, each (N, H, W, C). They count as one array. where: int64 (n,), which rows of it.
    index: int64 (n,), the number of each image in the data set. Random numbers depend on it.
    label: int64 (n,), the position of each image's class in the class order.

    `index` and `label` are tensors on the device. `pixels` are tensors of uint8: the arrays if they
    are mapped, else one of the images themselves.
    """

    def __init__(
        self,
        arrays: Sequence[np.ndarray],
        where: np.ndarray,
        index: np.ndarray,
        label: np.ndarray,
        device: torch.device,
    ):
        self.device = device
        self.index = torch.from_numpy(index).to(device)
        self.label = torch.from_numpy(label).to(device)
        size = arrays[0][:1].nbytes * len(index)
        self.mapped = device.type == "cpu" or not fits(size, device)
        self.streamed = self.mapped and device.type != "cpu"
        self.copying: torch.cuda.Stream | None = None  # the stream of copies to a GPU
        self.pixels, self.where = [tensor(array) for array in arrays], torch.from_numpy(where)
        if not self.mapped:
            self.pixels = [to_device(self.pixels, self.where, device)]
            self.where = torch.arange(len(index), device=device)

    def __len__(self) -> int:
        return len(self.index)

    def part(self, chosen: np.ndarray) -> "Images":
        """Some of the images, with the same memory. chosen: bool (n,)."""
        rows = torch.from_numpy(np.flatnonzero(chosen))
        some = copy(self)
        some.where = self.where[rows.to(self.where.device)]
        some.index, some.label = self.index[rows.to(self.device)], self.label[rows.to(self.device)]
        return some

    def batch(self, rows: Tensor) -> Tensor:
        """Some images, uint8 (B, C, H, W), channels last, on the device.

        rows: int64 (B,), positions in `index`, on the device. The images must not be streamed.
        """
        return take(self.pixels, self.where[rows]).permute(0, 3, 1, 2)

    def batches(self, batches: Sequence[Tensor]) -> Iterator[Tensor]:
        """Several batches of images, each as `batch` returns it. They may be streamed.

        batches: the rows of each batch, on the CPU.
        """
        if self.streamed:
            yield from self.stream(batches)
        else:
            for rows in batches:
                yield self.batch(rows.to(self.device))

    def gather(self, rows: Tensor) -> Tensor:
        """The mapped images of some rows, uint8 (B, H, W, C), in pinned memory for a GPU."""
        pinned = torch.empty(
            len(rows),
            *self.pixels[0].shape[1:],
            dtype=torch.uint8,
            pin_memory=self.device.type == "cuda",
        )
        return take(self.pixels, self.where[rows], out=pinned)

    def stream(self, batches: Sequence[Tensor]) -> Iterator[Tensor]:
        """As `batches`, with images that a thread gathers ahead.

        They are copied to a GPU in a stream of their own, while the step before is computed.
        """
        if self.device.type == "cuda":
            self.copying = torch.cuda.Stream(self.device)
        waiting: deque[Future[Tensor]] = deque()
        with ThreadPoolExecutor(1) as thread:
            for rows in batches:
                waiting.append(thread.submit(self.gather, rows))
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

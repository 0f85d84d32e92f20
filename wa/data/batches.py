"""The images of a task, on the device, by the batch.

On a CPU the packed array is mapped into memory and batches are gathered from it. On a GPU the images of a
task lie in its memory as bytes. Images that would take more than half of the free memory are streamed: a
thread gathers the next batches from the mapped file into pinned memory while the GPU computes.
"""

import warnings
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

AHEAD = 3  # batches that are gathered while the GPU computes


def fits(size: int, device: torch.device) -> bool:
    """Whether so many bytes of images may lie in the device's memory: half of what is free, for training needs some, too."""
    return size <= torch.cuda.mem_get_info(device)[0] / 2


class Images:
    """Some images of a packed data set: uint8 in channels-last memory, and on the device their labels as class positions."""

    def __init__(
        self, folder: Path, split: str, index: np.ndarray, label: np.ndarray, device: torch.device
    ):
        packed = np.load(folder / f"{split}_images.npy", mmap_mode="r", allow_pickle=False)
        self.device = device
        self.index = torch.from_numpy(index).to(device)
        self.label = torch.from_numpy(label).to(device)
        self.mapped = device.type == "cpu" or not fits(packed[:1].nbytes * len(index), device)
        self.streamed = self.mapped and device.type != "cpu"
        with warnings.catch_warnings(
            action="ignore"
        ):  # torch has no tensors that are read only, and says so
            self.pixels = torch.from_numpy(packed if self.mapped else packed[index]).to(
                "cpu" if self.mapped else device
            )

    def __len__(self) -> int:
        return len(self.index)

    def batch(self, rows: Tensor) -> Tensor:
        """uint8 (B, C, H, W), channels last, of rows on the device; not of streamed images."""
        where = self.index[rows] if self.mapped else rows
        return self.pixels.index_select(0, where).permute(0, 3, 1, 2)

    def batches(self, rows: Sequence[Tensor]) -> Iterator[Tensor]:
        """As `batch`, of each of some batches of rows, which are on the CPU, whether images are streamed or not."""
        yield from (
            self.stream(rows)
            if self.streamed
            else (self.batch(some.to(self.device)) for some in rows)
        )

    def stream(self, batches: Sequence[Tensor]) -> Iterator[Tensor]:
        index = self.index.cpu()

        def gather(rows: Tensor) -> Tensor:
            pinned = torch.empty(
                len(rows),
                *self.pixels.shape[1:],
                dtype=torch.uint8,
                pin_memory=self.device.type == "cuda",
            )
            return torch.index_select(self.pixels, 0, index[rows], out=pinned)

        waiting: deque = deque()
        with ThreadPoolExecutor(1) as thread:
            for rows in [*batches, *[None] * AHEAD]:
                if rows is not None:
                    waiting.append(thread.submit(gather, rows))
                if waiting and (rows is None or len(waiting) > AHEAD):
                    yield (
                        waiting.popleft()
                        .result()
                        .to(self.device, non_blocking=True)
                        .permute(0, 3, 1, 2)
                    )

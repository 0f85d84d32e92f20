"""Randomness as a function: what is drawn for an image depends on (seed, task, epoch, image), never on what was drawn before.

So there is no generator whose state would have to be saved: a resumed run draws what the uninterrupted one would have
drawn, and N processes that share a batch draw what one process draws for it. Integer arithmetic only, hence the same
numbers on a CPU and on a GPU. The mixer is the finalizer of SplitMix64 (Steele, Lea & Flood, OOPSLA 2014).
"""

import torch
from torch import Tensor

SHUFFLE, AUGMENT, INITIALIZE, REDRAW, HOLD_OUT = range(
    5
)  # streams of random numbers, parts of a key
GOLDEN = -0x61C8864680B583EB  # 2^64 / golden ratio, as a signed 64-bit integer


def _mix(z: Tensor) -> Tensor:
    """A bijection of int64 that spreads every input bit over all output bits. Overflow wraps, as intended."""
    z = (
        z ^ (z >> 30 & 0x3FFFFFFFF)
    ) * -0x40A7B892E31B1A47  # torch shifts arithmetically: mask the sign bits away
    z = (z ^ (z >> 27 & 0x1FFFFFFFFF)) * -0x6B2FB644ECCEEE15
    return z ^ (z >> 31 & 0x1FFFFFFFF)


def key(*parts: int) -> Tensor:
    """One int64 scalar on the CPU for a tuple of integers, for instance (seed, task, epoch, stream)."""
    mixed = torch.zeros((), dtype=torch.int64)
    for part in parts:
        mixed = _mix(mixed + torch.tensor(part, dtype=torch.int64) + GOLDEN)
    return mixed


def uniform(key: Tensor, index: Tensor, count: int) -> Tensor:
    """Draw `count` numbers in [0, 1) for each index.

    key: int64 scalar; index: int64 (B,), on the same device. Returns float32 (B, count), multiples of 2^-24.
    """
    draw = torch.arange(1, count + 1, device=index.device) * GOLDEN
    bits = _mix(_mix(index + key)[:, None] + draw)
    return (bits >> 40 & 0xFFFFFF) * 2.0**-24


def shuffled(key: Tensor, n: int) -> Tensor:
    """A permutation of range(n) as int64 (n,), on the key's device: the order of the images in an epoch."""
    return _mix(_mix(torch.arange(n, device=key.device) + key)).argsort(stable=True)

"""Randomness as a function: a number depends on (seed, task, epoch, image) only.

It never depends on earlier draws, so there is no state of a generator to save. A resumed run draws
what an uninterrupted one draws. N processes that share a batch draw what one process draws. All
arithmetic is on integers, so a CPU and a GPU give the same numbers. The mixer is the finalizer of
SplitMix64 (Steele, Lea & Flood, OOPSLA 2014).

Some networks of other libraries draw numbers themselves, for dropout and stochastic depth. They
take them from torch's generators, which are seeded anew in each epoch, by (seed, task, epoch,
process).
"""

import torch
from torch import Tensor

# Streams of random numbers. Each is a part of a key.
SHUFFLE, AUGMENT, INITIALIZE, REDRAW, HOLD_OUT, LAYERS, BEGIN = range(7)
GOLDEN = -0x61C8864680B583EB  # 2^64 / golden ratio, as a signed 64-bit integer


def _mix(z: Tensor) -> Tensor:
    """A bijection of int64 that spreads every input bit over all output bits.

    Overflow wraps, as intended. torch's shift copies the sign bit, so masks clear the copies.
    """
    z = (z ^ (z >> 30 & 0x3FFFFFFFF)) * -0x40A7B892E31B1A47
    z = (z ^ (z >> 27 & 0x1FFFFFFFFF)) * -0x6B2FB644ECCEEE15
    return z ^ (z >> 31 & 0x1FFFFFFFF)


def key(*parts: int) -> Tensor:
    """A key, an int64 scalar on the CPU, for integers such as (seed, task, epoch, stream)."""
    mixed = torch.zeros((), dtype=torch.int64)
    for part in parts:
        mixed = _mix(mixed + torch.tensor(part, dtype=torch.int64) + GOLDEN)
    return mixed


def uniform(key: Tensor, index: Tensor, count: int) -> Tensor:
    """Draw `count` numbers in [0, 1) for each index.

    key: int64 scalar. index: int64 (B,), on the same device. Returns float32 (B, count), multiples
    of 2^-24.
    """
    draw = torch.arange(1, count + 1, device=index.device) * GOLDEN
    bits = _mix(_mix(index + key)[:, None] + draw)
    return (bits >> 40 & 0xFFFFFF) * 2.0**-24


def shuffled(key: Tensor, n: int) -> Tensor:
    """The order of the images in an epoch: a permutation of range(n), int64 (n,).

    It is on the key's device.
    """
    return _mix(_mix(torch.arange(n, device=key.device) + key)).argsort(stable=True)

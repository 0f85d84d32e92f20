"""The state from which an interrupted training goes on.

One safetensors file: the model, the momentum of SGD, and a header with a fingerprint of everything that determines the
result, and the history so far. There is no state of random numbers to keep (see randomness.py).
"""

import hashlib
import json
import time
from pathlib import Path

import torch
from torch import nn

from wa.checkpoint import read_checkpoint, write_checkpoint
from wa.errors import UserError
from wa.models.model import load_tensors

SHARE = 0.02


def fingerprint(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


class Saved:
    """The state in a folder, valid for a training with these dataset only."""

    def __init__(self, folder: Path, dataset: dict):
        self.folder, self.path = folder, folder / "state.safetensors"
        self.fingerprint = fingerprint(dataset)
        self.due = 0.0

    def save_if_due(
        self, model: nn.Module, optimizer: torch.optim.SGD, history: list[dict]
    ) -> None:
        """Save, unless that would take more than SHARE of the time: after each epoch, or seldom where epochs are short."""
        started = time.monotonic()
        if started >= self.due:
            self.save(model, optimizer, history)
            ended = time.monotonic()
            self.due = ended + (ended - started) / SHARE

    def save(self, model: nn.Module, optimizer: torch.optim.SGD, history: list[dict]) -> None:
        tensors = {
            f"model.{name}": tensor.detach().cpu().numpy()
            for name, tensor in model.state_dict().items()
        }
        for i, p in enumerate(optimizer.param_groups[0]["params"]):
            tensors[f"momentum.{i}"] = optimizer.state[p]["momentum_buffer"].cpu().numpy()
        write_checkpoint(self.path, tensors, {"fingerprint": self.fingerprint, "history": history})

    def load(self, model: nn.Module, optimizer: torch.optim.SGD) -> list[dict]:
        """Put back what was saved and return the history; a state that is stale or damaged is left aside: an empty history."""
        if not self.path.exists():
            return []
        try:
            tensors, header = read_checkpoint(self.path)
            if header.get("fingerprint") != self.fingerprint:
                raise UserError(f"{self.path} is of another training")
        except UserError as error:
            print(f"starting anew: {error}", flush=True)
            return []
        load_tensors(
            model, {k[6:]: v for k, v in tensors.items() if k.startswith("model.")}, str(self.path)
        )
        # In the parameter's memory format, which the fused step takes for granted.
        for i, p in enumerate(optimizer.param_groups[0]["params"]):
            optimizer.state[p]["momentum_buffer"] = torch.empty_like(p).copy_(
                torch.from_numpy(tensors[f"momentum.{i}"])
            )
        return header["history"]

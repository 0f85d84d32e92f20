"""The state from which an interrupted training goes on.

One safetensors file: the model, the momentum of SGD, and a header with a fingerprint of everything that determines the
result, the history so far and a digest of the tensors. There is no state of random numbers to keep (see randomness.py).
"""

import hashlib
import json
from pathlib import Path

import numpy as np
import torch
from torch import nn

from wa.checkpoint import read_checkpoint, write_checkpoint
from wa.files import UserError


def fingerprint(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def digest(tensors: dict[str, np.ndarray]) -> str:
    together = hashlib.sha256()
    for name in sorted(tensors):
        together.update(name.encode() + np.ascontiguousarray(tensors[name]).tobytes())
    return together.hexdigest()


class Saved:
    """The state in a folder, valid for a training with these facts only."""

    def __init__(self, folder: Path, facts: dict):
        self.folder, self.path = folder, folder / "state.safetensors"
        code = {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(Path(__file__).parent.glob("*.py"))}
        self.fingerprint = fingerprint([facts, code])

    def save(self, model: nn.Module, optimizer: torch.optim.SGD, history: list[dict]) -> None:
        tensors = {f"model.{name}": tensor.detach().cpu().numpy() for name, tensor in model.state_dict().items()}
        for i, p in enumerate(optimizer.param_groups[0]["params"]):
            tensors[f"momentum.{i}"] = optimizer.state[p]["momentum_buffer"].cpu().numpy()
        header = {"fingerprint": self.fingerprint, "history": history, "digest": digest(tensors)}
        write_checkpoint(self.path, tensors, header)

    def load(self, model: nn.Module, optimizer: torch.optim.SGD) -> list[dict]:
        """Put back what was saved and return the history; a state that is stale or damaged is left aside: an empty history."""
        if not self.path.exists():
            return []
        try:
            tensors, header = read_checkpoint(self.path)
            if header["fingerprint"] != self.fingerprint or header["digest"] != digest(tensors):
                raise UserError(f"{self.path} is of another training or damaged")
        except (UserError, KeyError) as error:
            print(f"starting anew: {error}", flush=True)
            return []
        model.load_state_dict({k[6:]: torch.from_numpy(v) for k, v in tensors.items() if k.startswith("model.")})
        for i, p in enumerate(optimizer.param_groups[0]["params"]):  # in the parameter's memory format, which the fused step takes for granted
            optimizer.state[p]["momentum_buffer"] = torch.empty_like(p).copy_(torch.from_numpy(tensors[f"momentum.{i}"]))
        return header["history"]

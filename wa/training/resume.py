"""The state from which an interrupted training goes on.

It is one safetensors file with the model, the momentum of SGD, and a header. The header holds a
fingerprint of everything that determines the result. It also holds the history so far, and the
engines that made it. There is no state of random numbers to keep: generators are seeded in each
epoch (wa/randomness.py).
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

SHARE = 0.02  # of the time may go into saving


def fingerprint(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


class Saved:
    """The state in a folder, valid only for the training with this identity (wa/identity.py).

    The engine is no part of the identity. So the number of threads, the device and the precision
    may change on the way. On the same engine a resumed training ends with the bits of an
    uninterrupted one. On another engine its last bits may differ. The checkpoint names all engines.
    """

    def __init__(self, folder: Path, identity: dict):
        self.folder, self.path = folder, folder / "state.safetensors"
        self.fingerprint = fingerprint(identity)
        self.engines: list[dict] = []
        self.due = 0.0

    def save_if_due(
        self, model: nn.Module, optimizer: torch.optim.SGD, history: list[dict]
    ) -> None:
        """Save, unless saving would take more than SHARE of the time."""
        started = time.monotonic()
        if started >= self.due:
            self.save(model, optimizer, history)
            ended = time.monotonic()
            self.due = ended + (ended - started) / SHARE

    def save(self, model: nn.Module, optimizer: torch.optim.SGD, history: list[dict]) -> None:
        tensors = {f"model.{k}": v.detach().cpu().numpy() for k, v in model.state_dict().items()}
        for i, p in enumerate(optimizer.param_groups[0]["params"]):
            momentum = optimizer.state[p].get("momentum_buffer")
            if momentum is not None:  # `momentum: 0` keeps none
                tensors[f"momentum.{i}"] = momentum.cpu().numpy()
        header = {"fingerprint": self.fingerprint, "history": history, "engines": self.engines}
        write_checkpoint(self.path, tensors, header)

    def load(
        self, model: nn.Module, optimizer: torch.optim.SGD, engine: dict
    ) -> tuple[list[dict], list[dict]]:
        """Put back what was saved. Returns the history and all engines, the last of them `engine`.

        A damaged state, or that of another training, is ignored. Then the history is empty.
        """
        self.engines = [engine]
        if not self.path.exists():
            return [], self.engines
        try:
            tensors, header = read_checkpoint(self.path)
            if header.get("fingerprint") != self.fingerprint:
                raise UserError(f"{self.path} is the state of another training")
        except UserError as error:
            print(f"starting anew: {error}", flush=True)
            return [], self.engines
        of_model = {k[6:]: v for k, v in tensors.items() if k.startswith("model.")}
        load_tensors(model, of_model, str(self.path))
        for i, p in enumerate(optimizer.param_groups[0]["params"]):
            if f"momentum.{i}" in tensors:
                # The fused step needs the memory format of the parameter.
                buffer = torch.empty_like(p).copy_(torch.from_numpy(tensors[f"momentum.{i}"]))
                optimizer.state[p]["momentum_buffer"] = buffer
        earlier = header.get("engines", [])
        self.engines = earlier if earlier[-1:] == [engine] else [*earlier, engine]
        return header["history"], self.engines

"""The state from which an interrupted training goes on.

It is one safetensors file with the model, the state of the optimizer, and a header. In a second
stage, it has the model as it was when the stage began, too. The header holds a
fingerprint of everything that determines the result. It also holds the history so far, and the
engines that made it. There is no state of random numbers to keep: generators are seeded in each
epoch (wa/randomness.py).
"""

import hashlib
import json
import time
from pathlib import Path

import numpy as np
import torch

from wa.checkpoint import read_checkpoint, write_checkpoint
from wa.errors import UserError
from wa.models.model import load_tensors
from wa.training.engine import Trainer

MODEL, SNAPSHOT, OPTIMIZER = "model.", "snapshot.", "optimizer."  # begin names of tensors
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

    def save_if_due(self, trainer: Trainer, history: list[dict]) -> None:
        """Save, unless saving would take more than SHARE of the time."""
        started = time.monotonic()
        if started >= self.due:
            self.save(trainer, history)
            ended = time.monotonic()
            self.due = ended + (ended - started) / SHARE

    def save(self, trainer: Trainer, history: list[dict]) -> None:
        tensors = {f"{MODEL}{name}": array for name, array in trainer.model.tensors().items()}
        tensors |= {f"{SNAPSHOT}{name}": array for name, array in trainer.snapshot.items()}
        for i, p in enumerate(trainer.parameters):
            for name, value in trainer.optimizer.state[p].items():
                if value is not None:  # `momentum: 0` keeps none
                    tensors[f"{OPTIMIZER}{i}.{name}"] = value.cpu().numpy()
        header = {"fingerprint": self.fingerprint, "history": history, "engines": self.engines}
        write_checkpoint(self.path, tensors, header)

    def load(self, trainer: Trainer, engine: dict) -> tuple[list[dict], list[dict]]:
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
        if snapshot := beginning(tensors, SNAPSHOT):
            load_tensors(trainer.model, snapshot, str(self.path))
            trainer.begin_second()
        load_tensors(trainer.model, beginning(tensors, MODEL), str(self.path))
        for i, p in enumerate(trainer.parameters):
            for name, array in beginning(tensors, f"{OPTIMIZER}{i}.").items():
                value = torch.from_numpy(array)
                # The fused step needs the memory format of the parameter.
                place = torch.empty_like(p) if value.shape == p.shape else value.to(p.device)
                trainer.optimizer.state[p][name] = place.copy_(value)
        earlier = header.get("engines", [])
        self.engines = earlier if earlier[-1:] == [engine] else [*earlier, engine]
        return header["history"], self.engines


def beginning(tensors: dict[str, np.ndarray], start: str) -> dict[str, np.ndarray]:
    """The tensors whose names begin with `start`, without it."""
    return {k.removeprefix(start): v for k, v in tensors.items() if k.startswith(start)}

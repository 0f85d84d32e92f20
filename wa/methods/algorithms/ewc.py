"""EWC, online: a quadratic penalty keeps the weights that mattered for the tasks before.

Kirkpatrick et al., "Overcoming catastrophic forgetting in neural networks", PNAS 2017, equation 3,
in the online form of Schwarz et al., "Progress & Compress", ICML 2018, section 3.3:

    loss = CE + strength / 2  sum_i F_i (theta_i - theta*_i)^2
    F after task t = decay F after task t-1 + F of task t

theta* are the weights that the task starts from: those after the task before, and aligned, if the
method aligns and does not say `start: trained`. A plan refuses `redraw_classifier: start`, which
would put random rows into theta*. F of a task is the mean over its images of the square of
d log p(y | x) / d theta_i, at the weights before aligning, where y is the label of the image (the
empirical Fisher information). No F_i of a task is above `largest`, because a step of SGD would
overshoot: strength 1000 and largest 1e-4 are PyCIL's (models/ewc.py).
"""

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import functional_call, grad, vmap

from wa.methods.learner import Learner

OPTIONS = {"strength": 1000.0, "decay": 1.0, "largest": 1e-4}
AT_ONCE = 2**26  # numbers of the gradients that are computed at once


class EWC(Learner):
    task_0 = ("largest",)

    def begin(self) -> None:
        self.penalizes = bool(self.state)
        named = dict(self.model.named_parameters())
        self.parameters = [named[name] for name in self.state]
        self.before = [p.detach().clone() for p in self.parameters]

    def penalty(self) -> Tensor:
        terms = zip(self.state.values(), self.parameters, self.before, strict=True)
        total = sum((fisher * (p - before) ** 2).sum() for fisher, p, before in terms)
        return self.options["strength"] / 2 * total

    def end(self) -> dict[str, Tensor]:
        fisher = self.fisher()
        for name, before in self.state.items():
            if name in fisher:
                fisher[name] += self.options["decay"] * before
            else:  # it is frozen, and keeps what it had
                fisher[name] = before
        return fisher

    def fisher(self) -> dict[str, Tensor]:
        """The Fisher information of the task, by the name of the parameter."""
        self.model.eval()
        self.processes.share_buffers(self.model)
        parameters = {k: p.detach() for k, p in self.model.named_parameters() if p.requires_grad}

        def log_probability(parameters: dict, x: Tensor, label: Tensor) -> Tensor:
            logits = functional_call(self.model, parameters, x[None])
            return -F.cross_entropy(logits, label[None])

        squares = {name: torch.zeros_like(p) for name, p in parameters.items()}
        of_images = vmap(grad(log_probability), (None, 0, 0))
        size = sum(p.numel() for p in parameters.values())
        for x, label in self.trainer.prepared(self.task.train, max(1, AT_ONCE // size)):
            for name, gradient in of_images(parameters, x, label).items():
                squares[name] += gradient.square().sum(dim=0)
        for square in squares.values():
            self.processes.sum(square)
            square.div_(len(self.task.train)).clamp_(max=self.options["largest"])
        return squares

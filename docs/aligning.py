"""Aligning, seen: the digits 5 to 9 after 0 to 4, with ten exemplars and distillation.

    .venv/bin/python docs/aligning.py

Then the classifier is aligned. The program prints the norm of each class's row, and the accuracy on
old, new and all classes, before and after. It uses forgetting.py: copy both if you copy it.
"""

import copy

import numpy as np
import torch
from forgetting import accuracy, digits, train

from wa.methods.alignment import align_weight, gamma, row_norms
from wa.methods.loss import cross_entropy, distillation
from wa.methods.selection import rank_classes
from wa.models.model import CilModel


def learn(x: torch.Tensor, label: torch.Tensor, per_class: int) -> CilModel:
    """A model that has learned the classes 0 to 4, and then 5 to 9 with distillation.

    x, label: training images, float32 (n, 1, 8, 8), and their classes, int64 (n,).
    per_class: images of each old class in the memory, at most.
    """
    old = label < 5
    model = CilModel("resnet8", in_channels=1, task_sizes=[5])
    train(model, x[old], label[old], 5, lambda x, label: cross_entropy(model(x), label, n_old=0))

    with torch.no_grad():  # the memory: the images of each class that herding ranks first
        ranked = rank_classes(model.eval().backbone(x[old]).numpy(), label[old].numpy())
    memory = torch.from_numpy(np.concatenate([rows[:per_class] for rows in ranked.values()]))
    seen = torch.cat([old.nonzero().squeeze(1)[memory], (~old).nonzero().squeeze(1)])

    teacher = copy.deepcopy(model).eval().requires_grad_(False)
    model.classifier.grow(5)

    def loss(x, label):
        logits = model(x)
        kd = distillation(logits[:, :5], teacher(x), temperature=2, old_sizes=[5])
        return cross_entropy(logits, label, n_old=5) + 2**2 * kd

    train(model, x[seen], label[seen], 10, loss)
    return model


def main() -> None:
    x, label, test_x, test_label = digits()
    test_old = test_label < 5
    model = learn(x, label, per_class=2)

    def accuracies() -> str:
        parts = {"old": test_old, "new": ~test_old, "all": test_old | ~test_old}
        return "   ".join(
            f"{name} {accuracy(model, test_x[p], test_label[p]):5.1f} %"
            for name, p in parts.items()
        )

    before = accuracies()
    weight, bias = (
        torch.cat([getattr(h, k) for h in model.classifier.heads]).detach().numpy()
        for k in ("weight", "bias")
    )
    aligned, _ = align_weight(weight, bias, n_old=5)
    with torch.no_grad():
        model.classifier.heads[1].weight.copy_(torch.from_numpy(aligned[5:]))
    print("class   norm of its row               aligned")
    for c, (a, b) in enumerate(zip(row_norms(weight), row_norms(aligned), strict=True)):
        print(f"{c:5}   {a:.2f} {'#' * round(8 * a):25}{b:.2f} {'#' * round(8 * b)}")
    print(
        f"gamma = {gamma(weight, n_old=5):.3f}",
        f"before: {before}",
        f"after:  {accuracies()}",
        sep="\n",
    )


if __name__ == "__main__":
    torch.manual_seed(0)
    torch.set_num_threads(1)
    main()

"""WA from top to bottom: the digits come as 4, 2, 2 and 2 classes, and 20 images may be kept.

    .venv/bin/python docs/loop.py

It uses forgetting.py: copy both if you copy it.
"""

import copy

import torch
from forgetting import accuracy, digits, train

from wa.methods.alignment import align_weight, gamma
from wa.methods.loss import cross_entropy, distillation
from wa.methods.selection import rank_classes
from wa.models.model import CilModel

TASKS, MEMORY, EPOCHS, LAMBDA, TEMPERATURE = [4, 2, 2, 2], 20, 20, 0.5, 2


def main() -> None:
    x, label, test_x, test_label = digits()
    model = CilModel("resnet8", in_channels=1, task_sizes=[])
    ranking = {}  # class -> its images, the best exemplar first
    for t, size in enumerate(TASKS):
        n_old = sum(TASKS[:t])
        new, test = (label >= n_old) & (label < n_old + size), test_label < n_old + size
        # 1. Train on the new images and the memory. The model of the task before is the teacher.
        memory = [i for images in ranking.values() for i in images[: MEMORY // n_old]]
        rows = new.nonzero().flatten().tolist() + memory
        teacher = copy.deepcopy(model).eval().requires_grad_(False)
        model.classifier.grow(size)

        def loss(x, label, n_old=n_old, teacher=teacher):
            logits = model(x)
            ce = cross_entropy(logits, label, n_old)
            if n_old == 0:
                return ce
            kd = distillation(logits[:, :n_old], teacher(x), TEMPERATURE, old_sizes=[n_old])
            return ce + LAMBDA * TEMPERATURE**2 * kd

        train(model, x[rows], label[rows], EPOCHS, loss)
        before = accuracy(model, test_x[test], test_label[test])

        # 2. Herd: rank the images of the new classes. The first ones are the memory.
        features = model.backbone(x).detach().numpy()
        ranking |= rank_classes(features, torch.where(new, label, -1).numpy())

        # 3. Align: scale the new rows of the classifier. This model starts the next task.
        weight = torch.cat([head.weight for head in model.classifier.heads]).detach().numpy()
        if n_old:
            aligned, _ = align_weight(weight, bias=None, n_old=n_old)
            model.classifier.heads[-1].weight.data = torch.from_numpy(aligned[n_old:])
        after = accuracy(model, test_x[test], test_label[test])
        factor = gamma(weight, n_old) if n_old else 1
        print(f"task {t}: {before:5.1f} %, aligned {after:5.1f} %, gamma {factor:.3f}")


if __name__ == "__main__":
    torch.manual_seed(0)
    torch.set_num_threads(1)
    main()

"""Forgetting, seen batch by batch.

A network learns the digits 0 to 4, then 5 to 9 without any image of the earlier ones.

.venv/bin/python docs/forgetting.py
"""

import torch

from wa.data.augment import normalize
from wa.data.datasets import mean_and_std, read_digits
from wa.methods.loss import cross_entropy
from wa.models.model import CilModel


def digits() -> list[torch.Tensor]:
    """scikit-learn's digits: training images and their labels, then test images and their labels.

    Images are normalised, float32 (n, 1, 8, 8). Labels are int64 (n,).
    """
    *pairs, _ = read_digits()
    mean, std = map(torch.tensor, mean_and_std(pairs[0][0]))
    pairs = [map(torch.from_numpy, pair) for pair in pairs]
    return [
        x
        for images, label in pairs
        for x in (normalize(images.permute(0, 3, 1, 2), mean, std), label)
    ]


def train(model, x, label, epochs, loss, watch=lambda batches: None) -> None:
    """SGD over shuffled batches of 32.

    loss(x, label) gives one value for each image. `watch` is called before every batch.
    """
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
    batches = [rows for _ in range(epochs) for rows in torch.randperm(len(x)).split(32)]
    for i, rows in enumerate(batches):
        watch(i)
        model.train()
        optimizer.zero_grad()
        loss(x[rows], label[rows]).mean().backward()
        optimizer.step()


@torch.no_grad()
def accuracy(model, x, label) -> float:
    return 100 * (model.eval()(x).argmax(dim=1) == label).float().mean().item()


def main() -> None:
    x, label, test_x, test_label = digits()
    old, test_old = label < 5, test_label < 5
    model = CilModel("resnet8", in_channels=1, task_sizes=[5])
    train(model, x[old], label[old], 5, lambda x, label: cross_entropy(model(x), label, n_old=0))

    def watch(batches: int) -> None:
        if batches % 2 == 0:
            a = accuracy(model, test_x[test_old], test_label[test_old])
            b = accuracy(model, test_x[~test_old], test_label[~test_old])
            print(
                f"{batches:7}   {a:5.1f} % {'#' * round(a / 5):20}"
                f"   {b:5.1f} % {'#' * round(b / 5)}".rstrip()
            )

    model.classifier.grow(5)
    print("batches   old classes                    new classes")
    train(
        model,
        x[~old],
        label[~old],
        1,
        lambda x, label: cross_entropy(model(x), label, n_old=5),
        watch,
    )


if __name__ == "__main__":
    torch.manual_seed(0)
    torch.set_num_threads(1)  # so small a network gains nothing from more
    main()

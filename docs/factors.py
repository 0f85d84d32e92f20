"""Why not a fixed factor? Factors from 1 to 0.3 in place of gamma.

    .venv/bin/python docs/factors.py

It learns the digits as aligning.py does. The memory has 2, 20 or all images of each old class. The
old classes are 0 to 4 or 5 to 9, and there are two seeds. It prints the accuracy on the test images
of all classes. It takes a minute or two, and it uses aligning.py and forgetting.py.
"""

from itertools import product

import torch
from aligning import learn
from forgetting import accuracy, digits

from wa.methods.alignment import gamma
from wa.models.model import CilModel

FACTORS = (1, 0.9, 0.7, 0.5, 0.3)
ALL = 1000  # more than a class has


def accuracies(
    model: CilModel, factors: tuple[float, ...], x: torch.Tensor, label: torch.Tensor
) -> list[float]:
    """The accuracy in percent with each factor on the weights of the new classes."""
    new = model.classifier.heads[1].weight.data
    trained = new.clone()
    percent = []
    for factor in factors:
        new.copy_(factor * trained)
        percent.append(accuracy(model, x, label))
    return percent


def main() -> None:
    x, label, test_x, test_label = digits()
    print("memory   old     seed   gamma", *(f"{factor:5g}" for factor in FACTORS), "  by gamma")
    for per_class, first, seed in product((2, 20, ALL), (0, 5), (0, 1)):
        torch.manual_seed(seed)
        model = learn(x, (label - first) % 10, per_class)
        weight = torch.cat([head.weight for head in model.classifier.heads]).detach()
        found = gamma(weight.numpy(), n_old=5)
        *fixed, by_gamma = accuracies(model, (*FACTORS, found), test_x, (test_label - first) % 10)
        name = "all" if per_class == ALL else per_class
        print(
            f"{name:>6}   {first}-{first + 4}  {seed:>6}   {found:.3f}",
            *(f"{percent:5.1f}" for percent in fixed),
            f"{by_gamma:10.1f}",
        )


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()

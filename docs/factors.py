"""Why not a fixed factor? Factors from 1 to 0.3 in place of gamma.

    .venv/bin/python docs/factors.py

Learns the digits as aligning.py does, with 2, with 20 and with all images of each old class in the
memory. Each is done with two seeds, and with 0 to 4 or 5 to 9 as the old classes. Prints the
accuracy on the test images of all classes. It takes a minute or two, and it uses aligning.py and
forgetting.py.
"""

import torch
from aligning import learn
from forgetting import accuracy, digits

from wa.methods.alignment import gamma

FACTORS = (1, 0.9, 0.7, 0.5, 0.3)
ALL = 1000  # more than a class has


def main() -> None:
    x, label, test_x, test_label = digits()
    print("memory   old     seed   gamma", *(f"{factor:5g}" for factor in FACTORS), "  by gamma")
    for per_class in (2, 20, ALL):
        for first in (0, 5):
            for seed in (0, 1):
                torch.manual_seed(seed)
                model = learn(x, (label - first) % 10, per_class)
                weight = torch.cat([head.weight for head in model.classifier.heads]).detach()
                found = gamma(weight.numpy(), n_old=5)
                new = model.classifier.heads[1].weight.data
                trained, percent = new.clone(), []
                for factor in (*FACTORS, found):
                    new.copy_(factor * trained)
                    percent.append(accuracy(model, test_x, (test_label - first) % 10))
                name = "all" if per_class == ALL else per_class
                print(
                    f"{name:>6}   {first}-{first + 4}  {seed:>6}   {found:.3f}",
                    *(f"{value:5.1f}" for value in percent[:-1]),
                    f"{percent[-1]:10.1f}",
                )


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()

"""A trained model for use: it knows its class names and how to prepare an image.

In Python, wa.load(path) gives one. `wa predict` and `wa export` use it.
"""

from pathlib import Path

import torch
from torch import Tensor, nn

from wa.data.augment import center, normalize
from wa.data.images import read_image
from wa.data.packed import IMAGES
from wa.errors import UserError
from wa.files import check, is_count
from wa.models.model import load_model

CACHE = {
    "cache_size": (
        lambda v: v is None or (is_count(v) and v <= 4096),
        "the side of the squares that were kept, or null",
    )
}


class Classifier(nn.Module):
    """A trained model with its class names and its preprocessing, in eval mode on the CPU.

        model = Classifier("model.safetensors")
        logits = model(model.preprocess("seven.png")[None])   # float32 (1, classes)

    Takes images as `preprocess` returns them, float32 (B, C, H, W). Returns logits (B, classes).

    classes: the names, in the order of the logits, which is the order of learning.
    image_shape: (H, W, C) of the training images.
    input_size: (H, W) that the network takes. It is smaller after training on resized crops.
    header: everything that the checkpoint's header says.

    Raises UserError if the checkpoint is damaged or does not fit this program.
    """

    def __init__(self, path: str | Path):
        super().__init__()
        self.model, self.header = load_model(path)
        check({"cache_size": None} | self.header, IMAGES | CACHE, path)
        self.classes = self.header["classes"]
        self.image_shape = tuple(self.header["image_shape"])
        self.input_size = tuple(self.header.get("input_size") or self.image_shape[:2])
        lengths = [
            len(self.classes),
            self.image_shape[2],
            len(self.header["mean"]),
            len(self.header["std"]),
        ]
        if lengths != [sum(self.header["task_sizes"]), *[self.header["in_channels"]] * 3]:
            raise UserError(
                f"{path} cannot be used: the classes, channels, mean and std in its header "
                "do not fit together"
            )
        self.register_buffer("mean", torch.tensor(self.header["mean"]), persistent=False)
        self.register_buffer("std", torch.tensor(self.header["std"]), persistent=False)
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x)

    def normalize(self, pixels: Tensor) -> Tensor:
        """Pixels, uint8 (B, C, H, W), to float32, by the training images' mean and deviation."""
        return normalize(pixels, self.mean, self.std)

    def preprocess(self, image) -> Tensor:
        """A path or a PIL image, preprocessed as in evaluation: float32 (C, H, W).

        An image becomes grey or RGB, as the training images were. One of another size is resized
        to theirs as a whole. If the training images were cut to squares, it is cut in the same way.
        After training on resized crops, the centre is taken. See wa.data.images.read_image for
        orientation, palettes and transparency. Raises UserError if it is not an image.
        """
        height, width, channels = self.image_shape
        pixels = torch.from_numpy(
            read_image(image, channels, (width, height), self.header.get("cache_size")).copy()
        )
        pixels = pixels.permute(2, 0, 1)[None].to(self.mean.device)
        if self.input_size != self.image_shape[:2]:
            pixels = center(pixels, self.input_size[0])
        return self.normalize(pixels)[0]

    @torch.no_grad()
    def top(self, image, k: int = 5) -> list[tuple[str, float]]:
        """The k most probable classes of an image, with probabilities, best first.

        image: a path or a PIL image. Returns fewer than k if the model has fewer classes.
        """
        probability = self(self.preprocess(image)[None])[0].softmax(dim=0)
        best = probability.topk(min(k, len(self.classes)))
        return [
            (self.classes[c], p)
            for p, c in zip(best.values.tolist(), best.indices.tolist(), strict=True)
        ]


class Served(nn.Module):
    """Pixels, uint8 (B, H, W, C), to probabilities, float32 (B, classes)."""

    def __init__(self, classifier: Classifier):
        super().__init__()
        self.classifier = classifier

    def forward(self, image: Tensor) -> Tensor:
        return self.classifier(self.classifier.normalize(image.permute(0, 3, 1, 2))).softmax(dim=1)

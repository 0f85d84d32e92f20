"""A trained model for use: it knows its class names and how to prepare an image.

In Python, wa.load(path) gives one. `wa predict` and `wa export` use it.
"""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from wa.checkpoint import MEANS, read_checkpoint
from wa.data.augment import center, normalize
from wa.data.images import read_image
from wa.data.packed import IMAGES
from wa.errors import UserError
from wa.files import check, is_count, read_arrays, read_arrays_header, sha256
from wa.methods import algorithm
from wa.methods.nearest_mean import CLASSIFIERS, WITHOUT
from wa.models.model import CilClassifier, build_model
from wa.study import layout

BATCH = 64  # images that go through the network together

CACHE = {
    "cache_size": (
        lambda v: v is None or (is_count(v) and v <= 4096),
        "the side of the squares that were kept, or null",
    )
}


OWN = {
    "classifier": (lambda v: v in tuple(CLASSIFIERS), f"one of {', '.join(CLASSIFIERS)}"),
}


def means_in(tensors: dict[str, np.ndarray], header: dict, path: str | Path) -> Tensor | None:
    """The class means of a checkpoint whose own classifier is `nme`: float32 (classes, d).

    None for a linear classifier. Raises UserError if the means are absent or do not fit.
    """
    if header.get("classifier", "linear") == "linear":
        return None
    means = tensors.get(MEANS, np.empty(0))
    shape = (sum(header["task_sizes"]), tensors["classifier.heads.0.weight"].shape[1])
    if means.dtype != np.float32 or means.shape != shape or not np.isfinite(means).all():
        raise UserError(
            f"{path} cannot be used: its header says classifier = nme, but it has no class means"
            f" {shape}. Run the study again."
        )
    return torch.from_numpy(means.copy())


class Fitted:
    """What a method's algorithm fitted to features, in fitted.npz beside a checkpoint."""

    def __init__(self, path: Path, header: dict):
        """path, header: of the checkpoint. Raises UserError if the file is of another model."""
        settings, file = header["settings"], path.with_name(layout.FITTED)
        if settings["algorithm"] == algorithm.OWN:
            raise UserError(
                f"{path} cannot predict: its method does so by a Python file of a user, and a"
                " checkpoint runs no such code"
            )
        made_from = read_arrays_header(file).get("from_trained")
        if made_from not in (header.get("from_trained"), header["content_sha256"]):
            raise UserError(f"{file} was made from another model than {path}")
        options = algorithm.from_words(tuple(settings["options"]))
        kind = algorithm.load(settings["algorithm"], "FeatureClassifier")
        self.classifier, self.state = kind(options, header["seed"]), read_arrays(file)

    def __call__(self, features: Tensor) -> Tensor:
        """Features (B, d) to a score of each class, float32 (B, classes)."""
        scores = self.classifier.scores(features.cpu().numpy(), self.state)
        return torch.from_numpy(scores.astype(np.float32))


def algorithm_in(path: Path, header: dict) -> tuple[type[CilClassifier], Fitted | None]:
    """The class of the trained classifier, and what the algorithm fitted, if it fits anything.

    Raises UserError if a method predicts by what it fitted, and that is not beside the checkpoint.
    """
    name = header.get("settings", {}).get("algorithm", algorithm.STANDARD)
    if path.with_name(layout.FITTED).exists() and name != algorithm.STANDARD:
        fitted = Fitted(path, header)
    else:
        fitted = None
    if name in (algorithm.STANDARD, algorithm.OWN):
        return CilClassifier, fitted
    found = algorithm.facts(name)
    trained = algorithm.load(name, "Learner").classifier if found.learner else CilClassifier
    if found.classifier and not fitted and trained is CilClassifier:
        raise UserError(
            f"{path} cannot predict: the method needs {layout.FITTED} beside it. Copy both, or run"
            " the study again"
        )
    return trained, fitted


def check_pixels(image: object) -> object:
    """The image, if it has pixels. An array (H, W, 1) becomes (H, W), which Pillow knows.

    image: as for Classifier.read. Raises UserError for an array or a PIL image without pixels, and
    for an array of another type or shape. Files are checked when they are read.
    """
    if isinstance(image, Image.Image) and 0 in image.size:
        raise UserError(
            f"an image of {image.width} x {image.height} pixels: there is nothing to see"
        )
    if not isinstance(image, np.ndarray):
        return image
    fits = image.ndim == 2 or (image.ndim == 3 and image.shape[2] <= 4)
    if image.dtype != np.uint8 or not fits or not image.size:
        raise UserError(
            f"an array of {image.dtype} {image.shape}: give one of uint8, (H, W) or (H, W, C), with"
            " at least one pixel and at most four channels"
        )
    return image[..., 0] if image.shape[2:] == (1,) else image


class Classifier(nn.Module):
    """A trained model with its class names and its preprocessing, in eval mode on the CPU.

        model = Classifier("model.safetensors")
        scores = model(model.preprocess("seven.png")[None])   # float32 (1, classes)
        model.predict(["seven.png", "two.png"])   # [[(name, probability), ...], [...]]

    Takes images as `preprocess` returns them, float32 (B, C, H, W). Returns scores (B, classes), by
    the method's own classifier. They are the logits of a linear classifier. For the nearest mean of
    exemplars (iCaRL) they are similarities: the cosine of the image's features and each class mean.
    A class without exemplars has -2 there, so it is never predicted.
    What an algorithm fitted gives scores of its own. It is in fitted.npz beside the checkpoint.

    own: the method's own classifier: `linear`, `nme`, or `fitted` by the method's algorithm. The
    model of task 0, which methods share, is `linear`. So is a trained.safetensors without a
    fitted.npz beside it.
    classes: the names, in the order of the logits, which is the order of learning.
    image_shape: (H, W, C) of the training images.
    input_size: (H, W) that the network takes. It is smaller after training on resized crops.
    header: everything that the checkpoint's header says.
    version: the SHA-256 of the checkpoint file, as sha256sum prints it.

    Several threads may use one model at the same time, because predicting changes nothing in it.

    Raises UserError if the checkpoint is damaged or does not fit this program.
    """

    def __init__(self, path: str | Path):
        super().__init__()
        path = Path(path).resolve()  # a link may name another file a moment later
        found = None
        while not found or not os.path.samestat(found, path.stat()):  # it was replaced meanwhile
            found = path.stat()
            tensors, self.header = read_checkpoint(path)
            self.version = sha256(path)
        trained, self.fitted = algorithm_in(path, self.header)
        self.model = build_model(tensors, self.header, path, trained)
        check(
            {"cache_size": None, "classifier": "linear"} | self.header, IMAGES | CACHE | OWN, path
        )
        self.own = "fitted" if self.fitted else self.header.get("classifier", "linear")
        self.register_buffer("means", means_in(tensors, self.header, path), persistent=False)
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
        if self.fitted:
            return self.fitted(self.model.backbone(x).detach())
        if self.means is None:
            return self.model(x)
        features = self.model.backbone(x)
        length = torch.linalg.vector_norm(features, dim=1, keepdim=True)
        cosines = features / (length + 1e-8) @ self.means.T
        return torch.where(self.means.any(dim=1), cosines, WITHOUT)  # a mean of 0 is none

    @property
    def measure(self) -> str:
        """What `measured` gives: `probability`, `similarity` for the nearest mean, or `score`."""
        if self.fitted:
            return "score"
        return "probability" if self.means is None else "similarity"

    def measured(self, x: Tensor) -> Tensor:
        """As forward, but the probabilities of a linear classifier: float32 (B, classes)."""
        scores = self(x)
        return scores.softmax(dim=1) if self.measure == "probability" else scores

    def normalize(self, pixels: Tensor) -> Tensor:
        """Pixels, uint8 (B, C, H, W), to float32, by the training images' mean and deviation."""
        return normalize(pixels, self.mean, self.std)

    def read(self, image) -> np.ndarray:
        """An image of the training images' size and colours: uint8 (H, W, C), by image_shape.

        image: a path, the bytes of a file, an open binary file, a uint8 array or a PIL image.

        An image becomes grey or RGB, as the training images were. One of another size is resized
        to theirs as a whole. If the training images were cut to squares, it is cut in the same way.
        See wa.data.images.read_image for orientation, palettes and transparency. Raises UserError
        if it is not an image.
        """
        height, width, channels = self.image_shape
        square = self.header.get("cache_size")
        return read_image(check_pixels(image), channels, (width, height), square)

    def inputs(self, images: np.ndarray) -> Tensor:
        """Images as `read` returns them, uint8 (B, H, W, C), as the network takes them.

        Returns float32 (B, C, H, W), normalised. After training on resized crops, the centre is
        taken.
        """
        pixels = torch.from_numpy(images).permute(0, 3, 1, 2).to(self.mean.device)
        if self.input_size != self.image_shape[:2]:
            pixels = center(pixels, self.input_size[0])
        return self.normalize(pixels)

    def preprocess(self, image) -> Tensor:
        """An image, preprocessed as in evaluation: float32 (C, H, W).

        image: as for `read`. Raises UserError if it is not an image.
        """
        return self.inputs(np.stack([self.read(image)]))[0]

    @torch.no_grad()
    def measured_images(self, images: np.ndarray) -> Tensor:
        """As `measured`, of images as `read` returns them: uint8 (B, H, W, C)."""
        return self.measured(self.inputs(images))

    def best(self, measured: Tensor, k: int = 5) -> list[tuple[str, float]]:
        """The k best classes of one image, best first. measured: (classes,).

        Returns fewer than k if the model has fewer classes.
        """
        best = measured.topk(min(k, len(self.classes)))
        names = [self.classes[c] for c in best.indices.tolist()]
        return list(zip(names, best.values.tolist(), strict=True))

    def top(self, image, k: int = 5) -> list[tuple[str, float]]:
        """The k best classes of an image, best first, each with its probability.

        The nearest mean of exemplars has no probabilities. Then it is the similarity, -1 to 1.
        image: as for `read`. Returns fewer than k if the model has fewer classes.
        """
        return self.predict([image], k)[0]

    def predict(self, images: Sequence, k: int = 5) -> list[list[tuple[str, float]]]:
        """What `top` returns, for each of many images. They go through the network in batches.

            model.predict(["a.png", "b.jpg"], k=1)   # [[("cat", 0.98)], [("dog", 0.71)]]

        images: a list whose elements are as for `read`, of any sizes. Raises UserError if one of
        them is not an image.
        """
        found = []
        for start in range(0, len(images), BATCH):
            pixels = np.stack([self.read(image) for image in images[start : start + BATCH]])
            found += [self.best(measured, k) for measured in self.measured_images(pixels)]
        return found


class Served(nn.Module):
    """Pixels, uint8 (B, H, W, C), to what Classifier.measured gives, float32 (B, classes)."""

    def __init__(self, classifier: Classifier):
        super().__init__()
        self.classifier = classifier

    def forward(self, image: Tensor) -> Tensor:
        return self.classifier.measured(self.classifier.normalize(image.permute(0, 3, 1, 2)))

"""Classify images with a trained model.

    wa predict results/digits/order-1993/seed-0/base-4/inc-2/wa/task-3/model.safetensors seven.png

In Python, wa.load(path) gives the model.
"""

import argparse
import sys

from wa.errors import UserError, printable_bytes

HELP = """Print the five best classes of each image, with probabilities.

A model.safetensors predicts with the method's own classifier, as figures and tables show it. That
is the linear classifier after aligning, or for iCaRL the nearest mean of exemplars (nme). The
nearest mean has no probabilities, so predict prints similarities, from -1 to 1.
A trained.safetensors, and the model of task 0 that methods share, predict with the linear
classifier. The first line, on stderr, says which classifier is used.

Images are read as in training:
- A photograph is turned upright as its EXIF data say.
- It becomes grey or RGB, as the training images were. Transparent parts become white.
- An image of another size is resized. If the training images were cut to squares (cache_size),
  it is cut in the same way.

If an image cannot be read, predict names it and goes on with the others. The exit status is then 1.
"""


def classifier_of(header: dict) -> str:
    """The classifier that predicts, in words. header: that of the checkpoint."""
    if header.get("classifier") == "nme":
        return "nme, the nearest mean of exemplars"
    alignment = header.get("alignment", "none")
    return "linear, as trained" if alignment == "none" else f"linear, aligned ({alignment})"


def printable(name: str) -> str:
    """A name from a file without control characters, which could steer the terminal."""
    return "".join(c if c.isprintable() else "?" for c in name)


def predict(path: str, images: list[str]) -> None:
    """Print the top five of each image.

    Raises UserError at the end if some images could not be read.
    """
    from wa.models.classifier import Classifier  # imports torch, which --help does not need

    model = Classifier(path)
    print(f"classifier: {printable(classifier_of(model.header))}", file=sys.stderr)
    failed = 0
    for image in images:
        try:
            top = model.top(image)
        except UserError as error:
            print(f"error: {printable_bytes(str(error))}", file=sys.stderr)
            failed += 1
            continue
        print(printable_bytes(image))
        for name, value in top:
            shown = f"{100 * value:7.2f} %" if model.measure == "probability" else f"{value:7.4f}"
            print(f"{shown}  {printable(name)}")
    if failed:
        raise UserError(f"{failed} of {len(images)} images could not be predicted")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", help="model.safetensors or trained.safetensors of a task")
    parser.add_argument("images", nargs="+", metavar="image", help="an image file")


def main(args: argparse.Namespace) -> None:
    predict(args.model, args.images)

"""Classify images with a trained model.

    wa predict results/digits/order-1993/seed-0/base-4/inc-2/wa/task-3/model.safetensors seven.png
    find photos -name '*.jpg' | wa predict MODEL - --format csv > predictions.csv

In Python, wa.load(path) gives the model.
"""

import argparse
import csv
import json
import os
import sys
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TextIO

from wa.data.folders import SUFFIXES
from wa.errors import UserError, counted, printable_bytes

HELP = """Print the best classes of each image, with probabilities.

  wa predict MODEL seven.png two.png          some images
  wa predict MODEL photos/                    all images in a folder and in its folders
  find photos -mtime -1 | wa predict MODEL -  the paths that another program prints, one a line

A model.safetensors predicts with the method's own classifier, as figures and tables show it. That
is the linear classifier after aligning, or for iCaRL the nearest mean of exemplars (nme). The
nearest mean has no probabilities, so predict prints similarities, from -1 to 1. A class whose
exemplars were all removed (wa forget) has -2: it is never predicted.
Some algorithms fit a classifier to features. It is in fitted.npz, which must be beside the model.
Then predict prints scores.
A trained.safetensors without fitted.npz, and the model of task 0 that methods share, predict with
the linear classifier. The first line, on stderr, says which classifier is used.

Images are read as in training:
- A photograph is turned upright as its EXIF data say.
- It becomes grey or RGB, as the training images were. Transparent parts become white.
- An image of another size is resized. If the training images were cut to squares (cache_size),
  it is cut in the same way.

--format json prints one JSON object on each line (JSON Lines):
  {"path": "seven.png", "top": [{"class": "seven", "probability": 0.98}, ...]}
--format csv prints a table with a header:
  path,class_1,probability_1,class_2,probability_2,...
For nme the names are similarity and similarity_1. The images stand in the order in which they were
named, those of a folder in the order of their names.

If an image cannot be read, predict names it on stderr and goes on with the others. At the end it
says how many there were, and the exit status is 1. All cores are used.
"""

FORMATS = ("text", "json", "csv")
Outcome = list[tuple[str, float]] | UserError  # the best classes, or why there are none


def classifier_of(model) -> str:
    """The classifier that predicts, in words. model: a wa.models.classifier.Classifier."""
    header = model.header
    if model.own == "fitted":
        return f"fitted to features ({header['settings']['algorithm']})"
    if header.get("classifier") == "nme":
        return "nme, the nearest mean of exemplars"
    alignment = header.get("alignment", "none")
    return "linear, as trained" if alignment == "none" else f"linear, aligned ({alignment})"


def printable(name: str) -> str:
    """A name from a file without control characters, which could steer the terminal."""
    return "".join(c if c.isprintable() else "?" for c in name)


def images_in(folder: str) -> list[str]:
    """All images in a folder and in the folders below it, in the order of their paths.

    Hidden files and folders are left out.
    """
    found = []
    for parent, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [
            os.path.join(parent, name)
            for name in files
            if os.path.splitext(name)[1].lower() in SUFFIXES and not name.startswith(".")
        ]
    return sorted(found)


def listed(words: list[str]) -> list[str]:
    """The files that the arguments name. `-` stands for a list on standard input.

    A folder stands for the images in it. One without images stands for itself, which is an error.
    """
    named = []
    for word in words:
        if word == "-":
            lines = sys.stdin.buffer.read().splitlines()
            named += [os.fsdecode(line) for line in lines if line]
        else:
            named.append(word)
    files = []
    for name in named:
        files += (images_in(name) or [name]) if os.path.isdir(name) else [name]
    return files


def ahead(work: Callable, parts: list, threads: int) -> Iterator:
    """work(part) of each part, in order, computed by threads that stay a few parts ahead."""
    waiting = deque()
    with ThreadPoolExecutor(threads) as pool:
        for part in parts:
            waiting.append(pool.submit(work, part))
            if len(waiting) > 2 * threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def classified(model, files: list[str], top: int) -> list[tuple[str, Outcome]]:
    """Each file of a batch with its best classes, or with the error if it cannot be read.

    model: a wa.models.classifier.Classifier.
    """
    import numpy as np

    outcomes, read = {}, {}
    for place, file in enumerate(files):
        try:
            if os.path.isdir(file):
                raise UserError(f"{file}: there is no image in it ({', '.join(sorted(SUFFIXES))})")
            read[place] = model.read(file)
        except UserError as error:
            outcomes[place] = error
    if read:
        measured = model.measured_images(np.stack(list(read.values())))
        outcomes |= {place: model.best(row, top) for place, row in zip(read, measured, strict=True)}
    return [(file, outcomes[place]) for place, file in enumerate(files)]


def outcomes(model, files: list[str], top: int = 5) -> Iterator[tuple[str, Outcome]]:
    """Each file with its best classes, or with the error if it cannot be read, in order.

    Each core reads a batch of images and puts it through the network, then takes the next batch.
    model: a wa.models.classifier.Classifier.
    """
    import torch

    from wa.models.classifier import BATCH

    threads = len(os.sched_getaffinity(0))
    batch = max(1, min(BATCH, -(-len(files) // threads)))  # few images are shared by all cores
    batches = [files[start : start + batch] for start in range(0, len(files), batch)]
    within = torch.get_num_threads()
    torch.set_num_threads(1)  # several threads within each batch would only wait for each other
    try:
        for part in ahead(lambda part: classified(model, part, top), batches, threads):
            yield from part
    finally:
        torch.set_num_threads(within)


def text_writer(model, top: int, output: TextIO) -> Callable:
    def write(path: str, best: list[tuple[str, float]]) -> None:
        print(printable_bytes(path), file=output)
        for name, value in best:
            shown = f"{100 * value:7.2f} %" if model.measure == "probability" else f"{value:7.4f}"
            print(f"{shown}  {printable(name)}", file=output)

    return write


def json_writer(model, top: int, output: TextIO) -> Callable:
    def write(path: str, best: list[tuple[str, float]]) -> None:
        classes = [{"class": name, model.measure: value} for name, value in best]
        print(json.dumps({"path": path, "top": classes}), file=output)

    return write


def csv_writer(model, top: int, output: TextIO) -> Callable:
    table = csv.writer(output, lineterminator="\n")
    columns = ["path"]
    for rank in range(1, min(top, len(model.classes)) + 1):
        columns += [f"class_{rank}", f"{model.measure}_{rank}"]
    table.writerow(columns)

    def write(path: str, best: list[tuple[str, float]]) -> None:
        table.writerow([path, *(value for pair in best for value in pair)])

    return write


WRITERS = {"text": text_writer, "json": json_writer, "csv": csv_writer}


def predict(path: str, words: list[str], kind: str, top: int) -> None:
    """Print the best classes of each image. kind: one of FORMATS.

    Raises UserError at the end if some images could not be read.
    """
    from tqdm import tqdm

    from wa.models.classifier import BATCH, Classifier  # imports torch, which --help does not need

    model = Classifier(path)
    print(f"classifier: {printable(classifier_of(model))}", file=sys.stderr)
    files = listed(words)
    if not files:
        raise UserError("standard input names no image: give one path on each line")
    write = WRITERS[kind](model, top, sys.stdout)
    # The bar stands on a terminal only. Results that go to the same terminal show the progress.
    hidden = True if sys.stdout.isatty() or len(files) <= BATCH else None
    failed = 0
    for file, outcome in tqdm(
        outcomes(model, files, top), "predicting", len(files), False, unit="image", disable=hidden
    ):
        if isinstance(outcome, UserError) and len(files) == 1:
            raise outcome
        if isinstance(outcome, UserError):
            tqdm.write(f"error: {printable_bytes(str(outcome))}", file=sys.stderr)
            failed += 1
        else:
            write(file, outcome)
    if failed:
        raise UserError(f"{failed} of {counted(len(files), 'image')} could not be predicted")


def count(text: str) -> int:
    """A number above 0, of an option."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a number of classes: give 1 or more")
    return int(text)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("model", help="model.safetensors or trained.safetensors of a task")
    add(
        "images",
        nargs="+",
        metavar="image",
        help="an image, a folder of images, or - for a list of both on standard input",
    )
    add("--format", choices=FORMATS, default="text", help="of the output (default: text)")
    add("--top", type=count, default=5, metavar="K", help="classes for each image (default: 5)")


def main(args: argparse.Namespace) -> None:
    predict(args.model, args.images, args.format, args.top)

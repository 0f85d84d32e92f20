"""Write a trained model as ONNX, to serve it without PyTorch.

wa export results/digits/order-1993/seed-0/base-4/inc-2/wa/task-3/model.safetensors model.onnx
"""

import argparse
import json
import warnings
from pathlib import Path

from wa.errors import UserError
from wa.files import writing
from wa.study import layout

HELP = """Write a model as ONNX, to serve it without PyTorch.

The model classifies with the method's own classifier, as `wa predict` does. For iCaRL that is the
nearest mean of exemplars (nme), and the class means are in the file.

The file has one input and one output:
  image        uint8 (batch, height, width, channels): RGB or grey pixels, as in PIL or numpy, of
               the size that the network takes. The normalisation is inside the model.
  probability  float32 (batch, classes). For nme the output is called similarity instead. It is the
               cosine of the image's features and each class mean, -1 to 1. It is -2 for a class
               without exemplars.

Its metadata hold, as JSON: classes (names, in the order of the output), image_shape and cache_size.
As plain text: classifier (linear or nme), prepare, dataset and checkpoint_sha256.

The entry `prepare` says how to make an image of the input's size, as `wa predict` does. Keep to it:
another filter gives other probabilities.
- It resizes with Pillow's BILINEAR filter, which is antialiased. Other libraries call other filters
  bilinear. OpenCV's INTER_LINEAR, for instance, is not antialiased.
- If cache_size is null, the whole image is resized to the training images' size. Its aspect ratio
  is not kept.
- If cache_size is a number, the training images were cut to squares. The shorter side is resized to
  cache_size, and the centre square is kept.
- After training on resized crops, the network takes less. Then the image may be resized once more,
  and the centre is cut out.

If onnxruntime is installed, export compares the file with PyTorch's model, on batches of 1, 2 and 7
images. If they differ, it writes nothing.
"""

BATCHES = (1, 2, 7)  # sizes of the batches on which the file is compared with the model


def preparation(classifier) -> str:
    """How to make an image of the size that the network takes, in one line.

    classifier: a wa.models.classifier.Classifier.
    """
    height, width, channels = classifier.image_shape
    square = classifier.header.get("cache_size")
    bilinear = "(Pillow's BILINEAR, antialiased)"
    steps = [
        "turn upright by EXIF",
        f"convert to {'grey' if channels == 1 else 'RGB'}, transparent parts white",
    ]
    if square:
        steps.append(f"resize the shorter side to {square} {bilinear}")
        steps.append(f"keep the centre {square} x {square}")
    else:
        steps.append(f"resize the whole image to height {height}, width {width} {bilinear}")
    if classifier.input_size != (height, width):
        size, shorter = classifier.input_size[0], min(height, width)
        wanted = min(max(shorter, size), round(size / 0.875))  # as in wa.data.augment.center
        if wanted != shorter:
            steps.append(f"resize the shorter side to {wanted} {bilinear}")
        steps.append(f"keep the centre {size} x {size}")
    return "; ".join(steps)


def difference(model, file: Path, shape: tuple[int, ...]) -> float:
    """The largest difference between the file's output and the model's, on random images.

    model: a Served. shape: (H, W, C) of an image. Raises ImportError without onnxruntime.
    """
    import onnxruntime
    import torch

    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    worst = 0.0
    for batch in BATCHES:
        image = torch.randint(
            256, (batch, *shape), dtype=torch.uint8, generator=torch.Generator().manual_seed(batch)
        )
        (served,) = session.run(None, {"image": image.numpy()})
        with torch.no_grad():
            worst = max(worst, (model(image) - torch.from_numpy(served)).abs().max().item())
    return worst


def check_request(output: str) -> None:
    """Raise UserError if onnxscript is missing, or if `output` cannot be written."""
    try:
        import onnxscript  # noqa: F401 (torch.onnx needs it)
    except ImportError:
        raise UserError(
            "wa export needs onnxscript, and onnxruntime to compare the models: "
            "pip install onnxscript onnxruntime"
        ) from None
    # The suffix protects checkpoints: `wa export A B` must not overwrite B.
    if Path(output).suffix != ".onnx":
        raise UserError(f"{output} does not end in .onnx: name a file *.onnx to write to")
    if not Path(output).absolute().parent.is_dir():
        raise UserError(f"{output} is in a folder that does not exist: make the folder first")


def verify(model, file: Path, shape: tuple[int, ...], output: str) -> str:
    """Compare a file with the model. Returns the result in words, for the user.

    output: the name that the file will have. Raises UserError if the two differ.
    """
    try:
        worst = difference(model, file, shape)
    except ImportError:
        return "not verified, because onnxruntime is not installed"
    if not worst < 1e-4:
        raise UserError(
            f"{output} is not written: in onnxruntime, its output differs from "
            f"PyTorch's by {worst:.1g}"
        )
    return f"in onnxruntime, its output differs from PyTorch's by at most {worst:.0e}"


def export(path: str, output: str) -> None:
    """Write the model in a checkpoint as ONNX, and compare the two if onnxruntime is installed.

    Raises UserError if onnxscript is missing, if the output does not end in .onnx, if its folder
    does not exist, or if the two models differ.
    """
    check_request(output)
    import torch

    from wa.models.classifier import Classifier, Served

    classifier = Classifier(path)
    if classifier.own == "fitted":
        raise UserError(
            f"{path} cannot be exported: its method predicts by what it fitted to features"
            f" ({layout.FITTED}), which ONNX does not hold"
        )
    model = Served(classifier).eval()
    shape = (*classifier.input_size, classifier.image_shape[2])
    with warnings.catch_warnings(action="ignore"):  # torch warns about its own internals
        program = torch.onnx.export(
            model,
            (torch.zeros(2, *shape, dtype=torch.uint8),),
            input_names=["image"],
            output_names=[classifier.measure],
            dynamic_shapes={"image": {0: torch.export.Dim("batch")}},
            dynamo=True,
            verbose=False,
        )
    # The exporter notes stack traces in each node, with paths of this machine.
    for part in program.model.graph.all_nodes():
        part.metadata_props.clear()
    program.model.metadata_props.update(
        classes=json.dumps(classifier.classes),
        image_shape=json.dumps(shape),
        classifier=classifier.own,
        prepare=preparation(classifier),
        dataset=str(classifier.header.get("dataset")),
        checkpoint_sha256=classifier.version,
        cache_size=json.dumps(classifier.header.get("cache_size")),
    )
    with writing(output) as temporary:
        program.save(temporary, external_data=False)
        verified = verify(model, temporary, shape, output)
    size = ", ".join(map(str, shape))
    print(
        f"{output}: image uint8 (batch, {size}) -> "
        f"{classifier.measure} float32 (batch, {len(classifier.classes)}), "
        f"classifier {classifier.own}"
    )
    print(f"prepare images so: {preparation(classifier)}")
    print(verified)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", help="model.safetensors or trained.safetensors of a task")
    parser.add_argument("output", help="the file to write, such as model.onnx")


def main(args: argparse.Namespace) -> None:
    export(args.model, args.output)

"""Write a trained model as ONNX, to be served without PyTorch.

    wa export results/digits/order-1993/seed-0/base-4/inc-2/wa/task-3/model.safetensors model.onnx

The preprocessing that is easy to get wrong is inside: the input `image` is uint8 (batch, height, width, channels), pixels as
PIL, numpy and OpenCV hold them (RGB), of the size that the network takes; the output `probability` is float32 (batch,
classes). The metadata say the rest: `classes` (a JSON list, in the order of the output), `image_shape`, `dataset`,
`checkpoint_sha256`, and `cache_size`, the side of the squares to which photographs were cut first, or null.
"""

import json
import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

from wa.commands.predict import Classifier
from wa.errors import UserError
from wa.files import sha256, writing


class Served(nn.Module):
    """Pixels, uint8 (B, H, W, C), to probabilities, float32 (B, classes)."""

    def __init__(self, classifier: Classifier):
        super().__init__()
        self.classifier = classifier

    def forward(self, image: Tensor) -> Tensor:
        return self.classifier(self.classifier.normalize(image.permute(0, 3, 1, 2))).softmax(dim=1)


def difference(model: Served, file: Path, shape: tuple[int, ...]) -> float:
    """The largest difference between the probabilities of the ONNX file in onnxruntime and the model's, on random images."""
    import onnxruntime

    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    worst = 0.0
    for batch in (1, 5):
        image = torch.randint(
            256, (batch, *shape), dtype=torch.uint8, generator=torch.Generator().manual_seed(batch)
        )
        (served,) = session.run(None, {"image": image.numpy()})
        with torch.no_grad():
            worst = max(worst, (model(image) - torch.from_numpy(served)).abs().max().item())
    return worst


def export(path: str, output: str) -> None:
    """Write the model in a checkpoint as ONNX, and compare the two in onnxruntime where that is installed."""
    try:
        import onnxscript  # noqa: F401 (torch.onnx needs it)
    except ImportError:
        raise UserError(
            "wa export needs onnxscript, and onnxruntime to verify: pip install onnxscript onnxruntime"
        ) from None
    if (
        Path(output).suffix != ".onnx" or not Path(output).absolute().parent.is_dir()
    ):  # a checkpoint is not overwritten
        raise UserError(
            f"{output} is no place for a model: name a file *.onnx in a folder that is there"
        )
    classifier = Classifier(path)
    model, shape = Served(classifier).eval(), (*classifier.input_size, classifier.image_shape[2])
    with warnings.catch_warnings(action="ignore"):  # of torch about itself
        program = torch.onnx.export(
            model,
            (torch.zeros(2, *shape, dtype=torch.uint8),),
            input_names=["image"],
            output_names=["probability"],
            dynamic_shapes={"image": {0: torch.export.Dim("batch")}},
            dynamo=True,
            verbose=False,
        )
    for part in (
        program.model.graph.all_nodes()
    ):  # notes of the exporter: stack traces with paths of this machine
        part.metadata_props.clear()
    program.model.metadata_props.update(
        classes=json.dumps(classifier.classes),
        image_shape=json.dumps(shape),
        dataset=str(classifier.header.get("dataset")),
        checkpoint_sha256=sha256(path),
        cache_size=json.dumps(classifier.header.get("cache_size")),
    )
    with writing(output) as temporary:
        program.save(temporary, external_data=False)
        try:
            worst = difference(model, temporary, shape)
        except ImportError:
            verified = "not verified: onnxruntime is not installed"
        else:
            if not worst < 1e-4:
                raise UserError(
                    f"{output} is not written: in onnxruntime its probabilities differ by {worst:.1g}"
                )
            verified = (
                f"in onnxruntime its probabilities differ from PyTorch's by at most {worst:.0e}"
            )
    size = ", ".join(map(str, shape))
    print(
        f"{output}: image uint8 (batch, {size}) -> probability float32 (batch, {len(classifier.classes)})"
    )
    print(verified)

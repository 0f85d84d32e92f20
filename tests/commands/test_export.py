"""wa export: the ONNX file in onnxruntime, on batches of several sizes."""

import json

import numpy as np
import onnxruntime
import pytest
from helpers import ROOT, random_checkpoint

import wa
from wa.commands.export import BATCHES, export

SEVEN = ROOT / "docs/images/seven.png"


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A model, and the session of its ONNX file."""
    folder = tmp_path_factory.mktemp("export")
    checkpoint = random_checkpoint(folder / "model.safetensors")
    export(str(checkpoint), str(folder / "model.onnx"))
    return wa.load(checkpoint), onnxruntime.InferenceSession(folder / "model.onnx")


@pytest.mark.parametrize("batch", BATCHES)
def test_a_batch_of_any_size_gives_pytorchs_probabilities(exported, batch):
    model, session = exported
    images = np.random.default_rng(batch).integers(0, 256, (batch, 8, 8, 3), dtype=np.uint8)
    (probability,) = session.run(["probability"], {"image": images})
    assert probability.shape == (batch, 10) and BATCHES == (1, 2, 7)
    np.testing.assert_allclose(probability, model.measured_images(images).numpy(), atol=1e-5)


def test_the_file_names_the_classes_and_its_version(exported):
    model, session = exported
    facts = session.get_modelmeta().custom_metadata_map
    assert facts["checkpoint_sha256"] == model.version
    (probability,) = session.run(None, {"image": model.read(SEVEN)[None]})
    best = json.loads(facts["classes"])[probability[0].argmax()]
    assert best == model.top(SEVEN)[0][0]

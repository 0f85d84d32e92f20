"""A memory that holds the exemplars themselves."""

import numpy as np
import torch

from wa.data.batches import Images
from wa.data.exemplars import forget, gather, kept, read_memory, write_memory
from wa.data.memory import Memory
from wa.files import content_sha256

RANKING = {
    "ranking": np.array([3, 0, 2, 1, 5, 4, 8, 6, 7]),  # the images of three classes, best first
    "counts": np.array([4, 2, 3]),
}
PIXELS = np.arange(9, dtype=np.uint8).reshape(9, 1, 1, 1)  # each image is its own number


def test_the_first_images_of_each_class_are_kept():
    index, label = kept(RANKING, Memory.parse("2/class"))
    assert index.tolist() == [0, 3, 4, 5, 6, 8]  # by index
    assert label.tolist() == [0, 0, 1, 1, 2, 2]
    index, label = kept(RANKING, Memory.parse("3/class"))  # the second class has two images
    assert index.tolist() == [0, 2, 3, 4, 5, 6, 7, 8]
    assert label.tolist() == [0, 0, 0, 1, 1, 2, 2, 2]
    assert kept(RANKING, Memory.parse(4))[0].tolist() == [3, 5, 8]


def test_a_memory_shrinks_and_grows_with_its_total():
    """Two classes are old. Their images come from the memory before, those of the third are new."""
    index, label = kept(
        {"ranking": RANKING["ranking"][:6], "counts": RANKING["counts"][:2]}, Memory.parse(6)
    )
    before = gather(index, label, 0, PIXELS[:6], None)
    assert before["images"].ravel().tolist() == before["index"].tolist() == [0, 2, 3, 4, 5]
    now = gather(*kept(RANKING, Memory.parse(6)), 6, PIXELS[6:], before)
    assert now["images"].ravel().tolist() == now["index"].tolist() == [0, 3, 4, 5, 6, 8]
    assert now["label"].tolist() == [0, 0, 1, 1, 2, 2]


def test_images_of_several_arrays_are_those_of_one():
    """What was removed from a memory leaves a gap in the numbers of the images."""
    arrays = [PIXELS[[0, 3]], PIXELS[4:6], PIXELS[6:]]
    index = np.array([0, 3, 4, 5, 6, 7, 8])
    images = Images(arrays, np.arange(7), index, index % 3, torch.device("cpu"))
    rows = torch.tensor([6, 0, 2, 2, 1, 5])
    assert images.batch(rows).flatten().tolist() == index[rows].tolist()
    assert images.gather(rows).flatten().tolist() == index[rows].tolist()
    some = images.part(index > 3)
    assert len(some) == 5 and some.label.tolist() == [1, 2, 0, 1, 2]
    assert some.batch(torch.arange(5)).flatten().tolist() == [4, 5, 6, 7, 8]


def test_a_memory_of_which_every_class_was_forgotten_is_empty(tmp_path):
    file = tmp_path / "memory.npz"
    arrays = gather(*kept(RANKING, Memory.parse("1/class")), 0, PIXELS, None)
    header = {"content_sha256": content_sha256(arrays), "classes": ["ant", "bee", "fly"]}
    write_memory(file, header, arrays)
    assert forget(file, ["bee"]) == 1 and read_memory(file)["label"].tolist() == [0, 2]
    assert forget(file, ["ant", "fly"]) == 2
    assert read_memory(file)["images"].shape == (0, 1, 1, 1)

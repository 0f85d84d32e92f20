"""Damaged images are named, whatever the decoder raises."""

from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from wa.data.images import read_image
from wa.errors import UserError


@pytest.mark.filterwarnings("ignore")  # Pillow warns of what it can do without
def test_a_damaged_exif_block_gives_an_image_or_one_clear_error():
    exif = Image.Exif()
    exif[274], exif[305] = 6, "x" * 30  # turn by 90 degrees; the software
    exif[0x8769] = {36867: "2020:01:01 00:00:00"}
    file = BytesIO()
    Image.new("RGB", (16, 8), "red").save(file, "JPEG", exif=exif)
    start, draw, refused = file.getvalue().find(b"Exif"), np.random.default_rng(0), 0
    for _ in range(5000):
        data = bytearray(file.getvalue())
        for place in draw.integers(0, 180, draw.integers(1, 6)):
            data[start + place] = draw.integers(0, 256)
        try:
            assert read_image(bytes(data), 3, square=4).shape == (4, 4, 3)
        except UserError as error:
            assert "cannot be read" in str(error)
            refused += 1
    assert refused

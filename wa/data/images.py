"""An image file as an array. Training and prediction read images with the same function."""

import os
import struct
from io import BytesIO

import numpy as np

from wa.errors import UserError

# What Pillow raises for a damaged file, for instance for a wrong type in an EXIF entry.
DAMAGED = (OSError, ValueError, TypeError, SyntaxError, EOFError, LookupError, struct.error)


def cut_square(picture, size: int):
    """The centre of a PIL image, size x size pixels: torchvision's Resize, then CenterCrop.

    The shorter side is first resized to `size` (bilinear, antialiased).
    """
    from PIL import Image

    short, long = sorted(picture.size)
    longer = int(size * long / short)
    if short != size:
        new = (size, longer) if picture.width <= picture.height else (longer, size)
        picture = picture.resize(new, Image.Resampling.BILINEAR)
    left, top = (round((side - size) / 2) for side in picture.size)
    return picture.crop((left, top, left + size, top + size))


def named(image: object) -> str:
    """What an error calls an image: its path, or what it is."""
    if isinstance(image, (str, os.PathLike)):
        return str(image)
    return f"an image of type {type(image).__name__}"


def opened(image: object):
    """An image in any form that read_image takes, as a PIL image. Raises TypeError for another."""
    from PIL import Image

    if isinstance(image, Image.Image):
        return image
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or image.ndim not in (2, 3):
            raise TypeError(f"an array must be uint8 (H, W) or (H, W, C), not {image.dtype}")
        return Image.fromarray(image)
    if isinstance(image, (bytes, bytearray)):
        return Image.open(BytesIO(image))
    if isinstance(image, (str, os.PathLike)) or hasattr(image, "read"):
        return Image.open(image)
    raise TypeError("give a path, bytes, an open file, a uint8 array or a PIL image")


def open_upright(image: object, square: int | None):
    """An image as a PIL image, turned upright as its EXIF entry says.

    A JPEG that is much larger than a square is decoded at a half, a quarter or an eighth of its
    size. At least twice the square is left, as in Pillow's thumbnail.
    """
    from PIL import ImageOps

    picture = opened(image)
    if picture is image:
        return ImageOps.exif_transpose(picture)
    if square:
        picture.draft(None, (2 * square, 2 * square))
    ImageOps.exif_transpose(picture, in_place=True)
    return picture


def to_bytes(picture, channels: int):
    """A PIL image of any mode in mode L (1 channel) or RGB (3 channels).

    16-bit grey loses its low byte. Where an image is transparent, it becomes white. Raises
    ValueError for pixels whose range is not known.
    """
    from PIL import Image

    if picture.mode.startswith("I;16"):
        picture = Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8))
    elif picture.mode in ("I", "F"):
        raise ValueError(
            f"pixels of mode {picture.mode} have no known range. Save the image with 8 or 16 bits"
            " per channel"
        )
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
    return picture.convert("L" if channels == 1 else "RGB")


def read_image(
    image, channels: int, size: tuple[int, int] | None = None, square: int | None = None
) -> np.ndarray:
    """An image as uint8 (H, W, channels).

    image: a path, the bytes of a file, an open binary file, an array, uint8 (H, W) or (H, W, C), or
    a PIL image.
    channels: 1 (grey) or 3 (RGB). The image is turned upright and converted, see open_upright and
    to_bytes. If it has several frames, the first counts.
    size: (width, height). The whole image is resized to it (bilinear, antialiased). Its aspect
    ratio is not kept.
    square: the side of a square. The centre is kept, see cut_square.

    Raises UserError if the image cannot be read.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        picture = to_bytes(open_upright(image, square), channels)
        if square:
            picture = cut_square(picture, square)
        elif size and picture.size != size:
            picture = picture.resize(size, Image.Resampling.BILINEAR)
        return np.asarray(picture).reshape(picture.height, picture.width, channels)
    except UnidentifiedImageError:
        reason = "it is not an image"
    except (*DAMAGED, Image.DecompressionBombError) as error:
        reason = getattr(error, "strerror", None) or error
    raise UserError(f"{named(image)}: cannot be read ({reason})")

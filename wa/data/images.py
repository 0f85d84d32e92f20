"""An image file as an array. Training and prediction read images with the same function."""

import numpy as np

from wa.errors import UserError


def cut_square(picture, size: int):
    """The shorter side resized to `size` pixels (bilinear, antialiased), then the centre: torchvision's Resize, CenterCrop."""
    from PIL import Image

    short, long = sorted(picture.size)
    longer = int(size * long / short)
    if short != size:
        new = (size, longer) if picture.width <= picture.height else (longer, size)
        picture = picture.resize(new, Image.Resampling.BILINEAR)
    left, top = (round((side - size) / 2) for side in picture.size)
    return picture.crop((left, top, left + size, top + size))


def read_image(
    image, channels: int, size: tuple[int, int] | None = None, square: int | None = None
) -> np.ndarray:
    """A path or a PIL image as uint8 (H, W, channels), channels 1 (grey) or 3 (RGB). Training and prediction read alike.

    It is turned upright as its EXIF entry says; palettes and CMYK are converted, 16-bit grey loses its low byte, what is
    transparent becomes white, and of several frames the first counts. size: (width, height) to which the whole image is
    resized if it has another (bilinear over all pixels that fall together, aspect ratio not kept). square: keep the centre,
    see cut_square; a JPEG of four times as many pixels or more a side is decoded at a half, a quarter or an eighth, by
    libjpeg, as long as at least twice as many are left (what Pillow's thumbnail does).
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        if isinstance(image, Image.Image):
            picture = ImageOps.exif_transpose(image)
        else:
            picture = Image.open(image)
            if square:
                picture.draft(None, (2 * square, 2 * square))
            ImageOps.exif_transpose(picture, in_place=True)
        if picture.mode.startswith("I;16"):
            picture = Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8))
        elif picture.mode in ("I", "F"):
            raise ValueError(
                f"pixels of mode {picture.mode} have no known range: save it with 8 or 16 bits a channel"
            )
        if picture.has_transparency_data:
            picture = picture.convert("RGBA")
            picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
        picture = picture.convert("L" if channels == 1 else "RGB")
        if square:
            picture = cut_square(picture, square)
        elif size and picture.size != size:
            picture = picture.resize(size, Image.Resampling.BILINEAR)
        return np.asarray(picture).reshape(picture.height, picture.width, channels)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        reason = (
            "no image"
            if isinstance(error, UnidentifiedImageError)
            else getattr(error, "strerror", None) or error
        )
        raise UserError(f"{image}: cannot be read ({reason})") from None

"""Random augmentation of whole batches on the device, as timm and torchvision do it with Pillow.

    augment = Augment(["crop-4", "flip", "rand-m9-mstd0.5-inc1", "erase-0.25"])
    images = augment(images, key, index)        # uint8 in, uint8 out
    inputs = normalize(images, mean, std)       # float
    inputs = augment.erase(inputs, key, index)  # timm, too, erases after it has normalised

What is drawn for an image is a function of (key, index): see wa/randomness.py. Its place in the
batch and the other images do not matter. Each transformation owns a fixed range of the image's
uniform numbers. These are the names (wa/data/augmentations.py) and what they do:

    resized-crop-S    A box of 8 to 100 % of the area, with an aspect ratio of 3/4 to 4/3, resized
                      to S x S (bilinear, antialiased). Models are evaluated on `center(images, S)`.
    crop-P            torchvision's RandomCrop(size, padding=P)
    flip              a horizontal flip with probability 0.5
    brightness-B      torchvision's ColorJitter(brightness=B) of PIL images.
                      The factor is from [max(0, 1-B), 1+B].
    jitter-B-C-S      the same with ColorJitter(brightness=B, contrast=C, saturation=S)
    rand-m9-...       timm's RandAugment, bicubic. Where there is no image, it puts timm's mean.
    erase-P[-const]   timm's RandomErasing with normal noise ("pixel"), or with zeros (-const)

What is drawn is computed on the CPU, also for images on a GPU. So each operation works only on the
images that drew it, and nothing is read back from a GPU. Give it many images at once: then a GPU
has few and large kernels. A CUDA graph cannot capture it, because shapes depend on what is drawn.
Only erasing can be captured. Nobody has run it on a GPU yet.

Evidence (pillow 12.3, timm 1.0.31; tests/data/test_augment.py):

- All 21 operations of RandAugment give timm's bytes. Each was compared on 2,000 images of CIFAR-100
  (2 million pixels), with magnitudes 0 to 10.
- What is drawn passes chi-square and Kolmogorov-Smirnov tests against timm's draws.
- A resized crop differs from Pillow's by one grey level in up to 2 % of the values, and by two
  levels in 6 of a million. Measured on 400 images of Tiny-ImageNet, to 32, 56 and 64 pixels. A CPU
  resamples bytes with torch, whose weights have fewer bits than Pillow's. A GPU computes two matrix
  products in float32 and rounds each.
- Speed of crop-4, flip, rand-m9-mstd0.5-inc1 and normalising, on one thread: 16,900 images/s, and
  timm with Pillow 3,700, so 4.6 times (medians of 9 rounds, an AMD EPYC):
  python benchmarks/augment.py --data cifar100.tar
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache, partial
from itertools import chain, permutations
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from wa.data.augmentations import Policy, output_size, parse
from wa.randomness import uniform

# A CPU works on images of so many values at once, because they and what is computed from them stay
# in its cache.
CACHED = 2**17
FILL = (124, 116, 104)  # timm's img_mean: what an affine operation puts outside of the image
ORDERS = tuple(chain.from_iterable(permutations(range(3))))  # in which three factors can act


@cache
def _constant(values: tuple[float, ...], device: torch.device) -> Tensor:
    """The values as float64 on the device.

    They are copied once. A CUDA graph cannot capture a copy from the host.
    """
    return torch.tensor(values, dtype=torch.float64, device=device)


def _on(device: torch.device, values: Tensor) -> Tensor:
    """Values of the CPU on a device. They are pinned, so that the CPU need not wait for a GPU."""
    if device.type == "cuda":
        values = values.pin_memory()
    return values.to(device, non_blocking=True)


def _steps(size: int, images: Tensor) -> Tensor:
    """0, 1, ..., size - 1: float64 (size,) on the device of the images."""
    return torch.arange(size, dtype=torch.float64, device=images.device)


def _per_image(argument: Tensor, dtype: torch.dtype) -> Tensor:
    """One number for each image, (B,), in a shape that fits images: (B, 1, 1, 1)."""
    return argument.to(dtype).view(-1, 1, 1, 1)


def _chosen(where: Tensor) -> Tensor:
    """255 where it is true, 0 elsewhere: bool to uint8.

    With it, & and ^ choose bytes. On a CPU, torch.where takes six times as long.
    """
    return where.to(torch.uint8) * 255


def _mapped(images: Tensor, table: Tensor) -> Tensor:
    """The images with each value replaced. table: uint8 (B, C, 256), for each channel."""
    return table.gather(2, images.flatten(2).long()).view_as(images)


def _truncated(values: Tensor) -> Tensor:
    """Floats as bytes: clipped in place, then without their fraction, as Pillow does it."""
    values.clamp_(0, 255)
    if values.device.type == "cpu":
        values = values.int()  # a CPU takes three times as long from floats to bytes directly
    return values.to(torch.uint8)


# The operations of RandAugment, by timm's names.
# They take images, uint8 (B, 3, H, W), and an argument for each image, float64 (B,).
# They return new images of the same shape and type.


def auto_contrast(images: Tensor, _: Tensor) -> Tensor:
    """ImageOps.autocontrast: stretch each channel to 0..255, in double precision as Python does."""
    images = images.contiguous()
    low, high = (edge.double()[..., None] for edge in (images.amin((2, 3)), images.amax((2, 3))))
    # torch computes 255 / tensor as a product with the reciprocal, which rounds differently.
    scale = torch.full_like(low, 255.0) / (high - low)
    values = _steps(256, images)
    stretched = _truncated((values * scale).sub_(low * scale))
    return _mapped(images, torch.where(high > low, stretched, values.to(torch.uint8)))


def equalize(images: Tensor, _: Tensor) -> Tensor:
    """ImageOps.equalize: each channel's histogram gives the table that maps its values.

    The step of the table does not count the last occupied bin.
    """
    images = images.contiguous()
    pixels = images.flatten(2).long()
    histogram = torch.zeros(*pixels.shape[:2], 256, dtype=torch.int64, device=images.device)
    histogram.scatter_add_(2, pixels, torch.ones_like(pixels))
    last = histogram.gather(2, pixels.amax(2, keepdim=True))
    step = (pixels.shape[2] - last) // 255
    table = (histogram.cumsum(2) - histogram + step // 2) // step.clamp(min=1)
    same = torch.arange(256, device=images.device)
    return _mapped(images, torch.where(step > 0, table.clamp_(max=255), same).to(torch.uint8))


def invert(images: Tensor, _: Tensor) -> Tensor:
    """ImageOps.invert."""
    return 255 - images


def posterize(images: Tensor, bits: Tensor) -> Tensor:
    """ImageOps.posterize: keep the highest bits of each value. None are kept if `bits` is 0."""
    return images & _per_image(0xFF << (8 - bits.clamp(0, 8)).int(), torch.uint8)


def solarize(images: Tensor, threshold: Tensor) -> Tensor:
    """ImageOps.solarize: invert the values from the threshold on."""
    return images ^ _chosen(images.short() >= _per_image(threshold, torch.int16))


def solarize_add(images: Tensor, add: Tensor) -> Tensor:
    """timm's solarize_add: add to the values below 128. `add` is at most 128."""
    return images + (_chosen(images < 128) & _per_image(add, torch.uint8))


def _blend(degenerate: Tensor, images: Tensor, factor: Tensor) -> Tensor:
    """Image.blend in float32, clipped and truncated. Factor 1 gives the images.

    degenerate: float32, of a shape that broadcasts to that of the images.
    """
    difference = images.float() - degenerate
    return _truncated(difference.mul_(_per_image(factor, torch.float32)).add_(degenerate))


def _grey(images: Tensor) -> Tensor:
    """Image.convert("L"), in fixed point with 16 bits of fraction: int32 (B, 1, H, W)."""
    red, green, blue = images.int().split(1, 1)
    return (red * 19595).add_(green, alpha=38470).add_(blue, alpha=7471).add_(0x8000) >> 16


def color(images: Tensor, factor: Tensor) -> Tensor:
    """ImageEnhance.Color: factor 0 gives the grey image."""
    images = images.contiguous()
    return _blend(_grey(images).float(), images, factor)


def contrast(images: Tensor, factor: Tensor) -> Tensor:
    """ImageEnhance.Contrast: factor 0 gives the mean of the grey image, rounded."""
    mean = (_grey(images).double().mean((1, 2, 3), keepdim=True) + 0.5).floor()
    return _blend(mean.float(), images, factor)


def brightness(images: Tensor, factor: Tensor) -> Tensor:
    """ImageEnhance.Brightness: factor 0 gives black."""
    return _truncated(images.float().mul_(_per_image(factor, torch.float32)))


def sharpness(images: Tensor, factor: Tensor) -> Tensor:
    """ImageEnhance.Sharpness: factor 0 gives ImageFilter.SMOOTH.

    That filter is (sum of 3 x 3 pixels + 4 * centre) / 13, rounded. It leaves the border as it is.
    """
    pixels = images.short()
    rows = pixels[..., :-2] + pixels[..., 1:-1] + pixels[..., 2:]
    center = pixels[..., 1:-1, 1:-1]
    total = (rows[..., :-2, :] + rows[..., 1:-1, :]).add_(rows[..., 2:, :]).add_(center, alpha=4)
    sharpened = images.clone()
    sharpened[..., 1:-1, 1:-1] = _blend((total * (1 / 13)).add_(0.5).floor_(), center, factor)
    return sharpened


def _taps(position: Tensor) -> tuple[Tensor, Tensor]:
    """The four pixels around a position.

    Returns the first of them, int64, and how far the position is from the second to the third.
    """
    position = position - 0.5
    whole = position.floor()
    return whole.long() - 1, position - whole


def _cubic(p: Tensor, q: Tensor, r: Tensor, s: Tensor, d: Tensor) -> Tensor:
    """Pillow's BICUBIC (a = -1) in double precision.

    The order of operations is Pillow's, because the result is truncated and ties matter.
    p, q, r, s: four neighbours, int16 or float64. Differences of int16 are exact.
    d: float64, how far the position is from q to r.
    """
    pq, rs = p - q, r - s
    value = (pq + rs) * -d
    return value.add_(pq.add_(pq).add_(rs)).mul_(d).add_(r - p).mul_(d).add_(q)


def _filled(values: Tensor, inside: Tensor, images: Tensor) -> Tensor:
    """The values as bytes in the shape of the images, and FILL where a pixel is not inside."""
    fill, inside = _constant(FILL, images.device).view(-1, 1, 1).to(torch.uint8), _chosen(inside)
    return (_truncated(values).view_as(images) & inside) | (fill & ~inside)


def rotate(images: Tensor, degrees: Tensor) -> Tensor:
    """Image.rotate, bicubic: anticlockwise about the centre, in a picture of the same size.

    On a CPU it is that function itself, which takes a fifth of the time. Both give the same bytes.
    """
    on_cpu = images.device.type == "cpu"
    return rotate_each(images, degrees) if on_cpu else rotate_densely(images, degrees)


def rotate_each(images: Tensor, degrees: Tensor) -> Tensor:
    """Rotate with Pillow, one image after the other."""
    from PIL import Image

    pixels = images.permute(0, 2, 3, 1).contiguous().numpy()
    rotated = np.empty_like(pixels)
    for image, angle, out in zip(pixels, degrees.tolist(), rotated, strict=True):
        picture = Image.fromarray(image)
        out[:] = picture.rotate(angle, Image.Resampling.BICUBIC, fillcolor=FILL)
    return torch.from_numpy(rotated).permute(0, 3, 1, 2).contiguous()


def rotate_densely(images: Tensor, degrees: Tensor) -> Tensor:
    """As rotate, for a whole batch."""
    batch, channels, height, width = images.shape
    angle = torch.deg2rad(-degrees).view(-1, 1, 1)
    cos, sin = angle.cos(), angle.sin()
    right = _steps(width, images) + (0.5 - width / 2)  # of the centre
    down = _steps(height, images)[:, None] + (0.5 - height / 2)
    # Where each pixel of the result comes from.
    x = cos * right + sin * down + width / 2
    y = cos * down - sin * right + height / 2
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    # The 4 x 4 pixels around it: axis 2 goes to the right, axis 3 down.
    left, dx = _taps(x.view(batch, 1, 1, 1, -1))
    top, dy = _taps(y.view(batch, 1, 1, 1, -1))
    near = torch.arange(4, device=images.device)
    column = (left + near.view(4, 1, 1)).clamp_(0, width - 1)
    row = (top + near.view(1, 4, 1)).clamp_(0, height - 1)
    index = (column + row * width).view(batch, 1, -1).expand(-1, channels, -1)
    taps = images.flatten(2).gather(2, index)
    columns = taps.view(batch, channels, 4, 4, -1).short().unbind(2)
    rows = _cubic(*columns, dx[:, 0]).unbind(2)
    return _filled(_cubic(*rows, dy[:, 0, 0]), inside[:, None], images)


def _shift_rows(images: Tensor, offset: Tensor) -> Tensor:
    """Move row y to the left by offset[:, y] pixels.

    offset: float64 (B, H), or (B, 1) if all rows move alike.
    """
    batch, channels, height, width = images.shape
    offset = offset.view(batch, 1, -1, 1)
    steps = _steps(width, images)
    x = steps + 0.5 + offset
    whole = offset.floor()
    window = whole.long() + torch.arange(-1, width + 2, device=images.device)
    window = images.gather(3, window.clamp_(0, width - 1).expand(-1, channels, height, -1)).short()
    taps = [window[..., k : k + width] for k in range(4)]
    return _filled(_cubic(*taps, x - 0.5 - (whole + steps)), (x >= 0) & (x < width), images)


def shear_x(images: Tensor, factor: Tensor) -> Tensor:
    """Move each row to the left by factor * its distance from the top."""
    return _shift_rows(images, factor[:, None] * (_steps(images.shape[2], images) + 0.5))


def shear_y(images: Tensor, factor: Tensor) -> Tensor:
    return shear_x(images.mT, factor).mT


def translate_x_rel(images: Tensor, fraction: Tensor) -> Tensor:
    """Move the image to the left by a fraction of its width."""
    return _shift_rows(images, fraction[:, None] * images.shape[3])


def translate_y_rel(images: Tensor, fraction: Tensor) -> Tensor:
    return translate_x_rel(images.mT, fraction).mT


class Operation(NamedTuple):
    """An operation of RandAugment, as apply(images, value).

    value: level / 10 * scale, negated at random if `signed`. float64 (B,).
    """

    apply: Callable[[Tensor, Tensor], Tensor]
    scale: float = 0.0
    signed: bool = False


def _enhance(operation: Callable) -> Operation:
    return Operation(lambda images, value: operation(images, value + 0.1), 1.8)


def _enhance_increasing(operation: Callable) -> Operation:
    return Operation(
        lambda images, value: operation(images, (1 + value).clamp(min=0.1)), 0.9, signed=True
    )


COMMON = {
    "AutoContrast": Operation(auto_contrast),
    "Equalize": Operation(equalize),
    "Invert": Operation(invert),
    "Rotate": Operation(rotate, 30.0, signed=True),
    "SolarizeAdd": Operation(
        lambda images, value: solarize_add(images, value.trunc().clamp(max=128)), 110.0
    ),
    "ShearX": Operation(shear_x, 0.3, signed=True),
    "ShearY": Operation(shear_y, 0.3, signed=True),
    "TranslateXRel": Operation(translate_x_rel, 0.45, signed=True),
    "TranslateYRel": Operation(translate_y_rel, 0.45, signed=True),
}
STANDARD = COMMON | {
    "Posterize": Operation(lambda images, value: posterize(images, value.trunc()), 4.0),
    "Solarize": Operation(lambda images, value: solarize(images, value.trunc()), 256.0),
    "Color": _enhance(color),
    "Contrast": _enhance(contrast),
    "Brightness": _enhance(brightness),
    "Sharpness": _enhance(sharpness),
}
INCREASING = COMMON | {
    "PosterizeIncreasing": Operation(
        lambda images, value: posterize(images, 4 - value.trunc()), 4.0
    ),
    "SolarizeIncreasing": Operation(
        lambda images, value: solarize(images, 256 - value.trunc()), 256.0
    ),
    "ColorIncreasing": _enhance_increasing(color),
    "ContrastIncreasing": _enhance_increasing(contrast),
    "BrightnessIncreasing": _enhance_increasing(brightness),
    "SharpnessIncreasing": _enhance_increasing(sharpness),
}


def _need_colours(what: str, images: Tensor) -> None:
    if images.shape[1] != 3:
        raise ValueError(f"{what} needs images of 3 channels, but these have {images.shape[1]}")


class RandAugment(Policy):
    """timm's RandAugment. Its settings and their defaults are those of Policy."""

    @property
    def operations(self) -> dict[str, Operation]:
        return INCREASING if self.inc else STANDARD

    def draw_level(self, noise: Tensor) -> Tensor:
        """Uniform numbers, float64 (B,), as magnitudes, float64 (B,)."""
        if self.mstd > 100:  # in timm this means uniform
            level = noise * self.m
        else:
            # The draws are multiples of 2^-24, and 0 is one of them.
            normal = torch.special.ndtri(noise + 2.0**-25)
            level = self.m + self.mstd * normal
        return level.clamp(0, self.mmax)

    def choose(self, draws: Tensor) -> tuple[Tensor, Tensor]:
        """The operation of each image and its value. draws: float64 (B, 4).

        Returns the position in `operations`, int64 (B,), and the value, float64 (B,). The position
        is the number of operations if none is applied.
        """
        choice, applied, noise, sign = draws.unbind(1)
        operations = self.operations.values()
        operation = (choice * len(operations)).long()
        level = self.draw_level(noise)
        scale = _constant(tuple(o.scale for o in operations), draws.device)[operation]
        value = level / torch.full_like(level, 10.0) * scale  # full_like: as in auto_contrast
        probability = _constant(tuple(0.5 * o.signed for o in operations), draws.device)[operation]
        value = torch.where(sign < probability, -value, value)
        return operation.masked_fill(applied >= self.p, len(operations)), value

    def __call__(self, images: Tensor, draws: Tensor) -> Tensor:
        """The augmented images. draws: float64 (B, 4 * n)."""
        _need_colours("RandAugment", images)
        for draw in draws.split(4, 1):
            images = apply_each(list(self.operations.values()), images, *self.choose(draw))
        return images


def apply_each(
    operations: Sequence[Operation], images: Tensor, operation: Tensor, value: Tensor
) -> Tensor:
    """Apply one operation to each image: compute each operation on its own images.

    images: on any device. They may be changed. operation, value: as RandAugment.choose returns
    them, on the CPU.
    """
    if images.device.type != "cpu":
        return apply_sorted(operations, images, operation, value)
    few = max(1, CACHED // images[0].numel())
    for number, candidate in enumerate(operations):
        chosen = (operation == number).nonzero().flatten()
        for rows in chosen.split(few) if len(chosen) else ():
            # index_select copies whole images, and images[rows] copies bytes. One image alone need
            # not be copied. It stays channels_last, if it is.
            some = images[rows[0], None] if few == 1 else images.index_select(0, rows)
            some = candidate.apply(some, value[rows])
            for row, image in zip(rows.tolist(), some, strict=True):
                _put(image, images[row])
    return images


def _put(image: Tensor, into: Tensor) -> None:
    """Copy an image, (C, H, W). From one memory format to another it goes channel by channel.

    That takes half the time.
    """
    if image.stride() == into.stride():
        into.copy_(image)
    else:
        for channel, to in zip(image, into, strict=True):
            to.copy_(channel)


def apply_sorted(
    operations: Sequence[Operation], images: Tensor, operation: Tensor, value: Tensor
) -> Tensor:
    """As apply_each, with few kernels: the images of one operation are put side by side."""
    order = operation.argsort()
    sizes = operation.bincount(minlength=len(operations) + 1).tolist()
    result = images.index_select(0, _on(images.device, order))
    *parts, _ = result.split(sizes)
    arguments = _on(images.device, value[order]).split(sizes)
    for candidate, part, argument in zip(operations, parts, arguments, strict=False):
        if len(part):
            part.copy_(candidate.apply(part, argument))
    return result.index_select(0, _on(images.device, order.argsort()))


# The other transformations. They take images, uint8 (B, C, H, W), on any device, and draws, float64
# (B, n) on the CPU, where n is what the transformation needs. They return images. They may change
# those that they are given.


def crop(images: Tensor, draws: Tensor, padding: int) -> Tensor:
    """torchvision's RandomCrop(size, padding), padded with zeros. draws: (B, 2)."""
    batch, channels, height, width = images.shape
    corner = _on(images.device, (draws * (2 * padding + 1)).long())
    top, left = corner.view(batch, 2, 1, 1).unbind(1)
    row = top + torch.arange(height, device=images.device)[:, None]
    column = left + torch.arange(width, device=images.device)
    index = (row * (width + 2 * padding) + column).view(batch, 1, -1).expand(-1, channels, -1)
    padded = F.pad(images, [padding] * 4)
    return padded.flatten(2).gather(2, index).view_as(images)


def flip(images: Tensor, draws: Tensor) -> Tensor:
    """Flip half of the images horizontally. draws: (B, 1)."""
    flipped = draws[:, 0] < 0.5
    if images.device.type == "cpu":
        for row in flipped.nonzero().flatten().tolist():
            images[row] = images[row].flip(2)
        return images
    both = torch.cat([images, images.flip(3)])
    row = torch.arange(len(images)) + flipped * len(images)
    return both.index_select(0, _on(images.device, row))


def jitter_brightness(images: Tensor, draws: Tensor, strength: float) -> Tensor:
    """torchvision's ColorJitter(brightness=strength). draws: (B, 1)."""
    low, high = max(0.0, 1 - strength), 1 + strength
    return brightness(images, _on(images.device, low + draws.squeeze(1) * (high - low)))


def _first_that_fits(fits: Tensor, heights: Tensor, widths: Tensor) -> tuple[Tensor, ...]:
    """The first of several shapes that fits. All arguments are (B, attempts).

    Returns its height, its width, and whether any fits, each (B, 1).
    """
    first = fits.int().argmax(1, keepdim=True)  # argmax takes the first of equal ones
    return heights.gather(1, first), widths.gather(1, first), fits.gather(1, first)


class ResizedCrop(NamedTuple):
    """torchvision's RandomResizedCrop(size) with its defaults."""

    size: int

    DRAWS = 22  # ten attempts at a shape (area and aspect ratio), top, left

    def box(self, draws: Tensor, height: int, width: int) -> Tensor:
        """What is cut out of images of height x width. draws: float64 (B, 22).

        Returns top, left, height and width in pixels, int64 (B, 4).
        """
        area, ratio, top, left = draws.split([10, 10, 1, 1], 1)
        area = (0.08 + area * (1 - 0.08)) * (height * width)
        ratio = ((2 * ratio - 1) * math.log(4 / 3)).exp()
        widths, heights = (area * ratio).sqrt().round(), (area / ratio).sqrt().round()
        fits = (widths > 0) & (widths <= width) & (heights > 0) & (heights <= height)
        h, w, any_fits = _first_that_fits(fits, heights, widths)
        top, left = (top * (height - h + 1)).floor(), (left * (width - w + 1)).floor()
        drawn = torch.cat([top, left, h, w], 1)
        # If none fits: the centre, with the nearest aspect ratio that is allowed.
        h, w = min(height, round(width / (3 / 4))), min(width, round(height * (4 / 3)))
        center = _constant(((height - h) // 2, (width - w) // 2, h, w), draws.device)
        return torch.where(any_fits, drawn, center).long()

    def __call__(self, images: Tensor, draws: Tensor) -> Tensor:
        """Images, uint8 (B, C, H, W), to uint8 (B, C, size, size)."""
        box = self.box(draws, *images.shape[2:])
        if images.device.type == "cpu":
            return resize_each(images, box, self.size)
        return resize_densely(images, _on(images.device, box), self.size)


def resize_each(images: Tensor, box: Tensor, size: int) -> Tensor:
    """Resize the boxes of the images, one image after the other.

    images: uint8 (B, C, H, W). box: int64 (B, 4), see ResizedCrop.box.
    Returns uint8 (B, C, size, size).
    """
    layout = torch.channels_last  # of the packed images, and what torch resamples fastest
    resized = torch.empty(*images.shape[:2], size, size, dtype=torch.uint8, memory_format=layout)
    for image, (top, left, height, width), out in zip(images, box.tolist(), resized, strict=True):
        cut = image[None, :, top : top + height, left : left + width]
        cut = cut.contiguous(memory_format=layout)
        out.copy_(F.interpolate(cut, size=(size, size), mode="bilinear", antialias=True)[0])
    return resized


def _resizing(first: Tensor, length: Tensor, side: int, size: int) -> Tensor:
    """How much each pixel of a side counts in each pixel of the result.

    first, length: where the box begins and how long it is, (B,). side: pixels of the whole side.
    Returns float32 (B, 1, size, side). The weights are a triangle, as in Pillow's BILINEAR.
    """
    scale = (length / size).view(-1, 1, 1)
    pixel = _steps(side, first) - first.view(-1, 1, 1)  # from the beginning of the box
    middle = (_steps(size, first)[:, None] + 0.5) * scale
    distance = (pixel + 0.5 - middle) / scale.clamp(min=1)
    in_box = (pixel >= 0) & (pixel < length.view(-1, 1, 1))
    weight = (1 - distance.abs()).clamp(min=0) * in_box
    return (weight / weight.sum(2, keepdim=True)).float()[:, None]


@contextmanager
def _exact_products() -> Iterator[None]:
    """Matrix products in float32, also where the network's are in tf32.

    tf32 would round the weights to 11 bits, and so change pixels.
    """
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before


def resize_densely(images: Tensor, box: Tensor, size: int) -> Tensor:
    """As resize_each, by two matrix products for the whole batch."""
    top, left, height, width = box.unbind(1)
    across = _resizing(left, width, images.shape[3], size)
    down = _resizing(top, height, images.shape[2], size)
    with _exact_products():
        rows = torch.matmul(images.float(), across.mT).add_(0.5).floor_()
        return _truncated(torch.matmul(down, rows).add_(0.5))


def center(images: Tensor, size: int) -> Tensor:
    """The images as a model sees them in evaluation, after it was trained on resized-crop-SIZE.

    Of 256 x 256 pixels, the centre of 224 x 224 is cut out, as is usual. In general, the shorter
    side is first resized to size / 0.875 if it is longer, or to `size` if it is shorter than that.
    images: uint8 (B, C, H, W). Returns uint8 (B, C, size, size).
    """
    sides = images.shape[2:]
    shortest = min(sides)
    wanted = min(max(shortest, size), round(size / 0.875))
    if wanted != shortest:
        shape = [wanted if side == shortest else int(wanted * side / shortest) for side in sides]
        pixels = images if images.device.type == "cpu" else images.float()
        pixels = F.interpolate(pixels, size=shape, mode="bilinear", antialias=True)
        images = pixels if pixels.dtype == torch.uint8 else _truncated(pixels.add_(0.5))
    top, left = (round((side - size) / 2) for side in images.shape[2:])
    return images[..., top : top + size, left : left + size]


class Jitter(NamedTuple):
    """torchvision's ColorJitter without a hue: three factors, in an order drawn for each image."""

    strengths: tuple[float, ...]  # of brightness, contrast and saturation

    DRAWS = 4  # three factors, and the order
    OPERATIONS = tuple(map(Operation, (brightness, contrast, color)))

    def __call__(self, images: Tensor, draws: Tensor) -> Tensor:
        """The augmented images. draws: float64 (B, 4)."""
        _need_colours("jitter", images)
        strength = _constant(self.strengths, draws.device)
        low = (1 - strength).clamp(min=0)
        factors = low + draws[:, :3] * (1 + strength - low)
        orders = _constant(ORDERS, draws.device).long().view(6, 3)
        order = orders[(draws[:, 3] * 6).long()]
        for operation in order.unbind(1):
            factor = factors.gather(1, operation[:, None]).squeeze(1)
            images = apply_each(self.OPERATIONS, images, operation, factor)
        return images


class Erase(NamedTuple):
    """timm's RandomErasing with its defaults: one rectangle of each chosen image.

    Its area is 2 % to a third of the image's, and its aspect ratio 0.3 to 1 / 0.3.
    """

    probability: float
    const: bool = False

    DRAWS = 23  # whether to erase, ten attempts at a shape, top, left. The noise comes after them.

    def mask(self, draws: Tensor, height: int, width: int) -> Tensor:
        """What is erased of images of height x width: bool (B, H, W). draws: float64 (B, 23)."""
        applied, area, aspect, top, left = draws.split([1, 10, 10, 1, 1], 1)
        area = (0.02 + area * (1 / 3 - 0.02)) * (height * width)
        aspect = ((2 * aspect - 1) * -math.log(0.3)).exp()
        heights, widths = (area * aspect).sqrt().round(), (area / aspect).sqrt().round()
        fits = (heights < height) & (widths < width)
        h, w, any_fits = _first_that_fits(fits, heights, widths)
        top, left = (top * (height - h + 1)).floor(), (left * (width - w + 1)).floor()
        y, x = _steps(height, draws), _steps(width, draws)
        in_rows, in_columns = (y >= top) & (y < top + h), (x >= left) & (x < left + w)
        erased = (applied < self.probability) & any_fits
        return erased[:, :, None] & in_rows[:, :, None] & in_columns[:, None, :]


def _normal(key: Tensor, index: Tensor, first: int, count: int) -> Tensor:
    """Normal numbers by Box and Muller: float32 (B, count).

    They are made of the uniform numbers of each image from number `first` on.
    """
    uniforms = uniform(key, index, first + count + count % 2)[:, first:]
    radius, angle = uniforms.chunk(2, 1)
    radius = (-2 * torch.log1p(-radius)).sqrt()
    angle = angle * (2 * math.pi)
    return torch.cat([radius * angle.cos(), radius * angle.sin()], 1)[:, :count]


def make_resized_crop(size: int) -> tuple[Callable, int]:
    return ResizedCrop(size), ResizedCrop.DRAWS


def make_crop(padding: int) -> tuple[Callable, int]:
    return partial(crop, padding=padding), 2


def make_flip() -> tuple[Callable, int]:
    return flip, 1


def make_brightness(strength: float) -> tuple[Callable, int]:
    return partial(jitter_brightness, strength=strength), 1


def make_jitter(*strengths: float) -> tuple[Callable, int]:
    return Jitter(strengths), Jitter.DRAWS


def make_rand(*policy: float) -> tuple[Callable, int]:
    transform = RandAugment(*policy)
    return transform, 4 * transform.n


# For each kind of step, a function of its values. It returns the transformation, and how many
# uniform numbers an image needs. Erasing is not here: it acts later, on normalised images.
TRANSFORMS = {
    "resized": make_resized_crop,
    "crop": make_crop,
    "flip": make_flip,
    "brightness": make_brightness,
    "jitter": make_jitter,
    "rand": make_rand,
}


class Augment:
    """A list of transformations by name, in the order in which they act.

    size: the side of the images that come out, in pixels. None: as large as they come in.
    Raises UserError for names that wa.data.augmentations.parse refuses.
    """

    def __init__(self, names: Sequence[str]):
        steps = parse(names)
        self.size = output_size(names)
        self.eraser = Erase(*steps.pop().values) if steps and steps[-1].kind == "erase" else None
        self.steps = [TRANSFORMS[step.kind](*step.values) for step in steps]
        self.draws = sum(count for _, count in self.steps)

    def __call__(self, images: Tensor, key: Tensor, index: Tensor) -> Tensor:
        """New images, augmented: uint8 (B, C, H, W).

        images: uint8 (B, C, H, W). They are not changed.
        key: int64 scalar, see wa.randomness.key.
        index: int64 (B,), the index of each image in the data set.
        The key and the index are on the CPU, the images on any device. Any memory format goes in,
        and any may come out.
        """
        if self.size is None:  # a resized crop copies each image anyway
            images = images.clone(memory_format=torch.contiguous_format)
        counts = [count for _, count in self.steps]
        draws = uniform(key, index, self.draws).double().split(counts, 1)
        for (step, _), draw in zip(self.steps, draws, strict=True):
            images = step(images, draw)
        return images

    def erase(self, images: Tensor, key: Tensor, index: Tensor) -> Tensor:
        """Random erasing of normalised images, float (B, C, H, W).

        Without erase-P among the names, it returns the images that it was given. key, index: as in
        a call, but on the device of the images. Shapes are static there, and nothing is read back.
        So a CUDA graph can capture it.
        """
        if self.eraser is None:
            return images
        first = self.draws + Erase.DRAWS
        draws = uniform(key, index, first)[:, self.draws :].double()
        mask = self.eraser.mask(draws, *images.shape[2:])[:, None]
        if self.eraser.const:
            return images.masked_fill(mask, 0)
        if images.device.type != "cpu":
            noise = self.noise(images, key, index)
            return torch.where(mask, noise, images, out=torch.empty_like(images))
        rows = (draws[:, 0] < self.eraser.probability).nonzero().squeeze(1)
        before = images.index_select(0, rows)
        noise = self.noise(before, key, index[rows])
        erased = torch.where(mask.index_select(0, rows), noise, before)
        return images.index_copy(0, rows, erased)

    def noise(self, images: Tensor, key: Tensor, index: Tensor) -> Tensor:
        """What is put into erased images: normal numbers, in the shape and type of the images."""
        noise = _normal(key, index, self.draws + Erase.DRAWS, images.shape[1:].numel())
        return noise.view_as(images).to(images.dtype)


def normalize(
    images: Tensor, mean: Tensor, std: Tensor, dtype: torch.dtype = torch.float32
) -> Tensor:
    """(images / 255 - mean) / std, computed in float32.

    images: uint8 (B, C, H, W). mean, std: float (C,), in units of [0, 1].
    Returns `dtype` (B, C, H, W) in the memory format of the images.
    """
    scale, shift = 1 / (255 * std), mean / std
    channels_last = images.is_contiguous(memory_format=torch.channels_last)
    if images.device.type != "cpu" or not channels_last or torch.compiler.is_compiling():
        return (images * scale.view(-1, 1, 1)).sub_(shift.view(-1, 1, 1)).to(dtype)
    # The same in long rows, a few at a time, which stay in the cache. Loops over the three channels
    # of one pixel take ten times as long.
    batch, channels, height, width = images.shape
    rows = images.permute(0, 2, 3, 1).reshape(-1, width * channels)
    result = torch.empty(rows.shape, dtype=dtype)
    few = max(1, CACHED // rows.shape[1])
    scale, shift = scale.repeat(width), shift.repeat(width)
    for out, some in zip(result.split(few), rows.split(few), strict=True):
        if dtype == torch.float32:
            out.copy_(some).mul_(scale).sub_(shift)
        else:
            out.copy_(some.float().mul_(scale).sub_(shift))
    return result.view(batch, height, width, channels).permute(0, 3, 1, 2)

"""Random augmentation of whole batches on the device, drawn per image as torchvision and timm draw it with Pillow.

    augment = Augment(["crop-4", "flip", "rand-m9-mstd0.5-inc1", "erase-0.25"])
    images = augment(images, key, index)                # uint8 in, uint8 out
    inputs = normalize(images, mean, std)               # float
    inputs = augment.erase(inputs, key, index)          # timm erases what is normalised; without erase-P: nothing

What is drawn for an image is a function of (key, index), see wa/randomness.py: neither its place in the batch nor the
other images matter. Every transformation owns a fixed range of the image's uniform numbers. Names and
their meaning are in wa/data/augmentations.py. What acts is:

    resized-crop-S    a box of 8 to 100 % of the area and an aspect ratio of 3/4 to 4/3, resized to S x S
                      (bilinear, antialiased); models are then evaluated on `center(images, S)`
    crop-P            torchvision's RandomCrop(size, padding=P)
    flip              with probability .5
    brightness-B      torchvision's ColorJitter(brightness=B) on PIL images: a factor from [max(0, 1-B), 1+B]
    jitter-B-C-S      torchvision's ColorJitter(brightness=B, contrast=C, saturation=S) on PIL images
    rand-m9-...       timm's RandAugment; bicubic, and timm's mean where there is no image
    erase-P[-const]   timm's RandomErasing: normal noise ("pixel"), with -const zeros

On a CPU an operation works on its own images only. On a GPU it works on all and a mask selects: static shapes and no
synchronisation, for CUDA graphs (call once before capturing; key must be on the GPU). Not tried on a GPU yet.

A resized crop is Pillow's but for one grey level in up to 2 % of the values and two levels in 6 of a million (400 images of
Tiny-ImageNet, to 32, 56 and 64 pixels): on a CPU it is torch's resampling of bytes, whose weights have fewer bits than Pillow's,
on a GPU two matrix products in float32, each rounded.

Evidence (pillow 12.3, timm 1.0.31): all 21 operations of the standard and the increasing set give the same bytes as
timm's on 2,000 CIFAR-100 images each (2 million pixels, magnitudes 0 to 10), and what is drawn passes chi-square and
Kolmogorov-Smirnov tests against timm's draws: tests/test_augment.py. Speed, crop-4, flip, rand-m9-mstd0.5-inc1 and
normalising on one thread of a busy 2-core Xeon at 2.8 GHz: 8,000 images/s, timm with Pillow 2,000; 3.7 to 4.2 times
as fast (medians of 9 rounds, 5 runs): python benchmarks/augment.py --data ../shared/data/cifar100.tar
"""

import math
from collections.abc import Callable, Sequence
from functools import cache, partial
from itertools import permutations
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from wa.data.augmentations import Policy, output_size, parse
from wa.randomness import uniform

CACHED = (
    2**17
)  # values whose images a CPU works on at once: what is computed with them stays in its cache
FILL = (124, 116, 104)  # timm's img_mean: what an affine operation puts where there is no image


@cache
def _constant(values: tuple[float, ...], device: torch.device) -> Tensor:
    """float64, copied to the device once: a CUDA graph may not capture a copy from the host."""
    return torch.tensor(values, dtype=torch.float64, device=device)


def _steps(size: int, images: Tensor) -> Tensor:
    return torch.arange(size, dtype=torch.float64, device=images.device)


def _per_image(argument: Tensor, dtype: torch.dtype) -> Tensor:
    return argument.to(dtype).view(-1, 1, 1, 1)


def _truncated(values: Tensor) -> Tensor:
    """Floats to bytes: clipped, in place, and their fraction cut off, as Pillow does it."""
    values.clamp_(0, 255)
    return (values.int() if values.device.type == "cpu" else values).to(
        torch.uint8
    )  # which takes a CPU a third of the time


# The operations of RandAugment, by timm's names: images uint8 (B, 3, H, W), argument float64 (B,) -> images alike.


def auto_contrast(images: Tensor, _: Tensor) -> Tensor:
    """ImageOps.autocontrast: stretch every channel to 0..255, in double precision as Python does."""
    low, high = (
        extreme(images, (2, 3), keepdim=True).double() for extreme in (torch.amin, torch.amax)
    )
    scale = torch.full_like(low, 255.0) / (
        high - low
    )  # 255 / tensor would be a product with the reciprocal
    stretched = (images * scale).sub_(low * scale)
    return torch.where(high > low, _truncated(stretched), images)


def equalize(images: Tensor, _: Tensor) -> Tensor:
    """ImageOps.equalize: a table per channel from its histogram; the last occupied bin is not counted in the step."""
    pixels = images.flatten(2).long()
    histogram = torch.zeros(*pixels.shape[:2], 256, dtype=torch.int64, device=images.device)
    histogram.scatter_add_(2, pixels, torch.ones_like(pixels))
    last = histogram.gather(2, pixels.amax(2, keepdim=True))
    step = (pixels.shape[2] - last) // 255
    table = (histogram.cumsum(2) - histogram + step // 2) // step.clamp(min=1)
    equalized = table.clamp_(max=255).to(torch.uint8).gather(2, pixels).view_as(images)
    return torch.where(step[..., None] > 0, equalized, images)


def invert(images: Tensor, _: Tensor) -> Tensor:
    return 255 - images


def posterize(images: Tensor, bits: Tensor) -> Tensor:
    return images & _per_image(0xFF << (8 - bits.clamp(0, 8)).int(), torch.uint8)


def solarize(images: Tensor, threshold: Tensor) -> Tensor:
    return torch.where(images.short() < _per_image(threshold, torch.int16), images, 255 - images)


def solarize_add(images: Tensor, add: Tensor) -> Tensor:
    brighter = torch.minimum(images, _per_image(255 - add, torch.uint8)) + _per_image(
        add, torch.uint8
    )
    return torch.where(images < 128, brighter, images)


def _blend(degenerate: Tensor, images: Tensor, factor: Tensor) -> Tensor:
    """Image.blend: float32, clipped, truncated. `degenerate` is float32 and broadcasts against the images."""
    return _truncated(
        (images.float() - degenerate).mul_(_per_image(factor, torch.float32)).add_(degenerate)
    )


def _grey(images: Tensor) -> Tensor:
    """Image.convert("L"): fixed point with 16 bits of fraction. Returns int32 (B, 1, H, W)."""
    red, green, blue = images.int().split(1, 1)
    return (red * 19595).add_(green, alpha=38470).add_(blue, alpha=7471).add_(0x8000) >> 16


def color(images: Tensor, factor: Tensor) -> Tensor:
    return _blend(_grey(images).float(), images, factor)


def contrast(images: Tensor, factor: Tensor) -> Tensor:
    mean = (_grey(images).double().mean((1, 2, 3), keepdim=True) + 0.5).floor()
    return _blend(mean.float(), images, factor)


def brightness(images: Tensor, factor: Tensor) -> Tensor:
    return _truncated(images.float().mul_(_per_image(factor, torch.float32)))


def sharpness(images: Tensor, factor: Tensor) -> Tensor:
    """The degenerate image is ImageFilter.SMOOTH, which leaves the border as it is: (box + 4 center) / 13, rounded."""
    pixels = images.short()
    rows = pixels[..., :-2] + pixels[..., 1:-1] + pixels[..., 2:]
    center = pixels[..., 1:-1, 1:-1]
    total = (rows[..., :-2, :] + rows[..., 1:-1, :]).add_(rows[..., 2:, :]).add_(center, alpha=4)
    sharpened = images.clone()
    sharpened[..., 1:-1, 1:-1] = _blend((total * (1 / 13)).add_(0.5).floor_(), center, factor)
    return sharpened


def _taps(position: Tensor) -> tuple[Tensor, Tensor]:
    """The first of the four pixels (int64) round a position, and how far it lies between the second and the third."""
    position = position - 0.5
    whole = position.floor()
    return whole.long() - 1, position - whole


def _cubic(p: Tensor, q: Tensor, r: Tensor, s: Tensor, d: Tensor) -> Tensor:
    """Pillow's BICUBIC (a = -1), its order of operations, in double precision: the result is truncated, so ties matter.

    p, q, r, s: four neighbours, int16 or float64; d: float64, how far from q to r. Differences of int16 are exact.
    """
    pq, rs = p - q, r - s
    value = (pq + rs) * -d
    return value.add_(pq.add_(pq).add_(rs)).mul_(d).add_(r - p).mul_(d).add_(q)


def _filled(values: Tensor, inside: Tensor, images: Tensor) -> Tensor:
    fill = _constant(FILL, images.device).view(-1, 1, 1).to(torch.uint8)
    return torch.where(inside, _truncated(values).view_as(images), fill)


def rotate(images: Tensor, degrees: Tensor) -> Tensor:
    batch, channels, height, width = images.shape
    angle = torch.deg2rad(-degrees).view(-1, 1, 1)
    cos, sin = angle.cos(), angle.sin()
    x, y = (
        _steps(width, images) + (0.5 - width / 2),
        _steps(height, images)[:, None] + (0.5 - height / 2),
    )
    x, y = cos * x + sin * y + width / 2, cos * y - sin * x + height / 2
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    (left, dx), (top, dy) = _taps(x.view(batch, 1, 1, 1, -1)), _taps(y.view(batch, 1, 1, 1, -1))
    near = torch.arange(4, device=images.device).view(4, 1, 1)
    index = (left + near).clamp_(0, width - 1) + (top + near.view(1, 4, 1)).clamp_(
        0, height - 1
    ) * width
    taps = images.flatten(2).gather(2, index.view(batch, 1, -1).expand(-1, channels, -1))
    columns = taps.view(batch, channels, 4, 4, -1).short().unbind(2)
    rows = _cubic(*columns, dx[:, 0]).unbind(2)
    return _filled(_cubic(*rows, dy[:, 0, 0]), inside[:, None], images)


def _shift_rows(images: Tensor, offset: Tensor) -> Tensor:
    """Move row y to the left by offset[:, y] pixels. offset: float64 (B, H) or (B, 1), one for all rows."""
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
    return _shift_rows(images, factor[:, None] * (_steps(images.shape[2], images) + 0.5))


def shear_y(images: Tensor, factor: Tensor) -> Tensor:
    return shear_x(images.mT, factor).mT


def translate_x_rel(images: Tensor, fraction: Tensor) -> Tensor:
    return _shift_rows(images, fraction[:, None] * images.shape[3])


def translate_y_rel(images: Tensor, fraction: Tensor) -> Tensor:
    return translate_x_rel(images.mT, fraction).mT


class Operation(NamedTuple):
    """value = level / 10 * scale, negated at random if `signed`; apply(images, value)."""

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
        raise ValueError(f"{what} needs images of 3 channels, these have {images.shape[1]}")


class RandAugment(Policy):
    """timm's RandAugment. Its settings and their defaults are those of Policy."""

    @property
    def operations(self) -> dict[str, Operation]:
        return INCREASING if self.inc else STANDARD

    def choose(self, draws: Tensor) -> tuple[Tensor, Tensor]:
        """draws: float64 (B, 4) -> which operation, int64 (B,), their number for none, and its value, float64 (B,)."""
        choice, applied, noise, sign = draws.unbind(1)
        operations = self.operations.values()
        operation = (choice * len(operations)).long()
        normal = torch.special.ndtri(noise + 2.0**-25)  # draws are multiples of 2^-24, and 0 is one
        level = (
            noise * self.m if self.mstd > 100 else self.m + self.mstd * normal
        )  # timm: mstd > 100 means uniform
        level = level.clamp(0, self.mmax)
        scale = _constant(tuple(o.scale for o in operations), draws.device)[operation]
        negative = (
            _constant(tuple(float(o.signed) for o in operations), draws.device)[operation] * 0.5
            > sign
        )
        value = level / torch.full_like(level, 10.0) * scale
        return operation.masked_fill(applied >= self.p, len(operations)), torch.where(
            negative, -value, value
        )

    def __call__(self, images: Tensor, draws: Tensor) -> Tensor:
        _need_colours("RandAugment", images)
        layer = apply_sparsely if images.device.type == "cpu" else apply_densely
        for draw in draws.split(4, 1):
            images = layer(list(self.operations.values()), images, *self.choose(draw))
        return images


def apply_densely(
    operations: Sequence[Operation], images: Tensor, operation: Tensor, value: Tensor
) -> Tensor:
    """Every operation on every image: static shapes and no synchronisation, so that a CUDA graph can capture it."""
    for k, candidate in enumerate(operations):
        images = torch.where(
            _per_image(operation == k, torch.bool), candidate.apply(images, value), images
        )
    return images


def apply_sparsely(
    operations: Sequence[Operation], images: Tensor, operation: Tensor, value: Tensor
) -> Tensor:
    """Every operation on its images only, a few at a time: sort them by operation, so that each has a contiguous part."""
    order = operation.argsort()
    sizes = operation.bincount(minlength=len(operations) + 1).tolist()
    result = images.index_select(0, order)  # copies whole images, [order] bytes
    *parts, _ = result.split(sizes)
    few = max(1, CACHED // images[0].numel())
    for o, part, argument in zip(operations, parts, value[order].split(sizes), strict=False):
        for some, v in zip(part.split(few), argument.split(few), strict=True):
            if len(some):  # an empty part is split into one that is empty
                some.copy_(o.apply(some, v))
    return result.index_select(0, order.argsort())


# The other transformations: images, draws float64 (B, as many as the transformation needs) -> images.


def crop(images: Tensor, draws: Tensor, padding: int) -> Tensor:
    batch, channels, height, width = images.shape
    top, left = (draws * (2 * padding + 1)).long().view(batch, 2, 1, 1).unbind(1)
    y, x = (torch.arange(size, device=images.device) for size in (height, width))
    index = (
        ((top + y[:, None]) * (width + 2 * padding) + left + x)
        .view(batch, 1, -1)
        .expand(-1, channels, -1)
    )
    return F.pad(images, [padding] * 4).flatten(2).gather(2, index).view_as(images)


def flip(images: Tensor, draws: Tensor) -> Tensor:
    if images.device.type == "cpu":
        flipped = images.clone()
        for row in (draws[:, 0] < 0.5).nonzero().flatten().tolist():
            flipped[row] = images[row].flip(2)
        return flipped
    both = torch.cat([images, images.flip(3)])
    return both.index_select(
        0, torch.arange(len(images), device=images.device) + (draws[:, 0] < 0.5) * len(images)
    )


def jitter_brightness(images: Tensor, draws: Tensor, strength: float) -> Tensor:
    low, high = max(0.0, 1 - strength), 1 + strength
    return brightness(images, low + draws.squeeze(1) * (high - low))


class ResizedCrop(NamedTuple):
    """torchvision's RandomResizedCrop with its defaults."""

    size: int

    DRAWS = 22  # ten attempts at a shape, top, left

    def box(self, draws: Tensor, height: int, width: int) -> Tensor:
        """draws: float64 (B, 22) -> top, left, height and width of what is cut out, int64 (B, 4)."""
        area, ratio, top, left = draws.split([10, 10, 1, 1], 1)
        area = (0.08 + area * (1 - 0.08)) * (height * width)
        ratio = ((2 * ratio - 1) * math.log(4 / 3)).exp()
        widths, heights = (area * ratio).sqrt().round(), (area / ratio).sqrt().round()
        fits = (widths > 0) & (widths <= width) & (heights > 0) & (heights <= height)
        first = fits.int().argmax(1, keepdim=True)  # of equal ones argmax takes the first
        h, w = heights.gather(1, first), widths.gather(1, first)
        drawn = torch.cat(
            [(top * (height - h + 1)).floor(), (left * (width - w + 1)).floor(), h, w], 1
        )
        # After ten attempts, the centre with the aspect ratio that is allowed and nearest.
        h, w = min(height, round(width / (3 / 4))), min(width, round(height * (4 / 3)))
        center = _constant(((height - h) // 2, (width - w) // 2, h, w), draws.device)
        return torch.where(fits.gather(1, first), drawn, center).long()

    def __call__(self, images: Tensor, draws: Tensor) -> Tensor:
        resize = resize_each if images.device.type == "cpu" else resize_densely
        return resize(images, self.box(draws, *images.shape[2:]), self.size)


def resize_each(images: Tensor, box: Tensor, size: int) -> Tensor:
    """The boxes of the images (B, 4), see ResizedCrop.box, resized to uint8 (B, C, size, size); image by image."""
    layout = torch.channels_last  # the data's, and the one that torch resamples fastest
    resized = torch.empty(*images.shape[:2], size, size, dtype=torch.uint8, memory_format=layout)
    for image, (top, left, height, width), out in zip(images, box.tolist(), resized, strict=True):
        cut = image[None, :, top : top + height, left : left + width].contiguous(
            memory_format=layout
        )
        out.copy_(F.interpolate(cut, size=(size, size), mode="bilinear", antialias=True)[0])
    return resized


def resize_densely(images: Tensor, box: Tensor, size: int) -> Tensor:
    """The same as two matrix products for the whole batch: no value is read back, and no shape depends on one."""

    def weights(first: Tensor, length: Tensor, side: int) -> Tensor:
        """Of the pixels of a side for each pixel of the result: float32 (B, 1, size, side); a triangle, as Pillow's BILINEAR."""
        scale = (length / size).view(-1, 1, 1)
        pixel = _steps(side, images) - first.view(-1, 1, 1)  # from where the box begins
        distance = (pixel + 0.5 - (_steps(size, images)[:, None] + 0.5) * scale) / scale.clamp(
            min=1
        )
        weight = (1 - distance.abs()).clamp(min=0) * (
            (pixel >= 0) & (pixel < length.view(-1, 1, 1))
        )
        return (weight / weight.sum(2, keepdim=True)).float()[:, None]

    top, left, height, width = box.unbind(1)
    rows = torch.matmul(images.float(), weights(left, width, images.shape[3]).mT).add_(0.5).floor_()
    return _truncated(torch.matmul(weights(top, height, images.shape[2]), rows).add_(0.5))


def center(images: Tensor, size: int) -> Tensor:
    """Images as they are evaluated after training on resized-crop-SIZE: uint8 (B, C, H, W) to (B, C, size, size).

    Where the shorter side is longer than size / .875 it is resized to that (bilinear, antialiased), and where it is shorter
    than `size`, to `size`; then the centre is cut out: of squares of 256 pixels the centre of 224, as is the field's custom.
    """
    sides = images.shape[2:]
    short = min(max(min(sides), size), round(size / 0.875))
    if short != min(sides):
        resized = [
            short if side == min(sides) else int(short * side / min(sides)) for side in sides
        ]
        pixels = images if images.device.type == "cpu" else images.float()
        pixels = F.interpolate(pixels, size=resized, mode="bilinear", antialias=True)
        images = pixels if pixels.dtype == torch.uint8 else _truncated(pixels.add_(0.5))
    top, left = (round((side - size) / 2) for side in images.shape[2:])
    return images[..., top : top + size, left : left + size]


class Jitter(NamedTuple):
    """torchvision's ColorJitter without a hue: three factors, applied in an order drawn for each image."""

    strengths: tuple[float, ...]  # of brightness, contrast, saturation

    DRAWS = 4  # three factors, an order
    OPERATIONS = tuple(map(Operation, (brightness, contrast, color)))

    def __call__(self, images: Tensor, draws: Tensor) -> Tensor:
        _need_colours("jitter", images)
        strength = _constant(self.strengths, images.device)
        low = (1 - strength).clamp(min=0)
        factor = low + draws[:, :3] * (1 + strength - low)
        orders = (
            _constant(tuple(k for order in permutations(range(3)) for k in order), images.device)
            .long()
            .view(6, 3)
        )
        layer = apply_sparsely if images.device.type == "cpu" else apply_densely
        for operation in orders[(draws[:, 3] * 6).long()].unbind(1):
            images = layer(
                self.OPERATIONS, images, operation, factor.gather(1, operation[:, None]).squeeze(1)
            )
        return images


class Erase(NamedTuple):
    """timm's RandomErasing with its defaults: one rectangle of 2 % to a third of the area, aspect from .3 to 1/.3."""

    probability: float
    const: bool = False

    DRAWS = 23  # whether, ten attempts at a shape, top, left; after them the noise

    def mask(self, draws: Tensor, height: int, width: int) -> Tensor:
        """draws: float64 (B, 23) -> bool (B, H, W), what is erased."""
        applied, area, aspect, top, left = draws.split([1, 10, 10, 1, 1], 1)
        area = (0.02 + area * (1 / 3 - 0.02)) * (height * width)
        aspect = ((2 * aspect - 1) * -math.log(0.3)).exp()
        heights, widths = (area * aspect).sqrt().round(), (area / aspect).sqrt().round()
        fits = (heights < height) & (widths < width)
        first = fits.int().argmax(1, keepdim=True)  # of equal ones argmax takes the first
        h, w = heights.gather(1, first), widths.gather(1, first)
        top, left = (top * (height - h + 1)).floor(), (left * (width - w + 1)).floor()
        y, x = _steps(height, draws), _steps(width, draws)
        in_y, in_x = (y >= top) & (y < top + h), (x >= left) & (x < left + w)
        erased = (applied < self.probability) & fits.gather(1, first)
        return erased[:, :, None] & in_y[:, :, None] & in_x[:, None, :]


def _touched(mask: Tensor) -> Tensor:
    """Which images to work on: those of the mask on a CPU, all on a GPU, where shapes must not depend on the draws."""
    return (
        mask.nonzero().squeeze(1)
        if mask.device.type == "cpu"
        else torch.arange(len(mask), device=mask.device)
    )


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


# kind of step -> its values -> the transformation, and how many uniform numbers it needs for each
# image. Erasing is not here: it acts later, on normalised images.
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

    size: the side of the images that come out of a resized crop. None: as they come in.
    Raises UserError for names that wa.data.augmentations.parse refuses.
    """

    def __init__(self, names: Sequence[str]):
        steps = parse(names)
        self.size = output_size(names)
        self.eraser = Erase(*steps.pop().values) if steps and steps[-1].kind == "erase" else None
        self.steps = [TRANSFORMS[step.kind](*step.values) for step in steps]
        self.draws = sum(count for _, count in self.steps)

    def __call__(self, images: Tensor, key: Tensor, index: Tensor) -> Tensor:
        """images: uint8 (B, C, H, W), any memory format; key: int64 scalar; index: int64 (B,), which image of the data
        set each is; all on one device. Returns uint8 (B, C, H, W), any memory format; the images given are not changed.
        """
        if (
            self.size is None
        ):  # else images are cut out one by one, of which each is then contiguous
            images = images.contiguous()
        draws = (
            uniform(key, index, self.draws).double().split([count for _, count in self.steps], 1)
        )
        for (step, _), draw in zip(self.steps, draws, strict=True):
            images = step(images, draw)
        return images

    def erase(self, images: Tensor, key: Tensor, index: Tensor) -> Tensor:
        """Random erasing of normalised images, float (B, C, H, W); the same images if no erase-P was asked for."""
        if self.eraser is None:
            return images
        first = self.draws + Erase.DRAWS
        draws = uniform(key, index, first)[:, self.draws :].double()
        mask = self.eraser.mask(draws, *images.shape[2:])[:, None]
        if self.eraser.const:
            return images.masked_fill(mask, 0)
        rows = _touched(draws[:, 0] < self.eraser.probability)
        size = images[0].numel()
        radius, angle = uniform(key, index[rows], first + size + size % 2)[:, first:].chunk(2, 1)
        radius, angle = (
            (-2 * torch.log1p(-radius)).sqrt(),
            angle * (2 * math.pi),
        )  # Box and Muller: two normal numbers
        noise = torch.cat([radius * angle.cos(), radius * angle.sin()], 1)[:, :size]
        before = images.index_select(0, rows)
        erased = torch.where(
            mask.index_select(0, rows), noise.view_as(before).to(images.dtype), before
        )
        return images.index_copy(0, rows, erased)


def normalize(
    images: Tensor, mean: Tensor, std: Tensor, dtype: torch.dtype = torch.float32
) -> Tensor:
    """(images / 255 - mean) / std. images: uint8 (B, C, H, W); mean, std: float (C,), in units of [0, 1].

    Returns `dtype` (B, C, H, W) in the images' memory format; computed in float32.
    """
    scale, shift = 1 / (255 * std), mean / std
    channels_last = images.is_contiguous(memory_format=torch.channels_last)
    if images.device.type != "cpu" or not channels_last or torch.compiler.is_compiling():
        return (images * scale.view(-1, 1, 1)).sub_(shift.view(-1, 1, 1)).to(dtype)
    # The same in long rows, of which a few stay in the cache: loops of three channels, one pixel each, take ten times as long.
    batch, channels, height, width = images.shape
    rows = images.permute(0, 2, 3, 1).reshape(-1, width * channels)
    result = torch.empty(rows.shape, dtype=dtype)
    few = max(1, CACHED // rows.shape[1])
    scale, shift = scale.repeat(width), shift.repeat(width)
    for out, some in zip(result.split(few), rows.split(few), strict=True):
        out.copy_(some.float().mul_(scale).sub_(shift))
    return result.view(batch, height, width, channels).permute(0, 3, 1, 2)

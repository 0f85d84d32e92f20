"""wa.data.augment against timm and torchvision with Pillow, operation by operation, draw by draw.

The images are synthetic. Set WA_TEST_CIFAR100 to the path of cifar100.tar to use real ones.
"""

import io
import os
import random
import tarfile
from collections.abc import Iterator
from itertools import permutations

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import stats
from timm.data import auto_augment as timm_aa
from timm.data.random_erasing import RandomErasing
from torch.utils._python_dispatch import TorchDispatchMode
from torchvision import transforms
from torchvision.transforms import functional as tv

from wa.data import augment as aug
from wa.data.augment import Augment, RandAugment, normalize
from wa.data.augmentations import parse_policy
from wa.errors import UserError
from wa.randomness import key, uniform

TAR = os.environ.get("WA_TEST_CIFAR100")  # PNG files of 32 x 32 pixels
COUNT = 2000
POLICY = "rand-m9-mstd0.5-inc1"
TIMM_PARAMETERS = {
    "translate_const": 14,
    "img_mean": aug.FILL,
    "interpolation": Image.Resampling.BICUBIC,
}
KEY = key(0, 1, 2)
BOX = ("top", "left", "height", "width")


def differs(pvalue: float) -> bool:
    """Whether a statistical test finds that two distributions differ."""
    return pvalue <= 1e-3


def argument_of(operation: aug.Operation, level: torch.Tensor, negative: torch.Tensor):
    """The argument of an operation at these levels: float64 (B,)."""
    return level / 10 * operation.scale * torch.where(negative & operation.signed, -1, 1)


def to_pil(images: torch.Tensor) -> list[Image.Image]:
    arrays = images.permute(0, 2, 3, 1).numpy()
    return [Image.fromarray(a if a.shape[2] == 3 else a[:, :, 0]) for a in arrays]


def from_pil(images: list[Image.Image]) -> torch.Tensor:
    arrays = np.stack([np.asarray(image) for image in images])
    return torch.from_numpy(arrays.reshape(*arrays.shape[:3], -1)).permute(0, 3, 1, 2).contiguous()


def synthetic(count: int, channels: int = 3) -> torch.Tensor:
    """Smooth images of all contrasts with a little noise. Some are flat or have few grey levels."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(count, channels, 6, 6, generator=generator) - 0.5
    contrast, mean = torch.rand(2, count, 1, 1, 1, generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, size=32, mode="bicubic")
    smooth = smooth * 500 * contrast + 255 * mean
    images = (smooth + 4 * torch.randn(smooth.shape, generator=generator)).clamp(0, 255).byte()
    images[::50] = images[::50, :, :1, :1]
    images[1::50] = images[1::50] // 64 * 64
    return images


@pytest.fixture(scope="session")
def images() -> torch.Tensor:
    """uint8 (2000, 3, 32, 32)"""
    if not TAR:
        return synthetic(COUNT)
    pil: list[Image.Image] = []
    with tarfile.open(TAR) as tar:
        members = [member for member in tar if member.name.endswith(".png")]
        for member in members[:: len(members) // COUNT][:COUNT]:
            pil.append(Image.open(io.BytesIO(tar.extractfile(member).read())).convert("RGB"))
    return from_pil(pil)


def apply_timm(
    name: str, images: torch.Tensor, level: torch.Tensor, negative: torch.Tensor
) -> torch.Tensor:
    """timm's operation on each image, with these levels and signs."""
    results = []
    each = zip(to_pil(images), level.tolist(), negative.tolist(), strict=True)
    with pytest.MonkeyPatch.context() as patch:
        for image, magnitude, sign in each:
            patch.setattr(timm_aa, "_randomly_negate", lambda v, sign=sign: -v if sign else v)
            operation = timm_aa.AugmentOp(name, 1.0, magnitude, TIMM_PARAMETERS)
            results.append(operation(image))
    return from_pil(results)


@pytest.mark.parametrize("name", sorted(aug.STANDARD | aug.INCREASING))
def test_operation_is_identical_to_timm(name: str, images: torch.Tensor) -> None:
    generator = torch.Generator().manual_seed(len(name))
    level = 9 + 0.5 * torch.randn(COUNT, generator=generator, dtype=torch.float64)
    level[::2] = 11 * torch.rand(COUNT // 2, generator=generator, dtype=torch.float64) - 0.5
    level = level.clamp(0, 10)  # some are exactly 0 and 10, where rounding has ties
    operation = (aug.STANDARD | aug.INCREASING)[name]
    negative = (torch.rand(COUNT, generator=generator) < 0.5) & operation.signed
    ours = operation.apply(images, argument_of(operation, level, negative))
    theirs = apply_timm(name, images, level, negative)
    assert ours.dtype == torch.uint8
    assert torch.equal(ours, theirs), f"{(ours != theirs).any(1).sum()} pixels differ"


def test_operations_on_synthetic_images_of_another_size() -> None:
    square = torch.nn.functional.interpolate(synthetic(30).float(), size=40).byte()
    level, negative = torch.linspace(0, 10, 30, dtype=torch.float64), torch.arange(30) % 2 == 0
    for batch in (square, square[..., :24, :].contiguous()):
        for name, operation in aug.INCREASING.items():
            ours = operation.apply(batch, argument_of(operation, level, negative))
            theirs = apply_timm(name, batch, level, negative)
            assert torch.equal(ours, theirs), (name, batch.shape)


def test_a_gpu_rotates_as_pillow(images: torch.Tensor) -> None:
    degrees = torch.linspace(-30, 30, COUNT, dtype=torch.float64)
    degrees[::100] = 0
    wide = synthetic(30)[..., :24, :]
    for batch in (images, wide):
        ours = aug.rotate_densely(batch, degrees[-len(batch) :])
        assert torch.equal(ours, aug.rotate_each(batch, degrees[-len(batch) :]))


def test_names_are_timms() -> None:
    assert set(aug.STANDARD) == set(timm_aa._RAND_TRANSFORMS)
    assert set(aug.INCREASING) == set(timm_aa._RAND_INCREASING_TRANSFORMS)


def test_each_image_gets_its_own_operation(images: torch.Tensor, monkeypatch) -> None:
    """Against one image after the other."""
    policy = RandAugment(*parse_policy(POLICY))
    batch, draws = images[:200], uniform(KEY, torch.arange(200), 4).double()
    operations = list(policy.operations.values())
    operation, value = policy.choose(draws)
    expected = batch.clone()
    for row, number in enumerate(operation.tolist()):
        if number < len(operations):
            one = slice(row, row + 1)
            expected[one] = operations[number].apply(batch[one], value[one])
    for apply in (aug.apply_each, aug.apply_sorted):  # a CPU's way, and a GPU's
        assert torch.equal(apply(operations, batch.clone(), operation, value), expected)
    assert not torch.equal(expected, batch)
    monkeypatch.setattr(aug, "CACHED", 1)  # as for large images: one at a time
    for layout in (torch.contiguous_format, torch.channels_last):
        alone = aug.apply_each(operations, batch.clone(memory_format=layout), operation, value)
        assert torch.equal(alone, expected)


def drawn_by_timm(policy: str, count: int) -> list[tuple[str, float, float]]:
    """What timm applies to `count` images: (operation, magnitude, signed argument)."""
    applied: list[tuple[str, float, float]] = []
    np.random.seed(0)
    random.seed(0)
    transform = timm_aa.rand_augment_transform(policy, dict(TIMM_PARAMETERS))
    for operation in transform.ops:
        level_fn = operation.level_fn

        def level_to_argument(level, hparams, name=operation.name, level_fn=level_fn):
            arguments = level_fn(level, hparams) if level_fn else ()
            applied.append((name, level, arguments[0] if arguments else 0.0))
            return arguments

        operation.level_fn, operation.aug_fn = level_to_argument, lambda image, *_, **__: image
    for _ in range(count):
        transform(None)
    return applied


@pytest.mark.parametrize(
    "policy", [POLICY, "rand-m7-n3-mstd101-p0.8-inc1", "rand-m12-mstd1-mmax15"]
)
def test_draws_are_distributed_as_timms(policy: str) -> None:
    count = 20_000
    parsed = RandAugment(*parse_policy(policy))
    draws = uniform(KEY, torch.arange(count), 4 * parsed.n).double().view(-1, 4)
    chosen, value = parsed.choose(draws)
    names = list(parsed.operations)
    counts = chosen.bincount(minlength=len(names) + 1).numpy()[:-1]  # the last: none is applied
    theirs = drawn_by_timm(policy, count)
    their_counts = [sum(name == n for n, _, _ in theirs) for name in names]
    assert not differs(stats.binomtest(int(counts.sum()), parsed.n * count, parsed.p).pvalue)
    assert not differs(stats.chisquare(counts).pvalue)
    assert not differs(stats.chi2_contingency(np.stack([counts, their_counts])).pvalue)
    for k, (name, operation) in enumerate(parsed.operations.items()):
        if not operation.scale:
            continue
        ours = value[chosen == k].numpy()
        levels = [level for n, level, _ in theirs if n == name]
        assert not differs(stats.ks_2samp(np.abs(ours) / operation.scale * 10, levels).pvalue), name
        negative = int((ours < 0).sum())
        if operation.signed:
            assert not differs(stats.binomtest(negative, len(ours)).pvalue), name
        else:
            assert negative == 0, name
        # Of these three, the value is timm's argument with its sign.
        if name in ("Rotate", "ShearX", "TranslateYRel"):
            arguments = [argument for n, _, argument in theirs if n == name]
            assert not differs(stats.ks_2samp(ours, arguments).pvalue), name


def test_layers_are_independent() -> None:
    draws = uniform(KEY, torch.arange(20_000), 8).double()
    policy = RandAugment(*parse_policy(POLICY))
    first, second = (policy.choose(draw)[0] for draw in draws.split(4, 1))
    table = (first * 16 + second).bincount(minlength=256).view(16, 16).numpy()
    assert not differs(stats.chi2_contingency(table).pvalue)


def test_rand_augment_sections() -> None:
    assert parse_policy(POLICY) == RandAugment(m=9, mstd=0.5, inc=1)
    assert parse_policy("rand") == RandAugment(m=10, n=2, p=0.5, mstd=0, mmax=10, inc=0)
    assert parse_policy("rand-n3-p0.25-mmax20-m12") == RandAugment(m=12, n=3, p=0.25, mmax=20)


@pytest.mark.parametrize("channels", [1, 3])
def test_crop_flip_and_brightness_are_torchvisions(channels: int, images: torch.Tensor) -> None:
    batch = images[:100, :channels].contiguous()
    pil = to_pil(batch)
    draws = uniform(KEY, torch.arange(100), 2).double()
    corners = (draws * 9).long().tolist()
    padded = [tv.pad(image, [4]) for image in pil]
    expected = [tv.crop(i, *corner, 32, 32) for i, corner in zip(padded, corners, strict=True)]
    assert torch.equal(aug.crop(batch, draws, padding=4), from_pil(expected))

    flips = (draws[:, 0] < 0.5).tolist()
    expected = [tv.hflip(i) if flip else i for i, flip in zip(pil, flips, strict=True)]
    assert torch.equal(aug.flip(batch.clone(), draws), from_pil(expected))

    factors = (1 - 0.247 + 2 * 0.247 * draws[:, 0]).tolist()
    expected = [tv.adjust_brightness(i, factor) for i, factor in zip(pil, factors, strict=True)]
    ours = aug.jitter_brightness(batch, draws[:, :1], strength=0.247)
    assert torch.equal(ours, from_pil(expected))


def test_crop_and_flip_are_uniform() -> None:
    images = torch.zeros(20_000, 1, 8, 8, dtype=torch.uint8)
    images[:, :, 3, 3] = 1
    places = Augment(["crop-2", "flip"])(images, KEY, torch.arange(20_000)).flatten(1).argmax(1)
    rows, columns = places // 8, places % 8
    assert not differs(stats.chisquare((rows - 1).bincount(minlength=5).numpy()).pvalue)
    expected = np.array([1, 2, 2, 2, 2, 1]) * 2000  # columns 1 to 5, or 6 to 2 if flipped
    counts = (columns - 1).bincount(minlength=6).numpy()
    assert not differs(stats.chisquare(counts, expected).pvalue)


@pytest.mark.parametrize(
    "names",
    [
        ["crop-4", "flip", POLICY, "erase-0.5"],
        ["crop-4", "brightness-0.247"],
        ["resized-crop-24", "jitter-0.4-0.4-0.4"],
    ],
)
def test_result_depends_on_nothing_but_key_and_index(
    names: list[str], images: torch.Tensor
) -> None:
    augment = Augment(names)
    index = torch.randperm(50_000, generator=torch.Generator().manual_seed(0))[:128]
    batch, mean, std = images[:128], torch.full((3,), 0.5), torch.full((3,), 0.25)

    def run(batch: torch.Tensor, key: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        return augment.erase(normalize(augment(batch, key, index), mean, std), key, index)

    before = batch.clone()
    whole = run(batch, KEY, index)
    assert torch.equal(batch, before)
    assert torch.equal(run(batch, KEY, index), whole)
    assert torch.equal(run(batch.to(memory_format=torch.channels_last), KEY, index), whole)
    some = torch.tensor([77, 3, 120])
    assert torch.equal(run(batch[some], KEY, index[some]), whole[some])
    one_by_one = [run(batch[k : k + 1], KEY, index[k : k + 1]) for k in range(16)]
    assert torch.equal(torch.cat(one_by_one), whole[:16])
    assert not torch.equal(run(batch, key(0, 1, 3), index), whole)


def erased_boxes(erased: torch.Tensor) -> np.ndarray:
    """What is erased in each image where anything is: top, left, height, width.

    erased: bool (B, H, W). Returns (4, images).
    """
    erased = erased[erased.flatten(1).any(1)]
    spans = []
    for profile in (erased.any(2).int(), erased.any(1).int()):
        spans.append((profile.argmax(1), profile.sum(1)))
    (top, height), (left, width) = spans
    assert torch.equal(height * width, erased.flatten(1).sum(1))  # one full rectangle
    return torch.stack([top, left, height, width]).numpy()


@pytest.mark.parametrize("mode", ["pixel", "const"])
def test_erasing_is_distributed_as_timms(mode: str) -> None:
    count, marker = 4000, 100.0
    inputs = torch.full((count, 1, 32, 32), marker)
    random.seed(0)
    theirs = RandomErasing(0.25, mode=mode, device="cpu")(inputs.clone())[:, 0]
    suffix = "-const" if mode == "const" else ""
    ours = Augment(["flip", f"erase-0.25{suffix}"]).erase(inputs, KEY, torch.arange(count))[:, 0]
    assert (inputs == marker).all()
    our_boxes, their_boxes = erased_boxes(ours != marker), erased_boxes(theirs != marker)
    assert not differs(stats.binomtest(our_boxes.shape[1], count, 0.25).pvalue)
    for name, our, their in zip(BOX, our_boxes, their_boxes, strict=True):
        assert not differs(stats.ks_2samp(our, their).pvalue), name
    noise = ours[ours != marker].numpy()
    if mode == "const":
        assert (noise == 0).all()
    else:
        assert not differs(stats.kstest(noise[:20_000], "norm").pvalue)
        assert abs(noise.std() - 1) < 0.01 and abs(noise.mean()) < 0.01


def test_nothing_is_read_back_from_a_device() -> None:
    """A meta tensor has no values. A shape or a branch that depended on them would raise.

    What is drawn comes from the CPU. For erasing it is on the device, where a CUDA graph holds it.
    """
    names = ["resized-crop-32", "crop-4", "flip", "brightness-0.2", "jitter-0.4-0.4-0.4", POLICY]
    augment, index = Augment([*names, "erase-0.5"]), torch.arange(8)
    on_device = torch.empty(8, 3, 48, 48, dtype=torch.uint8, device="meta")
    augmented = augment(on_device, KEY, index)
    assert augmented.device.type == "meta" and augmented.dtype == torch.uint8
    constants = (torch.empty(3, device="meta") for _ in range(2))
    erased = augment.erase(normalize(augmented, *constants), KEY.to("meta"), index.to("meta"))
    assert erased.shape == (8, 3, 32, 32)


@pytest.mark.parametrize("count", [2048, 16384])
def test_the_number_of_kernels_does_not_depend_on_the_number_of_images(count: int) -> None:
    """A GPU takes as long to launch a kernel for one image as for a thousand."""
    images = torch.empty(count, 3, 32, 32, dtype=torch.uint8, device="meta")
    with Noted() as noted:
        Augment(["crop-4", "flip", POLICY])(images, KEY, torch.arange(count))
    assert 300 < len(noted.names) < 1200


class Noted(TorchDispatchMode):
    """The names of torch's operations, and whether each matrix product may use tf32."""

    def __init__(self):
        super().__init__()
        self.names: list[str] = []
        self.tf32: list[bool] = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.names.append(function.name())
        if function.name() in ("aten::mm", "aten::bmm"):
            self.tf32.append(torch.backends.cuda.matmul.allow_tf32)
        return function(*args, **kwargs or {})


def test_a_gpu_erases_without_sorting() -> None:
    """It replaces all images. index_copy would sort the rows under deterministic algorithms."""
    augment, key_, index = Augment(["erase-0.5"]), KEY.to("meta"), torch.arange(8, device="meta")
    images = torch.empty(8, 3, 32, 32, device="meta").to(memory_format=torch.channels_last)
    with Noted() as noted:
        erased = augment.erase(images, key_, index)
    assert erased.is_contiguous(memory_format=torch.channels_last)
    assert "aten::where.self_out" in noted.names
    assert not any("index" in name for name in noted.names)


def test_a_gpu_erases_what_a_cpu_erases() -> None:
    augment, index = Augment(["flip", "erase-0.5"]), torch.arange(64)
    images = torch.zeros(64, 3, 8, 8)
    draws = uniform(KEY, index, 1 + aug.Erase.DRAWS)[:, 1:].double()
    mask = augment.eraser.mask(draws, 8, 8)[:, None]
    on_gpu = torch.where(mask, augment.noise(images, KEY, index), images)
    assert torch.equal(augment.erase(images, KEY, index), on_gpu)


@pytest.fixture
def tf32() -> Iterator[None]:
    torch.backends.cuda.matmul.allow_tf32 = True
    yield
    torch.backends.cuda.matmul.allow_tf32 = False


def test_tf32_does_not_round_the_weights_of_crops(tf32: None) -> None:
    images, index = coloured(4, 16), torch.arange(4)
    box = aug.ResizedCrop(8).box(uniform(KEY, index, 22).double(), 16, 16)
    with Noted() as noted:
        aug.resize_densely(images, box, 8)
    assert noted.tf32 == [False, False]
    assert torch.backends.cuda.matmul.allow_tf32


def test_no_augmentation_at_all(images: torch.Tensor) -> None:
    assert torch.equal(Augment([])(images[:4], KEY, torch.arange(4)), images[:4])
    erased = Augment(["erase-1"]).erase(images[:4].float(), KEY, torch.arange(4))
    assert erased.shape == (4, 3, 32, 32)


def test_erase_does_nothing_unless_asked(images: torch.Tensor) -> None:
    inputs = images[:4].float()
    assert Augment(["flip"]).erase(inputs, KEY, torch.arange(4)) is inputs


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_normalize_is_torchvisions(dtype: torch.dtype, images: torch.Tensor) -> None:
    mean, std = torch.tensor([0.507, 0.487, 0.441]), torch.tensor([0.267, 0.256, 0.276])
    tolerance = 1e-5 if dtype == torch.float32 else 1e-2
    batch = images[:8].to(memory_format=torch.channels_last)
    ours = normalize(batch, mean, std, dtype)
    assert ours.dtype == dtype and ours.is_contiguous(memory_format=torch.channels_last)
    expected = tv.normalize(batch.float() / 255, mean.tolist(), std.tolist())
    torch.testing.assert_close(ours.float(), expected.to(dtype).float(), atol=1e-5, rtol=tolerance)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["blur-3"], "unknown augmentation 'blur-3'; known are resized-crop-S, crop-P, flip"),
        (["crop"], "unknown augmentation 'crop'"),
        (["rand-m9-w0"], "unknown section 'w0'; known are m, n, p, mstd, mmax and inc"),
        (["rand-m9-tweights"], "unknown section 'tweights'"),
        (["erase-0.5", "flip"], "erase must be the last"),
        (["flip", "resized-crop-32"], "'resized-crop-32' must be the first"),
    ],
)
def test_errors_are_one_clear_line(names: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        Augment(names)
    assert "\n" not in str(error.value)


def test_rand_augment_needs_three_channels() -> None:
    with pytest.raises(ValueError, match="3 channels, but these have 1"):
        Augment([POLICY])(torch.zeros(2, 1, 8, 8, dtype=torch.uint8), KEY, torch.arange(2))
    grey = torch.ones(2, 1, 8, 8, dtype=torch.uint8)
    grey = Augment(["crop-1", "flip", "brightness-0.2"])(grey, KEY, torch.arange(2))
    assert grey.shape == (2, 1, 8, 8) and grey.dtype == torch.uint8


def coloured(count: int, size: int) -> torch.Tensor:
    """uint8 (count, 3, size, size)"""
    images = synthetic(count).float()
    return torch.nn.functional.interpolate(images, size=size, mode="bicubic").clamp(0, 255).byte()


@pytest.mark.parametrize("shape", [(64, 64), (40, 90)])
def test_boxes_of_resized_crops_are_distributed_as_torchvisions(shape: tuple[int, int]) -> None:
    """For some images of 40 x 90, ten attempts at a shape fail.

    They get the centre with an aspect ratio of 4/3.
    """
    count = 8000
    box = aug.ResizedCrop(8).box(uniform(KEY, torch.arange(count), 22).double(), *shape)
    torch.manual_seed(0)
    image = torch.empty(1, *shape)
    theirs = [
        transforms.RandomResizedCrop.get_params(image, (0.08, 1), (3 / 4, 4 / 3))
        for _ in range(count)
    ]
    our_columns, their_columns = box.T.numpy(), np.array(theirs).T
    for name, our, their in zip(BOX, our_columns, their_columns, strict=True):
        assert not differs(stats.ks_2samp(our, their).pvalue), name
    our_areas, their_areas = (c[2] * c[3] for c in (our_columns, their_columns))
    assert not differs(stats.ks_2samp(our_areas, their_areas).pvalue)
    assert (box >= 0).all()
    assert (box[:, 0] + box[:, 2] <= shape[0]).all()
    assert (box[:, 1] + box[:, 3] <= shape[1]).all()


def extreme(tensor: torch.Tensor, low: float, high: float) -> torch.Tensor:
    """Instead of Tensor.uniform_: the area is the largest, and the aspect ratio the smallest."""
    return tensor.fill_(low if low < -0.1 else high)


def test_a_box_that_never_fits_is_the_centre_that_torchvision_takes() -> None:
    for shape in ((10, 200), (200, 10), (30, 30)):
        draws = torch.full((1, 22), 0.999, dtype=torch.float64)
        # The aspect ratio is extreme. So it does not fit in 30 x 30 either, with such an area.
        draws[:, 10:20] = 0.0 if shape[0] < shape[1] else 0.999
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(torch.Tensor, "uniform_", extreme)
            image = torch.empty(1, *shape)
            theirs = transforms.RandomResizedCrop.get_params(image, (0.999, 1), (3 / 4, 4 / 3))
        assert aug.ResizedCrop(8).box(draws, *shape).tolist() == [list(theirs)]


def crop_and_resize(image: Image.Image, box: list[int], size: int) -> Image.Image:
    top, left, height, width = box
    cut = image.crop((left, top, left + width, top + height))
    return cut.resize((size, size), Image.Resampling.BILINEAR)


@pytest.mark.parametrize("size, source", [(32, 48), (64, 64), (112, 128)])
def test_resized_crops_are_nearly_pillows(size: int, source: int) -> None:
    images = coloured(60, source)
    box = aug.ResizedCrop(size).box(uniform(KEY, torch.arange(60), 22).double(), source, source)
    boxes = zip(to_pil(images), box.tolist(), strict=True)
    expected = from_pil([crop_and_resize(image, box, size) for image, box in boxes])
    for resize in (aug.resize_each, aug.resize_densely):
        ours = resize(images.to(memory_format=torch.channels_last), box, size)
        difference = (ours.int() - expected.int()).abs()
        assert difference.max() <= 2, resize
        assert (difference > 0).float().mean() < 0.02, resize
        assert (difference > 1).float().mean() < 1e-4, resize


@pytest.mark.parametrize("size, source", [(224, 256), (28, 64), (32, 32), (40, 32)])
def test_the_centre_is_torchvisions_resize_and_center_crop(size: int, source: int) -> None:
    images = coloured(4, source)
    resize = transforms.Resize(max(size, min(source, round(size / 0.875))))
    theirs = transforms.Compose([resize, transforms.CenterCrop(size)])
    expected = from_pil([theirs(image) for image in to_pil(images)])
    difference = (aug.center(images, size).int() - expected.int()).abs()
    assert difference.max() <= 1 and (difference > 0).float().mean() < 0.002
    if size == 224:  # nothing is resized
        assert not difference.any()
    wide = torch.cat([images, images], 3)
    assert aug.center(wide, size).shape == (4, 3, size, size)


def test_jitter_is_torchvisions_in_an_order_of_its_own_for_each_image(images: torch.Tensor) -> None:
    batch, draws = images[:120], uniform(KEY, torch.arange(120), 4).double()
    strengths = (0.4, 0.3, 0.2)
    adjust = (tv.adjust_brightness, tv.adjust_contrast, tv.adjust_saturation)
    orders = list(permutations(range(3)))
    expected = []
    for image, draw in zip(to_pil(batch), draws.tolist(), strict=True):
        for k in orders[int(draw[3] * 6)]:
            image = adjust[k](image, 1 - strengths[k] + 2 * strengths[k] * draw[k])
        expected.append(image)
    ours = Augment(["jitter-0.4-0.3-.2"])(batch, KEY, torch.arange(120))
    assert torch.equal(ours, from_pil(expected))


def test_a_jitter_of_more_than_1_begins_at_0() -> None:
    """As in torchvision. If it began at 1 - 2, a quarter of the images would be black."""
    grey = torch.full((500, 3, 2, 2), 60, dtype=torch.uint8)
    draws = uniform(KEY, torch.arange(500), 4).double()
    levels = aug.Jitter((2.0, 0.4, 0.0))(grey, draws)[:, 0, 0, 0]
    assert (levels == 0).float().mean() < 0.05 and levels.max() > 170


def test_jitter_needs_three_channels() -> None:
    grey, draws = torch.zeros(2, 1, 2, 2, dtype=torch.uint8), torch.zeros(2, 4).double()
    with pytest.raises(ValueError, match="jitter needs images of 3 channels, but these have 1"):
        aug.Jitter((0.4, 0.4, 0.4))(grey, draws)

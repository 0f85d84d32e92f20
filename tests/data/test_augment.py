"""wa.data.augment against what it imitates: timm and torchvision with Pillow, operation by operation and draw by draw.

Real CIFAR-100 images are read from ../shared/data/cifar100.tar where it lies, else smooth and noisy ones are made.
"""

import io
import random
import tarfile
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import stats
from timm.data import auto_augment as timm_aa
from timm.data.random_erasing import RandomErasing
from torchvision import transforms
from torchvision.transforms import functional as tv

from wa.data import augment as aug
from wa.data.augment import Augment, RandAugment, normalize
from wa.data.augmentations import parse_policy
from wa.errors import UserError
from wa.randomness import key, uniform

TAR = Path(__file__).resolve().parents[3] / "shared" / "data" / "cifar100.tar"
COUNT = 2000
POLICY = "rand-m9-mstd0.5-inc1"
TIMM_PARAMETERS = {
    "translate_const": 14,
    "img_mean": aug.FILL,
    "interpolation": Image.Resampling.BICUBIC,
}
KEY = key(0, 1, 2)


def to_pil(images: torch.Tensor) -> list[Image.Image]:
    arrays = images.permute(0, 2, 3, 1).numpy()
    return [Image.fromarray(a if a.shape[2] == 3 else a[:, :, 0]) for a in arrays]


def from_pil(images: list[Image.Image]) -> torch.Tensor:
    arrays = np.stack([np.asarray(image) for image in images])
    return torch.from_numpy(arrays.reshape(*arrays.shape[:3], -1)).permute(0, 3, 1, 2).contiguous()


def synthetic(count: int, channels: int = 3) -> torch.Tensor:
    """Smooth images of every contrast with a little noise; some are flat, some have few grey levels."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(count, channels, 6, 6, generator=generator) - 0.5
    contrast, mean = torch.rand(2, count, 1, 1, 1, generator=generator)
    smooth = (
        torch.nn.functional.interpolate(coarse, size=32, mode="bicubic") * 500 * contrast
        + 255 * mean
    )
    images = (smooth + 4 * torch.randn(smooth.shape, generator=generator)).clamp(0, 255).byte()
    images[::50] = images[::50, :, :1, :1]
    images[1::50] = images[1::50] // 64 * 64
    return images


@pytest.fixture(scope="session")
def images() -> torch.Tensor:
    """uint8 (2000, 3, 32, 32)"""
    if not TAR.exists():
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
    results = []
    with pytest.MonkeyPatch.context() as patch:
        for image, magnitude, sign in zip(
            to_pil(images), level.tolist(), negative.tolist(), strict=True
        ):
            patch.setattr(timm_aa, "_randomly_negate", lambda v, sign=sign: -v if sign else v)
            operation = timm_aa.AugmentOp(
                name, prob=1.0, magnitude=magnitude, hparams=TIMM_PARAMETERS
            )
            results.append(operation(image))
    return from_pil(results)


@pytest.mark.parametrize("name", sorted(aug.STANDARD | aug.INCREASING))
def test_operation_is_identical_to_timm(name: str, images: torch.Tensor) -> None:
    generator = torch.Generator().manual_seed(len(name))
    level = 9 + 0.5 * torch.randn(COUNT, generator=generator, dtype=torch.float64)
    level[::2] = 11 * torch.rand(COUNT // 2, generator=generator, dtype=torch.float64) - 0.5
    level = level.clamp(0, 10)  # some are 0 and 10 exactly, where ties of the rounding are
    operation = (aug.STANDARD | aug.INCREASING)[name]
    negative = (torch.rand(COUNT, generator=generator) < 0.5) & operation.signed
    value = level / 10 * operation.scale * torch.where(negative, -1, 1)
    ours, theirs = operation.apply(images, value), apply_timm(name, images, level, negative)
    assert ours.dtype == torch.uint8
    assert torch.equal(ours, theirs), f"{(ours != theirs).any(1).sum()} pixels differ"


def test_operations_on_synthetic_images_of_another_size() -> None:
    square = torch.nn.functional.interpolate(synthetic(30).float(), size=40).byte()
    level, negative = torch.linspace(0, 10, 30, dtype=torch.float64), torch.arange(30) % 2 == 0
    for batch in (square, square[..., :24, :].contiguous()):
        for name, operation in aug.INCREASING.items():
            value = level / 10 * operation.scale * torch.where(negative & operation.signed, -1, 1)
            theirs = apply_timm(name, batch, level, negative)
            assert torch.equal(operation.apply(batch, value), theirs), (name, batch.shape)


def test_names_are_timms() -> None:
    assert set(aug.STANDARD) == set(timm_aa._RAND_TRANSFORMS)
    assert set(aug.INCREASING) == set(timm_aa._RAND_INCREASING_TRANSFORMS)


def test_sparse_and_dense_application_agree(images: torch.Tensor) -> None:
    policy = RandAugment(*parse_policy(POLICY))
    batch, draws = images[:200], uniform(KEY, torch.arange(200), 4).double()
    choice = policy.choose(draws)
    operations = list(policy.operations.values())
    dense = aug.apply_densely(operations, batch, *choice)
    assert torch.equal(aug.apply_sparsely(operations, batch, *choice), dense)
    assert not torch.equal(dense, batch)
    untouched = choice[0] == len(operations)
    assert torch.equal(dense[untouched], batch[untouched])


def drawn_by_timm(policy: str, count: int) -> list[tuple[str, float, float]]:
    """(operation, magnitude, signed argument) of what timm applies to `count` images."""
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
    counts = chosen.bincount(minlength=len(names) + 1).numpy()
    theirs = drawn_by_timm(policy, count)
    their_counts = np.array([sum(name == n for n, _, _ in theirs) for name in names])
    assert stats.binomtest(int(counts[:-1].sum()), parsed.n * count, parsed.p).pvalue > 1e-3
    assert stats.chisquare(counts[:-1]).pvalue > 1e-3
    assert stats.chi2_contingency(np.stack([counts[:-1], their_counts])).pvalue > 1e-3
    for k, (name, operation) in enumerate(parsed.operations.items()):
        if operation.scale:
            ours = value[chosen == k].numpy()
            level = np.abs(ours) / operation.scale * 10
            assert (
                stats.ks_2samp(level, [level for n, level, _ in theirs if n == name]).pvalue > 1e-3
            ), name
            negative = int((ours < 0).sum())
            if operation.signed:
                assert stats.binomtest(negative, len(ours)).pvalue > 1e-3, name
            else:
                assert negative == 0, name
        if name in (
            "Rotate",
            "ShearX",
            "TranslateYRel",
        ):  # here the value is timm's argument, sign and all
            assert (
                stats.ks_2samp(ours, [argument for n, _, argument in theirs if n == name]).pvalue
                > 1e-3
            ), name


def test_layers_are_independent() -> None:
    draws = uniform(KEY, torch.arange(20_000), 8).double()
    first, second = (
        RandAugment(*parse_policy(POLICY)).choose(draw)[0] for draw in draws.split(4, 1)
    )
    table = (first * 16 + second).bincount(minlength=256).view(16, 16).numpy()
    assert stats.chi2_contingency(table).pvalue > 1e-3


def test_rand_augment_sections() -> None:
    assert parse_policy(POLICY) == RandAugment(m=9, mstd=0.5, inc=1)
    assert parse_policy("rand") == RandAugment(m=10, n=2, p=0.5, mstd=0, mmax=10, inc=0)
    assert parse_policy("rand-n3-p0.25-mmax20-m12") == RandAugment(m=12, n=3, p=0.25, mmax=20)


@pytest.mark.parametrize("channels", [1, 3])
def test_crop_flip_and_brightness_are_torchvisions(channels: int, images: torch.Tensor) -> None:
    batch = images[:100, :channels].contiguous()
    draws = uniform(KEY, torch.arange(100), 2).double()
    offsets = (draws * 9).long().tolist()
    padded = [tv.pad(image, [4]) for image in to_pil(batch)]
    expected = [
        tv.crop(image, top, left, 32, 32)
        for image, (top, left) in zip(padded, offsets, strict=True)
    ]
    assert torch.equal(aug.crop(batch, draws, padding=4), from_pil(expected))

    flips = (draws[:, 0] < 0.5).tolist()
    expected = [
        tv.hflip(image) if flip else image for image, flip in zip(to_pil(batch), flips, strict=True)
    ]
    assert torch.equal(aug.flip(batch, draws), from_pil(expected))

    factors = (1 - 0.247 + 2 * 0.247 * draws[:, 0]).tolist()
    expected = [
        tv.adjust_brightness(image, f) for image, f in zip(to_pil(batch), factors, strict=True)
    ]
    assert torch.equal(
        aug.jitter_brightness(batch, draws[:, :1], strength=0.247), from_pil(expected)
    )


def test_crop_and_flip_are_uniform() -> None:
    images = torch.zeros(20_000, 1, 8, 8, dtype=torch.uint8)
    images[:, :, 3, 3] = 1
    places = Augment(["crop-2", "flip"])(images, KEY, torch.arange(20_000)).flatten(1).argmax(1)
    rows, columns = places // 8, places % 8
    assert stats.chisquare((rows - 1).bincount(minlength=5).numpy()).pvalue > 1e-3
    expected = np.array([1, 2, 2, 2, 2, 1]) * 2000  # columns 1 to 5, and 6 to 2 where it is flipped
    assert stats.chisquare((columns - 1).bincount(minlength=6).numpy(), expected).pvalue > 1e-3


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
    augment, index = (
        Augment(names),
        torch.randperm(50_000, generator=torch.Generator().manual_seed(0))[:128],
    )
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
    assert torch.equal(
        torch.cat([run(batch[k : k + 1], KEY, index[k : k + 1]) for k in range(16)]), whole[:16]
    )
    assert not torch.equal(run(batch, key(0, 1, 3), index), whole)


def erased_boxes(erased: torch.Tensor) -> np.ndarray:
    """Top, left, height and width of what is erased in every image that has any. erased: bool (B, H, W)"""
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
    ours = Augment(["flip", "erase-0.25" + ("-const" if mode == "const" else "")]).erase(
        inputs, KEY, torch.arange(count)
    )
    ours = ours[:, 0]
    assert (inputs == marker).all()
    our_boxes, their_boxes = erased_boxes(ours != marker), erased_boxes(theirs != marker)
    assert stats.binomtest(our_boxes.shape[1], count, 0.25).pvalue > 1e-3
    for name, our, their in zip(
        ("top", "left", "height", "width"), our_boxes, their_boxes, strict=True
    ):
        assert stats.ks_2samp(our, their).pvalue > 1e-3, name
    noise = ours[ours != marker].numpy()
    if mode == "const":
        assert (noise == 0).all()
    else:
        assert stats.kstest(noise[:20_000], "norm").pvalue > 1e-3
        assert abs(noise.std() - 1) < 0.01 and abs(noise.mean()) < 0.01


def test_nothing_is_read_back_from_a_device() -> None:
    """A meta tensor has no values, so a shape or a branch that depended on them would raise: fit for a CUDA graph."""
    names = [
        "resized-crop-32",
        "crop-4",
        "flip",
        "brightness-0.2",
        "jitter-0.4-0.4-0.4",
        POLICY,
        "erase-0.5",
    ]
    augment, index = Augment(names), torch.arange(8, device="meta")
    on_device = torch.empty(8, 3, 48, 48, dtype=torch.uint8, device="meta")
    constants = (torch.empty(3, device="meta") for _ in range(2))
    inputs = normalize(augment(on_device, KEY.to("meta"), index), *constants)
    assert augment.erase(inputs, KEY.to("meta"), index).shape == (8, 3, 32, 32)


def test_no_augmentation_at_all(images: torch.Tensor) -> None:
    assert torch.equal(Augment([])(images[:4], KEY, torch.arange(4)), images[:4])
    assert Augment(["erase-1"]).erase(images[:4].float(), KEY, torch.arange(4)).shape == (
        4,
        3,
        32,
        32,
    )


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
    grey = Augment(["crop-1", "flip", "brightness-0.2"])(
        torch.ones(2, 1, 8, 8, dtype=torch.uint8), KEY, torch.arange(2)
    )
    assert grey.shape == (2, 1, 8, 8) and grey.dtype == torch.uint8


def coloured(count: int, size: int) -> torch.Tensor:
    return (
        torch.nn.functional.interpolate(synthetic(count).float(), size=size, mode="bicubic")
        .clamp(0, 255)
        .byte()
    )


@pytest.mark.parametrize("shape", [(64, 64), (40, 90)])
def test_boxes_of_resized_crops_are_distributed_as_torchvisions(shape: tuple[int, int]) -> None:
    """Of images 40 x 90, some in ten attempts at a shape fail, and the centre with an aspect ratio of 4/3 is taken."""
    count = 8000
    box = aug.ResizedCrop(8).box(uniform(KEY, torch.arange(count), 22).double(), *shape)
    torch.manual_seed(0)
    image = torch.empty(1, *shape)
    theirs = np.array(
        [
            transforms.RandomResizedCrop.get_params(image, (0.08, 1), (3 / 4, 4 / 3))
            for _ in range(count)
        ]
    )
    for name, our, their in zip(
        ("top", "left", "height", "width"), box.T.numpy(), theirs.T, strict=True
    ):
        assert stats.ks_2samp(our, their).pvalue > 1e-3, name
    assert (
        stats.ks_2samp((box[:, 2] * box[:, 3]).numpy(), theirs[:, 2] * theirs[:, 3]).pvalue > 1e-3
    )
    assert (
        (box[:, 0] + box[:, 2] <= shape[0]).all()
        and (box[:, 1] + box[:, 3] <= shape[1]).all()
        and (box >= 0).all()
    )


def test_a_box_that_never_fits_is_the_centre_that_torchvision_takes() -> None:
    for shape in ((10, 200), (200, 10), (30, 30)):
        draws = torch.full((1, 22), 0.999, dtype=torch.float64)
        draws[:, 10:20] = (
            0.0 if shape[0] < shape[1] else 0.999
        )  # of 30 x 30 too: the area is all but whole, the shape is not
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(
                torch.Tensor,
                "uniform_",
                lambda self, low, high: self.fill_(low if low < -0.1 else high),
            )
            theirs = transforms.RandomResizedCrop.get_params(
                torch.empty(1, *shape), (0.999, 1), (3 / 4, 4 / 3)
            )
        assert aug.ResizedCrop(8).box(draws, *shape).tolist() == [list(theirs)]


@pytest.mark.parametrize("size, source", [(32, 48), (64, 64), (112, 128)])
def test_resized_crops_are_pillows_but_for_a_level_here_and_there(size: int, source: int) -> None:
    images = coloured(60, source)
    box = aug.ResizedCrop(size).box(uniform(KEY, torch.arange(60), 22).double(), source, source)
    expected = [
        image.crop((left, top, left + width, top + height)).resize(
            (size, size), Image.Resampling.BILINEAR
        )
        for image, (top, left, height, width) in zip(to_pil(images), box.tolist(), strict=True)
    ]
    for resize in (aug.resize_each, aug.resize_densely):
        ours = resize(images.to(memory_format=torch.channels_last), box, size)
        difference = (ours.int() - from_pil(expected).int()).abs()
        shares = [(difference > level).float().mean() for level in (0, 1)]
        assert difference.max() <= 2 and shares[0] < 0.02 and shares[1] < 1e-4, resize


@pytest.mark.parametrize("size, source", [(224, 256), (28, 64), (32, 32), (40, 32)])
def test_the_centre_is_torchvisions_resize_and_center_crop(size: int, source: int) -> None:
    images = coloured(4, source)
    theirs = transforms.Compose(
        [
            transforms.Resize(max(size, min(source, round(size / 0.875)))),
            transforms.CenterCrop(size),
        ]
    )
    difference = (
        aug.center(images, size).int() - from_pil([theirs(image) for image in to_pil(images)]).int()
    ).abs()
    assert difference.max() <= 1 and (difference > 0).float().mean() < 0.002
    assert size != 224 or not difference.any()
    wide = torch.cat([images, images], 3)
    assert aug.center(wide, size).shape == (4, 3, size, size)


def test_jitter_is_torchvisions_in_an_order_of_its_own_for_each_image(images: torch.Tensor) -> None:
    batch, draws = images[:120], uniform(KEY, torch.arange(120), 4).double()
    strengths = (0.4, 0.3, 0.2)
    adjust = (tv.adjust_brightness, tv.adjust_contrast, tv.adjust_saturation)
    expected = []
    for image, draw in zip(to_pil(batch), draws.tolist(), strict=True):
        for k in list(permutations(range(3)))[int(draw[3] * 6)]:
            image = adjust[k](image, 1 - strengths[k] + 2 * strengths[k] * draw[k])
        expected.append(image)
    assert torch.equal(
        Augment(["jitter-0.4-0.3-.2"])(batch, KEY, torch.arange(120)), from_pil(expected)
    )
    factors = aug.Jitter((0.4, 2.0, 0.0))  # a strength above 1 begins at 0, as torchvision's
    grey = torch.full((500, 3, 2, 2), 100, dtype=torch.uint8)
    levels = factors(grey, uniform(KEY, torch.arange(500), 4).double())[:, 0, 0, 0]
    assert 60 <= levels.min() < 65 and 135 < levels.max() <= 140
    with pytest.raises(ValueError, match="jitter needs images of 3 channels, but these have 1"):
        factors(grey[:, :1], uniform(KEY, torch.arange(500), 4).double())

"""The engine: recorded steps, folded batch-norm, precision, and what each process sees."""

import copy
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from unittest.mock import MagicMock

import numpy as np
import pytest
import torch
from helpers import program, second_task
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode
from training.gather_inputs import FEW, gather

from wa.data import batches
from wa.errors import UserError
from wa.methods.learner import Learner
from wa.models.model import CilModel
from wa.study.settings import Settings
from wa.training import engine, precision, train


def trainer_of(options) -> engine.Trainer:
    return train.prepare(*train.parse([str(o) for o in options]))


@pytest.fixture
def options(digits, base, tmp_path):
    """A second task on the digits: two full batches and a smaller one in an epoch."""
    return [*second_task(digits, base, tmp_path), "--epochs", "6", "--batch-size", "128"]


def test_recorded_steps_are_the_eager_ones(options, monkeypatch):
    """Without a GPU: all but the CUDA graph itself.

    These are the fixed places, the warm-up, and a record for each size of batch.
    """
    recorded = []

    def record(self, batch):
        recorded.append(batch)
        return lambda: self.step(batch, *self.inputs[batch])

    monkeypatch.setattr(engine.RecordedStep, "record", record)
    eager, replayed = trainer_of(options), trainer_of(options)
    replayed.run = engine.RecordedStep(replayed.step)
    timing = ("images_per_second", "seconds")
    for epoch in range(5):
        rows = [
            {k: v for k, v in t.epoch(epoch).items() if k not in timing} for t in (eager, replayed)
        ]
        assert rows[0] == rows[1]
    assert recorded == [128, 54]  # each once, for 310 images
    for a, b in zip(
        eager.model.state_dict().values(), replayed.model.state_dict().values(), strict=True
    ):
        assert torch.equal(a, b)


@pytest.mark.parametrize("which", ["running_var", "weight"])
def test_features_that_are_not_finite_are_refused_at_the_end(options, which):
    """The last step can spoil the network after its loss was computed."""
    trainer = trainer_of(options)
    images, test = train.last_features(trainer)
    assert (len(images), len(test)) == (len(trainer.task.images), len(trainer.task.test))
    getattr(trainer.model.backbone.bn1, which).data[0] = float("nan")
    with pytest.raises(UserError, match="the trained network are not finite"):
        train.last_features(trainer)


class Capture:
    """Instead of torch.cuda.graph. Its mode says which threads may pin memory meanwhile."""

    owner = None  # of the capture that is under way: "global" for all threads, or one thread

    def __init__(self, graph, pool, stream, capture_error_mode="global"):
        self.mode = capture_error_mode

    def __enter__(self):
        Capture.owner = "global" if self.mode == "global" else threading.get_ident()

    def __exit__(self, *_):
        Capture.owner = None


def pin(*shape, dtype, pin_memory):
    """Instead of torch.empty. As cudaHostAlloc, it fails while a capture forbids it."""
    if Capture.owner in ("global", threading.get_ident()):
        raise RuntimeError("operation not permitted when stream is capturing")
    return torch.zeros(shape, dtype=dtype)


def test_a_thread_pins_memory_while_a_step_is_recorded(digits, monkeypatch):
    monkeypatch.setattr(torch.cuda, "graph", Capture)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", MagicMock())
    monkeypatch.setattr(torch.cuda, "current_stream", MagicMock())
    packed, every = np.load(digits / "train_images.npy"), np.arange(8)
    images = batches.Images([packed], every, every, np.zeros(8), torch.device("cpu"))
    monkeypatch.setattr(batches.torch, "empty", pin)
    gathered = []

    def step(batch, rows):
        with ThreadPoolExecutor(1) as thread:
            gathered.append(thread.submit(images.gather, rows).result())

    recorder = engine.RecordedStep(step)
    recorder.inputs[2] = [torch.tensor([3, 1])]
    recorder.record(2)
    assert gathered[0].equal(images.pixels[0][[3, 1]])
    with Capture(None, None, None), pytest.raises(RuntimeError, match="not permitted"):
        step(2, torch.tensor([3, 1]))  # in the mode that is torch's default


def test_streamed_images_are_those_that_are_resident(options, digits, monkeypatch):
    """Without a GPU: a thread gathers images ahead. Weights and features have the same bits."""
    monkeypatch.setattr(batches, "fits", lambda size, device: False)
    resident, streamed = trainer_of(options), trainer_of(options)
    for images in (streamed.task.train, streamed.task.test):
        images.streamed = True
    streamed.run = engine.RecordedStep(streamed.step)
    monkeypatch.setattr(
        engine.RecordedStep,
        "record",
        lambda self, batch: lambda: self.step(batch, *self.inputs[batch]),
    )
    for epoch in range(5):
        assert resident.epoch(epoch)["loss"] == streamed.epoch(epoch)["loss"]
    for a, b in zip(
        resident.model.state_dict().values(), streamed.model.state_dict().values(), strict=True
    ):
        assert torch.equal(a, b)
    assert torch.equal(resident.features(resident.task.test), streamed.features(streamed.task.test))
    pixels = np.load(digits / "train_images.npy")
    rows = [
        torch.tensor([3, 1]),
        torch.tensor([0]),
        torch.tensor([5, 5]),
        torch.tensor([2]),
        torch.tensor([9]),
    ]
    train = streamed.task.train
    for some, batch in zip(rows, train.batches(rows), strict=True):
        assert (batch.permute(0, 2, 3, 1).numpy() == pixels[train.index[some]]).all()
    assert len(list(train.stream(rows[:1]))) == 1 and not list(train.stream([]))


@pytest.mark.parametrize("at_once", [1, 2, 100])
def test_how_many_batches_are_augmented_at_once_changes_no_bit(at_once, options, monkeypatch):
    batch = 128 * 8 * 8  # pixels of a batch of the digits
    options = [*options, "--augmentation", "crop-1", "flip", "brightness-0.2", "erase-0.5"]
    expected = trainer_of(options)
    row = expected.epoch(0)
    monkeypatch.setitem(engine.AUGMENTED, "cpu", at_once * batch)
    trainer, sizes = trainer_of(options), []
    augment = trainer.augment

    def noted(pixels, *more):
        sizes.append(len(pixels))
        return augment(pixels, *more)

    noted.erase = augment.erase
    trainer.augment = noted
    assert trainer.epoch(0)["loss"] == row["loss"]
    assert sizes == {1: [128, 128, 54], 2: [256, 54], 100: [310]}[at_once]
    for a, b in zip(expected.model.parameters(), trainer.model.parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_step_reads_nothing_back_from_a_gpu(options):
    """The tensors only pretend to be on a GPU.

    So it is an error if Python asks for a value, or if a tensor was left on the CPU.
    """
    real = trainer_of([*options, "--augmentation", "crop-1", "flip", "erase-0.5"])
    with FakeTensorMode(allow_non_fake_inputs=False), torch.device("cuda"):
        trainer = object.__new__(engine.Trainer)
        vars(trainer).update(vars(real))
        trainer.model, trainer.teacher = CilModel("resnet8", 1, [4, 2]), CilModel("resnet8", 1, [4])
        trainer.dtype = torch.float32  # torch turns autocast off where it finds no GPU
        trainer.mean, trainer.std, trainer.draw = (
            torch.zeros(1),
            torch.ones(1),
            torch.zeros((), dtype=torch.int64),
        )
        images = trainer.task.train
        images.index = torch.zeros(310, dtype=torch.int64)
        rows = torch.zeros(128, dtype=torch.int64)
        pixels = torch.zeros(128, 1, 8, 8, dtype=torch.uint8)
        for names in ({}, {"classification_loss": "separated", "distillation_loss": "taskwise"}):
            trainer.settings = replace(real.settings, **names)
            trainer.learner = Learner(trainer, {}, {})
            parts = trainer.losses(trainer.inputs(rows, pixels), images.index[rows])
            assert all(part.device.type == "cuda" and part.shape == (128,) for part in parts)
        with pytest.raises(DataDependentOutputException):
            parts[0].sum().item()


def test_gradients_of_all_processes_are_added_up_in_one_buffer(monkeypatch):
    """Played: the other process has the same gradients. The weights are those of twice the loss."""
    monkeypatch.setattr(engine.dist, "all_reduce", lambda flat: flat.mul_(2))
    torch.manual_seed(0)
    layers = [torch.nn.Conv2d(3, 8, 3), torch.nn.Conv2d(8, 5, 3), torch.nn.Flatten()]
    net = torch.nn.Sequential(*layers, torch.nn.Linear(80, 2)).to(memory_format=torch.channels_last)
    alone, x = copy.deepcopy(net), torch.randn(4, 3, 8, 8)
    optimizers = [torch.optim.SGD(m.parameters(), 0.1, 0.9, fused=True) for m in (net, alone)]
    gradients = engine.SummedGradients(list(net.parameters()))
    for _ in range(3):
        for optimizer in optimizers:
            optimizer.zero_grad(set_to_none=True)
        net(x).square().mean().backward()
        (2 * alone(x).square().mean()).backward()
        gradients.add_up()
        for optimizer in optimizers:
            optimizer.step()
    for ours, expected in zip(net.parameters(), alone.parameters(), strict=True):
        torch.testing.assert_close(ours, expected)
        assert ours.grad.stride() == ours.stride()
        assert ours.grad.untyped_storage().data_ptr() == gradients.flat.data_ptr()


@pytest.mark.parametrize("option", ["--deterministic", "--no-deterministic"])
def test_determinism_is_chosen_before_the_processes_meet(option, options, monkeypatch):
    """NCCL gives up NVLS, which adds up in any order, only if it is chosen by then."""
    chosen = []

    def meet(*_: object) -> None:
        chosen.append(torch.are_deterministic_algorithms_enabled())

    monkeypatch.setattr(engine.dist, "init_process_group", meet)
    monkeypatch.setenv("RANK", "0")
    torch.use_deterministic_algorithms(option != "--deterministic")  # what it must change
    trainer_of([*options, option])
    assert chosen == [option == "--deterministic"]


@pytest.mark.parametrize("backbone", ["resnet20", "resnet18"])
def test_folded_batch_norm_is_the_same_function(backbone):
    torch.manual_seed(0)
    model = CilModel(backbone, 3, [10])
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            for tensor in (module.weight, module.bias, module.running_mean):
                torch.nn.init.normal_(tensor)
            module.running_var.uniform_(0.5, 2)
    x = torch.randn(4, 3, 16, 16)
    with torch.no_grad():
        before = model.eval()(x)
        model.backbone.fold_batch_norm()
        assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in model.modules())
        torch.testing.assert_close(
            model(x), before, rtol=1e-4, atol=1e-4 * before.abs().max().item()
        )


@pytest.mark.parametrize("asked", ["float32", "bfloat16"])
def test_precision_on_request_and_in_the_checkpoint(options, asked):
    trainer = trainer_of([*options, "--precision", asked])
    assert trainer.engine()["precision"] == asked
    seen = []
    trainer.model.backbone.conv1.register_forward_hook(
        lambda _module, _inputs, output: seen.append(output.dtype)
    )
    trainer.epoch(0)
    assert set(seen) == {getattr(torch, asked)}
    assert {p.dtype for p in trainer.parameters} == {torch.float32}
    assert trainer.model.backbone.bn1.running_var.dtype == torch.float32
    assert trainer.features(trainer.task.test).dtype == torch.float32


def test_both_precisions_learn_alike(options):
    rows = [trainer_of([*options, "--precision", p]).epoch(0) for p in ("float32", "bfloat16")]
    assert rows[0]["loss"] == pytest.approx(rows[1]["loss"], rel=0.02)


@pytest.mark.parametrize(
    "flags, expected",
    [
        ("fma avx2", "float32"),
        ("avx2 avx512_bf16", "bfloat16"),
        ("amx_bf16 amx_tile", "bfloat16"),
        ("avx512f", "float32"),
    ],
)
def test_auto_is_a_rule_about_the_cpu(flags, expected, tmp_path, monkeypatch):
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(f"processor\t: 0\nflags\t\t: {flags}\nbugs\t: x\n\nprocessor\t: 1\n")
    monkeypatch.setattr(precision, "CPUINFO", cpuinfo)
    assert precision.choose("auto", torch.device("cpu")) == expected


def test_a_cpu_that_tells_nothing_gets_float32(tmp_path, monkeypatch):
    monkeypatch.setattr(precision, "CPUINFO", tmp_path / "absent")
    assert precision.choose("auto", torch.device("cpu")) == "float32"


def test_tf32_is_off_unless_asked(options, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    trainer_of(options)
    assert not torch.backends.cuda.matmul.allow_tf32
    assert not torch.backends.cudnn.allow_tf32
    with pytest.raises(UserError, match="tf32 is for GPUs only"):
        trainer_of([*options, "--precision", "tf32"])
    assert precision.choose("tf32", torch.device("cuda")) == "tf32"


def test_two_processes_see_the_images_of_one(options, tmp_path, monkeypatch):
    """Image by image and augmentation by augmentation, joined by gloo.

    They share the computation of features, and both get all of them.
    """
    monkeypatch.setattr(engine, "FEATURES", FEW)
    options = [*options, "--augmentation", "crop-1", "flip", "brightness-0.2", "erase-0.5"]
    torchrun = ["--standalone", "--nproc-per-node", 2, "tests/training/gather_inputs.py", tmp_path]
    run = program("torch.distributed.run", *torchrun, *options)
    assert run.returncode == 0, run.stdout
    files = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1)]
    whole, features = gather(trainer_of(options))
    assert [len(index) for index, _ in whole] == [128, 128, 54]
    for one, first, second in zip(whole, *(inputs for inputs, _ in files), strict=True):
        for tensor, *parts in zip(one, first, second, strict=True):
            assert torch.equal(tensor, torch.cat(parts))
    assert all(torch.equal(found, features) for _, found in files)


@pytest.mark.slow
def test_testing_on_request_changes_no_bit(options, tmp_path):
    said, bits = {}, {}
    for every in (0, 2):
        run = program(
            "wa.training.train", *options, "--output", tmp_path / str(every), "--test-every", every
        )
        assert run.returncode == 0, run.stdout
        said[every], bits[every] = (
            run.stdout,
            (tmp_path / str(every) / "trained.safetensors").read_bytes(),
        )
    assert bits[0] == bits[2]
    assert said[0].count("test ") == 0 and said[2].count("  test ") == 3
    column = [line.split(",")[-1] for line in (tmp_path / "2" / "history.csv").read_text().split()]
    assert column[0] == "test_accuracy" and [bool(v) for v in column[1:]] == [False, True] * 3


@pytest.mark.slow
def test_what_is_done_is_not_done_again(options, tmp_path):
    for said in ("epoch 6/6", "exactly this training is finished"):
        run = program("wa.training.launch", "--", *options)
        assert run.returncode == 0 and said in run.stdout, run.stdout
    run = program("wa.training.launch", "--", *options, "--lr", "0.04")
    assert "epoch 6/6" in run.stdout


def test_sync_batch_norm_needs_gpus(options, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(engine.Processes, "precision", lambda self, asked: "float32")  # agreed on
    with pytest.raises(UserError, match="sync_batch_norm needs GPUs"):
        trainer_of([*options, "--sync-batch-norm"])


def test_recipe_defaults_are_exact_and_safe():
    assert (
        Settings().deterministic
        and Settings().precision == "auto"
        and not Settings().sync_batch_norm
    )
    assert json.loads(json.dumps(Settings().flags())) == ""


@pytest.mark.parametrize(
    "n, batch_size, processes, sizes",
    [
        (40, 13, 1, [13, 13, 14]),  # a last batch of one image joins the one before
        (41, 13, 1, [13, 13, 13, 2]),
        (39, 13, 1, [13, 13, 13]),
        (5, 16, 1, [5]),
        (35, 16, 2, [16, 19]),
        (36, 16, 2, [16, 16, 4]),
    ],
)
def test_each_process_has_two_images_in_each_batch(n, batch_size, processes, sizes):
    parts = batches.split(torch.arange(n), batch_size, processes)
    assert [len(part) for part in parts] == sizes
    assert torch.cat(parts).equal(torch.arange(n))

"""The loss of each algorithm that trains, against its paper's equations in loops and float64."""

import copy
import math

import numpy as np
import pytest
import torch
from helpers import program, task_options
from torch._subclasses.fake_tensor import FakeTensorMode

from wa.checkpoint import STATE, write_checkpoint
from wa.data.packed import hashes
from wa.errors import UserError
from wa.files import read_json, write_arrays
from wa.methods import algorithm
from wa.methods.learner import Learner
from wa.models.cosine_classifiers import centres
from wa.models.feature_maps import FeatureMaps
from wa.models.model import CilModel, growth
from wa.training import train
from wa.training.engine import Trainer

IMAGES = 12  # of the batch that losses are compared on


@pytest.fixture
def trainer(digits, tmp_path):
    """A function from an algorithm to a Trainer of the second task: 4 old classes, 2 new ones."""
    dataset, order = (read_json(digits / f"{name}.json") for name in ("dataset", "order"))
    facts = {"backbone": "resnet8", "in_channels": 1, "task_sizes": [4], "bias": True}
    facts |= {"input_size": [8, 8], "classes": order["names"][:4], "data_sha256": hashes(dataset)}
    label = np.argsort(order["order"])[np.load(digits / "train_labels.npy")]
    rows = [np.flatnonzero(label == c) for c in range(4)]
    ranking = {"ranking": np.concatenate(rows), "counts": np.array([len(r) for r in rows])}
    write_arrays(tmp_path / "herding.npz", {"data_sha256": hashes(dataset)}, **ranking)

    def make(name: str, *options: object, given: dict | None = None, state: object = None):
        torch.manual_seed(0)
        old = CilModel("resnet8", 1, [4], classifier=learner_class(name).classifier)
        tensors = old.tensors()
        if state:
            tensors |= {f"{STATE}{k}": v for k, v in state(old).items()}
        write_checkpoint(tmp_path / "model.safetensors", tensors, facts)
        words = algorithm.to_words(algorithm.with_defaults(name, given or {}))
        files = ["--data", digits, "--order", digits / "order.json", "--output", tmp_path]
        files += ["--model", tmp_path / "model.safetensors"]
        files += ["--ranking", tmp_path / "herding.npz", "--tasks", 4, 2, "--backbone", "resnet8"]
        files += ["--augmentation", "crop-1", "--batch-size", 64, "--epochs", 1]
        files += ["--precision", "float32", "--device", "cpu", "--memory", "40"]
        files += ["--algorithm", name, "--options", *words]
        return train.prepare(*train.parse([str(o) for o in (*files, *options)]))

    return make


def learner_class(name: str) -> type:
    return algorithm.load(name, "Learner")


def batch(trainer: Trainer) -> tuple[torch.Tensor, torch.Tensor]:
    """Images, and labels of old and new classes."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(IMAGES, 1, 8, 8, generator=generator)
    return x, torch.arange(IMAGES) % trainer.task.n_seen


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / math.sqrt((a @ a) * (b @ b)))


def features_of(backbone: torch.nn.Module, x: torch.Tensor) -> np.ndarray:
    with torch.no_grad():
        return backbone(x).double().numpy()


def test_ewc_penalises_what_mattered(trainer):
    def state(old: CilModel) -> dict:
        return {k: np.full(p.shape, 0.5, np.float32) for k, p in old.named_parameters()}

    one = trainer("ewc", given={"strength": 3}, state=state)
    assert one.learner.penalizes and one.learner.penalty() == 0
    before = {k: p.detach().double().clone() for k, p in one.model.named_parameters()}
    one.epoch(0)
    total = 0.0
    for name, p in one.model.named_parameters():
        if name in one.learner.state:
            total += (0.5 * (p.detach().double() - before[name]) ** 2).sum().item()
    assert 0 < one.learner.penalty().item() == pytest.approx(3 / 2 * total, rel=1e-4)


def test_ewcs_fisher_information_is_the_mean_square_of_the_gradients(trainer):
    def state(old: CilModel) -> dict:
        return {k: np.full(p.shape, 2.0, np.float32) for k, p in old.named_parameters()}

    one = trainer("ewc", given={"decay": 0.5, "largest": 1e-3}, state=state)
    one.task.train = one.task.train.part(np.arange(len(one.task.train)) % 40 == 0)
    found = one.learner.end()
    one.model.eval()
    squares = {name: 0.0 for name, _ in one.model.named_parameters()}
    n = len(one.task.train)
    for row in range(n):
        x = next(one.task.train.batches([torch.tensor([row])]))
        x = (x / 255 - one.mean.view(1, -1, 1, 1)) / one.std.view(1, -1, 1, 1)
        one.model.zero_grad()
        probability = one.model(x).softmax(dim=1)[0, one.task.train.label[row]]
        probability.log().backward()
        for name, p in one.model.named_parameters():
            squares[name] = squares[name] + p.grad.double() ** 2
    for name, square in squares.items():
        expected = (square / n).clamp(max=1e-3)
        expected += 0.5 * 2.0 * (name in one.learner.state)
        torch.testing.assert_close(found[name].double(), expected, rtol=1e-3, atol=1e-7)
    assert set(found) == set(squares)


def test_ewc_with_a_frozen_backbone_keeps_its_fisher_information(trainer):
    def state(old: CilModel) -> dict:
        return {k: np.full(p.shape, 2.0, np.float32) for k, p in old.named_parameters()}

    one = trainer("ewc", "--freeze", given={"decay": 0.5}, state=state)
    one.epoch(0)
    found = one.learner.end()
    assert set(found) == {name for name, _ in one.model.named_parameters()}
    assert (found["backbone.bn1.bias"] == 2).all()
    assert ((found["classifier.heads.0.bias"] - 1) > 0).all()  # half of it, and this task's
    assert (found["classifier.heads.1.bias"] < 1).all()


def test_lucir(trainer):
    one = trainer("lucir", given={"distillation": 2, "margin": 0.6, "rivals": 2})
    x, label = batch(one)
    one.model.eval()
    found = one.learner.losses(x, label)
    new, old = features_of(one.model.backbone, x), features_of(one.teacher.backbone, x)
    rows = torch.cat([h.weight for h in one.model.classifier.heads]).detach().double().numpy()
    exemplars = sum(int(c) < 4 for c in label)
    for i, c in enumerate(label.tolist()):
        cosines = [cosine(row, new[i]) for row in rows]
        log_sum = math.log(sum(math.exp(each) for each in cosines))
        rest = 2 * math.sqrt(4 / 2) * (1 - cosine(new[i], old[i]))
        if c < 4:
            hinge = [max(0, 0.6 - cosines[c] + rival) for rival in cosines[4:]]
            rest += sum(hinge) / 2 * IMAGES / exemplars
        assert found.classification[i].item() == pytest.approx(log_sum - cosines[c], rel=1e-4)
        assert found.other[i].item() == pytest.approx(rest, rel=1e-3, abs=1e-4)


def test_lucir_imprints_new_rows_and_keeps_old_ones(trainer):
    one = trainer("lucir")
    old, new = one.model.classifier.heads
    features = one.features(one.task.train).double()
    length = np.mean([row.double().norm().item() for row in old.weight.detach()])
    for row, c in zip(new.weight.detach(), (4, 5), strict=True):
        directions = [f / f.norm() for f in features[one.task.train.label == c]]
        mean = sum(directions) / len(directions)
        expected = (mean / mean.norm() * length).float()
        torch.testing.assert_close(row, expected, rtol=1e-3, atol=1e-5)
    before = old.weight.detach().clone()
    one.epoch(0)
    assert torch.equal(old.weight, before)
    assert one.model.classifier.sigma.item() != 1


def test_gdumb_trains_on_equally_many_images_of_each_class(trainer):
    one = trainer("gdumb", "--memory", "24", "--start", "scratch")
    assert np.bincount(one.task.train.label).tolist() == [4] * 6
    again, other = (
        trainer("gdumb", "--memory", "24", "--start", "scratch", "--seed", seed) for seed in (0, 1)
    )
    assert torch.equal(one.task.train.index, again.task.train.index)
    assert not torch.equal(one.task.train.index, other.task.train.index)


@pytest.mark.parametrize("name", ["gdumb", "eeil", "der", "podnet"])
def test_no_algorithm_chooses_images_that_are_held_out(name, trainer):
    """Of 6 exemplars of an old class, 3 are held out. So a share of 4 becomes one of 3."""
    start = "scratch" if name == "gdumb" else "previous"
    one = trainer(name, "--memory", "24", "--held-out", 0.5, "--start", start)
    assert np.bincount(one.task.images.label[one.task.held_out]).tolist() == [3] * 6
    chosen = one.task.train if name == "gdumb" else one.learner.begin_second()
    assert np.bincount(chosen.label).tolist() == [3] * 6
    assert not np.isin(chosen.index, one.task.images.index[one.task.held_out]).any()


@pytest.mark.parametrize("name", ["gdumb", "eeil", "der", "foster"])
def test_a_method_that_needs_a_memory_says_so(name, trainer):
    with pytest.raises(UserError, match=f"algorithm {name} needs a memory"):
        trainer(name, "--memory", 0).begin_second()


@pytest.mark.parametrize("name", ["lucir", "podnet", "eeil", "der", "foster"])
def test_a_loss_reads_nothing_back_from_a_gpu(name, trainer, monkeypatch):
    """The tensors only pretend to be on a GPU. So it is an error if Python asks for a value."""
    one = trainer(name)
    with FakeTensorMode(allow_non_fake_inputs=False), torch.device("cuda"):
        kind = one.learner.classifier
        one.learner.model = CilModel("resnet8", 1, [4, 2], classifier=kind)
        one.learner.teacher = CilModel("resnet8", 1, [4], classifier=kind)
        if name in ("der", "foster"):
            one.learner.old = CilModel("resnet8", 1, [4, 2])
            with monkeypatch.context() as patched:  # a copy would be no tensor of this GPU
                patched.setattr("copy.deepcopy", lambda _: CilModel("resnet8", 1, [4]).backbone)
                one.learner.model.grow()
            one.learner.model.auxiliary = torch.nn.Linear(64, 6)
            one.learner.weights = torch.ones(6)
        if name == "podnet":
            one.learner.maps = FeatureMaps(one.learner.model.backbone)
            one.learner.maps_before = FeatureMaps(one.learner.teacher.backbone)
        x, label = torch.zeros(12, 1, 8, 8), torch.zeros(12, dtype=torch.int64)
        parts = one.losses(x, label)
        assert all(part.device.type == "cuda" and part.shape == (12,) for part in parts)


def kl(wanted: np.ndarray, found: np.ndarray, temperature: float = 2) -> float:
    p, q = (np.exp(z / temperature) / np.exp(z / temperature).sum() for z in (wanted, found))
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))


def test_eeil_distils_the_new_classes_in_the_second_stage_only(trainer):
    one = trainer("eeil", given={"distillation": 0.5, "fine_tuning_epochs": 2})
    x, label = batch(one)
    one.model.eval()
    with torch.no_grad():
        teacher = one.teacher(x).double().numpy()
        first = one.model(x).double().numpy()
    for second in (False, True):
        if second:
            one.begin_second()
            for head in one.model.classifier.heads:
                head.weight.data.mul_(1.5)
        one.model.eval()
        found = one.learner.losses(x, label)
        with torch.no_grad():
            logits = one.model(x).double().numpy()
        for i, c in enumerate(label.tolist()):
            log_sum = math.log(sum(math.exp(each) for each in logits[i]))
            kd = kl(teacher[i], logits[i][:4])
            if second:
                kd += kl(first[i][4:], logits[i][4:])
            assert found.other[i].item() == pytest.approx(kd, rel=1e-3, abs=1e-6)
            total = log_sum - logits[i][c] + 0.5 * kd
            assert found.total[i].item() == pytest.approx(total, rel=1e-4)


def test_the_second_stage_of_eeil_has_a_recipe_and_images_of_its_own(trainer):
    one = trainer("eeil", "--memory", "24", given={"fine_tuning_epochs": 12})
    assert one.epochs == 13
    first = one.epoch(0)
    rates = [one.epoch(epoch)["lr"] for epoch in (1, 10, 11)]
    assert np.bincount(one.task.train.label).tolist() == [4] * 6
    assert first["lr"] == 0.1 and rates == pytest.approx([0.01, 0.01, 0.001])


def test_podnet(trainer):
    one = trainer("podnet", given={"spatial": 2, "flat": 0.7})
    with torch.no_grad():
        one.model.classifier.eta.fill_(1.5)
    x, label = batch(one)
    one.model.eval()
    found = one.learner.losses(x, label)
    new, old = features_of(one.model.backbone, x), features_of(one.teacher.backbone, x)
    maps = [m.detach().double().numpy() for m in one.learner.maps.maps]
    before = [m.detach().double().numpy() for m in one.learner.maps_before.maps]
    proxies = one.model.classifier.proxies().detach().double().numpy()
    assert proxies.shape == (6, 10, 64) and len(maps) == 3

    def pooled(map_: np.ndarray) -> np.ndarray:
        rows = [(row**2).sum() for channel in map_ for row in channel]
        columns = [(column**2).sum() for channel in map_ for column in channel.T]
        return np.array(rows + columns) / np.linalg.norm(rows + columns)

    for i, c in enumerate(label.tolist()):
        y = []
        for of_class in proxies:
            near = [cosine(proxy, new[i]) for proxy in of_class]
            powers = [math.exp(each) for each in near]
            y.append(sum(p * each for p, each in zip(powers, near, strict=True)) / sum(powers))
        others = sum(math.exp(1.5 * (y[k] if k != c else max(y))) for k in range(6))
        lsc = -math.log(math.exp(1.5 * y[c]) / others)
        apart = [
            np.linalg.norm(pooled(a[i]) - pooled(b[i])) for a, b in zip(maps, before, strict=True)
        ]
        rest = 2 * sum(apart) / 3 + 0.7 * (1 - cosine(new[i], old[i]))
        assert found.classification[i].item() == pytest.approx(lsc, rel=1e-4)
        assert found.other[i].item() == pytest.approx(math.sqrt(6 / 2) * rest, rel=2e-3, abs=1e-3)
    assert sum(apart) > 0


def test_podnets_loss_does_not_ask_for_a_negative_scale(trainer):
    """With the margin of the paper, a scale of -7.7 made the loss 0 with nothing learned."""
    one = trainer("podnet").learner
    label = torch.arange(6)
    eta = one.model.classifier.eta
    one.lsc(torch.full((6, 6), 0.3), label).sum().backward()  # no class is told from another
    assert eta.grad.item() == pytest.approx(0, abs=1e-6)
    with torch.no_grad():
        eta.fill_(-8)
    assert one.lsc(torch.eye(6), label).min() > 1  # right, and yet the scale turns it round


def test_podnet_keeps_old_proxies_and_then_trains_the_classifier_alone(trainer):
    one = trainer("podnet", given={"fine_tuning_epochs": 1})
    classifier = one.model.classifier
    old = classifier.proxies()[:4].detach().clone()
    one.epoch(0)
    assert torch.equal(classifier.proxies()[:4], old)
    eta, backbone = classifier.eta.item(), one.model.backbone.conv1.weight.detach().clone()
    assert eta != 1
    one.epoch(1)
    assert np.ptp(np.bincount(one.task.train.label)) == 0
    assert not torch.equal(classifier.proxies()[:4], old)
    assert classifier.eta.item() == eta
    assert torch.equal(one.model.backbone.conv1.weight, backbone)


def softmax_loss(logits: np.ndarray, c: int) -> float:
    return math.log(sum(math.exp(each) for each in logits)) - float(logits[c])


def linear(layer: torch.nn.Linear, features: np.ndarray) -> np.ndarray:
    weight, bias = (p.detach().double().numpy() for p in layer.parameters())
    return np.array([row @ features + b for row, b in zip(weight, bias, strict=True)])


def test_der(trainer):
    one = trainer("der", given={"auxiliary": 0.5, "temperature": 4, "fine_tuning_epochs": 1})
    x, label = batch(one)
    one.model.eval()
    first, second = (features_of(branch, x) for branch in one.model.backbone.branches)
    np.testing.assert_array_equal(first, second)  # the new network begins as a copy
    with torch.no_grad():
        for p in one.model.backbone.branches[1].parameters():
            p.add_(0.05 * torch.randn_like(p))
    second = features_of(one.model.backbone.branches[1], x)
    found = one.learner.losses(x, label)
    auxiliary = one.model.auxiliary
    assert auxiliary.weight.shape == (3, 64)
    for i, c in enumerate(label.tolist()):
        joined = np.concatenate([first[i], second[i]])
        logits = np.concatenate([linear(head, joined) for head in one.model.classifier.heads])
        kind = 0 if c < 4 else c - 3
        of_new = softmax_loss(linear(auxiliary, second[i]), kind)
        assert found.classification[i].item() == pytest.approx(softmax_loss(logits, c), rel=1e-4)
        assert found.other[i].item() == pytest.approx(of_new, rel=1e-4)
        total = softmax_loss(logits, c) + 0.5 * of_new
        assert found.total[i].item() == pytest.approx(total, rel=1e-4)
        assert found.right[i].item() == (logits.argmax() == c)
    one.begin_second()
    one.model.eval()
    found = one.learner.losses(x, label)
    for i, c in enumerate(label.tolist()):
        joined = np.concatenate([first[i], second[i]])
        logits = np.concatenate([linear(head, joined) for head in one.model.classifier.heads])
        assert found.total[i].item() == pytest.approx(softmax_loss(logits / 4, c), rel=1e-4)


def test_der_trains_the_new_network_and_then_the_classifier_alone(trainer):
    one = trainer("der", "--memory", "24", given={"fine_tuning_epochs": 2})
    before = {k: v.clone() for k, v in one.model.state_dict().items()}
    first = one.epoch(0)
    after = {k: v.clone() for k, v in one.model.state_dict().items()}
    moved = {k for k, v in after.items() if not torch.equal(v, before[k])}
    assert {k.split(".")[2] for k in moved if k.startswith("backbone")} == {"1"}
    assert {"auxiliary.weight", "classifier.heads.0.weight"} <= moved
    rates = [one.epoch(epoch)["lr"] for epoch in (1, 2)]
    assert first["lr"] == 0.1 and rates == pytest.approx([0.1, 0.01])
    assert np.bincount(one.task.train.label).tolist() == [4] * 6
    for name, tensor in one.model.state_dict().items():
        assert torch.equal(tensor, after[name]) == name.startswith("backbone"), name
    assert not any("auxiliary" in name for name in one.model.tensors())


def test_memo(trainer):
    one = trainer("memo", given={"auxiliary": 0.5})
    x, label = batch(one)
    one.model.eval()
    stage, inputs = one.model.backbone.layer3, []
    hook = stage.register_forward_hook(lambda module, args, output: inputs.append(args[0]))
    found = one.learner.losses(x, label)
    hook.remove()
    with torch.no_grad():
        maps = [branch(inputs[0]).double().numpy() for branch in stage.branches]
    assert len(maps) == 2 and one.model.auxiliary.weight.shape == (3, 64)
    for i, c in enumerate(label.tolist()):
        means = [np.array([channel.mean() for channel in each[i]]) for each in maps]
        joined = np.concatenate(means)
        logits = np.concatenate([linear(head, joined) for head in one.model.classifier.heads])
        of_new = softmax_loss(linear(one.model.auxiliary, means[1]), 0 if c < 4 else c - 3)
        total = softmax_loss(logits, c) + 0.5 * of_new
        assert found.total[i].item() == pytest.approx(total, rel=1e-4)
        assert found.other[i].item() == pytest.approx(of_new, rel=1e-4)


def test_memo_trains_what_is_shared_unless_it_is_frozen(trainer):
    for options, shared in (((), {"conv1", "bn1", "layer1", "layer2"}), (("--freeze",), set())):
        one = trainer("memo", *options)
        before = {k: v.clone() for k, v in one.model.backbone.state_dict().items()}
        one.epoch(0)
        after = one.model.backbone.state_dict()
        moved = {k for k, v in after.items() if not torch.equal(v, before[k])}
        assert {k.split(".")[0] for k in moved} == shared | {"layer3"}
        assert {k.split(".")[2] for k in moved if k.startswith("layer3")} == {"1"}


def effective(counts: list[int], beta: float) -> np.ndarray:
    inverse = [(1 - beta) / (1 - beta**n) for n in counts]
    return np.array([each * len(counts) / sum(inverse) for each in inverse])


def test_foster(trainer):
    given = {"beta": 0.9, "compression_beta": 0.95, "distillation": 0.5, "compression_epochs": 1}
    one = trainer("foster", given=given)
    x, label = batch(one)
    old_heads = [copy.deepcopy(head) for head in one.learner.old.classifier.heads]
    with torch.no_grad():
        for p in one.model.backbone.branches[1].parameters():
            p.add_(0.05 * torch.randn_like(p))
    one.model.eval()
    first, second = (features_of(branch, x) for branch in one.model.backbone.branches)
    counts = np.bincount(one.task.train.label).tolist()
    assert len(counts) == 6 and counts[0] < counts[5]

    def both(i: int) -> np.ndarray:
        joined = np.concatenate([first[i], second[i]])
        return np.concatenate([linear(head, joined) for head in one_heads])

    one_heads = [copy.deepcopy(head) for head in one.model.classifier.heads]
    found = one.learner.losses(x, label)
    w = effective(counts, 0.9)
    for i, c in enumerate(label.tolist()):
        logits = both(i)
        aligned = softmax_loss(logits / w, c)
        kd = kl(linear(old_heads[0], first[i]), logits[:4])
        other = softmax_loss(linear(one.model.auxiliary, second[i]), c) + 0.5 * kd
        assert found.classification[i].item() == pytest.approx(aligned, rel=1e-4)
        assert found.other[i].item() == pytest.approx(other, rel=1e-4)
        assert found.total[i].item() == pytest.approx(aligned + other, rel=1e-4)

    one.begin_second()
    assert one.model.backbone.features == 64 and len(one.parameters) == len(
        list(one.model.parameters())
    )
    assert one.settings.weight_decay == 0 and growth(one.model) == {}
    for a, b in zip(one.model.classifier.heads, old_heads, strict=True):
        assert torch.equal(a.weight, b.weight)  # of the model before, and rows for new classes
    with torch.no_grad():
        for p in one.model.parameters():
            p.add_(0.02 * torch.randn_like(p))
    one.model.eval()
    student = features_of(one.model.backbone, x)
    found = one.learner.losses(x, label)
    w = effective(counts, 0.95)
    for i in range(len(label)):
        wanted = w * np.exp(both(i) / 2)
        wanted /= wanted.sum()
        logits = np.concatenate([linear(head, student[i]) for head in one.model.classifier.heads])
        loss = sum(p * softmax_loss(logits / 2, c) for c, p in enumerate(wanted))
        assert found.total[i].item() == pytest.approx(loss, rel=1e-4)


def test_a_class_without_images_leaves_foster_finite(trainer):
    """`wa forget` may have removed the exemplars of a class."""
    one = trainer("foster")
    one.task.train = one.task.train.part((one.task.train.label != 1).numpy())
    counts = np.bincount(one.task.train.label).tolist()
    there = [c for c in range(6) if c != 1]
    weights = one.learner.aligning(0.96)
    expected = effective([counts[c] for c in there], 0.96)
    np.testing.assert_allclose(weights[there], expected, rtol=1e-5)
    assert counts[1] == 0 and weights[1] == 1


def test_foster_leaves_one_network_unless_it_does_not_compress(trainer):
    one = trainer("foster", given={"compression_epochs": 1})
    old = {k: v.clone() for k, v in one.model.backbone.branches[0].state_dict().items()}
    for epoch in range(one.epochs):
        one.epoch(epoch)
    now = one.model.backbone.state_dict()
    assert old.keys() == now.keys() and not torch.equal(old["conv1.weight"], now["conv1.weight"])
    one = trainer("foster", given={"compression_epochs": 0})
    assert one.epochs == 1
    one.epoch(0)
    now = one.model.backbone.branches
    assert growth(one.model) == {"grown": "network", "branches": 2}
    assert all(torch.equal(v, old[k]) for k, v in now[0].state_dict().items())


def test_centres_are_the_means_of_what_is_nearest_to_them():
    torch.manual_seed(0)
    clusters = torch.tensor([[0.0, 0], [10, 0], [0, 10]])
    features = clusters.repeat(20, 1) + torch.randn(60, 2)
    found = centres(features, 3)
    expected = torch.stack([features[c::3].mean(dim=0) for c in (0, 2, 1)])
    torch.testing.assert_close(found, expected)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ewc", "lucir", "eeil", "podnet", "der", "foster"])
def test_two_processes_train_as_one(name, digits, tmp_path, monkeypatch):
    """Two tasks, joined by gloo. The loss is that of one process, except for batch norm."""
    losses = {}
    small = algorithm.with_defaults(name, {})
    words = algorithm.to_words(small | {key: 1 for key in small if key.endswith("_epochs")})
    for processes in (1, 2):
        folders = [tmp_path / f"{processes}-{task}" for task in range(2)]
        for task, folder in enumerate(folders):
            options = task_options(digits, folder, *[4, 2][: task + 1])
            options += ["--algorithm", name, "--options", *words, "--memory", 40 if task else 0]
            options += ["--epochs", 1, "--batch-size", 128]
            if task:
                before = folders[0] / "trained.safetensors"
                options += ["--model", before, "--ranking", folders[0] / "herding.npz"]
            torchrun = ["--standalone", "--nproc-per-node", processes, "-m", "wa.training.train"]
            run = program("torch.distributed.run", *torchrun, *options)
            assert run.returncode == 0, run.stdout
            features = ["--features", folder / "features.npz"]
            if not task:
                run = program("wa.methods.selection", *features, "--output", folder / "herding.npz")
                assert run.returncode == 0, run.stdout
        rows = (folders[1] / "history.csv").read_text().splitlines()[1:]
        losses[processes] = [float(row.split(",")[2]) for row in rows]
    assert losses[2] == pytest.approx(losses[1], rel=0.25)


class Scalar(Learner):
    def losses(self, x, label):
        found = super().losses(x, label)
        return found._replace(total=found.total.mean())


def test_a_loss_that_is_one_number_is_refused(trainer):
    made = trainer("ewc")
    made.learner = Scalar(made, {}, {})
    with pytest.raises(
        UserError, match=r"`total` of its losses must have one value for each image"
    ):
        made.epoch(0)

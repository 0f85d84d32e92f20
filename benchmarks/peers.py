"""The same small problem for the methods here and for other people's code: how far apart they are.

    git clone https://github.com/LAMDA-CL/PyCIL PEERS/PyCIL        # and the others of REPOSITORIES
    .venv/bin/python benchmarks/peers.py --peers PEERS

Each comparison imports a class or a function of the other repository from its checkout, and gives
it the arrays that it gives to the method here: features and labels, or weights and batches. Where a
loss stands inside a training loop, both train for a few steps from the same weights on the same
batches. The largest difference of a weight then says whether the losses and their gradients agree.
`relative` is the largest difference divided by the largest value. No code of theirs is here, but it
runs with your rights: look at a checkout first.
"""

import argparse
import copy
import importlib
import importlib.util
import subprocess
import sys
import types
from pathlib import Path
from types import SimpleNamespace as Space
from unittest import mock

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from wa.methods import algorithm
from wa.methods.alignment import align_weight
from wa.methods.feature_classifier import Learned
from wa.models.cosine_classifiers import ProxyClassifier
from wa.models.model import CilModel
from wa.study.settings import Settings

# What each comparison needs: folders of PEERS, as github names the repositories.
REPOSITORIES = {
    "simplecil": ["LAMDA-PILOT"],
    "slda": ["Deep_SLDA"],
    "fecam": ["FeCAM", "LAMDA-PILOT"],
    "ranpac": ["RanPAC", "LAMDA-PILOT"],
    "il2m": ["FACIL"],
    "ewc": ["PyCIL", "FACIL", "mammoth"],
    "eeil": ["FACIL"],
    "lucir": ["CVPR19_Incremental_Learning", "FACIL", "mammoth"],
    "podnet": ["incremental_learning.pytorch", "PyCIL"],
    "der": ["PyCIL", "DER-ClassIL.pytorch"],
    "memo": ["ICLR23-MEMO"],
    "foster": ["ECCV22-FOSTER"],
}
OLD, NEW, BATCH, STEPS = 10, 5, 32, 5
RATE, DECAY = 0.05, 5e-4
FEATURES = ""  # a file, see --features
CPU = torch.device("cpu")


def report(peer: str, what: str, theirs: object, ours: object) -> None:
    """A line of the table. theirs, ours: arrays or tensors of one shape, or lists of them."""
    pairs = zip(theirs, ours, strict=True) if isinstance(theirs, list) else [(theirs, ours)]
    apart = largest = 0.0
    for a, b in pairs:
        a, b = (np.asarray(torch.as_tensor(v).detach(), np.float64) for v in (a, b))
        assert a.shape == b.shape, (what, a.shape, b.shape)
        apart, largest = max(apart, np.abs(a - b).max()), max(largest, np.abs(a).max())
    print(f"  {peer:26}{what:58}{apart:10.1e}{apart / largest:11.1e}", flush=True)


def say(peer: str, what: str, figure: object) -> None:
    print(f"  {peer:26}{what:58}{figure}", flush=True)


def predictions(peer: str, theirs: np.ndarray, ours: np.ndarray, label: np.ndarray, of="") -> None:
    """How many predictions are the same, and how many are right. theirs, ours: scores."""
    one, other = theirs.argmax(axis=1), ours.argmax(axis=1)
    say(peer, f"same predictions{of and ', '}{of}", f"{100 * (one == other).mean():.1f} %")
    right = f"{100 * (one == label).mean():.1f} and {100 * (other == label).mean():.1f} %"
    say(peer, f"accuracy theirs and ours{of and ', '}{of}", right)


# How to import from a checkout


def enter(folder: Path) -> None:
    """Import from this checkout, and pass by what it imports and does not need here.

    A comparison that enters several checkouts must forget the modules of the one before.
    """
    names = {p.stem for p in folder.iterdir()}
    for name in [n for n in sys.modules if n.split(".")[0] in names | {"models", "utils", "convs"}]:
        del sys.modules[name]
    sys.path.insert(0, str(folder))
    for part in folder.iterdir():  # else a package of the same name in .venv is taken
        if part.is_dir() and not (part / "__init__.py").exists() and part.name.isidentifier():
            sys.modules[part.name] = module = types.ModuleType(part.name)
            module.__path__ = [str(part)]


def pretend(**modules: object) -> None:
    """Let modules be imported that are not there. The names have `__` for a dot."""
    for name, content in modules.items():
        module = types.ModuleType(name.replace("__", "."))
        module.__dict__.update(content)
        module.__getattr__ = lambda attribute: mock.MagicMock()
        module.__path__, module.__all__ = [], []
        sys.modules[module.__name__] = module


def from_file(path: Path) -> types.ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def with_old_losses() -> None:
    """Let MarginRankingLoss take a target without the second dimension of 1, as it once did."""
    loss = F.margin_ranking_loss
    F.margin_ranking_loss = lambda a, b, target, **options: loss(
        a, b, target.view(-1, 1), **options
    )


def without_gpu() -> None:
    """Let code that asks for a GPU stay on the CPU."""
    to = torch.Tensor.to

    def here(self, *args, **options):
        if "cuda" in map(str, (*args, *options.values())):
            return self
        return to(self, *args, **options)

    torch.Tensor.to = here
    torch.Tensor.cuda = nn.Module.cuda = lambda self, *args, **options: self


# The problems


def feature_problem() -> list[tuple[np.ndarray, np.ndarray]]:
    """Two tasks and test images, as (features, labels). 15 classes, 48 numbers, none below 0.

    With --features, the features of that file.
    """
    if FEATURES:
        of = np.load(FEATURES)
        x, label, old = of["features"], of["label"], of["label"] < OLD
        return [
            (x[old], label[old]),
            (x[~old], label[~old]),
            (of["test_features"], of["test_label"]),
        ]
    draw = np.random.default_rng(0)
    centres = draw.standard_normal((OLD + NEW, 48))

    def images(classes: range, each: int) -> tuple[np.ndarray, np.ndarray]:
        label = np.repeat(classes, each)
        x = centres[label] + 1.5 * draw.standard_normal((len(label), 48))
        return np.maximum(x, 0).astype(np.float32), label

    return [images(range(OLD), 80), images(range(OLD, OLD + NEW), 80), images(range(OLD + NEW), 20)]


def fitted(name: str, tasks: list, **options: object) -> tuple[object, dict]:
    """The feature classifier of a method here, after all tasks."""
    one = algorithm.load(name, "FeatureClassifier")(algorithm.with_defaults(name, options), 0)
    state, sizes = {}, []
    for x, label in tasks:
        sizes = [*sizes, len(np.unique(label))]
        nothing = np.zeros((sum(sizes), x.shape[1])), np.zeros(sum(sizes))
        state = one.fit(Learned(x, label, sizes, *nothing, {}), state)
    return one, state


class ImagesOf:
    """Images of a task: as much of wa.data.batches.Images as learners use here."""

    def __init__(self, x: torch.Tensor, label: torch.Tensor):
        self.x, self.label = x, label

    def __len__(self) -> int:
        return len(self.label)


def batches(count: int = STEPS) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Batches of made-up images of old and new classes, (B, 3, 32, 32)."""
    draw = torch.Generator().manual_seed(0)
    label = torch.arange(BATCH) % (OLD + NEW)
    patterns = torch.randn(OLD + NEW, 3, 32, 32, generator=draw)
    return [
        (patterns[label] + torch.randn(BATCH, 3, 32, 32, generator=draw), label)
        for _ in range(count)
    ]


def numbered(some: list) -> list:
    """Batches as PyCIL's loaders give them."""
    return [(0, x, label) for x, label in some]


def learner(name: str, counts: tuple[int, int] = (40, 500), **options: object):
    """A learner of the second task, in float64.

    counts: training images of an old and of a new class.
    """
    cls = algorithm.load(name, "Learner")
    # In float32 a ReLU whose input is nearly 0 switches, and then all weights differ a little.
    torch.set_default_dtype(torch.float64)
    torch.Tensor.float = torch.Tensor.double
    torch.manual_seed(0)
    model = CilModel("resnet8", 3, [OLD], classifier=cls.classifier)
    for x, label in batches():  # for statistics of batch norm, and weights that are not the first
        F.cross_entropy(model(x), label % OLD).backward()
    torch.optim.SGD(model.parameters(), 0.05).step()
    model.zero_grad()
    teacher = copy.deepcopy(model).requires_grad_(False).eval()
    model.classifier.grow(NEW)
    each = [counts[0]] * OLD + [counts[1]] * NEW
    train = ImagesOf(torch.cat([x for x, _ in batches()]), torch.cat([y for _, y in batches()]))
    if name == "foster":
        train.label = torch.repeat_interleave(torch.arange(OLD + NEW), torch.tensor(each))
    sizes = [OLD, NEW]
    memory = Space(is_none=False, per_class=lambda classes: 40)
    task = Space(n_old=OLD, n_seen=OLD + NEW, sizes=sizes, train=train, images=train, memory=memory)
    processes = Space(sum=lambda tensor: None, share_buffers=lambda model: None)
    trainer = Space(model=model, teacher=teacher, task=task, settings=Settings(), seed=0)
    trainer.processes, trainer.device = processes, CPU

    @torch.no_grad()
    def features(images: ImagesOf) -> torch.Tensor:
        model.eval()
        return model.backbone(images.x)

    trainer.features = features
    trainer.prepared = lambda images, size: zip(
        images.x.split(size), images.label.split(size), strict=True
    )
    one = cls(trainer, algorithm.with_defaults(name, options), {})
    return one


def sgd(parameters: object) -> torch.optim.Optimizer:
    trained = [p for p in parameters if p.requires_grad]
    return torch.optim.SGD(trained, RATE, momentum=0.9, weight_decay=DECAY)


def steps(one: object, some: list, decay: float = DECAY) -> None:
    """Train a learner, one step for each batch."""
    trained = [p for p in one.model.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(trained, RATE, momentum=0.9, weight_decay=decay)
    one.model.train()
    for x, label in some:
        optimizer.zero_grad()
        one.losses(x, label).total.mean().backward()
        optimizer.step()


def schedule(optimizer: torch.optim.Optimizer) -> object:
    return torch.optim.lr_scheduler.MultiStepLR(optimizer, [1000])


def rows(classifier: nn.Module) -> torch.Tensor:
    return torch.cat([head.weight.detach() for head in classifier.heads])


def biases(classifier: nn.Module) -> torch.Tensor:
    return torch.cat([head.bias.detach() for head in classifier.heads])


@torch.no_grad()
def put(layer: nn.Module, weight: torch.Tensor, bias: torch.Tensor | None = None) -> None:
    """Give a linear layer of theirs our weights."""
    layer.weight.copy_(weight)
    if bias is not None:
        layer.bias.copy_(bias)


class Convnet(nn.Module):
    """Our network, with the outputs that PyCIL's have."""

    def __init__(self, backbone: nn.Module):
        super().__init__()
        self.net, self.out_dim = backbone, backbone.features

    def forward(self, x: torch.Tensor) -> dict:
        return {"features": self.net(x)}


class Base(nn.Module):
    """Our network without its last stage (MEMO)."""

    def __init__(self, backbone: nn.Module):
        super().__init__()
        self.net = copy.deepcopy(backbone)
        self.net.layer3 = nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu(self.net.bn1(self.net.conv1(x)))
        return self.net.layer2(self.net.layer1(x))


class Last(nn.Module):
    """The last stage of our network (MEMO)."""

    def __init__(self, stage: nn.Module, width: int):
        super().__init__()
        self.stage, self.feature_dim = copy.deepcopy(stage), width

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.stage(x).mean(dim=(2, 3))


def all_of(*modules: nn.Module) -> list[torch.Tensor]:
    return [t for m in modules for t in m.state_dict().values() if t.is_floating_point()]


def made(cls: type, **attributes: object) -> object:
    """An object of their class that was not initialised."""
    one = cls.__new__(cls)
    one.__dict__.update(attributes)
    return one


# The comparisons of classifiers on frozen features


def simplecil(peers: Path) -> None:
    tasks = feature_problem()
    x, label = tasks.pop()
    one, state = fitted("simplecil", tasks)
    enter(peers / "LAMDA-PILOT")
    pretend(timm={}, timm__models={}, utils__inc_net={})
    pretend(timm__models__layers={}, timm__models__layers__weight_init={})
    theirs = importlib.import_module("models.simplecil").Learner
    cosine = importlib.import_module("backbone.linears").CosineLinear
    fc = cosine(x.shape[1], OLD + NEW)
    model = Space(fc=fc, backbone=nn.Identity(), eval=lambda: model)
    for features, labels in tasks:
        it = made(theirs, _network=model, _device=CPU, train_dataset=Space(labels=labels))
        it.replace_fc([(0, torch.tensor(features), torch.tensor(labels))], model, None)
    scores = fc(torch.tensor(x))["logits"]
    ours, scores = one.scores(x, state), scores.detach().numpy()
    report("PILOT simplecil.py", "cosines of the test images", scores, ours)
    predictions("PILOT simplecil.py", scores, ours, label)


def slda(peers: Path) -> None:
    tasks = feature_problem()
    x, label = tasks.pop()
    one, state = fitted("slda", tasks)
    without_gpu()
    theirs = from_file(peers / "Deep_SLDA/SLDA_Model.py").StreamingLDA
    found = {}
    for start in ("stream", "base"):
        it = theirs(x.shape[1], OLD + NEW)
        for number, (features, labels) in enumerate(tasks):
            features, labels = torch.tensor(features), torch.tensor(labels)
            if start == "base" and not number:
                it.fit_base(features, labels)
                continue
            order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
            for row in order:
                it.fit(features[row], labels[row])
        found[start] = it.predict(torch.tensor(x)).numpy()
        peer = "Deep_SLDA SLDA_Model.py"
        report(peer, f"class means, {start}", it.muK, state["means"])
        sigma = state["scatter"] / state["images"]
        report(peer, f"covariance, {start}", it.Sigma, sigma)
        predictions(peer, found[start], one.scores(x, state), label, start)


def fecam(peers: Path) -> None:
    tasks = feature_problem()
    x, label = tasks.pop()
    one, state = fitted("fecam", tasks)
    ours = one.scores(x, state)
    enter(peers / "FeCAM")
    base = importlib.import_module("models.base").BaseLearner
    compute = importlib.import_module("utils.maha_utils").compute_new_cov
    wanted = "tukey shrink norm_cov full_cov per_class"
    args = dict.fromkeys(wanted.split(), True) | {"beta": 0.5, "alpha1": 1, "alpha2": 1}
    args |= {"ncm": False, "batch_size": 10, "diagonal": False}
    it = made(base, args=args, _cov_mat=[], _device=CPU, _cov_mat_shrink=[], _cur_task=1)
    it._known_classes, it._total_classes = 0, OLD + NEW
    features, labels = (np.concatenate(part) for part in zip(*tasks, strict=True))
    ask = iter(range(OLD + NEW))
    it.data_manager = Space(get_dataset=lambda *a, **k: (0, 0, [0]))
    it._extract_vectors = lambda loader: (features[labels == next(ask)], None)
    compute(it)
    it._cov_mat_shrink = [it.shrink_cov(cov) for cov in it._cov_mat]
    it._norm_cov_mat = it.normalize_cov()
    means = [torch.tensor(features[labels == c].mean(axis=0)) for c in range(OLD + NEW)]
    unit = (x.T / (np.linalg.norm(x.T, axis=0) + 1e-8)).T
    theirs = -it._maha_dist(unit, means, means).T
    # Ours leaves out what all classes share: nothing. Both are -(x - mu)^T A (x - mu).
    report("FeCAM models/base.py", "scores of the test images", theirs, ours)
    predictions("FeCAM models/base.py", theirs, ours, label)
    enter(peers / "LAMDA-PILOT")
    pretend(timm={}, timm__models={}, utils__inc_net={})
    pilot = importlib.import_module("models.fecam").Learner
    model = Space(fc=nn.Linear(x.shape[1], OLD + NEW), backbone=nn.Identity(), eval=lambda: model)
    it = made(pilot, _network=model, _device=CPU, cov_mats=[], alpha=100)
    it._total_classes, it.train_dataset = OLD + NEW, Space(labels=labels)
    it.replace_fc([(0, torch.tensor(features), torch.tensor(labels))], model, None)
    theirs = -it._maha_dist(x, model.fc.weight.data, it.cov_mats).T
    predictions("PILOT fecam.py", theirs, ours, label)


def ranpac(peers: Path) -> None:
    tasks = feature_problem()
    x, label = tasks.pop()
    one = algorithm.load("ranpac", "FeatureClassifier")({"projections": 300}, 0)
    ours, ridges = {}, []
    sizes, chosen = [], one.ridge

    def ridge(h: np.ndarray, y: np.ndarray) -> float:
        # The images are held out in their order, as in the code of the authors.
        fitted, held = np.split(np.arange(len(h)), [int(0.8 * len(h))])
        with mock.patch("numpy.split", return_value=(fitted, held)):
            ridges.append(chosen(h, y))
        return ridges[-1]

    one.ridge = ridge
    draw = torch.Generator().manual_seed(0)
    orders = [torch.randperm(len(labels), generator=draw).numpy() for _, labels in tasks]
    tasks = [(f[o], y[o]) for (f, y), o in zip(tasks, orders, strict=True)]
    for features, labels in tasks:
        sizes = [*sizes, len(np.unique(labels))]
        nothing = np.zeros((sum(sizes), x.shape[1])), np.zeros(sum(sizes))
        ours = one.fit(Learned(features, labels, sizes, *nothing, {}), ours)
    matrix = torch.tensor(np.random.default_rng(0).standard_normal((x.shape[1], 300), "f4"))
    without_gpu()
    for folder, module in (("RanPAC", "RanPAC"), ("LAMDA-PILOT", "models.ranpac")):
        enter(peers / folder)
        pretend(timm={}, timm__models={}, utils__inc_net={}, inc_net={})
        it = made(importlib.import_module(module).Learner, W_rand=matrix, _device=CPU)
        it.args = {"use_RP": True, "M": 300, "nb_classes": OLD + NEW}
        it.total_classnum, theirs = OLD + NEW, []
        it.Q, it.G = torch.zeros(300, OLD + NEW), torch.zeros(300, 300)
        fc = Space(weight=torch.zeros(OLD + NEW, 300), W_rand=matrix)
        model = Space(fc=fc, convnet=nn.Identity(), extract_vector=nn.Identity())
        model.eval, it._network, it.is_dil = (lambda model=model: model), model, False
        asked = it.optimise_ridge_parameter
        it.optimise_ridge_parameter = lambda h, y, asked=asked, kept=theirs: (
            kept.append(float(asked(h, y))) or kept[-1]
        )
        for features, labels in tasks:
            given = [(0, torch.tensor(features), torch.tensor(labels))]
            it.replace_fc(*([given] if folder == "RanPAC" else [given, model, None]))
        peer = f"{folder.removeprefix('LAMDA-')} {module.split('.')[-1]}.py"
        say(peer, "lambda of the tasks, theirs and ours", f"{theirs} and {ridges}")
        scores = F.relu(torch.tensor(x) @ matrix) @ fc.weight.T
        found = one.scores(x, ours)
        report(peer, "scores of the test images", scores, found)
        predictions(peer, scores.numpy(), found, label)


def il2m(peers: Path) -> None:
    draw = np.random.default_rng(0)
    tasks = feature_problem()
    test, _ = tasks.pop()
    one = algorithm.load("il2m", "FeatureClassifier")(algorithm.with_defaults("il2m", {}), 0)
    weights = [draw.standard_normal((n, test.shape[1])) * 0.2 for n in (OLD, OLD + NEW)]
    weights[1][OLD:] *= 1.5  # so that many images are taken for new classes
    old = np.concatenate([np.flatnonzero(tasks[0][1] == c)[:8] for c in range(OLD)])
    with_memory = [np.concatenate([tasks[1][k], tasks[0][k][old]]) for k in (0, 1)]
    enter(peers / "FACIL/src")
    np.float = float  # the name that numpy had then
    theirs = importlib.import_module("approach.il2m").Appr
    for probabilities in (True, False):
        it = made(theirs, init_classes_means=[], models_confidence=[], device=CPU)
        it.ft_train, it.multi_softmax = False, False
        state = {}
        for number, (x, y) in enumerate((tasks[0], with_memory)):
            sizes = [OLD, NEW][: number + 1]
            weight = torch.tensor(weights[number])

            def outputs(x, sizes=sizes, weight=weight, soft=probabilities) -> list[torch.Tensor]:
                logits = x.double() @ weight.T
                return list((logits.softmax(dim=1) if soft else logits).split(sizes, 1))

            outputs.eval, outputs.task_cls = (lambda: None), torch.tensor(sizes)
            outputs.task_offset = torch.tensor([0, OLD])
            it.model = outputs
            it.il2m(number, [(torch.tensor(x), torch.tensor(y))])
            learned = Learned(x, y, sizes, weights[number], np.zeros(sum(sizes)), {})
            state = one.fit(learned, state)
        what = "softmax" if probabilities else "raw outputs, as their code has them"
        if probabilities:
            report(
                "FACIL il2m.py",
                "initial means",
                np.array(it.init_classes_means),
                np.r_[state["initial"]],
            )
        scores = one.scores(test, state)
        fed = it.model(torch.tensor(test))
        each = [torch.full((len(test),), c) for c in range(OLD + NEW)]
        is_it = [it.calculate_metrics(fed, c)[1].numpy() for c in each]  # a prediction is c
        predicted = np.stack(is_it, axis=1).argmax(axis=1)
        same = 100 * (predicted == scores.argmax(axis=1)).mean()
        say("FACIL il2m.py", f"same predictions, {what}", f"{same:.1f} %")


# The comparisons of trainings


def ewc(peers: Path) -> None:
    one = learner("ewc", largest=1e9)
    x, label = one.task.train.x, one.task.train.label
    fisher = one.fisher()
    names = [n for n, p in one.model.named_parameters() if p.requires_grad]
    ours = [fisher[n] for n in names]

    class Net(nn.Module):
        """Our model, with the outputs of the peer, and in evaluation mode if `still`."""

        still = True

        def __init__(self):
            super().__init__()
            self.model = self.net = copy.deepcopy(one.model)

        def train(self, mode: bool = True):
            return super().train(mode and not self.still)

    def given(size: int) -> list:
        return list(zip(x.split(size), label.split(size), strict=True))

    class PyNet(Net):
        def forward(self, x):
            return {"logits": self.net(x)}

    enter(peers / "PyCIL")
    module = importlib.import_module("models.ewc")
    for still, size in ((True, 1), (False, 32)):
        net = PyNet().eval()
        net.still = still
        it = made(module.EWC, _network=net, _device=CPU)
        with mock.patch.object(module, "fishermax", 1e9):
            theirs = it.getFisherDiagonal(numbered(given(size)))
        theirs = [theirs[f"model.{n}"] for n in names]
        if still:
            report(
                "PyCIL ewc.py",
                "Fisher, if given batches of 1 and no batch statistics",
                theirs,
                ours,
            )
        else:
            share = sum(t.sum() for t in theirs) / sum(o.sum() for o in ours)
            say("PyCIL ewc.py", "sum of its Fisher by ours, batches of 32", f"{share:.3f}")
            cut = [
                100 * np.mean([float((t > 1e-4).float().mean()) for t in f]) for f in (theirs, ours)
            ]
            say("PyCIL ewc.py", "above 1e-4, theirs and ours", "{:.0f} and {:.0f} %".format(*cut))
    torch.manual_seed(1)
    before = {n: p.detach().clone() for n, p in one.model.named_parameters()}
    one.state, one.parameters = fisher, [dict(one.model.named_parameters())[n] for n in fisher]
    one.before = [before[n] for n in fisher]
    with torch.no_grad():
        for p in one.model.parameters():
            p.add_(0.1 * torch.randn(p.shape))
    it = made(module.EWC, _network=one.model, _multiple_gpus=[0], fisher=fisher, mean=before)
    report("PyCIL ewc.py", "penalty", module.lamda * it.compute_ewc(), one.penalty())

    class FacilNet(Net):
        def forward(self, x):
            return list(self.net(x).split([OLD, NEW], dim=1))

    enter(peers / "FACIL/src")
    with torch.no_grad():
        for n, p in one.model.named_parameters():
            p.copy_(before[n])
    net = FacilNet().eval()
    loader = torch.utils.data.DataLoader(list(zip(x, label, strict=True)), batch_size=1)
    facil = importlib.import_module("approach.ewc").Appr
    it = made(facil, model=net, device=CPU, num_samples=-1, optimizer=sgd(net.parameters()))
    for kind in ("true", "max_pred"):
        it.sampling_type = kind
        theirs = it.compute_fisher_matrix_diag(loader)
        theirs = [theirs[n] for n in names]
        what = f"Fisher, batches of 1, labels: {kind}"
        report("FACIL ewc.py", what, theirs, ours)

    pretend(models={}, models__utils={}, models__utils__continual_model={"ContinualModel": object})
    pretend(utils={}, utils__args={})
    online = from_file(peers / "mammoth/models/ewc_on.py").EwcOn
    model = copy.deepcopy(one.model).eval()
    flat = lambda what: torch.cat([what(p).flatten() for p in model.parameters()])  # noqa: E731
    it = made(
        online, device=CPU, fish=None, logsoft=nn.LogSoftmax(dim=1), args=Space(batch_size=32)
    )
    it.opt = sgd(model.parameters())

    class MammothNet:
        get_params = staticmethod(lambda: flat(lambda p: p))
        get_grads = staticmethod(lambda: flat(lambda p: p.grad))

        def __call__(self, x):
            return model(x)

    it.net = MammothNet()
    it.end_task(Space(train_loader=given(32)))
    ours = torch.cat([fisher[n].flatten() for n in names])
    report("mammoth ewc_on.py", "Fisher", it.fish.detach(), ours)
    with torch.no_grad():
        p = torch.cat([model(x[[i]]).softmax(1)[0, label[i]][None] for i in range(len(x))])
    gradients = []
    for i in range(len(x)):
        model.zero_grad()
        F.cross_entropy(model(x[[i]]), label[[i]]).backward()
        gradients.append(p[i] * flat(lambda q: q.grad) ** 2)
    report(
        "mammoth ewc_on.py",
        "Fisher, ours weighted by p(y | x)",
        it.fish.detach(),
        sum(gradients) / len(x),
    )


def eeil(peers: Path) -> None:
    one = learner("eeil")
    one.task.sizes = [6, 4, NEW]  # two old tasks
    one.teacher.classifier.heads = nn.ModuleList([nn.Linear(64, 6), nn.Linear(64, 4)])
    one.teacher.requires_grad_(False)
    enter(peers / "FACIL/src")
    theirs = importlib.import_module("approach.eeil").Appr
    x, label = batches(1)[0]
    one.model.eval()
    outputs = list(one.model(x).split([6, 4, NEW], dim=1))
    old = list(one.teacher(x).split([6, 4], dim=1))
    it = made(theirs, lamb=1.0, T=2.0, _finetuning_balanced=False)
    loss = it.criterion(2, outputs, label, old)
    ours = one.losses(x, label)
    report("FACIL eeil.py", "loss", loss.detach(), ours.total.mean())
    ce = F.cross_entropy(torch.cat(outputs, 1), label)
    report("FACIL eeil.py", "loss without distillation", it.criterion(0, outputs, label), ce)
    say(
        "FACIL eeil.py",
        "distillation, theirs and ours",
        f"{loss - ce:.4f} and {ours.other.mean():.4f}",
    )


def lucir(peers: Path) -> None:
    with_old_losses()
    one = learner("lucir")
    enter(peers / "CVPR19_Incremental_Learning/cifar100-class-incremental")
    sys.path.insert(0, str(peers / "CVPR19_Incremental_Learning"))
    pretend(utils_pytorch={})  # it asks for the width of the terminal
    linear = importlib.import_module("modified_linear")
    module = importlib.import_module("utils_incremental.incremental_train_and_eval_MR_LF")

    class Net(nn.Module):
        def __init__(self, backbone: nn.Module, fc: nn.Module):
            super().__init__()
            self.backbone, self.fc = copy.deepcopy(backbone), fc

        def forward(self, x):
            return self.fc(self.backbone(x))

    old, new = Net(one.teacher.backbone, linear.CosineLinear(64, OLD)), None
    new = Net(one.model.backbone, linear.SplitCosineLinear(64, OLD, NEW))
    put(old.fc, rows(one.teacher.classifier))
    put(new.fc.fc1, rows(one.model.classifier)[:OLD])
    put(new.fc.fc2, rows(one.model.classifier)[OLD:])
    new.fc.fc1.requires_grad_(False)
    new.fc.sigma.data.fill_(one.model.classifier.sigma.item())
    optimizer, some = sgd(new.parameters()), batches()
    weight = 5 * (OLD / NEW) ** 0.5
    module.incremental_train_and_eval_MR_LF(
        1,
        new,
        old,
        optimizer,
        schedule(optimizer),
        some,
        some[:1],
        1,
        0,
        weight,
        0.5,
        2,
        1.0,
        device=CPU,
    )
    steps(one, some)
    peer = "LUCIR ..._MR_LF.py"
    report(
        peer,
        f"weights after {STEPS} steps",
        [*all_of(new.backbone), torch.cat([new.fc.fc1.weight, new.fc.fc2.weight]), new.fc.sigma],
        [*all_of(one.model.backbone), rows(one.model.classifier), one.model.classifier.sigma[None]],
    )

    one = learner("lucir")
    one.model.eval()
    x, label = some[0]
    enter(peers / "FACIL/src")
    facil = importlib.import_module("approach.lucir").Appr
    features = one.model.backbone(x)
    cosines = one.model.classifier.cosines(features)
    sigma = one.model.classifier.sigma
    outputs = [{"wsigma": sigma * c, "wosigma": c} for c in cosines.split([OLD, NEW], 1)]
    it = made(facil, less_forget=True, margin_ranking=True, device=CPU, lamda=weight, K=2)
    it.dist, it.lamb_mr = 0.5, 1.0
    loss = it.criterion(1, outputs, label, outputs, features, one.teacher.backbone(x))
    ours = one.losses(x, label)
    report("FACIL lucir.py", "loss", loss.detach().reshape(()), ours.total.mean())
    pretend(models={}, models__utils={}, models__utils__continual_model={"ContinualModel": object})
    pretend(datasets={}, utils={}, utils__args={}, utils__batch_norm={}, utils__buffer={})
    pretend(utils__conf={})
    mammoth = from_file(peers / "mammoth/models/lucir.py").lucir_batch_hard_triplet_loss
    hinge = mammoth(label, cosines, 2, 0.5, OLD)
    report(
        "mammoth lucir.py",
        "margin ranking",
        hinge.detach(),
        one.margin_ranking(cosines, label).mean(),
    )


def podnet(peers: Path) -> None:
    one = learner("podnet")
    one.model.eval()
    some = batches(1)[0]
    x, label = some
    features = one.model.backbone(x).detach()
    with torch.no_grad():
        one.model.classifier.eta.fill_(1.5)
    similarity = one.model.classifier(features).detach()
    eta = one.model.classifier.eta.detach()
    pretend(inclearn={}, inclearn__lib={})
    folder = peers / "incremental_learning.pytorch/inclearn/lib/losses"
    base, distillation = (from_file(folder / f"{n}.py") for n in ("base", "distillation"))
    options = {"margin": 0.6, "hinge_proxynca": True, "scale": eta}
    ours = one.lsc(similarity, label).mean().detach()
    peer, what = "PODNet losses/base.py", "LSC, eta 1.5"
    report(peer, what, base.nca(similarity, label, **options), ours)
    maps, before = one.maps.maps, [m + 0.1 * torch.randn_like(m) for m in one.maps.maps]
    from wa.models.feature_maps import pooled

    pairs = zip(maps, before, strict=True)
    apart = torch.stack([(pooled(a) - pooled(b)).norm(dim=1).mean() for a, b in pairs]).mean()
    report(
        "PODNet distillation.py",
        "POD of the maps",
        distillation.pod(maps, before).detach(),
        apart.detach(),
    )
    enter(peers / "PyCIL")
    pycil = importlib.import_module("models.podnet")
    report(
        "PyCIL podnet.py",
        "POD of the maps",
        pycil.pod_spatial_loss(maps, before).detach(),
        apart.detach(),
    )
    report("PyCIL podnet.py", what, pycil.nca(eta * similarity, label), ours)
    linears = importlib.import_module("convs.linears")
    fc = linears.CosineLinear(64, OLD + NEW, 10, to_reduce=True, sigma=False)
    put(fc, one.model.classifier.proxies().detach().flatten(0, 1))
    report(
        "PyCIL linears.py", "similarity to ten proxies", fc(features)["logits"].detach(), similarity
    )
    assert isinstance(one.model.classifier, ProxyClassifier)


def grown(one: object, nets: object, net: nn.Module) -> None:
    """Give a network of PyCIL with two convnets the weights of a grown model of ours."""
    first, second = one.model.backbone.branches
    nets.append(Convnet(copy.deepcopy(first)))
    nets.append(Convnet(copy.deepcopy(second)))
    nets[0].requires_grad_(False)
    put(net.fc, rows(one.model.classifier), biases(one.model.classifier))


def linear(width: int, classes: int, module: types.ModuleType) -> nn.Module:
    return module.SimpleLinear(width, classes)


def der(peers: Path) -> None:
    one = learner("der")
    enter(peers / "PyCIL")
    inc = importlib.import_module("utils.inc_net")
    theirs = importlib.import_module("models.der")
    net = inc.DERNet({"convnet_type": ""}, False)
    net.out_dim, net.fc = 64, inc.SimpleLinear(128, OLD + NEW)
    net.aux_fc = inc.SimpleLinear(64, NEW + 1)
    grown(one, net.convnets, net)
    put(net.aux_fc, one.model.auxiliary.weight, one.model.auxiliary.bias)
    it = made(theirs.DER, _network=net, _device=CPU, _known_classes=OLD, _total_classes=OLD + NEW)
    it._cur_task, it._multiple_gpus, it._compute_accuracy = 1, [0], lambda *a: 0.0
    optimizer, some = sgd(net.parameters()), batches()
    with mock.patch.object(theirs, "epochs", 1):
        it._update_representation(numbered(some), [], optimizer, schedule(optimizer))
    steps(one, some)
    new = one.model.backbone.branches[1]
    ours = [*all_of(new), rows(one.model.classifier), biases(one.model.classifier)]
    found = [*all_of(net.convnets[1].net), net.fc.weight, net.fc.bias]
    report("PyCIL der.py", f"weights after {STEPS} steps", found, ours)
    net.weight_align(NEW)
    both = align_weight(ours[-2].numpy(), ours[-1].numpy(), OLD)[0]
    report("PyCIL inc_net.py", "the classifier, aligned", net.fc.weight, both)

    enter(peers / "DER-ClassIL.pytorch")
    pretend(inclearn={}, inclearn__tools={}, inclearn__tools__metrics={})
    tune = from_file(peers / "DER-ClassIL.pytorch/inclearn/convnet/utils.py").finetune_last_layer
    without_gpu()
    with mock.patch("wa.methods.algorithms.der.balanced", return_value=one.task.train):
        one.begin_second()

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.backbone = copy.deepcopy(one.model.backbone)
            self.classifier = nn.Linear(128, OLD + NEW)

        def forward(self, x):
            return {"logit": self.classifier(self.backbone(x))}

    net = Net()
    put(net.classifier, rows(one.model.classifier), biases(one.model.classifier))
    network = nn.Module()
    network.module, network.forward = net, net.forward
    loader = Batches(some)
    tune(Space(info=lambda text: None), network, loader, OLD + NEW, nepoch=1, lr=RATE)
    steps(one, some)
    theirs, ours = [net.classifier.weight, net.classifier.bias], one.model.classifier
    what = f"the classifier after {STEPS} steps of the second stage"
    report("DER convnet/utils.py", what, theirs, [rows(ours), biases(ours)])


class Batches(list):
    """Batches in the place of a DataLoader."""

    dataset = ()


def memo(peers: Path) -> None:
    one = learner("memo")
    enter(peers / "ICLR23-MEMO")
    inc = importlib.import_module("utils.inc_net")
    theirs = importlib.import_module("models.memo")
    first, second = one.model.backbone.layer3.branches
    base = Base(one.teacher.backbone)
    stages = [Last(first, 64), Last(second, 64)]
    with mock.patch.object(inc, "get_convnet", return_value=(base, None)):
        net = inc.AdaptiveNet("", False)
    net.out_dim, net.fc = 64, inc.SimpleLinear(128, OLD + NEW)
    net.aux_fc = inc.SimpleLinear(64, NEW + 1)
    net.AdaptiveExtractors.extend(stages)
    stages[0].requires_grad_(False)
    base.requires_grad_(True)
    put(net.fc, rows(one.model.classifier), biases(one.model.classifier))
    put(net.aux_fc, one.model.auxiliary.weight, one.model.auxiliary.bias)
    args = {"train_base": True, "train_adaptive": False, "alpha_aux": 1.0, "epochs": 1}
    it = made(theirs.MEMO, args=args, _network=net, _device=CPU, _known_classes=OLD)
    it._total_classes, it._cur_task, it._multiple_gpus = OLD + NEW, 1, [0]
    it._compute_accuracy = lambda *a: 0.0
    optimizer, some = sgd(net.parameters()), batches()
    it._update_representation(numbered(some), [], optimizer, schedule(optimizer))
    steps(one, some)
    backbone, classifier = one.model.backbone, one.model.classifier
    parts = ("conv1", "bn1", "layer1", "layer2")
    found = all_of(*(getattr(base.net, p) for p in parts), *(s.stage for s in stages))
    ours = all_of(*(getattr(backbone, p) for p in parts), *backbone.layer3.branches)
    found, ours = (
        [*found, net.fc.weight, net.fc.bias],
        [*ours, rows(classifier), biases(classifier)],
    )
    report("MEMO memo.py", f"weights after {STEPS} steps", found, ours)


def foster(peers: Path) -> None:
    one = learner("foster", counts=(40, 500))
    enter(peers / "ECCV22-FOSTER")
    inc = importlib.import_module("utils.inc_net")
    theirs = importlib.import_module("models.foster")
    net = inc.FOSTERNet("", False)
    net.out_dim, net.fc = 64, inc.SimpleLinear(128, OLD + NEW)
    net.fe_fc, net.oldfc = inc.SimpleLinear(64, OLD + NEW), inc.SimpleLinear(64, OLD)
    grown(one, net.convnets, net)
    put(net.fe_fc, one.model.auxiliary.weight, one.model.auxiliary.bias)
    old = one.old.classifier
    put(net.oldfc, rows(old)[:OLD], biases(old)[:OLD])
    net.oldfc.requires_grad_(False)
    args = {
        "boosting_epochs": 1,
        "compression_epochs": 1,
        "T": 2,
        "lr": RATE,
        "dataset": "cifar100",
    }
    args |= {"weight_decay": DECAY, "convnet_type": ""}
    it = made(theirs.FOSTER, args=args, _network=net, _network_module_ptr=net, _device=CPU)
    it._known_classes, it._total_classes, it._cur_task, it._multiple_gpus = OLD, OLD + NEW, 1, [0]
    it._fixed_memory, it._memory_per_class, it.topk = True, 40, 5
    it.beta1, it.beta2, it.lambda_okd, it.oofc = 0.96, 0.97, 1, "ft"
    it.is_teacher_wa = it.is_student_wa = False
    it._compute_accuracy, it._evaluate = (lambda *a: 0.0), lambda *a: {"top1": 0, "top5": 0}
    some, student = batches(), copy.deepcopy(one.old)
    found = {}

    def boosted(*args: object) -> None:
        theirs.FOSTER._feature_boosting(it, *args)
        found["boosted"] = [t.clone() for t in (*all_of(net.convnets[1].net), net.fc.weight)]

    it._feature_boosting = boosted

    def new_convnet(*args: object) -> nn.Module:
        return Convnet(copy.deepcopy(student.backbone))

    def copied(self: nn.Module, fc: nn.Module) -> None:
        put(self.fc, rows(student.classifier), biases(student.classifier))

    copying = mock.patch.object(inc.FOSTERNet, "copy_fc", copied)
    with mock.patch.object(inc, "get_convnet", new_convnet), copying:
        it._train(numbered(some), numbered(some[:1]))
    steps(one, some)
    report("FOSTER foster.py", "weights of the classes", it.per_cls_weights, one.aligning(0.97))
    ours = [*all_of(one.model.backbone.branches[1]), rows(one.model.classifier)]
    report("FOSTER foster.py", f"weights after {STEPS} steps of boosting", found["boosted"], ours)
    one.trainer.model = None
    one.begin_second()
    one.model.requires_grad_(True)
    steps(one, some, decay=0.0)
    small = it._snet
    report(
        "FOSTER foster.py",
        f"weights after {STEPS} steps of compression",
        [*all_of(small.convnets[0].net), small.fc.weight],
        [*all_of(one.model.backbone), rows(one.model.classifier)],
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="methods to compare (default: all)")
    parser.add_argument("--peers", type=Path, required=True, help="the folder of the checkouts")
    parser.add_argument("--features", type=Path, help="an npz file: features, label and test_...")
    parser.add_argument("--old", type=int, default=OLD, help="classes of its first task")
    parser.add_argument("--alone", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.features:
        globals().update(FEATURES=args.features, OLD=args.old)
        globals().update(NEW=int(np.load(args.features)["label"].max()) + 1 - args.old)
    if args.alone:
        torch.set_num_threads(1)
        globals()[args.names[0]](args.peers.resolve())
        return
    print(f"  {'':26}{'':58}{'largest':>10}{'relative':>11}")
    for name in args.names or REPOSITORIES:
        print(f"{name}: {', '.join(REPOSITORIES[name])}", flush=True)
        command = [sys.executable, __file__, "--alone", "--peers", args.peers, name]
        command += ["--features", args.features, "--old", str(args.old)] if args.features else []
        got = subprocess.run(command, text=True, capture_output=True)
        lines = got.stdout.splitlines(keepends=True)
        print(*(line for line in lines if line.startswith("  ")), sep="", end="", flush=True)
        if got.returncode:
            print(f"  failed: {got.stderr.strip().splitlines()[-1]}")


if __name__ == "__main__":
    main()

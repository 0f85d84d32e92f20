"""Each loss against loops written from the paper's equation, in float64."""

import inspect
import math

import pytest
import torch

from wa.methods.alignment import ALIGNMENTS, fit_bias
from wa.methods.loss import CLASSIFICATION, DISTILLATION, distillation_weight

OLD_SIZES, CLASSES = [3, 2], 7  # two old tasks and one of 2 classes


def softmax(row, temperature=1.0):
    e = [math.exp(v / temperature) for v in row]
    return [v / sum(e) for v in e]


def divergence(student, teacher, temperature):
    q, p = softmax(student, temperature), softmax(teacher, temperature)
    return sum(pk * math.log(pk / qk) for pk, qk in zip(p, q, strict=True))


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(9, CLASSES, dtype=torch.float64, generator=generator)
    teacher = 3 * torch.randn(9, sum(OLD_SIZES), dtype=torch.float64, generator=generator)
    return logits, torch.tensor([0, 1, 2, 3, 4, 5, 6, 6, 0]), teacher


def test_cross_entropy(batch):
    logits, label, _ = batch
    naive = [
        -math.log(softmax(row)[c]) for row, c in zip(logits.tolist(), label.tolist(), strict=True)
    ]
    torch.testing.assert_close(
        CLASSIFICATION["softmax"](logits, label, 5), torch.tensor(naive, dtype=torch.float64)
    )


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_separated_softmax_is_that_of_ss_il(batch, smoothing):
    logits, label, _ = batch
    n_old, naive = sum(OLD_SIZES), []
    for row, c in zip(logits.tolist(), label.tolist(), strict=True):
        group = range(n_old) if c < n_old else range(n_old, CLASSES)
        p = dict(zip(group, softmax([row[k] for k in group]), strict=True))
        target = {k: (1 - smoothing) * (k == c) + smoothing / len(group) for k in group}
        naive.append(-sum(target[k] * math.log(p[k]) for k in group))
    value = CLASSIFICATION["separated"](logits, label, n_old, smoothing)
    torch.testing.assert_close(value, torch.tensor(naive, dtype=torch.float64))
    at_task_0 = CLASSIFICATION["separated"](logits, label, 0, smoothing)
    torch.testing.assert_close(at_task_0, CLASSIFICATION["softmax"](logits, label, 0, smoothing))


def test_distillation_is_zhaos_equation_3_up_to_the_teachers_entropy(batch):
    logits, _, teacher = batch
    student, naive = logits[:, :5], []
    for s, t in zip(student.tolist(), teacher.tolist(), strict=True):
        q, p = softmax(s, 2), softmax(t, 2)
        cross = -sum(pk * math.log(qk) for pk, qk in zip(p, q, strict=True))  # equation 3
        naive.append(cross + sum(pk * math.log(pk) for pk in p))
    value = DISTILLATION["softmax"](student, teacher, 2, OLD_SIZES)
    torch.testing.assert_close(value, torch.tensor(naive, dtype=torch.float64))
    assert DISTILLATION["softmax"](teacher, teacher, 2, OLD_SIZES).abs().max() < 1e-12


def test_taskwise_distillation_is_that_of_ss_il(batch):
    logits, _, teacher = batch
    student, naive = logits[:, :5], []
    for s, t in zip(student.tolist(), teacher.tolist(), strict=True):
        naive.append(divergence(s[:3], t[:3], 2) + divergence(s[3:], t[3:], 2))
    value = DISTILLATION["taskwise"](student, teacher, 2, OLD_SIZES)
    torch.testing.assert_close(value, torch.tensor(naive, dtype=torch.float64))


def test_lambda():
    assert distillation_weight("dynamic", 50, 60) == 50 / 60
    assert distillation_weight(0.5, 50, 60) == 0.5


def test_each_methods_own_code_is_short():
    for table in (CLASSIFICATION, DISTILLATION, ALIGNMENTS):
        for function in table.values():
            assert len(inspect.getsource(function).splitlines()) < 40
    assert len(inspect.getsource(fit_bias).splitlines()) < 40

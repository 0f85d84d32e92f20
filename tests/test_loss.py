"""Each loss against loops written from the paper's equation, in float64."""

import math

import torch

from wa.loss import cross_entropy, distillation, distillation_weight


def softmax(row, temperature=1.0):
    e = [math.exp(v / temperature) for v in row]
    return [v / sum(e) for v in e]


def test_cross_entropy():
    torch.manual_seed(0)
    logits, label = torch.randn(6, 5, dtype=torch.float64), torch.tensor([0, 1, 2, 3, 4, 0])
    naive = [-math.log(softmax(row.tolist())[c]) for row, c in zip(logits, label.tolist(), strict=True)]
    torch.testing.assert_close(cross_entropy(logits, label), torch.tensor(naive, dtype=torch.float64))


def test_distillation_is_zhaos_equation_3_up_to_the_teachers_entropy():
    torch.manual_seed(0)
    student, teacher = torch.randn(6, 5, dtype=torch.float64), torch.randn(6, 5, dtype=torch.float64)
    naive = []
    for s, t in zip(student.tolist(), teacher.tolist(), strict=True):
        q, p = softmax(s, 2), softmax(t, 2)
        cross = -sum(pk * math.log(qk) for pk, qk in zip(p, q, strict=True))  # equation 3
        naive.append(cross + sum(pk * math.log(pk) for pk in p))
    torch.testing.assert_close(distillation(student, teacher, 2), torch.tensor(naive, dtype=torch.float64))
    assert distillation(teacher, teacher, 2).abs().max() < 1e-12


def test_lambda():
    assert distillation_weight("dynamic", 50, 60) == 50 / 60
    assert distillation_weight("0.5", 50, 60) == 0.5

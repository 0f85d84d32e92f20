"""The learning rate of each epoch. To add a schedule, add a function to SCHEDULES."""

import math

from wa.study.settings import Settings


def cosine(settings: Settings, epoch: int) -> float:
    """As torch's CosineAnnealingLR."""
    return settings.lr * (1 + math.cos(math.pi * epoch / settings.epochs)) / 2


def step(settings: Settings, epoch: int) -> float:
    """As torch's MultiStepLR."""
    reached = sum(epoch >= milestone for milestone in settings.milestones)
    return settings.lr * settings.lr_decay**reached


def constant(settings: Settings, epoch: int) -> float:
    return settings.lr


SCHEDULES = {"cosine": cosine, "step": step, "constant": constant}


def learning_rate(settings: Settings, epoch: int) -> float:
    """The learning rate of an epoch (from 0). During the warm-up it rises linearly."""
    if epoch < settings.warmup:
        return settings.lr * (epoch + 1) / settings.warmup
    return SCHEDULES[settings.schedule](settings, epoch)

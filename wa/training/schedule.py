"""The learning rate of each epoch."""

from wa.study.settings import Settings


def learning_rate(settings: Settings, epoch: int) -> float:
    """The learning rate of an epoch (from 0), as torch's CosineAnnealingLR and MultiStepLR have it; `warmup` is before that."""
    import math

    if epoch < settings.warmup:
        return settings.lr * (epoch + 1) / settings.warmup
    if settings.schedule == "cosine":
        return settings.lr * (1 + math.cos(math.pi * epoch / settings.epochs)) / 2
    if settings.schedule == "step":
        return settings.lr * settings.lr_decay ** sum(epoch >= m for m in settings.milestones)
    return settings.lr

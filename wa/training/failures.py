"""Errors of torch that a user can mend, in words."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from wa.errors import UserError
from wa.study.settings import Settings

NOT_DETERMINISTIC = re.compile(r"(\S+) does not have a deterministic implementation")


def first_line(error: Exception) -> str:
    """The first line of an error's text, without the stop at its end."""
    return str(error).strip().split("\n")[0].rstrip(".")


def out_of_memory(error: RuntimeError, settings: Settings) -> UserError:
    """The error for a device whose memory is full."""
    return UserError(
        f"too little memory ({first_line(error)}). Use a batch_size below {settings.batch_size},"
        " fewer trainings at once (runs_per_gpu, or --cores), or more `processes`, which share each"
        " batch"
    )


@contextmanager
def in_words(settings: Settings) -> Iterator[None]:
    """Raise UserError in place of an error of torch that the settings can avoid.

    Such an error comes in the first steps of a training. Other errors pass as they are.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise out_of_memory(error, settings) from error
    except RuntimeError as error:
        refuses = NOT_DETERMINISTIC.search(str(error))
        if refuses:
            raise UserError(
                f"backbone {settings.backbone}: {refuses[1]} cannot give the same bits each time."
                " Set `deterministic: false` under `training`, or choose another backbone"
            ) from error
        if "DefaultCPUAllocator: " in str(error):
            raise out_of_memory(error, settings) from error
        raise

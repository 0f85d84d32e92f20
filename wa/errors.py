"""One kind of error for what only the user can mend, and how every program ends."""

import os
import sys
from collections.abc import Callable


class UserError(Exception):
    """Something that only the user can mend. Its text is one line: what is wrong, where, what to do."""


def program(main: Callable[[], None]) -> None:
    """Run a program's main function; a UserError, or an error of the file system or of memory, becomes one line and status 1."""
    try:
        main()
    except BrokenPipeError:  # of `wa show ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit("stopped; the same command goes on")
    except (UserError, OSError) as error:
        sys.exit(f"error: {error}")
    except MemoryError as error:
        sys.exit(
            f"error: too little memory ({error}): use a machine with more, or look whether the inputs are what they should be"
        )

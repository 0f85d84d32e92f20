"""The error for what only the user can mend, and the way every program ends."""

import os
import sys
from collections.abc import Callable


class UserError(Exception):
    """Something that only the user can mend.

    Its text is one line: what is wrong, where, and what to do next.
    """


def program(main: Callable[[], None]) -> None:
    """Run a program's main function.

    A UserError, an OSError and a MemoryError become one line and exit status 1.
    """
    try:
        main()
    except BrokenPipeError:  # the reader left, as in `wa show ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit("stopped. The same command goes on.")
    except (UserError, OSError) as error:
        sys.exit(f"error: {error}")
    except MemoryError as error:
        sys.exit(
            f"error: too little memory ({error}). Use a machine with more,"
            " or check that the inputs are the right files."
        )

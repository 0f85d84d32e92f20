"""Use and inspect what a study has trained. Studies are run by snakemake.

    wa predict MODEL IMAGE...     classify images, folders of images, or a list of paths
    wa status [--config CONFIG]   print how far a study is and when it will end (--watch: again)
    wa show RUN                   print a run's accuracies, and verify its checkpoints
    wa compare OLD NEW            compare two versions of a model, class by class
    wa export MODEL OUTPUT        write a model as ONNX, to serve it without PyTorch
    wa forget STUDY CLASS...      remove classes from the memories of a study
    wa evidence --output FOLDER   copy what the figures and tables of a study are drawn from
    wa doctor                     print what this machine offers to trainings: GPUs, driver, memory

MODEL is a checkpoint, RUN the folder of a run:

    results/STUDY/order-O/seed-S/base-B/inc-I/METHOD/task-T/model.safetensors
    results/STUDY/order-O/seed-S/base-B/inc-I/METHOD

`wa COMMAND --help` explains a command. `python -m wa` is the same program. In Python, use
wa.load(MODEL).
"""

import argparse
import importlib
import sys

from wa import __version__
from wa.errors import program

# Each is a module of wa.commands with HELP, add_arguments(parser) and main(args). Only the one that
# is asked for is imported. None imports PyTorch before main, so that every --help is fast.
COMMANDS = ("predict", "status", "show", "compare", "export", "forget", "evidence", "doctor")


def parser_of(prog: str, description: str) -> argparse.ArgumentParser:
    raw = argparse.RawDescriptionHelpFormatter  # keeps the lines of the text
    return argparse.ArgumentParser(prog=prog, description=description, formatter_class=raw)


def run() -> None:
    """Run the command that the arguments name."""
    parser = parser_of("wa", __doc__)
    parser.add_argument("--version", action="version", version=f"wa {__version__}")
    parser.add_argument("command", choices=COMMANDS)
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="see `wa COMMAND --help`")
    asked = parser.parse_args()

    try:
        command = importlib.import_module(f"wa.commands.{asked.command}")
        parser = parser_of(f"wa {asked.command}", command.HELP)
        command.add_arguments(parser)
        command.main(parser.parse_args(asked.arguments))
    except KeyboardInterrupt:
        sys.exit("stopped")


def main() -> None:
    program(run)


if __name__ == "__main__":
    main()

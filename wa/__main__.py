"""The command `wa` (or `python -m wa`): use and inspect what a study has trained. Studies are run by snakemake.

    wa predict MODEL IMAGE...     the five most probable classes of each image
    wa status [--config CONFIG]   how far a study is, what is trained now, and when it will end
    wa show RUN                   a run's accuracies, gamma, and its checkpoints back to the data, hashes verified
    wa export MODEL OUTPUT        the model as ONNX, to be served without PyTorch

MODEL is a checkpoint, results/STUDY/order-O/seed-S/base-B/inc-I/METHOD/task-T/model.safetensors; RUN is the folder
results/STUDY/order-O/seed-S/base-B/inc-I/METHOD, or a task's folder or a checkpoint in it. In Python: wa.load(MODEL).
"""

import argparse

from wa import __version__


def main() -> None:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="wa", description=__doc__, formatter_class=raw)
    parser.add_argument("--version", action="version", version=f"wa {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)

    def command(name: str, what: str, more: str, **arguments: dict) -> None:
        sub = commands.add_parser(name, description=f"{what}\n\n{more}", formatter_class=raw)
        for argument, options in arguments.items():
            sub.add_argument(argument, **options)

    model = {"help": "model.safetensors or trained.safetensors of a task"}
    command(
        "predict",
        "Print the five most probable classes of each image, with probabilities.",
        "Images are read as in training: turned upright by EXIF, made grey or RGB as the training images were, what is\n"
        "transparent becomes white; an image of another size is resized as a whole or, where cache_size kept squares of the\n"
        "training images, cut as those were. An image that cannot be read is named, the others are still predicted, and the\n"
        "exit status is 1.",
        model=model,
        images={"nargs": "+", "metavar": "image"},
    )
    command(
        "status",
        "Print how far a study is: what is done, what is trained now at which epoch and speed, and when it will end.",
        "To be run in the folder that holds results/. Reads files alone: it disturbs nobody.",
        **{
            "--config": {
                "default": "config/config.yaml",
                "help": "the study's config (default: config/config.yaml)",
            }
        },
    )
    command(
        "show",
        "Print a run task by task: accuracies, gamma, and the chain of checkpoints back to the data.",
        "Every file of the chain is hashed again and compared with what the checkpoints' headers say; the exit status is 1 if\n"
        "one differs or is absent. Of a run that is not finished, what is there is shown.",
        run={"help": "folder of a run, or a task's folder or a checkpoint in it"},
    )
    command(
        "export",
        "Write a model as ONNX.",
        "Input `image`: uint8 (batch, height, width, channels), RGB or grey; normalisation is inside. Output `probability`:\n"
        "float32 (batch, classes). In the metadata are the class names, the checkpoint's SHA-256 and, where photographs were\n"
        "cut to squares, `cache_size`: resize the shorter side to it, take the centre square, and of that the centre of the\n"
        "input's size (wa.data.augment.center). Compared with PyTorch in onnxruntime before it is written.",
        model=model,
        output={"help": "the file to write, model.onnx"},
    )
    args = parser.parse_args()

    # Only now, so that `wa --help` takes no longer than argparse.
    from wa.errors import program

    if args.command == "predict":
        from wa.commands.predict import predict

        program(lambda: predict(args.model, args.images))
    elif args.command == "status":
        from wa.commands.status import status

        program(lambda: status(args.config))
    elif args.command == "show":
        from wa.commands.show import show

        program(lambda: show(args.run))
    else:
        from wa.commands.export import export

        program(lambda: export(args.model, args.output))


if __name__ == "__main__":
    main()

"""Weight aligning (WA) and its relatives in class-incremental learning."""

__version__ = "1.0.0"


def load(path):
    """A trained model, ready for use: a wa.models.classifier.Classifier.

        run = "results/digits/order-1993/seed-0/base-4/inc-2/wa"
        model = wa.load(f"{run}/task-3/model.safetensors")
        model.classes                       # class names, in the order of the logits
        model.version                       # SHA-256 of the checkpoint file
        model.top("image.png")              # [(name, probability), ...], the five best
        model.predict(["a.png", "b.png"])   # the same for each of many images, in batches
        x = model.preprocess("image.png")   # also bytes, arrays, PIL: float32 (C, H, W)
        model.measured(x[None])             # float32 (B, C, H, W) -> probabilities (B, classes)
        model.own                           # the classifier: linear, or nme

    path: a model.safetensors or trained.safetensors. Nothing in the file can run code.

    An image is a path, the bytes of a file, a uint8 array or a PIL image. The model is a
    torch.nn.Module in eval mode, on the CPU. Several threads may use it at the same time.

    A model.safetensors classifies with the method's own classifier, as figures and tables do. For
    iCaRL that is the nearest mean of exemplars (`nme`), whose class means are in the file. It has
    no probabilities: `measured`, `top` and `predict` then give similarities, -1 to 1. A
    trained.safetensors, and the task 0 that methods share, classify with the linear classifier.

    Raises wa.errors.UserError if the file is damaged, is no checkpoint, or does not fit this
    program. Raises OSError if the file cannot be read.
    """
    from wa.models.classifier import Classifier  # imports torch, which `import wa` does not need

    return Classifier(path)

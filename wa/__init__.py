"""Weight aligning (WA) and its relatives in class-incremental learning."""

__version__ = "1.0.0"


def load(path):
    """A trained model, ready for use: a wa.models.classifier.Classifier.

        run = "results/digits/order-1993/seed-0/base-4/inc-2/wa"
        model = wa.load(f"{run}/task-3/model.safetensors")
        model.classes                       # class names, in the order of the logits
        x = model.preprocess("image.png")   # path or PIL image -> float32 (C, H, W)
        model(x[None]).softmax(dim=1)       # float32 (B, C, H, W) -> (B, classes)
        model.top("image.png")              # [(name, probability), ...], the five best

    path: a model.safetensors or trained.safetensors. Nothing in the file can run code.

    The model is a torch.nn.Module in eval mode, on the CPU. It classifies with its linear
    classifier, whatever the method. The nearest mean of exemplars would need images, which a
    checkpoint does not hold.

    Raises wa.errors.UserError if the file is damaged, is no checkpoint, or does not fit this
    program. Raises OSError if the file cannot be read.
    """
    from wa.models.classifier import Classifier  # imports torch, which `import wa` does not need

    return Classifier(path)

"""Weight aligning (WA) and its relatives in class-incremental learning."""

__version__ = "1.0.0"


def load(path):
    """A trained model, ready for use: a wa.commands.predict.Classifier, a torch.nn.Module in eval mode on the CPU.

        model = wa.load("results/digits/order-1993/seed-0/base-4/inc-2/wa/task-3/model.safetensors")
        model.classes                                   # class names, in the order of the logits
        x = model.preprocess("image.png")               # path or PIL image -> float32 (C, H, W)
        model(x[None]).softmax(dim=1)                   # (B, C, H, W) -> logits (B, classes)
        model.top("image.png")                          # [(name, probability), ...], the five best, best first

    path: a model.safetensors or trained.safetensors. Nothing in it can run code. Raises wa.errors.UserError, one line, if it
    is damaged, no checkpoint, or does not fit this program, and OSError if it cannot be read. It classifies with its linear
    classifier, whatever the method; the nearest mean of exemplars needs images that are not in a checkpoint. (torch is imported
    here, not with wa.)
    """
    from wa.commands.predict import Classifier

    return Classifier(path)

"""The names of backbones, checked without torch.

timm and torchvision take seconds to import. So the names of their models are read from the source
of the installed package: each model is a function with the decorator `register_model`.
"""

import difflib
import re
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from wa.errors import UserError

# No colon: timm would download hf_hub:...
FOREIGN = re.compile(r"(timm|torchvision)/(\w[\w.]*)")

REGISTERED = re.compile(r"^@register_model\b[^\n]*\n(?:@[^\n]*\n)*def (\w+)", re.M)
DEPRECATED = re.compile(r"^register_model_deprecations\(__name__, \{(.*?)^\}\)", re.M | re.S)
OLD_NAME = re.compile(r"^\s*['\"](\w+)['\"]\s*:", re.M)


@cache
def library_models(library: str) -> frozenset[str]:
    """The models of the installed timm or torchvision, deprecated names included."""
    package = find_spec(library)
    if package is None or package.origin is None:
        raise UserError(f"{library} is not installed: pip install '.[train]'")
    names: set[str] = set()
    for file in Path(package.origin).parent.glob("models/*.py"):
        text = file.read_text(encoding="utf-8")
        names.update(REGISTERED.findall(text))
        for table in DEPRECATED.findall(text):
            names.update(OLD_NAME.findall(table))
    return frozenset(names)


def unknown(name: str) -> UserError:
    """The error for a model that its library does not have. name: `timm/resnt18`."""
    library, model = name.split("/")
    close = difflib.get_close_matches(model, sorted(library_models(library)), 3)
    guess = ", ".join(f"{library}/{other}" for other in close)
    return UserError(
        f"backbone: {library} has no model {model!r}"
        + (f"; did you mean {guess}?" if guess else "")
    )


def check(name: str) -> None:
    """Raise UserError if `timm/NAME` or `torchvision/NAME` does not exist. Other names pass."""
    match = FOREIGN.fullmatch(name)
    if not match:
        return
    library, model = match.groups()
    architecture = model.split(".")[0] if library == "timm" else model  # timm: resnet18.a1_in1k
    if architecture not in library_models(library):
        raise unknown(name)

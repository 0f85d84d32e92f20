"""What a result was made from, and whether the study wants the same today.

The header of every result says what it was made from: settings, code, data, and the content of the
results before it. Two results with the same entries are the same result. Place and date do not
count. So a study may be renamed, copied, moved and shared, and nothing has to run again.

The functions below give the entries of each kind of result. Programs write them into headers, next
to `content_sha256`, which is the hash of the result itself. The plan of a study compares them with
what it wants (wa/study/results.py).
"""

import json
from pathlib import Path

from wa.code import Code
from wa.methods import algorithm

CHECKOUT = Path(__file__).parents[1]
UNKNOWN = object()  # stands for an entry that cannot be known now
Verdict = str | None  # see difference()


# What each result is made from: the entries of its header that count.


def training(
    settings: dict,
    *,
    code: str,
    seed: int,
    memory: str,
    task_sizes: list[int],
    classes: object,
    data: object,
    model: object,
    ranking: object,
    pretrained: object,
    unaligned: object = None,
    exemplars: object = None,
) -> dict:
    """The entries of a trained model.

    settings: every setting with its value, defaults too. classes: the names of the classes seen so
    far, in the order of learning. data: the hashes of the packed arrays. model, ranking: the
    content of what the training starts from. pretrained: the SHA-256 of that file. unaligned:
    the content of the model before aligning, for a training that starts from it. exemplars: the
    content of the memory, for a training that reads old images from there.
    """
    # Of `pretrained`, the content of the file counts, not its path.
    values = {key: value for key, value in settings.items() if key != "pretrained"}
    if algorithm.is_own(values["algorithm"]):
        values["algorithm"] = algorithm.OWN  # of a file, the code counts, not its path
    start = {"from_unaligned": unaligned, "from_memory": exemplars}
    start = {key: value for key, value in start.items() if value is not None}
    return start | {
        "code": code,
        "settings": json.loads(json.dumps(values)),
        "seed": seed,
        "memory": memory,
        "task_sizes": task_sizes,
        "classes": classes,
        "data_sha256": data,
        "from_model": model,
        "from_ranking": ranking,
        "pretrained_sha256": pretrained,
    }


# The features of a task are made from its model and its images. So what is made from features names
# the content of the model, as `trained`, and the hashes of the packed arrays, as `data`.


def selecting(
    *, code: str, selection: str, seed: int | None, trained: object, data: object, previous: object
) -> dict:
    """The entries of a ranking.

    seed: that of a random ranking, otherwise None. previous: the content of the ranking of the task
    before.
    """
    return {
        "code": code,
        "selection": selection,
        "seed": seed,
        "from_trained": trained,
        "data_sha256": data,
        "from_ranking": previous,
    }


def keeping(*, code: str, memory: str, data: object, ranking: object, previous: object) -> dict:
    """The entries of a memory that holds the exemplars themselves.

    ranking, previous: the content of the ranking, and of the memory of the task before.
    """
    return {
        "code": code,
        "memory": memory,
        "data_sha256": data,
        "from_ranking": ranking,
        "from_memory": previous,
    }


def aligning(
    *,
    code: str,
    alignment: str,
    gamma_norm: int,
    gamma_limit: float | None,
    trained: object,
    data: object,
    classifier: str,
    memory: str,
    ranking: object,
) -> dict:
    """The entries of an aligned model. It has those of the training too.

    classifier: the method's own. Only for nme, the memory and the content of the ranking count,
    which the means of exemplars are made from.
    """
    exemplars = {"memory": memory, "from_exemplars": ranking} if classifier == "nme" else {}
    choices = {
        "alignment": alignment,
        "gamma_norm": gamma_norm,
        "gamma_limit": gamma_limit,
        "classifier": classifier,
        "alignment_code": code,
        "from_trained": trained,
        "data_sha256": data,
    }
    return choices | exemplars


def fitting(
    *,
    code: str,
    name: str,
    options: list[str],
    seed: int,
    trained: object,
    data: object,
    previous: object,
) -> dict:
    """The entries of what an algorithm fits to features.

    name, options: of the algorithm. previous: the content of what was fitted after the task before.
    """
    return {
        "code": code,
        "algorithm": algorithm.OWN if algorithm.is_own(name) else name,
        "options": list(options),
        "seed": seed,
        "from_trained": trained,
        "data_sha256": data,
        "from_fitted": previous,
    }


def evaluating(
    *,
    code: str,
    memory: str,
    trained: object,
    data: object,
    model: object,
    ranking: object,
    fitted: object = None,
    options: list[str] = (),
    seed: int | None = None,
) -> dict:
    """The entries of the metrics of a task.

    fitted: the content of what the method's algorithm fitted, if it fits a classifier. Its scores
    may depend on its options and on the seed.
    """
    own = {"from_fitted": fitted, "options": list(options), "seed": seed} if fitted else {}
    return own | {
        "code": code,
        "memory": memory,
        "from_trained": trained,
        "data_sha256": data,
        "from_model": model,
        "from_ranking": ranking,
    }


def packing(
    *, code: str, source: str, cache_size: int | None, chosen: list[str], validation: float
) -> dict:
    """The entries of a packed data set. validation: 0 if it has its own test images."""
    split = {"validation": validation} if validation else {}
    entries = {"code": code, "source": source, "cache_size": cache_size, "chosen": chosen}
    return entries | split


def code_of(program: str, choices: list[str] | None = None) -> str:
    """The digest of the code of a program of this checkout, for a job that did not get one."""
    return Code(CHECKOUT).digest(program, choices or [])


def training_code(code: Code, settings: dict) -> str:
    """The digest of the code of a training. settings: every setting with its value."""
    choices = choices_of(settings)
    learner = algorithm.digest(code, settings["algorithm"], "Learner", choices)
    return code.digest("wa.training.train", choices) + learner


def fitting_code(code: Code, name: str) -> str:
    """The digest of the code that fits the classifier of an algorithm."""
    return code.digest("wa.methods.fit") + algorithm.digest(code, name, "FeatureClassifier")


def evaluating_code(code: Code, name: str) -> str:
    """The digest of the code that evaluates a method with this algorithm."""
    own = algorithm.digest(code, name, "FeatureClassifier")
    return code.digest("wa.analysis.evaluate") + own


def choices_of(settings: dict) -> list[str]:
    """The names that a training may look up in a table: all words of its settings."""
    words = set()
    for value in settings.values():
        for word in value if isinstance(value, (list, tuple)) else [value]:
            if isinstance(word, str):
                words |= {word, word.split("-")[0]}
    return sorted(words)


def shown(value: object) -> str:
    text = json.dumps(value) if not isinstance(value, str) else value
    return text if len(text) < 40 else f"{text[:18]}...{text[-18:]}"


def noted(entries: dict, other: dict) -> dict:
    """The entries that another header has too, at any depth, without the digests of code."""
    found = {}
    for key, value in entries.items():
        if key in other and not key.endswith("code"):
            both = isinstance(value, dict) and isinstance(other[key], dict)
            found[key] = noted(value, other[key]) if both else value
    return found


def difference(have: dict, want: dict) -> Verdict:
    """How a header differs from the wanted entries, in words.

    Returns "" if it has them all, and None if that cannot be known. A setting is named first: a
    setting that reaches other code changes the digest of the code too, and what is made before it.
    """
    made = {key: key.startswith("from_") or key.endswith("sha256") for key in want}
    order = sorted(want, key=lambda key: (made[key], key.endswith("code")))
    for key in order:
        value = want[key]
        if value is UNKNOWN:
            continue
        if key not in have:
            return f"it was made by an earlier version, which did not note its {key}"
        if have[key] == value:
            continue
        if isinstance(value, dict) and isinstance(have[key], dict) and not made[key]:
            return f"{key}: {difference(have[key], value) or 'entries were removed'}"
        if key.endswith("code"):
            return "the code that makes it was changed"
        if made[key]:
            return f"it was made from another {key.removeprefix('from_').removesuffix('_sha256')}"
        return f"{key} was {shown(have[key])}, is {shown(value)}"
    return None if UNKNOWN in want.values() else ""

"""Which results of a study are there, and which of them the study wants as they are.

The verdict on a result is

    ""      it is what the study wants, so it stays
    text    it differs, and the text says how
    None    unknown: it does not exist, or something before it must be computed first
"""

from dataclasses import asdict
from functools import cache
from pathlib import Path

from wa.checkpoint import read_header
from wa.code import Code
from wa.data.packed import hashes, read_dataset
from wa.errors import UserError
from wa.files import read_arrays_header, read_json, sha256
from wa.identity import (
    CHECKOUT,
    UNKNOWN,
    Verdict,
    aligning,
    choices_of,
    difference,
    evaluating,
    packing,
    selecting,
    training,
)
from wa.study import layout
from wa.study.settings import Settings
from wa.study.study import Study, Task

HASHED = 2**28  # bytes: a plan hashes arrays up to this size, which takes 0.2 s


class Results:
    """The results of a study as they are on disk. Each header is read once."""

    def __init__(self, study: Study, checkout: Path = CHECKOUT):
        self.study = study
        self.code = Code(checkout)
        self.header = cache(self._header)
        self.trained = cache(self._trained)
        self.aligned = cache(self._aligned)
        self.ranked = cache(self._ranked)
        self.prepared = cache(self._prepared)
        self.file_sha256 = cache(self._file_sha256)

    # The code of each job.

    def training_code(self, settings: Settings) -> str:
        return self.code.digest("wa.training.train", choices_of(asdict(settings)))

    def selecting_code(self, selection: str) -> str:
        return self.code.digest("wa.methods.selection", [selection])

    def aligning_code(self, alignment: str, classifier: str) -> str:
        # The first task is not aligned, whatever the method's alignment is.
        return self.code.digest("wa.methods.alignment", [alignment, "none", classifier])

    def evaluating_code(self) -> str:
        return self.code.digest("wa.analysis.evaluate")

    def packing_code(self) -> str:
        return self.code.digest("wa.data.datasets")

    # What lies on disk.

    def _header(self, file: str) -> dict:
        """The header of a checkpoint, a ranking, or metrics. Empty if it cannot be read."""
        try:
            if file.endswith(".safetensors"):
                return read_header(file)
            if file.endswith(".npz"):
                return read_arrays_header(file)
            return read_json(file).get("header", {})
        except (OSError, UserError):
            return {}

    def content(self, file: str) -> object:
        return self.header(file).get("content_sha256", UNKNOWN)

    def _file_sha256(self, file: str) -> object:
        if not file:
            return None
        return sha256(file) if Path(file).is_file() else UNKNOWN

    # The verdicts.

    def _prepared(self) -> Verdict:
        file = Path(self.study.data, layout.DATASET)
        arrays = [Path(self.study.data, array) for array in layout.ARRAYS]
        if not file.exists() or not all(array.exists() for array in arrays):
            return None
        dataset = read_dataset(file)
        for array in arrays:
            if (
                array.stat().st_size < HASHED
                and sha256(array) != dataset[layout.array_hash(array.name)]
            ):
                return f"{array.name} is not the array that was packed"
        return difference(dataset, self.packing())

    def packing(self) -> dict:
        """The entries of the study's data set."""
        config = self.study.config
        return packing(
            code=self.packing_code(),
            source=config["dataset"],
            cache_size=self.study.cache_size,
            chosen=config["classes"],
        )

    def ordered(self, order: str) -> Verdict:
        """The verdict on order.json."""
        if not Path(self.study.data, layout.DATASET).exists():
            return None
        try:
            have = read_json(f"{self.study.root}/order-{order}/{layout.ORDER}")
        except (OSError, UserError):
            return None
        dataset = read_dataset(Path(self.study.data, layout.DATASET))
        numbers = self.study.orders[order]
        names = [dataset["classes"][c] for c in numbers]
        own = difference(have, {"order": numbers, "names": names})
        return own or ("" if self.prepared() == "" else None)

    def data(self) -> tuple[object, object]:
        """The class names and the hashes of the packed arrays, or UNKNOWN for both."""
        if self.prepared() is None:
            return UNKNOWN, UNKNOWN
        dataset = read_dataset(Path(self.study.data, layout.DATASET))
        return dataset["classes"], hashes(dataset)

    def training(self, task: Task) -> dict:
        """The entries that the checkpoint of a task must have."""
        names, data = self.data()
        classes = UNKNOWN
        if names is not UNKNOWN:
            classes = [names[c] for c in self.study.orders[task.order][: sum(task.sizes)]]
        begins = not task.previous or task.settings.start == "scratch"
        memory = self.study.memory(task)
        reads_ranking = task.previous and memory.needs_ranking
        return training(
            asdict(task.settings),
            code=self.training_code(task.settings),
            seed=task.seed,
            memory=str(memory),
            task_sizes=task.sizes,
            classes=classes,
            data=data,
            model=None if begins else self.content(f"{task.previous}/{layout.MODEL}"),
            ranking=(
                self.content(f"{task.previous}/{layout.ranking(self.study.selection(task))}")
                if reads_ranking
                else None
            ),
            pretrained=self.file_sha256(task.settings.pretrained) if begins else None,
            unaligned=(
                self.content(f"{task.previous}/{layout.TRAINED}")
                if task.previous and task.settings.start == "trained"
                else None
            ),
        )

    def _trained(self, path: str) -> Verdict:
        """The verdict on the checkpoint in a folder of the study."""
        task = self.study.tasks[path]
        header = self.header(f"{path}/{layout.TRAINED}")
        if not header:
            return None
        own = difference(header, self.training(task))
        if own:
            return own
        before = [own, self.prepared(), self.ordered(task.order)]
        if task.previous and task.settings.start != "scratch":
            before.append(self.aligned(task.previous))
        if task.previous and self.study.memory(task).needs_ranking:
            before.append(self.ranked(task.previous, self.study.selection(task)))
        return "" if not any(verdict != "" for verdict in before) else None

    def _aligned(self, path: str) -> Verdict:
        """The verdict on the aligned model in a folder of the study."""
        header = self.header(f"{path}/{layout.MODEL}")
        if not header:
            return None
        task = self.study.tasks[path]
        choices = self.study.alignment(task)
        before = [self.trained(path)]
        ranking = None
        if choices["classifier"] == "nme":
            selection = self.study.selection(task)
            ranking = self.content(f"{path}/{layout.ranking(selection)}")
            before.append(self.ranked(path, selection))
        want = aligning(
            code=self.aligning_code(choices["alignment"], choices["classifier"]),
            trained=self.content(f"{path}/{layout.TRAINED}"),
            memory=str(self.study.memory(task)),
            ranking=ranking,
            **choices,
        )
        own = difference(header, want)
        return own or (None if any(verdict != "" for verdict in before) else own)

    def _ranked(self, path: str, selection: str) -> Verdict:
        """The verdict on a ranking in a folder of the study."""
        header = self.header(f"{path}/{layout.ranking(selection)}")
        if not header:
            return None
        task = self.study.tasks[path]
        previous = None
        if task.previous:
            previous = self.content(f"{task.previous}/{layout.ranking(selection)}")
        want = selecting(
            code=self.selecting_code(selection),
            selection=selection,
            seed=task.seed if selection == "random" else None,
            trained=self.content(f"{path}/{layout.TRAINED}"),
            previous=previous,
        )
        own = difference(header, want)
        before = [self.trained(path)]
        if task.previous:
            before.append(self.ranked(task.previous, selection))
        return own or (None if any(verdict != "" for verdict in before) else own)

    def evaluated(self, task: Task) -> Verdict:
        """The verdict on the metrics of a task of a run."""
        header = self.header(f"{task.path}/{layout.METRICS}")
        if not header:
            return None
        memory = self.study.memory_of(task.method)
        selection = self.study.selection(task)
        kept = memory.keeps
        want = evaluating(
            code=self.evaluating_code(),
            memory=str(memory),
            trained=self.content(f"{task.learned}/{layout.TRAINED}"),
            model=self.content(f"{task.learned}/{layout.MODEL}"),
            ranking=self.content(f"{task.learned}/{layout.ranking(selection)}") if kept else None,
        )
        own = difference(header, want)
        before = [self.aligned(task.learned)]
        if kept:
            before.append(self.ranked(task.learned, selection))
        return own or (None if any(verdict != "" for verdict in before) else own)

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
from wa.data.packed import hashes, read_dataset, read_parts
from wa.errors import UserError
from wa.files import read_arrays_header, read_json, sha256
from wa.identity import (
    CHECKOUT,
    UNKNOWN,
    Verdict,
    aligning,
    difference,
    evaluating,
    evaluating_code,
    fitting,
    fitting_code,
    keeping,
    noted,
    packing,
    selecting,
    training,
    training_code,
)
from wa.study import layout
from wa.study.parts import Part
from wa.study.settings import Settings
from wa.study.study import Study, Task

# Of the network itself. Task 0 has them for good, and later tasks go on from it.
OF_TASK_0 = ("backbone", "bias")
HASHED_BY_A_PLAN = 2**28  # bytes: a plan hashes arrays up to this size, which takes 0.2 s


class Results:
    """The results of a study as they are on disk. Each header is read once.

    code: that of this checkout. It may be read once for several looks at the results.
    """

    def __init__(self, study: Study, code: Code | None = None):
        self.study = study
        self.code = code or Code(CHECKOUT)
        self.header = cache(self._header)
        self.trained = cache(self._trained)
        self.aligned = cache(self._aligned)
        self.ranked = cache(self._ranked)
        self.kept = cache(self._kept)
        self.fitted = cache(self._fitted)
        self.prepared = cache(self._prepared)
        self.file_sha256 = cache(self._file_sha256)

    # The code of each job.

    def training_code(self, settings: Settings) -> str:
        return training_code(self.code, asdict(settings))

    def selecting_code(self, selection: str) -> str:
        return self.code.digest("wa.methods.selection", [selection])

    def keeping_code(self) -> str:
        return self.code.digest("wa.data.exemplars")

    def aligning_code(self, alignment: str, classifier: str) -> str:
        # The first task is not aligned, whatever the method's alignment is.
        return self.code.digest("wa.methods.alignment", [alignment, "none", classifier])

    def fitting_code(self, algorithm: str) -> str:
        return fitting_code(self.code, algorithm)

    def evaluating_code(self, algorithm: str) -> str:
        return evaluating_code(self.code, algorithm)

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

    def data_of(self, path: str) -> object:
        """The hashes of the packed arrays that a training, in its folder, was made from."""
        return self.header(f"{path}/{layout.TRAINED}").get("data_sha256", UNKNOWN)

    def _file_sha256(self, file: str) -> object:
        if not file:
            return None
        return sha256(file) if Path(file).is_file() else UNKNOWN

    # The verdicts.

    def _prepared(self, part: Part) -> Verdict:
        if not part.file.exists():
            return None
        if self.study.is_learned(part):
            return ""  # its images may be gone
        arrays = [Path(part.folder, array) for array in layout.ARRAYS]
        absent = [array.name for array in arrays if not array.exists()]
        if absent:
            return f"{absent[0]} is not there" if part.task is not None else None
        dataset = read_dataset(part.file)
        for array in arrays:
            if (
                array.stat().st_size < HASHED_BY_A_PLAN
                and sha256(array) != dataset[layout.array_hash(array.name)]
            ):
                return f"{array.name} is not the array that was packed"
        if part.task is not None and (changes := part.changes()):
            return f"{part.path} holds {changes}"
        return difference(dataset, self.packing(part))

    def packing(self, part: Part) -> dict:
        """The entries of packed data."""
        return packing(
            code=self.packing_code(),
            source=part.dataset,
            cache_size=part.cache_size,
            chosen=list(part.classes),
            validation=part.validation,
        )

    def ordered(self, order: str) -> Verdict:
        """The verdict on order.json."""
        part = self.study.parts[0]
        if not part.file.exists():
            return None
        try:
            have = read_json(f"{self.study.root}/order-{order}/{layout.ORDER}")
        except (OSError, UserError):
            return None
        classes = read_dataset(part.file)["classes"]
        numbers = self.study.orders[order]
        names = [classes[c] for c in numbers]
        own = difference(have, {"order": numbers, "names": names})
        return own or ("" if self.prepared(part) == "" else None)

    def data(self, parts: list[Part]) -> tuple[object, object]:
        """The class names and the hashes of the packed arrays, or UNKNOWN for both."""
        if any(self.prepared(part) is None for part in parts):
            return UNKNOWN, UNKNOWN
        if parts[0].task is None:
            dataset = read_dataset(parts[0].file)
        else:
            dataset = read_parts([part.file for part in parts])
        return dataset["classes"], hashes(dataset)

    def training(self, task: Task) -> dict:
        """The entries that the checkpoint of a task must have."""
        names, data = self.data(self.study.read_by(task))
        classes = UNKNOWN
        if names is not UNKNOWN:
            classes = [names[c] for c in self.study.orders[task.order][: sum(task.sizes)]]
        begins = not task.previous or task.settings.start == "scratch"
        memory = self.study.memory(task)
        reads_memory = task.previous and memory.needs_ranking
        grows = bool(self.study.named)
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
                if reads_memory and not grows
                else None
            ),
            exemplars=(self.content(str(task.memory_before)) if reads_memory and grows else None),
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
        own = self.compared(task, header, self.training(task))
        if own:
            return own
        features = self.header(f"{path}/{layout.FEATURES}")  # they may be deleted
        if features and features.get("from_trained") != header.get("content_sha256"):
            return f"{layout.FEATURES} was made from another model"
        before = [own, *(self.prepared(part) for part in self.study.read_by(task))]
        if not self.study.named:
            before.append(self.ordered(task.order))
        if task.previous and task.settings.start != "scratch":
            before.append(self.aligned(task.previous))
        if task.previous and self.study.memory(task).needs_ranking:
            before.append(self.ranked(task.previous, self.study.selection(task)))
            if self.study.named and task.memory_before.exists():
                before.append(self.kept(str(task.memory_before.parent)))
        return "" if not any(verdict != "" for verdict in before) else None

    def _kept(self, path: str) -> Verdict:
        """The verdict on the memory of images in a folder of the study."""
        task = self.study.tasks[path]
        header = self.header(f"{path}/{layout.MEMORY}")
        if not header:
            return None
        selection = self.study.selection(task)
        want = keeping(
            code=self.keeping_code(),
            memory=str(self.study.memory(task)),
            data=self.data_of(task.learned),
            ranking=self.content(f"{task.learned}/{layout.ranking(selection)}"),
            previous=self.content(str(task.memory_before)) if task.previous else None,
        )
        own = self.compared(task, header, want)
        return own or (own if self.ranked(task.learned, selection) == "" else None)

    def compared(self, task: Task, header: dict, want: dict) -> Verdict:
        """As difference(), for what was made of the images of a task.

        Images of tasks by name may be deleted, and so may the memories before the last. Then what
        was made of them stays, although today's code might make something else of them. It may lack
        settings that came with a later version.
        """
        if self.study.named:
            want = {k: v for k, v in want.items() if k != "from_memory" or v is not UNKNOWN}
        if self.study.is_gone(task):
            header, want = noted(header, want), noted(want, header)
        return difference(header, want)

    def check(self) -> None:
        """Refuse a study of tasks by name that cannot go on, before anything runs.

        Raises UserError.
        """
        for path in sorted({task.learned for task in self.study.tasks.values()}):
            task = self.study.tasks[path]
            header = self.header(f"{path}/{layout.TRAINED}")
            settings = header.get("settings", {})
            for name in OF_TASK_0:
                if settings and settings[name] != getattr(task.settings, name):
                    raise UserError(
                        f"config: training.{name}: {path} was trained with {name}"
                        f" {settings[name]}, but the config says {getattr(task.settings, name)}. It"
                        " is task 0's for good. Put it back, or give the study another name"
                        " (`experiment`)"
                    )
            if self.study.is_gone(task) and self.trained(path) != "":
                why = self.trained(path) or "the model is not there"
                raise self.lost(task, f"{path} would have to be trained on task", why)
        for run in self.study.runs():
            self.check_memory(run)

    def check_memory(self, run: list[Task]) -> None:
        """Refuse a run whose next task would not find the memory that it needs."""
        memory = self.study.memory(run[0])
        waiting = [task for task in run if self.trained(task.learned) != ""]
        if memory.is_all and waiting:
            for task in run[: len(waiting[-1].sizes)]:
                if self.study.is_gone(task):
                    number = len(task.sizes) - 1
                    raise UserError(
                        f"config: methods.{task.method}.memory: all needs the images of every task,"
                        f" but those of task {number} were deleted"
                        f" ({self.study.parts[number].folder}). Take {task.method} out of `methods`"
                    )
        if not memory.needs_ranking:
            return
        for task in reversed(run):
            is_last = task is run[-1]
            verdict = self.kept(task.path)
            if verdict == "" or not (is_last or run[len(task.sizes)] in waiting):
                return
            if self.study.is_gone(task):
                why = verdict or f"{task.path}/{layout.MEMORY} is not there"
                raise self.lost(task, f"the memory of {task.method} needs task", why)

    def lost(self, task: Task, needs: str, why: str) -> UserError:
        """The error for a task that needs images that were deleted. needs, why: in words."""
        number = len(task.sizes) - 1
        part = self.study.parts[number]
        return UserError(
            f"{needs} {number}{f' ({why})' if why else ''}, but its images were deleted"
            f" ({part.folder}). Put the config or the files back as they were. If the images are"
            f" still in {part.path}, delete {part.file}, and they are packed again"
        )

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
            data=self.data_of(path),
            memory=str(self.study.memory(task)),
            ranking=ranking,
            **choices,
        )
        own = self.compared(task, header, want)
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
            data=self.data_of(path),
            previous=previous,
        )
        own = self.compared(task, header, want)
        before = [self.trained(path)]
        if task.previous:
            before.append(self.ranked(task.previous, selection))
        return own or (None if any(verdict != "" for verdict in before) else own)

    def _fitted(self, path: str) -> Verdict:
        """The verdict on what a method's algorithm fitted after a task of a run."""
        task = self.study.tasks[path]
        header = self.header(f"{path}/{layout.FITTED}")
        if not header:
            return None
        algorithm, options = self.study.algorithm(task)
        previous = self.study.previous_in_run(task)
        want = fitting(
            code=self.fitting_code(algorithm),
            name=algorithm,
            options=list(options),
            seed=task.seed,
            trained=self.content(f"{task.learned}/{layout.TRAINED}"),
            data=self.data_of(task.learned),
            previous=self.content(f"{previous}/{layout.FITTED}") if previous else None,
        )
        own = self.compared(task, header, want)
        before = [self.trained(task.learned)]
        if previous:
            before.append(self.fitted(previous))
        return own or (None if any(verdict != "" for verdict in before) else own)

    def evaluated(self, task: Task) -> Verdict:
        """The verdict on the metrics of a task of a run."""
        header = self.header(f"{task.path}/{layout.METRICS}")
        if not header:
            return None
        memory = self.study.memory_of(task.method)
        selection = self.study.selection(task)
        kept, fits = memory.keeps, self.study.fits(task)
        algorithm, options = self.study.algorithm(task)
        want = evaluating(
            code=self.evaluating_code(algorithm),
            memory=str(memory),
            trained=self.content(f"{task.learned}/{layout.TRAINED}"),
            data=self.data_of(task.learned),
            model=self.content(f"{task.learned}/{layout.MODEL}"),
            ranking=self.content(f"{task.learned}/{layout.ranking(selection)}") if kept else None,
            fitted=self.content(f"{task.path}/{layout.FITTED}") if fits else None,
            options=list(options),
            seed=task.seed,
        )
        own = difference(header, want)
        before = [self.aligned(task.learned)]
        if fits:
            before.append(self.fitted(task.path))
        if kept:
            before.append(self.ranked(task.learned, selection))
        return own or (None if any(verdict != "" for verdict in before) else own)

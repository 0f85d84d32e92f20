"""The memory of a task as a file that holds the exemplars themselves.

    python -m wa.data.exemplars --data data/task-0 data/task-1 --ranking herding.npz \
        --memory 20/class --previous ../task-0/memory.npz --output memory.npz

A benchmark keeps its packed images, so a ranking is all that the next task needs of a memory. Where
tasks are listed by name, old images may be deleted. There the exemplars are copied into memory.npz
when a task is learned: those of the new classes from the task's packed images, those of the old
classes from the memory of the task before. The next task reads this file and nothing else of old
images.

memory.npz holds, ordered by index:

    images    uint8 (m, H, W, C)
    index     integers (m,), the number of each image in the data of all tasks
    label     integers (m,), its class, in the order of learning

`wa forget` removes classes from it, and lists them in forgotten.json of the study, so that memories
made later leave them out too. The header then names them in `removed`. It keeps the
`content_sha256` of the whole memory, so that nothing is learned again. `left_sha256` is the hash of
what is left.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from wa import identity
from wa.data.memory import Memory
from wa.data.packed import are_names, check_same_data, hashes, read_parts, verify
from wa.errors import UserError, program
from wa.files import (
    content_sha256,
    map_array,
    read_arrays_header,
    read_json,
    write_arrays,
)
from wa.methods.selection import exemplars, read_ranking
from wa.study.layout import DATASET

ARRAYS = ("images", "index", "label")
FORGOTTEN = {"classes": (are_names, "a list of classes")}


def read_memory(path: str | Path) -> dict[str, np.ndarray]:
    """The arrays of memory.npz. The images are mapped into memory.

    Raises UserError if the file is damaged, FileNotFoundError if it does not exist.
    """
    arrays = {name: map_array(path, name) for name in ARRAYS}
    header = read_arrays_header(path)
    said = header.get("left_sha256", header.get("content_sha256"))
    if said != content_sha256(arrays):
        raise UserError(f"{path} is damaged: its images are not those that its header names")
    return arrays


def removed(path: str | Path) -> list[str]:
    """The classes whose exemplars were removed from memory.npz with `wa forget`."""
    return read_arrays_header(path).get("removed", [])


def write_memory(path: str | Path, header: dict, arrays: dict[str, np.ndarray]) -> None:
    write_arrays(path, header, **{name: arrays[name] for name in ARRAYS})


def without(header: dict, arrays: dict, classes: Sequence[str]) -> tuple[dict, dict]:
    """The header and the arrays of a memory without the exemplars of some classes."""
    names = header["classes"]
    known = [names.index(name) for name in classes if name in names]
    if not known:
        return header, arrays
    keep = ~np.isin(arrays["label"], known)
    left = {name: np.array(array[keep]) for name, array in arrays.items()}
    gone = [*header.get("removed", []), *(names[c] for c in known)]
    removed = {"removed": list(dict.fromkeys(gone)), "left_sha256": content_sha256(left)}
    return header | removed, left


def forget(path: str | Path, classes: Sequence[str]) -> int:
    """Remove the exemplars of some classes from memory.npz. Returns how many there were."""
    arrays = read_memory(path)
    header, left = without(read_arrays_header(path), arrays, classes)
    write_memory(path, header, left)
    return len(arrays["label"]) - len(left["label"])


def forgotten(path: str | Path) -> list[str]:
    """The classes that forgotten.json lists. The file exists once `wa forget` was used."""
    return read_json(path, FORGOTTEN)["classes"] if Path(path).exists() else []


def kept(ranking: dict[str, np.ndarray], memory: Memory) -> tuple[np.ndarray, np.ndarray]:
    """The exemplars after a task: their indices, and the class of each, both integers (m,).

    They are ordered by index. ranking: of all images learned so far.
    """
    per_class = memory.per_class(len(ranking["counts"]))
    index = exemplars(ranking, per_class)
    label = np.repeat(np.arange(len(ranking["counts"])), ranking["counts"].clip(max=per_class))
    order = index.argsort(kind="stable")
    return index[order], label[order]


def gather(
    index: np.ndarray, label: np.ndarray, start: int, new: np.ndarray, previous: dict | None
) -> dict[str, np.ndarray]:
    """The arrays of a memory. index, label: as from kept.

    start: the index of the first image of the task. new: its images. previous: the memory of the
    task before. Exemplars that are no longer in it are left out.
    """
    old = previous or {"images": new[:0], "index": index[:0]}
    is_old = index < start
    wanted = is_old & np.isin(index, old["index"])
    row = np.searchsorted(old["index"], index[wanted])
    images = np.concatenate([old["images"][row], new[index[~is_old] - start]])
    there = wanted | ~is_old
    return {"images": images, "index": index[there], "label": label[there]}


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Keep the exemplars of a task as images.")
    add = parser.add_argument
    add("--data", type=Path, nargs="+", required=True, help="the packed images, task by task")
    add("--ranking", type=Path, required=True, help="the ranking of all images learned so far")
    add("--memory", type=Memory.parse, required=True, help="2000 in total, or 20/class")
    add("--previous", nargs="?", type=Path, help="memory.npz of the task before")
    add("--forgotten", type=Path, help="forgotten.json: classes to leave out, if it exists")
    add("--output", required=True, help="to write: memory.npz")
    add("--code", help="digest of the code, for the header (default: found here)")
    return parser.parse_args()


def main() -> None:
    args = parse()
    dataset = read_parts([folder / DATASET for folder in args.data])
    ranking, header = read_ranking(args.ranking), read_arrays_header(args.ranking)
    check_same_data(args.ranking, header, dataset, args.data[-1])
    if len(ranking["counts"]) != len(dataset["classes"]):
        raise UserError(
            f"{args.ranking} ranks {len(ranking['counts'])} classes, but {len(dataset['classes'])}"
            " are packed"
        )
    verify(args.data[-1], dataset["parts"][-1], ["train"])
    new = np.load(args.data[-1] / "train_images.npy", mmap_mode="r", allow_pickle=False)
    start = sum(sum(part["train_counts"]) for part in dataset["parts"][:-1])
    previous = read_memory(args.previous) if args.previous else None
    arrays = gather(*kept(ranking, args.memory), start, new, previous)
    made_from = identity.keeping(
        code=args.code or identity.code_of("wa.data.exemplars"),
        memory=str(args.memory),
        data=hashes(dataset),
        ranking=header.get("content_sha256"),
        previous=read_arrays_header(args.previous)["content_sha256"] if args.previous else None,
    )
    content = {"content_sha256": content_sha256(arrays), "classes": dataset["classes"]}
    if args.previous and removed(args.previous):
        content["removed"] = removed(args.previous)
    removed_now = forgotten(args.forgotten) if args.forgotten else []
    write_memory(args.output, *without(made_from | content, arrays, removed_now))


if __name__ == "__main__":
    program(main)

"""Tasks by name: a folder of images that grows. Old images may be deleted."""

import copy
import shutil
from pathlib import Path

import numpy as np
import pytest
from helpers import add_images, program, scheduled, snakemake
from PIL import Image

from wa.checkpoint import read_checkpoint, read_header, write_checkpoint
from wa.data.exemplars import read_memory
from wa.errors import UserError
from wa.files import read_arrays_header, read_json
from wa.study.results import Results
from wa.study.study import Study

FIRST, SECOND, THIRD = ["cat", "horse of wood", "küh"], ["duck", "goose"], ["fox"]
RUN = Path("results/shop/order-named/seed-0/base-3")


def config_of(*tasks: list[str]) -> dict:
    return {
        "experiment": "shop",
        "dataset": "shop",
        "path": "shop",
        "tasks": list(tasks),
        "methods": {
            "wa": {"memory": "4/class", "distillation": "dynamic", "alignment": "weight"},
            "icarl": {"memory": 14, "classifier": "nme"},
        },
        "training": {
            "backbone": "resnet8",
            "epochs": 1,
            "batch_size": 8,
            "augmentation": ["flip"],
            "precision": "float32",
        },
    }


def run(folder: Path, *tasks: list[str]) -> str:
    result = snakemake(folder, "metrics", config=config_of(*tasks))
    assert result.returncode == 0, result.stdout
    return result.stdout


def delete_images(folder: Path, task: int, names: list[str]) -> None:
    """What may go after a task was learned."""
    for name in names:
        for split in ("train", "test"):
            shutil.rmtree(folder / "shop" / split / name)
    for what in ("images", "labels"):
        (folder / f"results/shop/data/task-{task}/train_{what}.npy").unlink()


def files(folder: Path, pattern: str) -> dict[Path, bytes]:
    found = sorted(file for file in folder.glob(pattern) if file.is_file())
    return {file.relative_to(folder): file.read_bytes() for file in found}


@pytest.fixture(scope="module")
def learned(tmp_path_factory) -> Path:
    """A shop whose first two tasks are learned. The images of the first were deleted between."""
    folder = tmp_path_factory.mktemp("shop")
    add_images(folder / "shop", FIRST)
    run(folder, FIRST)
    add_images(folder / "shop", SECOND)
    shutil.copytree(folder, folder.with_name("kept"))
    delete_images(folder, 0, FIRST)
    run(folder, FIRST, SECOND)
    return folder


@pytest.fixture
def shop(learned, tmp_path, monkeypatch) -> Path:
    shutil.copytree(learned, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.slow
def test_the_same_bits_with_and_without_the_old_images(learned):
    kept = learned.with_name("kept")
    run(kept, FIRST, SECOND)
    pattern = "results/shop/order-named/**/*.safetensors"
    assert files(kept, pattern) == files(learned, pattern)
    assert len(files(kept, pattern)) == 6  # task 0, and task 1 of two methods


def test_a_new_line_trains_once_for_each_method_and_touches_nothing_old(shop):
    before = files(shop, "results/shop/order-named/**/*")
    add_images(shop / "shop", THIRD)
    jobs = scheduled(shop, config_of(FIRST, SECOND, THIRD), "metrics")
    assert jobs == {
        "prepare": 1,
        "train": 2,
        "align": 2,
        "herd": 2,
        "keep": 2,
        "evaluate": 2,
        "aggregate": 1,
        "config": 1,
    }
    output = run(shop, FIRST, SECOND, THIRD)
    assert "is made anew" not in output.replace("metrics.csv is made anew", "")
    after = files(shop, "results/shop/order-named/**/*")
    assert {file: after[file] for file in before} == before
    header = read_header(shop / RUN / "inc-named/wa/task-2/model.safetensors")
    assert header["classes"] == [*FIRST, *SECOND, *THIRD]
    assert not scheduled(shop, config_of(FIRST, SECOND, THIRD), "metrics")
    shown = program("wa", "show", str(shop / RUN / "inc-named/wa"))
    assert shown.returncode == 0 and "deleted" in shown.stdout, shown.stdout


def test_a_memory_holds_the_exemplars_themselves(learned):
    old = learned.with_name("kept") / "results/shop/data/task-0"
    for task, method, each in ((0, "wa", 4), (1, "wa", 4), (0, "icarl", 4), (1, "icarl", 2)):
        folder = learned / RUN / f"inc-named/{method}/task-{task}"
        memory = read_memory(folder / "memory.npz")
        assert np.bincount(memory["label"]).tolist() == [each] * (3 if task == 0 else 5)
        first = memory["label"] < 3
        pixels = np.load(old / "train_images.npy")
        assert np.array_equal(memory["images"][first], pixels[memory["index"][first]])
        later = np.load(learned / "results/shop/data/task-1/train_images.npy")
        assert np.array_equal(memory["images"][~first], later[memory["index"][~first] - 36])


ERRORS = {
    "edited": (
        {"tasks": [FIRST, ["duck", "swan"]]},
        "tasks.1: task 1 .* lacks goose and the config adds swan",
    ),
    "reordered": ({"tasks": [SECOND, FIRST]}, "tasks.0: .* the config lacks cat, horse of wood"),
    "removed": ({"tasks": [FIRST]}, "task 1 was trained on duck, goose, but the config lacks this"),
    "moved": ({"tasks": [FIRST, SECOND[::-1]]}, "the same classes in the order duck, goose"),
    "twice": ({"tasks": [FIRST, SECOND, ["cat"]]}, "tasks.2: class 'cat' is in task 0 already"),
    "no folder": (
        {"tasks": [FIRST, SECOND, ["emu"]]},
        "tasks.2: .* has no folder for 1 of the classes",
    ),
    "backbone": ({"training": {"backbone": "resnet20"}}, "trained with backbone resnet8"),
    "size": ({"cache_size": 8}, "cache_size: task 0 was trained on images of cache_size None"),
    "epochs": ({"training": {"epochs": 2}}, "task 0 .*epochs was 1, is 2.*images were deleted"),
    "seed": ({"seeds": [0, 1]}, "seed-1/base-3 would have to be trained on task 0"),
    "memory": ({"methods": {"wa": {"memory": "5/class"}}}, "wa needs task 0 .*4/class, is 5/class"),
    "all": (
        {"methods": {"new": {"memory": "all"}}},
        "methods.new.memory: all needs the images of every task, but those of task 0",
    ),
    "orders": ({"orders": [1]}, "orders: `tasks` lists the classes in their order"),
    "protocols": ({"protocols": [{"base": 3, "increment": 2}]}, "protocols: `tasks` lists"),
    "built-in": ({"dataset": "digits"}, "dataset: `tasks` lists classes of a folder of images"),
    "timm": (
        {"training": {"input": "timm", "augmentation": ["resized-crop-16"]}},
        "training.input: timm reads the original files",
    ),
}


@pytest.mark.parametrize("name", ERRORS)
def test_what_cannot_go_on_is_refused_before_anything_runs(shop, name):
    change, error = ERRORS[name]
    config = config_of(FIRST, SECOND)
    for key, value in change.items():
        together = isinstance(value, dict) and key == "training"
        config[key] = config[key] | value if together else value
    with pytest.raises(UserError, match=error):
        Results(Study(config)).check()


def test_comparing_without_test_images_of_old_classes_says_so(shop):
    run = shop / "results/shop/order-named/seed-0/base-3"
    models = [run / "model.safetensors", run / "inc-named/wa/task-1/model.safetensors"]
    for file in (shop / "results/shop/data/task-0").glob("test_*.npy"):
        file.unlink()
    found = program("wa", "compare", *models)
    assert found.returncode == 1
    assert "error: no test images of the old version's classes are left in" in found.stdout


def test_a_test_folder_without_the_new_class_is_refused(shop):
    add_images(shop / "shop", THIRD)
    shutil.rmtree(shop / "shop/test/fox")
    with pytest.raises(UserError, match=r"tasks.2: .*only one of them has \['fox'\]"):
        Study(config_of(FIRST, SECOND, THIRD))


def test_a_later_version_of_the_program_goes_on_without_the_old_images(shop):
    """It may have another code and a new setting. What they would change cannot be made again."""
    file = shop / RUN / "trained.safetensors"
    tensors, header = read_checkpoint(file)
    del header["settings"]["optimizer"]
    write_checkpoint(file, tensors, header | {"code": "of an earlier version"})
    assert not scheduled(shop, config_of(FIRST, SECOND), "metrics")
    header["settings"]["epochs"] = 7  # a setting that is there must still be the same
    write_checkpoint(file, tensors, header)
    with pytest.raises(UserError, match=r"epochs was 7, is 1.*images were deleted"):
        Results(Study(config_of(FIRST, SECOND))).check()


def test_packing_again_in_vain_loses_nothing(shop):
    forced = snakemake(shop, "metrics", "--forcerun", "prepare", config=config_of(FIRST, SECOND))
    assert forced.returncode == 1 and "has no folder for 3 of the classes" in forced.stdout
    assert not scheduled(shop, config_of(FIRST, SECOND), "metrics")


def test_a_memory_that_is_lost_is_made_again_or_refused(shop):
    config = config_of(FIRST, SECOND)
    memory = shop / RUN / "inc-named/wa/task-1/memory.npz"
    memory.unlink()
    assert scheduled(shop, config, "metrics") == {"keep": 1}
    for what in ("images", "labels"):
        (shop / f"results/shop/data/task-1/train_{what}.npy").unlink()
    with pytest.raises(UserError, match=r"memory of wa needs task 1 .*memory\.npz is not there"):
        Results(Study(config)).check()


def test_older_memories_may_be_deleted(shop):
    for method in ("wa", "icarl"):
        (shop / RUN / f"inc-named/{method}/task-0/memory.npz").unlink()
    assert not scheduled(shop, config_of(FIRST, SECOND), "metrics")


def test_images_added_to_a_learned_class_are_noted_and_not_used(shop):
    assert Study(config_of(FIRST, SECOND)).notes == []
    shutil.copy("shop/train/duck/0.png", "shop/train/duck/new.png")
    study = Study(config_of(FIRST, SECOND))
    assert study.notes == [
        "shop holds other images of duck than task 1 was learned from. They are not used."
    ]
    assert not scheduled(shop, config_of(FIRST, SECOND), "metrics")


def test_nothing_is_learned_yet_so_a_line_may_change(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    add_images(tmp_path / "shop", [*FIRST, *SECOND], 3)
    options = ["--dataset", "shop", "--path", "shop", "--output", "results/shop/data/task-0"]
    packed = program("wa.data.datasets", *options, "--classes", '["cat", "duck"]')
    assert packed.returncode == 0, packed.stdout
    study = Study(config_of(FIRST))
    assert Results(study).prepared(study.parts[0]).startswith("chosen was")


def test_images_of_another_size_are_refused_when_they_are_packed(shop):
    add_images(shop / "shop", THIRD)
    for file in (shop / "shop").glob("*/fox/*"):
        Image.open(file).resize((20, 16)).save(file)
    result = snakemake(shop, "metrics", config=config_of(FIRST, SECOND, THIRD))
    assert "fox/0.png: 20x16 pixels, and not 16x16" in result.stdout
    assert "all tasks have the size of task 0, so resize these images" in result.stdout


@pytest.mark.slow
def test_classes_can_be_forgotten_and_their_test_images_deleted(shop):
    add_images(shop / "shop", THIRD)
    missing = program("wa", "forget", "results/shop", "emu")
    assert missing.returncode == 1 and "'emu' is in no memory" in missing.stdout
    done = program("wa", "forget", "results/shop", "küh", "duck")
    assert done.returncode == 0, done.stdout
    assert "task-1/train_images.npy still holds images of duck" in done.stdout
    last = shop / RUN / "inc-named/wa/task-1/memory.npz"
    assert np.bincount(read_memory(last)["label"]).tolist() == [4, 4, 0, 0, 4]
    assert read_arrays_header(last)["removed"] == ["küh", "duck"]
    assert not scheduled(shop, config_of(FIRST, SECOND), "metrics")  # what was learned stays

    for what in ("images", "labels"):
        (shop / f"results/shop/data/task-0/test_{what}.npy").unlink()
    run(shop, FIRST, SECOND, THIRD)
    for method in ("wa", "icarl"):
        folder = shop / RUN / f"inc-named/{method}/task-2"
        assert read_header(folder / "model.safetensors")["removed"] == ["küh", "duck"]
        metrics = read_json(folder / "metrics.json")["trained"]
        assert metrics["untested_classes"] == 3 and "accuracy_task_0" not in metrics
    shown = program("wa", "show", str(shop / RUN / "inc-named/wa"))
    assert "Exemplars were removed from the memory: küh, duck." in shown.stdout
    assert "3 classes have no test images left" in shown.stdout


def test_a_memory_made_again_leaves_out_what_was_forgotten(shop):
    last = shop / RUN / "inc-named/wa/task-1/memory.npz"
    whole = last.read_bytes()
    last.write_bytes(whole[:-100])  # a damaged memory stops the command before it changes one
    refused = program("wa", "forget", "results/shop", "duck")
    assert refused.returncode == 1 and "damaged" in refused.stdout
    assert not (shop / "results/shop/forgotten.json").exists()
    last.write_bytes(whole)
    assert program("wa", "forget", "results/shop", "duck").returncode == 0
    last.unlink()  # the packed images of its task are still there
    add_images(shop / "shop", THIRD)
    run(shop, FIRST, SECOND, THIRD)
    assert np.bincount(read_memory(last)["label"]).tolist() == [4, 4, 4, 0, 4]
    assert read_arrays_header(last)["removed"] == ["duck"]
    header = read_header(shop / RUN / "inc-named/wa/task-2/model.safetensors")
    assert header["removed"] == ["duck"]


@pytest.mark.slow
def test_a_run_of_all_images_reads_every_task(tmp_path):
    add_images(tmp_path / "shop", [*FIRST, *SECOND])
    config = config_of(FIRST, SECOND)
    config["methods"] = {"joint": {"memory": "all", "start": "scratch"}}
    result = snakemake(tmp_path, config=config)  # figures too
    assert result.returncode == 0, result.stdout
    log = (tmp_path / RUN / "inc-named/joint/task-1/train.log").read_text(encoding="utf-8")
    assert "task 1: 60 images, 5 classes (3 old)" in log


def test_a_copy_of_the_config_is_the_same_study(shop):
    """The defaults that validation fills in do not look as if they were written."""
    config = config_of(FIRST, SECOND)
    before = copy.deepcopy(config)
    Study(config)
    assert config == before

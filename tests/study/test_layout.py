"""What a path in the results tree names, whatever a method is called."""

from pathlib import Path

import pytest

from wa.study.layout import Place, place

SHARED = Path("/r/results/base-1/order-1993/seed-0/base-6-clip")


@pytest.mark.parametrize("method", ["wa", "task-1", "inc-2", "base-6", "seed-0", "null", "1"])
def test_a_path_names_a_run_or_a_task(method):
    run = SHARED / "inc-2" / method
    assert place(run) == Place(run, SHARED, None)
    for path in (run / "task-3", run / "task-3/metrics.json"):
        assert place(path) == Place(run, SHARED, 3)
    for path in (SHARED, SHARED / "trained.safetensors"):
        assert place(path) == Place(None, SHARED, 0)


def test_other_paths_name_nothing():
    for path in (SHARED.parent, SHARED.parents[2], Path("/r/base-6/inc-2")):
        assert place(path) is None

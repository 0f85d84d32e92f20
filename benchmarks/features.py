"""How long the classifiers on frozen features take: fit and scores, task by task.

    .venv/bin/python benchmarks/features.py --threads 2

By default 1,000 classes in 10 tasks, with 50 training and 5 test images of each class, and features
of 512 numbers, made up. Each algorithm is fitted after each task and gives scores to the test
images of all classes so far, as in a study. The times are processor seconds divided by the
threads: what the threads take on idle cores, whatever else runs on the machine.
"""

import argparse
import os
import time

ALGORITHMS = ("simplecil", "slda", "fecam", "ranpac")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--algorithms", nargs="+", default=ALGORITHMS)
    add("--classes", type=int, default=1000)
    add("--tasks", type=int, default=10)
    add("--features", type=int, default=512)
    add("--images", type=int, default=50, help="of a class, to train on (default: 50)")
    add("--test-images", type=int, default=5, help="of a class (default: 5)")
    add("--threads", type=int, default=2)
    add("--projections", type=int, default=10_000, help="of ranpac (default: 10000)")
    args = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = str(args.threads)

    import numpy as np

    from wa.methods import algorithm
    from wa.methods.feature_classifier import Learned

    draw = np.random.default_rng(0)
    centres = draw.standard_normal((args.classes, args.features), "f4")

    def images(classes: range, each: int) -> tuple[np.ndarray, np.ndarray]:
        label = np.repeat(classes, each)
        noise = draw.standard_normal((len(label), args.features), "f4")
        return np.maximum(centres[label] + 2 * noise, 0), label

    size = args.classes // args.tasks
    tasks = [images(range(t * size, (t + 1) * size), args.images) for t in range(args.tasks)]
    test, label = images(range(args.classes), args.test_images)
    print(f"{'algorithm':12}{'fit s':>8}{'scores s':>10}{'accuracy':>10}")
    for name in args.algorithms:
        given = {"projections": args.projections} if name == "ranpac" else {}
        options = algorithm.with_defaults(name, given)
        classifier = algorithm.load(name, "FeatureClassifier")(options, 0)
        state, fit, scoring = {}, 0.0, 0.0
        for task, (features, labels) in enumerate(tasks):
            sizes = [size] * (task + 1)
            nothing = np.zeros((sum(sizes), args.features)), np.zeros(sum(sizes))
            started = time.process_time()
            state = classifier.fit(Learned(features, labels, sizes, *nothing, {}), state)
            fitted = time.process_time()
            scores = classifier.scores(test[label < sum(sizes)], state)
            fit, scoring = fit + fitted - started, scoring + time.process_time() - fitted
        accuracy = 100 * (scores.argmax(axis=1) == label).mean()
        fit, scoring = fit / args.threads, scoring / args.threads
        print(f"{name:12}{fit:8.1f}{scoring:10.1f}{accuracy:10.1f}", flush=True)


if __name__ == "__main__":
    main()

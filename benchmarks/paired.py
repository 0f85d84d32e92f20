"""How much narrower is the interval of a difference if runs are compared in pairs?

    .venv/bin/snakemake --cores 2 --configfile config/digits-paired.yaml
    .venv/bin/python benchmarks/paired.py results/digits-paired

Paired: Student's t of the differences, run by run. Unpaired: Welch's t of the same runs, as if the
methods did not share class orders, seeds and task 0.
"""

import argparse
from pathlib import Path

from scipy import stats

from wa.analysis.figures.table import COMPARED, FINAL, at_the_end, read_own
from wa.analysis.statistics import by_run, differences
from wa.plot import plan


def main() -> None:
    parser = argparse.ArgumentParser(description="Widths of paired and unpaired intervals.")
    parser.add_argument("study", type=Path, help="the folder of a finished study")
    args = parser.parse_args()
    study = plan(args.study)
    runs = study.run_table(names=study.show)
    last = at_the_end(read_own(str(args.study / "metrics.csv"), runs))
    reference = runs.compared_with
    for metric in COMPARED:
        values = by_run(last[last["metric"] == metric], ["base", "increment", "order", "seed"])
        for each in differences(values, reference):
            test = stats.ttest_ind(values[each.method], values[reference], equal_var=False)
            unpaired = test.confidence_interval()
            paired, wide = each.high - each.low, unpaired.high - unpaired.low
            print(
                f"{FINAL[metric]}, {each.method} - {reference}: {each.mean:+.1f}, {each.pairs}"
                f" pairs, paired {each.low:+.1f} to {each.high:+.1f}, unpaired"
                f" {unpaired.low:+.1f} to {unpaired.high:+.1f}, {wide / paired:.2f} times narrower,"
                f" p (Holm) {each.p_holm:.2g}"
            )


if __name__ == "__main__":
    main()

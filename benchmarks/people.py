"""How alike clips have to be, and how rational people are, for what CLARIFY reports of them.

    prefrl bench rules --out runs/bench/rules
    python benchmarks/people.py runs/bench/rules/runs/*-mutual-information-seed[0-2]

Reads the pairs that finished runs have asked. Prints how far their returns lie apart, in standard
deviations of those of the clips asked about last, and the two knobs of a teacher that finds
53 % of them clear and labels 66.7 % of those as the true return would, a tenth by guessing.
"""

import argparse
from pathlib import Path

import numpy as np

from prefrl.labellers.oracle import RECENT
from prefrl.labellers.teachers import TEACHERS
from prefrl.run import Run

CLEAR, ACCURACY = 0.53, 0.667
"""Of the people who answered OPRL's queries in CLARIFY (ICML 2025)."""
LAPSE = TEACHERS["human-like"].lapse


def main() -> None:
    """Print a row for each task, and one for all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN")
    tasks: dict[str, list[np.ndarray]] = {}
    for folder in parser.parse_args().runs:
        run = Run(folder)
        tasks.setdefault(run.config.env.id, []).append(differences(run))
    print("| task | pairs | 25 %, median, 75 % | alike | rationality |")
    print("| --- | --- | --- | --- | --- |")
    everything = np.concatenate([found for runs in tasks.values() for found in runs])
    for task, apart in [(t, np.concatenate(runs)) for t, runs in tasks.items()] + [
        ("all", everything)
    ]:
        quartiles = ", ".join(f"{q:.2f}" for q in np.quantile(apart, [0.25, 0.5, 0.75]))
        alike, rationality = fit(apart)
        print(f"| {task} | {len(apart)} | {quartiles} | {alike:.2f} | {rationality:.2f} |")


def differences(run: Run) -> np.ndarray:
    """`(n,)` differences in return of the pairs of a run, as its oracle would see them."""
    store = run.labels
    queries = [label.query for label in store.labels()]
    returns = np.array(
        [
            [store.clip(clip).true_rewards.sum() for clip in (query.left_clip, query.right_clip)]
            for query in queries
        ]
    )
    store.close()
    steps = np.array([query.step for query in queries])
    apart = np.abs(returns[:, 0] - returns[:, 1])
    for step in np.unique(steps):
        asked_last = returns[steps <= step][-RECENT // 2 :]
        apart[steps == step] /= asked_last.std()
    return apart


def fit(apart: np.ndarray) -> tuple[float, float]:
    """The teacher's `alike` and `rationality`, to a hundredth."""
    alike = float(np.quantile(apart, 1 - CLEAR))
    clear = apart[apart > alike]
    knobs = np.arange(0, 10, 0.01)
    decided = 1 / (1 + np.exp(-knobs[:, None] * clear))
    accuracy = ((1 - LAPSE) * decided + LAPSE / 2).mean(axis=1)
    return alike, float(knobs[np.abs(accuracy - ACCURACY).argmin()])


if __name__ == "__main__":
    main()

"""What tests of whole runs share: a small run, and how two runs are compared."""

import csv

import numpy as np

from prefrl.run import Run

SMALL = {"labels": 12, "steps": 3840, "quiet": True}
"""Four rollouts of the point mass."""


def rows_of(run: Run, without: tuple[str, ...] = ("time/",)) -> list[dict[str, str]]:
    """Rows of metrics.csv as text, times aside."""
    with (run.path / "metrics.csv").open() as file:
        return [
            {k: v for k, v in row.items() if k == "time/step" or not k.startswith(without)}
            for row in csv.DictReader(file)
        ]


def answers_of(run: Run) -> list[tuple]:
    store = run.labels
    answers = [(label.query, label.answer, label.step) for label in store.labels()]
    store.close()
    return answers


def weights_of(run: Run) -> list[np.ndarray]:
    """Every number that policy and ensemble consist of."""
    tensors = [*run.policy.model.policy.state_dict().values()]
    if not run.config.run.true_reward:
        tensors += [*run.ensemble.state_dict().values()]
    return [tensor.numpy() for tensor in tensors]


def assert_same_run(first: Run, second: Run, without: tuple[str, ...] = ("time/",)) -> None:
    assert rows_of(first, without) == rows_of(second, without)
    for a, b in zip(weights_of(first), weights_of(second), strict=True):
        np.testing.assert_array_equal(a, b)

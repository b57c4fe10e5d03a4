"""What tests share: small runs and suites, how two are compared, a clip, a video, predictions."""

import csv
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import yaml

from prefrl.bench.results import Row
from prefrl.bench.suites import RANDOM_ACTIONS, Suite, suite_from_tree
from prefrl.cli import main
from prefrl.clips.clip import Clip
from prefrl.clips.render import Renderer, draw_clip
from prefrl.config import EnvConfig
from prefrl.environment import make_drawable
from prefrl.queries.sampler import ensemble_sums, predict
from prefrl.reward.ensemble import RewardEnsemble
from prefrl.run import Run

SMALL = {"labels": 12, "steps": 3840, "quiet": True}
"""Four rollouts of the point mass."""

TINY = """
about: A test.
seeds: 1
reference: true-reward
baseline: random
tasks:
  prefrl/PointMass-v0:
    run: {steps: 3840, evaluation_episodes: 2}
    labels: {budget: 8}
conditions:
  true-reward: {run: {true_reward: true}}
  random: {query: {rule: random}}
"""
"""A suite of two such runs."""

ROWS = [
    Row("A-v0", RANDOM_ACTIONS, 0, 10.0, 0.0),
    Row("A-v0", "true", 0, 100.0, 0.0, steps=1000),
    Row("A-v0", "true", 1, 120.0, 0.0, steps=1000),
    Row("A-v0", "few", 0, 60.0, 0.0, labels_answered=5, steps=1000),
    Row("A-v0", "few", 1, 110.0, 0.0, labels_answered=7, steps=1000),
    Row("B-v0", RANDOM_ACTIONS, 0, -50.0, 0.0),
    Row("B-v0", "true", 0, -10.0, 0.0, steps=500),
    Row("B-v0", "few", 0, -30.0, 0.0, labels_answered=6, steps=500),
]
"""Of two tasks, one of which has one run of each condition."""


def refused(capsys, *arguments: str) -> str:
    """The one sentence with which a command refuses its input."""
    before = sorted(Path().rglob("*"))
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("prefrl: ")
    assert err.count("\n") == 1, err
    assert sorted(Path().rglob("*")) == before, "something was written"
    return err


def suite_of(text: str) -> Suite:
    """The suite that YAML says."""
    return suite_from_tree("tiny", yaml.safe_load(text))


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


def point_mass_clip(number: int, length: int = 15) -> Clip:
    """The point mass flying on a line of its own; the higher the number, the better."""
    speed = 0.01 * (number + 1)
    states = np.zeros((length, 4))
    states[:, 0] = -0.9 + speed * np.arange(length)
    states[:, 1] = 0.5 - 0.02 * number
    states[:, 2] = speed
    return Clip(
        observations=states.astype(np.float32),
        actions=np.full((length, 2), 0.1, np.float32),
        true_rewards=states[:, 2],
        states=states,
        infos={"x_velocity": states[:, 2]},
        step=960,
    )


def until(condition: Callable[[], object], seconds: float = 30.0) -> None:
    """Wait for what another thread or process is about to do."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never came to pass"
        time.sleep(0.02)


def read_video(path: str | Path, height: int = 360, width: int = 480) -> np.ndarray:
    """Frames `(n, height, width, 3)`."""
    command = [
        imageio_ffmpeg.get_ffmpeg_exe(),
        "-i",
        str(path),
        "-f",
        "rawvideo",
        "-pix_fmt",
        "rgb24",
    ]
    done = subprocess.run([*command, "-"], capture_output=True, check=True)
    return np.frombuffer(done.stdout, np.uint8).reshape(-1, height, width, 3)


def drawn_here(env_config: EnvConfig, clip: Clip) -> np.ndarray:
    """Frames of each of a clip's steps, `(n, height, width, 3)`, drawn in this process."""
    env = make_drawable(env_config, 320, 240)
    env.reset(seed=3)
    frames = draw_clip(Renderer(env), clip, 1)
    env.close()
    return frames


def preferences(ensemble: RewardEnsemble, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Each member's probability, as the sampler has it, that the left clip is better.

    Args:
        ensemble: Predicts.
        left, right: `(n, T, obs_dim + act_dim)`.

    Returns:
        `(members, n)`.
    """
    sums = ensemble_sums(ensemble, np.concatenate([left, right]))
    n = len(left)
    return predict(sums, np.arange(n), np.arange(n, 2 * n))

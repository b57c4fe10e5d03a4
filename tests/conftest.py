"""Shared by all tests: no display, one thread, small runs on the point mass."""

import os

os.environ.setdefault("MUJOCO_GL", "egl")
os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import prefrl
from prefrl.clips.clip import Clip

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _in_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def make_clip() -> Callable[..., Clip]:
    def make(value: float = 0.0, length: int = 5, seed: int = 0) -> Clip:
        """A clip whose true reward is `value` at each step."""
        rng = np.random.default_rng([seed, int(value * 1000)])
        return Clip(
            observations=rng.normal(size=(length, 3)).astype(np.float32),
            actions=rng.normal(size=(length, 2)).astype(np.float32),
            true_rewards=np.full(length, value),
            states=rng.normal(size=(length, 4)),
            infos={"speed": rng.normal(size=length)},
            step=7,
        )

    return make


@pytest.fixture(scope="session")
def point_mass_run(tmp_path_factory: pytest.TempPathFactory) -> prefrl.Run:
    """The point mass as its preset has it: 60 labels, 30,000 steps. Tests only read it."""
    out = tmp_path_factory.mktemp("runs") / "point-mass"
    return prefrl.train("prefrl/PointMass-v0", out=out, quiet=True)

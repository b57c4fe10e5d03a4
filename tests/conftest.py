"""Shared by all tests: no display, one thread, small runs on the point mass."""

import os

os.environ.setdefault("MUJOCO_GL", "egl")
os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from compare import TINY, point_mass_clip

import prefrl
from prefrl.clips.clip import Clip
from prefrl.configfile import load_config
from prefrl.labels.store import LabelStore

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


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """The file of a small suite."""
    path = tmp_path / "tiny.yaml"
    path.write_text(TINY)
    return path


@pytest.fixture
def asked_run(tmp_path: Path) -> Callable[..., prefrl.Run]:
    """Makes a run of the point mass that has asked about some pairs and is not trained."""

    def make(pairs: int = 12, **labels: object) -> prefrl.Run:
        sections = {"labels": {"labeller": "human", "budget": 40, "probes": 0.0} | labels}
        run = prefrl.Run.create(tmp_path / "run", load_config("prefrl/PointMass-v0", sections))
        store = LabelStore(run.label_file)
        store.note(environment="prefrl/PointMass-v0", step=960)
        for i in range(pairs):
            left, right = (point_mass_clip(2 * i + side) for side in (0, 1))
            store.ask(left, right, step=960 * (1 + i // 4), rule="random")
        store.close()
        return run

    return make


@pytest.fixture
def sit(asked_run: Callable[..., prefrl.Run]) -> Iterator[Callable[..., Any]]:
    """Opens windows on a run that has asked about some pairs."""
    import pygame
    from seat import Desktop

    from prefrl.labellers.display import close_display, open_display

    opened: list[Desktop] = []

    def sit(pairs: int = 12, **options: Any) -> Desktop:
        opened.append(Desktop(asked_run(pairs), **options))
        return opened[-1]

    open_display()
    yield sit
    for desktop in opened:
        desktop.close()
    pygame.event.clear()
    close_display()


@pytest.fixture(scope="session")
def point_mass_run(tmp_path_factory: pytest.TempPathFactory) -> prefrl.Run:
    """The point mass as its preset has it: 60 labels, 30,000 steps. Tests only read it."""
    out = tmp_path_factory.mktemp("runs") / "point-mass"
    return prefrl.train("prefrl/PointMass-v0", out=out, quiet=True)

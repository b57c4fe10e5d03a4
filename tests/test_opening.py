"""Windows that a trainer opens, and what it does where none can be opened."""

import time
from pathlib import Path

import gymnasium as gym
import pytest
from compare import SMALL

import prefrl
from envs.point_mass import PointMassEnv
from prefrl.cli import main
from prefrl.errors import RunFailed, UserError
from prefrl.labelling import WindowProcess
from prefrl.labels.store import LabelStore
from prefrl.lock import hold
from prefrl.registry import check_found_by_others

POINT = "prefrl/PointMass-v0"


def wait_for_news(window):
    """What a window that closes by itself says, or raises."""
    for _ in range(600):
        if (words := window.news()) is not None:
            return words
        time.sleep(0.1)
    raise AssertionError("it is still open")


def test_a_run_that_waits_ends_where_no_window_can_be_opened(asked_run):
    run = asked_run(wait=True)
    run.label_file.unlink()
    with pytest.raises(RunFailed, match=r"^the window is closed \('.* has no label .* waits"):
        wait_for_news(WindowProcess(run))


def test_it_goes_on_where_another_window_is_open(asked_run):
    run = asked_run(wait=True)
    run.label_file.unlink()
    with hold(run.window_lock, shared=True):
        assert wait_for_news(WindowProcess(run)).endswith("opens one")


def test_one_that_does_not_wait_says_so_and_goes_on(asked_run):
    run = asked_run()
    run.label_file.unlink()
    words = wait_for_news(WindowProcess(run))
    assert words.startswith("the window is closed ('")
    assert words.endswith("opens one")


class Alone(PointMassEnv):
    """Registered by this file alone."""


def test_an_environment_that_the_window_could_not_find_is_refused(monkeypatch):
    gym.register("Alone-v0", Alone, max_episode_steps=60)
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    with pytest.raises(UserError, match="as in 'my_module:Alone-v0'"):
        prefrl.train("Alone-v0", labeller="human", out="run", **SMALL)
    assert not Path("run").exists()


def test_so_is_one_of_an_installed_package(monkeypatch):
    """Gymnasium imports none by itself."""
    gym.register("Installed-v0", "some_package.envs:Env", max_episode_steps=60)
    with pytest.raises(UserError, match="as in 'my_module:Installed-v0'"):
        check_found_by_others("Installed-v0")


@pytest.mark.parametrize("env_id", [POINT, "Hopper-v5", "CartPole-v1", f"{__name__}:Alone-v0"])
def test_one_that_it_finds_is_not(env_id):
    check_found_by_others(env_id)


def test_answers_that_came_too_late_lead_on(monkeypatch, capsys):
    """Some, given in the window after the end, are in the command that `resume` prints."""
    opened = []

    class Window:
        def __init__(self, run):
            opened.append(run)

        def news(self):
            return None

        def release(self):
            pass

    monkeypatch.setattr("prefrl.training.WindowProcess", Window)
    train = ["train", POINT, "--labels", "12", "--steps", "3840", "--quiet"]
    assert main([*train, "--labeller", "human", "--out", "run"]) == 1
    assert len(opened) == 1
    with LabelStore("run/labels.db") as store:
        store.answer(store.pending()[0].id, "left", labeller="ada", seconds=1.0)
    capsys.readouterr()
    assert main(["resume", "run", "--quiet"]) == 1
    assert "--wait-for-labels --labels-from run/labels.db` starts anew" in capsys.readouterr().err
    assert len(opened) == 1, "nothing is left to watch"

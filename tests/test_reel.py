import os
import re
import time
from typing import ClassVar

import gymnasium as gym
import numpy as np
import pytest
from compare import drawn_here, point_mass_clip

import prefrl
from prefrl.clips.clip import Clip
from prefrl.clips.render import Renderer, draw_clip
from prefrl.clips.simulator import read_state
from prefrl.configfile import load_config
from prefrl.environment import make_drawable
from prefrl.errors import UserError
from prefrl.labellers.reel import NotDrawn, Reel, ReelMaker, ReelShelf
from prefrl.labels.store import LabelStore


@pytest.fixture
def maker(asked_run):
    makers = []

    def start(run=None):
        makers.append(ReelMaker((run or asked_run()).path))
        return makers[-1]

    yield start
    for maker in makers:
        maker.end()
        maker.close()


def test_a_reel_shows_the_clip(maker, asked_run):
    run = asked_run()
    made = maker(run)
    made.ask(5)
    reel = made.wait()
    assert isinstance(reel, Reel)
    assert (reel.clip, reel.fps, reel.pace) == (5, 10.0, 1.0)
    frames = reel.load()
    assert frames.shape == (15, 240, 320, 3)
    np.testing.assert_array_equal(frames, drawn_here(run.config.env, point_mass_clip(4)))
    assert (frames[0] != frames[-1]).any()


def test_what_was_drawn_is_not_drawn_again(maker):
    made = maker()
    for _ in range(2):
        made.ask(1)
    first, second = made.wait(), made.wait()
    assert first.drawn_in > 0 == second.drawn_in
    assert first.path == second.path


def test_what_another_window_draws_meanwhile_is_not_drawn_again(maker, asked_run):
    run = asked_run()
    made = maker(run)
    made.ask(1)
    made.wait()  # it has begun
    shelf = ReelShelf(run.path / "frames")
    with shelf.turn():
        made.ask(5)
        time.sleep(0.5)
        drawn = shelf.put(point_mass_clip(4).digest(), np.ones((15, 8, 8, 3), np.uint8))
    reel = made.wait()
    assert (reel.path, reel.drawn_in) == (str(drawn), 0.0)
    assert reel.load().shape == (15, 8, 8, 3)


def test_full_disk_for_frames_shows_pairs_all_the_same(maker, asked_run):
    run = asked_run()
    (run.path / "frames").mkdir()
    name = point_mass_clip(0).digest()
    (run.path / "frames" / f".{name}.part").mkdir()  # nothing can be written there
    made = maker(run)
    made.ask(1)
    reel = made.wait()
    assert isinstance(reel, Reel)
    assert not reel.path.startswith(str(run.path))
    assert len(reel.load()) == 15


def test_another_clip_of_the_same_id_is_drawn_anew(maker, asked_run):
    """As where an older copy of a label store is put in its place, and the run goes on."""
    run = asked_run(0)
    for number in (0, 7):
        store = LabelStore(run.label_file)
        store.ask(point_mass_clip(number), point_mass_clip(20), step=960, rule="random")
        store.close()
        made = maker(run)
        made.ask(1)
        np.testing.assert_array_equal(
            made.wait().load(), drawn_here(run.config.env, point_mass_clip(number))
        )
        for file in run.path.glob("labels.db*"):
            file.unlink()


def test_an_environment_that_cannot_begin_is_named(maker, asked_run, tmp_path):
    """It may want a file that is not there any more."""
    (tmp_path / "lost.py").write_text(
        "import gymnasium as gym\n"
        "from envs.point_mass import PointMassEnv\n"
        "class Lost(PointMassEnv):\n"
        "    def reset(self, **options): return open('track.csv')\n"
        "gym.register('Lost-v0', entry_point=Lost, max_episode_steps=60)\n"
    )
    run = asked_run()
    config = run.path / "config.yaml"
    config.write_text(config.read_text().replace("prefrl/PointMass-v0", "lost:Lost-v0"))
    answer = maker(run).wait()
    assert answer.clip is None
    assert "FileNotFoundError" in answer.reason
    assert "track.csv" in answer.reason


def test_an_environment_that_is_not_installed_is_named(maker, asked_run):
    run = asked_run()
    config = run.path / "config.yaml"
    config.write_text(config.read_text().replace("prefrl/PointMass-v0", "nowhere:Robot-v0"))
    assert maker(run).wait() == NotDrawn(
        None,
        "environment 'nowhere:Robot-v0': cannot import 'nowhere': there is none: run this in the "
        "folder of nowhere.py, or install the package of that name",
    )


class Painted(gym.Env):
    """Draws itself, and fails in it."""

    metadata: ClassVar = {"render_modes": ["rgb_array"]}

    def render(self):
        return {}["colour"]


def test_an_error_in_ones_own_drawing_is_said_as_it_is():
    """And not as something that EGL would mend."""
    with pytest.raises(UserError) as caught:
        Renderer(Painted())
    words = r"the environment cannot be drawn: KeyError: 'colour' \(test_reel.py, line \d+\)"
    assert re.fullmatch(words, str(caught.value))


def test_clips_without_anything_to_draw_say_so(maker, asked_run, make_clip):
    run = asked_run(0)
    bare = make_clip(1.0)
    store = run.labels
    bare = Clip(**{**vars(bare), "states": np.zeros((5, 0))})
    store.ask(bare, make_clip(2.0), step=1, rule="random")
    store.close()
    made = maker(run)
    made.ask(1)
    answer = made.wait()
    assert answer.clip == 1
    assert "neither simulator states nor frames" in answer.reason


def test_shelf_throws_the_oldest_away(tmp_path, monkeypatch):
    frames = np.zeros((2, 4, 4, 3), np.uint8)
    size = 96 + 128
    monkeypatch.setattr("prefrl.labellers.reel.QUOTA", 3 * size)
    shelf = ReelShelf(tmp_path / "frames")
    for i in range(5):
        path = shelf.put(str(i), frames)
        os.utime(path, (i, i))
    assert {path.stem for path in shelf.folder.iterdir()} == {"2", "3", "4"}


@pytest.mark.parametrize("env_id", ["Hopper-v5", "HalfCheetah-v5", "Pendulum-v1", "Acrobot-v1"])
def test_drawn_from_a_state_is_what_was_seen(env_id):
    config = load_config(env_id, {"env": {"termination": "ignore"}}).env
    env = make_drawable(config, 320, 240)
    env.reset(seed=0)
    renderer = Renderer(env)
    for _ in range(12):
        env.step(env.action_space.sample())
    state = read_state(env)
    # A fresh environment draws what this one does, given nothing but the state. (MuJoCo's step
    # leaves positions one step behind; Pendulum draws its last torque, which is no state.)
    env.unwrapped.last_u = None
    seen = renderer.draw(state)
    env.close()
    other = make_drawable(config, 320, 240)
    other.reset(seed=9)
    drawn = Renderer(other).draw(state)
    other.close()
    np.testing.assert_array_equal(drawn, seen)
    assert len(np.unique(drawn)) > 2


@pytest.mark.parametrize("env_id", ["Hopper-v5", "Walker2d-v5", "HalfCheetah-v5", "Swimmer-v5"])
def test_the_view_follows_the_body(env_id):
    config = load_config(env_id, {}).env
    env = make_drawable(config, 160, 120)
    env.reset(seed=0)
    renderer = Renderer(env)
    state = read_state(env)
    here = renderer.draw(state).astype(int)
    state[1] += 8.0  # m along x; two squares of the floor's pattern, and far out of a fixed view
    there = renderer.draw(state).astype(int)
    env.close()
    body = _reddish(here)
    assert body.sum() > 20
    overlap = (body & _reddish(there)).sum() / body.sum()
    assert overlap > 0.9


@pytest.mark.parametrize("env_id", ["HalfCheetah-v5", "Ant-v5", "Hopper-v5"])
def test_the_floor_has_no_end(env_id):
    config = load_config(env_id, {}).env
    env = make_drawable(config, 160, 120)
    env.reset(seed=0)
    renderer = Renderer(env)
    state = read_state(env)
    contrasts = []
    for metres in (0.0, 90.0):
        state[1] += metres
        contrasts.append(renderer.draw(state)[-12:].std())
    env.close()
    assert contrasts[0] > 30, "a chequered floor"
    assert contrasts[1] > 30


def _reddish(frame):
    return frame[..., 0] - frame[..., 2] > 30


class Hidden(gym.Env):
    """Keeps its state where nobody finds it, and draws it."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012
    observation_space = gym.spaces.Box(-1, 1, (2,), np.float32)
    action_space = gym.spaces.Box(-1, 1, (1,), np.float32)

    def __init__(self, render_mode=None):
        self.render_mode = render_mode
        self._steps = 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self._steps = 0
        self._shade = int(self.np_random.integers(200))
        return np.array([0, self._shade / 200], np.float32), {}

    def step(self, action):
        self._steps += 1
        observation = np.array([self._steps / 100, self._shade / 200], np.float32)
        return observation, float(action[0]), False, False, {}

    def render(self):
        return np.full((30, 40, 3), self._shade + self._steps, np.uint8)


def test_clips_of_hidden_states_carry_their_frames(maker, tmp_path, monkeypatch):
    gym.register("HiddenState-v0", Hidden, max_episode_steps=50)
    from prefrl.agent.stack import Stack
    from prefrl.clock import Stopwatch

    sections = {
        "env": {"copies": 3},
        "agent": {"n_steps": 60, "batch_size": 60},
        "clips": {"length": 10},
        "labels": {"labeller": "human", "budget": 20},
        "run": {"steps": 9000},
    }
    stack = Stack(load_config("HiddenState-v0", sections), Stopwatch())
    stack.model.learn(400)
    buffer = stack.recorder.buffer
    fresh = buffer.fresh()
    assert 0 < len(fresh) < len(buffer)
    for index in fresh:
        clip = buffer[index]
        steps, shade = np.round(clip.observations * [100, 200]).astype(int).T
        expected = steps + shade
        np.testing.assert_array_equal(clip.frames[:, 0, 0, 0], expected)
        again = Clip.from_bytes(clip.to_bytes())
        np.testing.assert_array_equal(again.frames, clip.frames)
        np.testing.assert_array_equal(draw_clip(None, again, 1), clip.frames)
    stack.close()


def test_frames_in_memory_are_bounded(make_clip):
    from prefrl.clips.clip import ClipBuffer

    buffer = ClipBuffer(50, length=5, obs_dim=3, act_dim=2, state_dim=0, framed=4)
    for i in range(30):
        frames = np.full((5, 2, 2, 3), i, np.uint8) if i % 2 else None
        arrays = {k: np.zeros(v.shape[1:]) for k, v in buffer.arrays.items() if k != "fresh"}
        buffer.add(**arrays, frames=frames)
    assert buffer.fresh().tolist() == [23, 25, 27, 29]
    assert [buffer.take(i).frames[0, 0, 0, 0] for i in (23, 29)] == [23, 29]
    assert buffer.fresh().tolist() == [25, 27]
    for _ in range(50):
        buffer.add(**arrays)
    assert buffer.fresh().tolist() == [], "a slot's frames go with its clip"


def test_an_environment_that_draws_nothing_cannot_be_shown(monkeypatch):
    class Blind(Hidden):
        def render(self):
            return None

    gym.register("Blind-v0", Blind, max_episode_steps=50)
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    with pytest.raises(UserError, match="draws no frames"):
        prefrl.train(f"{__name__}:Blind-v0", labeller="human", labels=5, steps=18_000, quiet=True)


def test_only_the_filmed_copy_gives_clips_of_an_environment_without_states(monkeypatch):
    gym.register("Filmed-v0", Hidden, max_episode_steps=50)
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    # In 3 rollouts: 5, 4 and 4 clips.
    with pytest.raises(UserError, match=r"room for 6 labels: .* \(only the first of 8 copies"):
        prefrl.train(f"{__name__}:Filmed-v0", labeller="human", labels=8, steps=18_000, quiet=True)


def test_files_of_the_users_do_not_stand_in_for_pythons_own(maker, tmp_path):
    (tmp_path / "copy.py").write_text("raise SystemExit\n")
    made = maker()
    made.ask(5)
    assert isinstance(made.wait(), Reel)


def test_what_could_not_be_written_whole_takes_no_room(tmp_path, monkeypatch):
    shelf = ReelShelf(tmp_path)

    def fail(file, frames):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(np, "save", fail)
        with pytest.raises(OSError, match="No space"):
            shelf.put("whole", np.zeros((1, 2, 2, 3), np.uint8))
    assert not list(tmp_path.iterdir())
    killed, at_it = tmp_path / ".killed.part", tmp_path / ".at_it.part"
    for part in (killed, at_it):
        part.write_bytes(b"half")
    os.utime(killed, (0, 0))
    shelf.put("whole", np.zeros((1, 2, 2, 3), np.uint8))
    assert sorted(path.name for path in tmp_path.iterdir()) == [".at_it.part", "whole.npy"]

import os
import shutil
import signal
import sqlite3
import time

import gymnasium as gym
import numpy as np
import pytest
from compare import point_mass_clip, until

import prefrl
from prefrl.clips.clip import Clip
from prefrl.clips.render import Renderer, draw_clip
from prefrl.clips.simulator import read_state
from prefrl.configfile import load_config
from prefrl.environment import make_drawable
from prefrl.errors import UserError
from prefrl.labellers.player import AHEAD, KEPT_CLIPS, Player
from prefrl.labellers.reel import NotDrawn, Reel, ReelMaker, ReelShelf
from prefrl.labels.desk import Desk
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


def drawn_here(env_config, clip):
    env = make_drawable(env_config, 320, 240)
    env.reset(seed=3)
    frames = draw_clip(Renderer(env), clip, 1)
    env.close()
    return frames


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
        "environment 'nowhere:Robot-v0': cannot import 'nowhere': ModuleNotFoundError: "
        "No module named 'nowhere'",
    )


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


def test_shelf_throws_the_oldest_away(tmp_path):
    frames = np.zeros((2, 4, 4, 3), np.uint8)
    size = 96 + 128
    shelf = ReelShelf(tmp_path / "frames", quota=3 * size)
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
        prefrl.train("Blind-v0", labeller="human", labels=5, steps=18_000, quiet=True)


def test_only_the_filmed_copy_gives_clips_of_an_environment_without_states(monkeypatch):
    gym.register("Filmed-v0", Hidden, max_episode_steps=50)
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    # In 3 rollouts: 5, 4 and 4 clips.
    with pytest.raises(UserError, match=r"room for 6 labels: .* \(only the first of 8 copies"):
        prefrl.train("Filmed-v0", labeller="human", labels=8, steps=18_000, quiet=True)


@pytest.fixture
def player(asked_run):
    players = []

    def start(pairs=12, **options):
        players.append(Player(asked_run(pairs), labeller="ada", probes=0.0, **options))
        players[-1].start()
        return players[-1]

    yield start
    for player in players:
        player.close()


def all_drawn(player):
    return len(player.claims) == AHEAD and all(player.pair(claim) for claim in player.claims)


def test_pairs_are_in_memory_before_they_are_needed(player):
    playing = player()
    until(lambda: all_drawn(playing))
    claim = playing.claims[0]
    pair = playing.pair(claim)
    left, _ = claim.shown
    expected = drawn_here(playing._run.config.env, point_mass_clip(left - 1))
    np.testing.assert_array_equal(pair.left, expected)
    for _ in range(6):
        with playing.lock:
            playing.claims.pop(0)
        until(lambda: all_drawn(playing))
    assert len(playing._reels) <= KEPT_CLIPS


def test_a_drawing_process_that_dies_is_replaced(player):
    playing = player()
    until(lambda: all_drawn(playing))
    os.kill(playing._maker._process.pid, signal.SIGKILL)
    for _ in range(AHEAD):
        with playing.lock:
            playing.claims.pop(0)
    until(lambda: all_drawn(playing))
    assert playing.failure is None


def test_damaged_and_deleted_frames_are_drawn_again(player):
    playing = player()
    until(lambda: all_drawn(playing))
    folder = playing._run.path / "frames"
    for i in range(24):  # as an interrupted disk may leave them
        (folder / f"{point_mass_clip(i).digest()}.npy").write_bytes(b"")
    for _ in range(2):
        with playing.lock:
            playing.claims.pop(0)
    until(lambda: all_drawn(playing))
    shutil.rmtree(folder)
    for _ in range(2):
        with playing.lock:
            playing.claims.pop(0)
    until(lambda: all_drawn(playing))


def test_a_store_that_cannot_be_read_ends_the_window(player, monkeypatch):
    def take(*_):
        raise sqlite3.DatabaseError("database disk image is malformed")

    monkeypatch.setattr(Desk, "take", take)
    playing = player()
    until(lambda: playing.failure)
    assert "store cannot be used: DatabaseError: database disk image" in playing.failure


def test_frames_that_cannot_be_loaded_end_the_window(player, monkeypatch):
    def load(_):
        raise MemoryError("Unable to allocate 4 GiB")

    monkeypatch.setattr(Reel, "load", load)
    playing = player()
    until(lambda: playing.failure)
    assert "clips cannot be drawn: MemoryError: Unable to allocate" in playing.failure


def test_frames_of_a_few_large_clips_are_kept(player, monkeypatch):
    """Those in hand are, whatever they take; those beside only within a bound."""
    monkeypatch.setattr("prefrl.labellers.player.KEPT_BYTES", 3 * 15 * 240 * 320 * 3)
    playing = player()
    until(lambda: all_drawn(playing))
    for _ in range(6):
        with playing.lock:
            playing.claims.pop(0)
        until(lambda: all_drawn(playing))
    assert len(playing._reels) <= 2 * AHEAD + 3


def test_whoever_wakes_up_lets_others_keep_their_pairs(player, monkeypatch):
    """After the machine has slept, all claims look as if their holders had died."""
    working = player(AHEAD)
    until(lambda: len(working.claims) == AHEAD)
    store = working._run.labels
    desk = Desk(store, labeller="ada", probes=0.0, rng=np.random.default_rng(0))
    for claim in working.claims:
        Desk(store, labeller="ada", rng=desk._rng, session=working.session).show(claim)
    idle = Player(working._run, labeller="bob", probes=0.0)
    idle.start()
    time.sleep(0.3)
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + 3600)
    time.sleep(1.5)
    assert idle.claims == []
    assert len(working.claims) == AHEAD
    idle.close()
    store.close()


def test_files_of_the_users_do_not_stand_in_for_pythons_own(maker, tmp_path):
    (tmp_path / "copy.py").write_text("raise SystemExit\n")
    made = maker()
    made.ask(5)
    assert isinstance(made.wait(), Reel)


def test_progress_is_that_of_the_run(player):
    playing = player()
    until(lambda: playing.progress.waiting == 12)
    assert (playing.progress.budget, playing.progress.step) == (40, 960)
    assert playing.progress.state == "paused", "nobody trains it"


def test_claims_of_a_killed_window_do_not_keep_the_next_one_waiting(asked_run):
    run = asked_run(3)
    store = run.labels
    dead = Desk(store, labeller="ada", probes=0.0, rng=np.random.default_rng(0))
    assert len(dead.take(3)) == 3
    for alone, found in ((False, 1), (True, 3)):
        playing = Player(run, labeller="ada", probes=0.0, alone=alone)
        playing.start()
        until(lambda playing=playing, found=found: len(playing.claims) == found)
        time.sleep(0.2)
        assert len(playing.claims) == found
        playing.close()
    store.close()


def test_what_another_window_takes_over_is_let_go(player):
    playing = player(AHEAD)
    until(lambda: all_drawn(playing))
    store = playing._run.labels
    rng = np.random.default_rng(0)
    first = playing.claims[0]
    Desk(store, labeller="ada", rng=rng, session=playing.session).show(first)
    (taken,) = Desk(store, labeller="bob", probes=0.0, rng=rng).take(1)
    until(lambda: len(playing.claims) == AHEAD - 1)
    assert taken.query.id not in {claim.query.id for claim in playing.claims}
    assert playing.claims[0] == first
    store.answer(first.query.id, "left", labeller="bob", seconds=1)
    Desk(store, labeller="bob", rng=rng).clear()
    until(lambda: first not in playing.claims)
    store.close()


def test_closing_lets_go_of_the_claims(asked_run):
    run = asked_run()
    playing = Player(run, labeller="ada", probes=0.0)
    playing.start()
    until(lambda: len(playing.claims) == AHEAD)
    store = run.labels
    assert store.db.execute("SELECT count(*) FROM claims").fetchone()[0] == AHEAD
    playing.close()
    assert store.db.execute("SELECT count(*) FROM claims").fetchone()[0] == 0
    store.close()

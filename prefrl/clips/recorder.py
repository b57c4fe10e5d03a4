"""The recorder: cuts clips from an agent's own rollouts, below everything that rescales them.

It sits right above the vectorised environment, where observations are raw and the reward is
still the environment's::

    recorder = ClipRecorder(DummyVecEnv([make] * 8), length=50)
    ...                     # any SB3 algorithm steps the wrapped environment
    recorder.buffer[0]      # a Clip

Clips never cross a reset and never alias the rollout's memory.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper, unwrap_vec_normalize
from stable_baselines3.common.vec_env.base_vec_env import VecEnvObs, VecEnvStepReturn

from prefrl.clips.clip import ClipBuffer, numbers
from prefrl.clips.simulator import SceneReader, Scenes
from prefrl.errors import UserError

FRAMED = 40
"""Latest clips that keep recorded frames, which take much memory: four times a person's queue."""

FRAME_WIDTH = 200
"""Pixels that a recorded frame is thinned out to, at least."""


def encode_actions(space: spaces.Space, actions: np.ndarray) -> np.ndarray:
    """Actions as the reward ensemble sees them: `(n, act_dim)` float32, one-hot if discrete.

    Args:
        space: A Box or Discrete action space.
        actions: `(n, *space.shape)`.
    """
    if isinstance(space, spaces.Discrete):
        return np.eye(int(space.n), dtype=np.float32)[actions.reshape(-1) - int(space.start)]
    return actions.reshape(len(actions), -1).astype(np.float32)


def input_dims(observation_space: spaces.Space, action_space: spaces.Space) -> tuple[int, int]:
    """`(obs_dim, act_dim)` of the arrays recorded for these spaces."""
    assert observation_space.shape is not None
    act_dim = spaces.flatdim(action_space)
    return int(np.prod(observation_space.shape)), act_dim


def _info_rows(infos: Sequence[dict[str, Any]], keys: tuple[str, ...]) -> np.ndarray:
    """`(n_envs, n_keys)`: the numbers in each environment's info, NaN where one is missing."""
    nan = float("nan")
    try:  # nearly always right, and on the path of every step
        rows = np.array([[info.get(key, nan) for key in keys] for info in infos])
        if rows.dtype.kind in "fiub" and rows.shape == (len(infos), len(keys)):
            return rows
    except ValueError:  # numbers beside arrays
        pass
    found = [numbers(info) for info in infos]
    return np.array([[values.get(key, nan) for key in keys] for values in found])


class ClipRecorder(VecEnvWrapper):
    """Records every step and cuts clips at the end of each rollout.

    Args:
        venv: Vectorised environments. Their physics states are recorded where they live in
            this process (`DummyVecEnv`), or where the whole can `read_states`.
        length: Environment steps in one clip.
        rollout_steps: Steps per environment between two cuts; PPO's `n_steps`.
        capacity: Clips kept in `buffer`.
        rng: Decides where in a stretch of an episode the first clip starts.
        camera: Draws the first environment's scene, `(height, width, 3)` uint8. Used where no
            state can be read to draw clips from later; then only clips of that environment,
            which carry their frames, are handed out.

    Raises:
        UserError: No clip fits between two cuts, or what is recorded would not be raw.
    """

    def __init__(
        self,
        venv: VecEnv,
        *,
        length: int = 50,
        rollout_steps: int = 256,
        capacity: int = 1000,
        rng: np.random.Generator | None = None,
        camera: Callable[[], np.ndarray] | None = None,
    ) -> None:
        super().__init__(venv)
        if length > rollout_steps:
            raise UserError(
                f"a clip of {length} steps does not fit into a rollout of {rollout_steps}: take a "
                f"smaller length"
            )
        if unwrap_vec_normalize(venv):
            raise UserError("clips hold raw observations: put VecNormalize above the recorder")
        self._camera = camera
        self._film: list[np.ndarray] = []
        self.length = length
        self.steps = 0
        self._rng = rng or np.random.default_rng(0)
        self.dims = input_dims(venv.observation_space, venv.action_space)
        """Widths of an observation and of an encoded action."""
        self.rollout_steps = rollout_steps
        self.capacity = capacity
        self._row = 0
        self._buffer: ClipBuffer | None = None
        self._rollout: dict[str, np.ndarray] = {}
        self._scenes: Scenes = SceneReader([])
        self._states = np.zeros((0, 0))
        self.last_observations = np.zeros((venv.num_envs, self.dims[0]), np.float32)
        """`(num_envs, obs_dim)`, raw, before the next step."""
        self.last_inputs = np.zeros((venv.num_envs, sum(self.dims)), np.float32)
        """`(num_envs, obs_dim + act_dim)`, what the ensemble sees of the latest step."""

    @property
    def rollout_size(self) -> int:
        """Steps between two cuts, over all environments."""
        return self.rollout_steps * self.num_envs

    @property
    def room(self) -> int:
        """Clips at most that can be asked about at a time."""
        return min(self.capacity, FRAMED) if self._camera else self.capacity

    @property
    def films(self) -> bool:
        """Whether only clips that were filmed can be asked about, once it is reset."""
        return self._camera is not None

    @property
    def buffer(self) -> ClipBuffer:
        """The latest clips.

        Raises:
            RuntimeError: Nothing was recorded yet, so the arrays' sizes are not known.
        """
        if self._buffer is None:
            raise RuntimeError("step the environment before asking the recorder for clips")
        return self._buffer

    def reset(self) -> VecEnvObs:
        self._row, self._film = 0, []  # what was recorded since the last cut ends here
        observations = self.venv.reset()
        if isinstance(self.venv, Scenes):
            self._scenes = self.venv
        else:
            self._scenes = SceneReader(getattr(self.venv, "envs", []))
        self._states = np.zeros((self.num_envs, self._scenes.state_dim))
        if self._scenes.state_dim:
            self._camera = None
        self._remember(np.asarray(observations))
        return observations

    def resume(self, observations: np.ndarray) -> None:
        """Go on from restored environments whose latest raw observations are given."""
        self._remember(observations)

    def recent_inputs(self, n: int) -> np.ndarray:
        """`(m, obs_dim + act_dim)` float32 of the latest clips' steps, `m` at most `n`."""
        latest = self.buffer.latest(math.ceil(n / self.length))
        return self.buffer.inputs(latest).reshape(-1, sum(self.dims))[-n:]

    def step_async(self, actions: np.ndarray) -> None:
        obs_dim = self.dims[0]
        self.last_inputs = np.empty((self.num_envs, sum(self.dims)), np.float32)
        self.last_inputs[:, :obs_dim] = self.last_observations
        self.last_inputs[:, obs_dim:] = encode_actions(self.action_space, np.asarray(actions))
        if self._camera:
            self._film.append(_small(self._camera()))
        self.venv.step_async(actions)

    def step_wait(self) -> VecEnvStepReturn:
        observations, rewards, dones, infos = self.venv.step_wait()
        if self._buffer is None:
            self.allocate(tuple(sorted(numbers(infos[0]))))
        row, rollout, obs_dim = self._row, self._rollout, self.dims[0]
        rollout["observations"][row] = self.last_inputs[:, :obs_dim]
        rollout["actions"][row] = self.last_inputs[:, obs_dim:]
        rollout["states"][row] = self._states
        rollout["true_rewards"][row] = rewards
        rollout["dones"][row] = dones
        keys = self.buffer.info_keys
        if keys:
            rollout["infos"][row] = _info_rows(infos, keys)
        self.steps += self.num_envs
        self._remember(np.asarray(observations))
        self._row += 1
        if self._row == self.rollout_steps:
            self._cut()
        return observations, rewards, dones, infos

    def _remember(self, observations: np.ndarray) -> None:
        self.last_observations = observations.reshape(self.num_envs, -1).astype(np.float32)
        if self._scenes.state_dim:
            self._scenes.read_states(self._states)

    def allocate(self, info_keys: tuple[str, ...]) -> None:
        """Make the buffer's arrays before the first step, as a resumed run must."""
        obs_dim, act_dim = self.dims
        state_dim = self._states.shape[1]
        self._buffer = ClipBuffer(
            self.capacity,
            length=self.length,
            obs_dim=obs_dim,
            act_dim=act_dim,
            state_dim=state_dim,
            info_keys=info_keys,
            framed=FRAMED if self._camera else 0,
        )
        shape = (self.rollout_steps, self.num_envs)
        self._rollout = {
            "observations": np.zeros((*shape, obs_dim), np.float32),
            "actions": np.zeros((*shape, act_dim), np.float32),
            "states": np.zeros((*shape, state_dim)),
            "true_rewards": np.zeros(shape),
            "infos": np.zeros((*shape, len(info_keys))),
            "dones": np.zeros(shape, bool),
        }

    def _cut(self) -> None:
        dones = self._rollout["dones"]
        arrays = {k: v for k, v in self._rollout.items() if k != "dones"}
        # The filmed copy last where there is one: the others must not overwrite what it gives.
        copies = range(self.num_envs)[::-1] if self._camera else range(self.num_envs)
        for env in copies:
            for start in clip_starts(dones[:, env], self.length, self._rng):
                part = {k: v[start : start + self.length, env] for k, v in arrays.items()}
                film = self._film[start : start + self.length] if env == 0 else []
                frames = np.stack(film) if film else None
                self.buffer.add(**part, steps=self.steps, frames=frames)
        self._row = 0
        self._film = []


def _small(frame: np.ndarray) -> np.ndarray:
    """A frame in fewer pixels, for frames that have to be kept by the thousand.

    Each is the mean of a square of the frame's: of single ones, thin lines would be lost.
    """
    step = max(1, min(frame.shape[0], frame.shape[1] // FRAME_WIDTH))
    if step == 1:
        return frame.copy()
    height, width = (side // step for side in frame.shape[:2])
    squares = frame[: height * step, : width * step].reshape(height, step, width, step, 3)
    return np.rint(squares.mean(axis=(1, 3))).astype(np.uint8)


def count_clips(rollouts: int, rollout_steps: int, *, length: int, episode: int | None) -> int:
    """Clips that one environment gives in that many rollouts.

    Args:
        rollouts: How many, from the environment's first reset on.
        rollout_steps: Steps in each.
        length: Steps in one clip.
        episode: Steps from one reset to the next; None: there is no other.
    """
    steps = rollouts * rollout_steps
    breaks = np.arange(0, steps + 1, rollout_steps)
    if episode is not None:
        breaks = np.union1d(breaks, np.arange(0, steps, episode))
    return int((np.diff(breaks) // length).sum())


def clip_starts(dones: np.ndarray, length: int, rng: np.random.Generator) -> Iterator[int]:
    """First rows of the clips of `length` steps that fit between the resets of a rollout.

    Clips of one episode follow each other without a gap; where the first one starts is random.

    Args:
        dones: `(n_steps,)` bool, true at an episode's last step.
        length: Environment steps in one clip.
        rng: Draws how many of the steps to spare are skipped in front.
    """
    begin = 0
    for end in [*(np.flatnonzero(dones) + 1), len(dones)]:
        count, spare = divmod(int(end) - begin, length)
        if count:
            skip = int(rng.integers(spare + 1))
            yield from range(begin + skip, begin + skip + count * length, length)
        begin = int(end)

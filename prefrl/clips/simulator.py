"""Physics states of a Gymnasium environment: read and set for rendering, saved for a resume.

Two depths, because they cost so differently. `read_state` is the few numbers that a renderer
needs, taken at every step. `snapshot` is all that decides the environment's future, taken at
checkpoints: MuJoCo's integration state, the derived arrays that lag one physics step behind it
(Ant and Reacher read body positions *before* they step), the time limit's counter, the
environment's random generator.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Protocol, runtime_checkable

import gymnasium as gym
import numpy as np

_DATA = "data/"

_FALLEN = "steps_beyond_terminated"
"""What Gymnasium's CartPole counts apart from its state, and gives its reward by."""

DRAWN_FROM_STATE = "drawn_from_state"
"""Key of the metadata of an environment whose picture shows its attribute `state`, or MuJoCo's
state, and nothing else."""

_DRAWN = ("gymnasium.envs.classic_control.", "gymnasium.envs.mujoco.")
"""Modules of environments of which that is known."""


def is_mujoco(env: gym.Env) -> bool:
    """Whether the environment is a MuJoCo one that keeps `model` and `data`."""
    base = env.unwrapped
    return type(getattr(base, "data", None)).__name__ == "MjData" and hasattr(base, "model")


def _state_draws(base: Any) -> bool:
    """Whether the state is all that the picture shows.

    Who adds a goal may keep that elsewhere: in an attribute, or in MuJoCo's model.
    """
    # Gymnasium's MuJoCo environments put metadata of their own in the place of a class's.
    said = base.metadata.get(DRAWN_FROM_STATE, type(base).metadata.get(DRAWN_FROM_STATE))
    return type(base).__module__.startswith(_DRAWN) if said is None else bool(said)


def _scene_spec() -> int:
    """What is read of MuJoCo's state: the physics, and bodies that are moved by hand.

    As an integer: to turn the enum into one takes a quarter of a call.
    """
    from mujoco import mjtState

    return int(
        mjtState.mjSTATE_FULLPHYSICS | mjtState.mjSTATE_MOCAP_POS | mjtState.mjSTATE_MOCAP_QUAT
    )


class StateReader:
    """Reads the few numbers that draw an environment's scene, as often as every step.

    Args:
        env: The environment, reset once. `size` is 0 where more than these may be needed.
    """

    def __init__(self, env: gym.Env) -> None:
        base: Any = env.unwrapped
        self._base = base
        self._mujoco = is_mujoco(env)
        self.size = 0
        if not _state_draws(base):
            return
        if self._mujoco:
            import mujoco

            self._spec = _scene_spec()
            self._get_state = mujoco.mj_getState
            self.size = mujoco.mj_stateSize(base.model, self._spec)
        elif (state := getattr(base, "state", None)) is not None:
            self.size = np.size(state)

    def read(self, out: np.ndarray) -> None:
        """Write the state now into `out`, `(size,)` float64."""
        if self._mujoco and self.size:
            self._get_state(self._base.model, self._base.data, out, self._spec)
        elif self.size:
            out[:] = np.ravel(self._base.state)


@runtime_checkable
class Scenes(Protocol):
    """Environments side by side, of which each shows a scene."""

    @property
    def state_dim(self) -> int:
        """Numbers that draw one environment's scene; 0: nothing can be drawn."""

    def read_states(self, out: np.ndarray) -> None:
        """Write the states now into `out`, `(n_envs, state_dim)` float64."""


class SceneReader:
    """The scenes of environments in this process.

    Args:
        envs: The environments, each reset once.
    """

    def __init__(self, envs: Sequence[gym.Env]) -> None:
        self._readers = [StateReader(env) for env in envs]

    @property
    def state_dim(self) -> int:
        return self._readers[0].size if self._readers else 0

    def read_states(self, out: np.ndarray) -> None:
        for reader, state in zip(self._readers, out, strict=True):
            reader.read(state)


def read_state(env: gym.Env) -> np.ndarray:
    """`(state_dim,)` float64, enough to draw the scene; empty where more may be needed."""
    reader = StateReader(env)
    state = np.empty(reader.size)
    reader.read(state)
    return state


def write_state(env: gym.Env, state: np.ndarray) -> None:
    """Put the scene into `state`, `(state_dim,)`, as `read_state` gave it, ready to draw."""
    base: Any = env.unwrapped
    if is_mujoco(env):
        import mujoco

        mujoco.mj_setState(base.model, base.data, state, _scene_spec())
        mujoco.mj_forward(base.model, base.data)
    else:
        base.state = state.reshape(np.shape(base.state)).copy()


def snapshot(env: gym.Env) -> dict[str, np.ndarray] | None:
    """All that decides the environment's future, or None where it cannot be had.

    Taken in full of MuJoCo's state. Any other environment must keep all it has in an attribute
    `state` of numbers, as Gymnasium's classic control does, but for a fallen CartPole's counter.
    What an environment keeps elsewhere is not seen here.
    """
    base: Any = env.unwrapped
    saved: dict[str, np.ndarray] = {}
    if is_mujoco(env):
        import mujoco

        spec = mujoco.mjtState.mjSTATE_INTEGRATION
        saved["state"] = np.empty(mujoco.mj_stateSize(base.model, spec))
        mujoco.mj_getState(base.model, base.data, saved["state"], spec)
        for name, array in _fixed_arrays(base):
            saved[_DATA + name] = array.copy()
    elif (state := _numbers(getattr(base, "state", None))) is not None:
        saved["state"] = state
        if hasattr(base, _FALLEN):
            steps = getattr(base, _FALLEN)
            saved["fallen"] = np.array(np.nan if steps is None else steps)
    else:
        return None
    for layer in _layers(env):
        if hasattr(layer, "_elapsed_steps"):
            saved["elapsed_steps"] = np.array(layer._elapsed_steps)
        if _is_monitor(layer):
            saved["episode_rewards"] = np.array(layer.rewards, np.float64)
    saved["random"] = generator_to_array(base.np_random)
    return saved


def restore(env: gym.Env, saved: dict[str, np.ndarray]) -> None:
    """Continue where `snapshot` was taken; `env` must have been reset once."""
    base: Any = env.unwrapped
    if is_mujoco(env):
        import mujoco

        spec = mujoco.mjtState.mjSTATE_INTEGRATION
        mujoco.mj_setState(base.model, base.data, saved["state"], spec)
        for name, array in _fixed_arrays(base):
            array[...] = saved[_DATA + name]
    else:
        base.state = saved["state"].copy()
        if "fallen" in saved:
            setattr(base, _FALLEN, None if np.isnan(saved["fallen"]) else int(saved["fallen"]))
    for layer in _layers(env):
        if hasattr(layer, "_elapsed_steps"):
            layer._elapsed_steps = int(saved["elapsed_steps"])
        if _is_monitor(layer):
            layer.rewards = list(saved["episode_rewards"])
    array_to_generator(saved["random"], base.np_random)


def _numbers(state: Any) -> np.ndarray | None:
    """A copy of a state as an array; None unless it is made of numbers."""
    try:
        array = np.array(state)
    except ValueError:  # rows of different lengths
        return None
    return array if array.dtype.kind in "biuf" else None


def generator_to_array(generator: np.random.Generator) -> np.ndarray:
    """The state of a PCG64 generator as `(6,)` unsigned 64-bit words."""
    state: Any = generator.bit_generator.state
    low = (1 << 64) - 1
    words = [state["state"]["state"], state["state"]["inc"]]
    return np.array(
        [part for word in words for part in (word & low, word >> 64)]
        + [state["has_uint32"], state["uinteger"]],
        np.uint64,
    )


def array_to_generator(words: np.ndarray, generator: np.random.Generator) -> None:
    """Set a PCG64 generator to what `generator_to_array` gave."""
    w = [int(word) for word in words]
    generator.bit_generator.state = {
        "bit_generator": "PCG64",
        "state": {"state": w[0] | w[1] << 64, "inc": w[2] | w[3] << 64},
        "has_uint32": w[4],
        "uinteger": w[5],
    }


def _fixed_arrays(base: Any) -> Iterator[tuple[str, np.ndarray]]:
    """The arrays of MjData whose size the model fixes.

    Those of contacts and constraints change their size with them, and are redone in each step:
    fresh data, which has no contacts, tells them apart.
    """
    import mujoco

    fresh = mujoco.MjData(base.model)
    for name in dir(fresh):
        try:
            array = getattr(fresh, name)
        except Exception:  # some attributes exist only for sleeping or island solvers
            continue
        if isinstance(array, np.ndarray) and array.size:
            yield name, getattr(base.data, name)


def _is_monitor(layer: Any) -> bool:
    """Whether it is SB3's Monitor, by name: who draws has no need of SB3."""
    return type(layer).__module__ == "stable_baselines3.common.monitor"


def _layers(env: Any) -> Iterator[Any]:
    while True:
        yield env
        if env is env.unwrapped:
            return
        env = env.env

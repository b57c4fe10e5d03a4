"""The clip: a run of consecutive steps of one episode, as arrays.

A clip is what a labeller judges and what the reward ensemble learns from::

    clip.observations      (T, obs_dim)  before each step, raw
    clip.actions           (T, act_dim)  as the environment got them; one-hot where discrete
    clip.true_rewards      (T,)          for the oracle and the logs only
    clip.states            (T, state_dim) simulator states before each step, for rendering
    clip.infos["x_velocity"] (T,)        every number in the first `info`; else NaN
"""

import hashlib
import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

_INFO = "info/"


def numbers(info: Mapping[str, Any]) -> dict[str, float]:
    """The entries of a step's `info` that are single numbers; a clip keeps those."""
    kinds = (int, float, np.number, np.bool_)
    return {
        key: float(value)
        for key, value in info.items()
        if isinstance(value, kinds) and isinstance(key, str) and not key.startswith("TimeLimit")
    }


@dataclass(frozen=True, eq=False)
class Clip:
    """`T` consecutive environment steps of one episode, in arrays that cannot be written to.

    What an oracle scores is what the ensemble learns from.
    """

    observations: np.ndarray
    """`(T, obs_dim)` float32, before each step, not normalised."""
    actions: np.ndarray
    """`(T, act_dim)` float32; a discrete action is one-hot."""
    true_rewards: np.ndarray
    """`(T,)` float64, the environment's own reward, as SB3 rounds it to float32."""
    states: np.ndarray
    """`(T, state_dim)` float64, before each step; `state_dim` is 0 where none can be read."""
    infos: dict[str, np.ndarray]
    """`(T,)` float64 each."""
    step: int
    """The agent's step at the end of the rollout that the clip was cut from."""
    frames: np.ndarray | None = None
    """`(T, height, width, 3)` uint8, where nothing but frames recorded then can show the clip."""

    def __post_init__(self) -> None:
        for name in ("observations", "actions", "true_rewards", "states"):
            object.__setattr__(self, name, _fixed(getattr(self, name)))
        object.__setattr__(self, "infos", {k: _fixed(v) for k, v in self.infos.items()})
        if self.frames is not None:
            object.__setattr__(self, "frames", _fixed(self.frames))

    def __len__(self) -> int:
        return len(self.true_rewards)

    @property
    def inputs(self) -> np.ndarray:
        """`(T, obs_dim + act_dim)` float32: what the reward ensemble sees."""
        return np.concatenate([self.observations, self.actions], axis=1)

    def to_bytes(self) -> bytes:
        """The clip as a compressed `.npz` archive; equal clips give equal bytes."""
        arrays = {
            "observations": self.observations,
            "actions": self.actions,
            "true_rewards": self.true_rewards,
            "states": self.states,
            "step": np.int64(self.step),
        } | {_INFO + key: values for key, values in self.infos.items()}
        if self.frames is not None:
            arrays["frames"] = self.frames
        file = io.BytesIO()
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
        return file.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes) -> "Clip":
        """Read what `to_bytes` wrote."""
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            return cls(
                observations=arrays["observations"],
                actions=arrays["actions"],
                true_rewards=arrays["true_rewards"],
                states=arrays["states"],
                infos={
                    key.removeprefix(_INFO): arrays[key]
                    for key in arrays.files
                    if key.startswith(_INFO)
                },
                step=int(arrays["step"]),
                frames=arrays["frames"] if "frames" in arrays.files else None,
            )

    def digest(self) -> str:
        """A fingerprint of what a labeller could see: observations, actions and states."""
        content = hashlib.sha256()
        for array in (self.observations, self.actions, self.states):
            content.update(str(array.shape).encode())
            content.update(np.ascontiguousarray(array).tobytes())
        return content.hexdigest()


def _fixed(array: np.ndarray) -> np.ndarray:
    """A view of `array` through which nothing can be written."""
    view = array.view()
    view.flags.writeable = False
    return view


class ClipBuffer:
    """The latest `capacity` clips, in arrays of fixed size; a clip is handed out once.

    Args:
        capacity: Clips kept; the oldest is overwritten.
        length: Environment steps `T` in each clip.
        obs_dim, act_dim, state_dim: Widths of the arrays.
        info_keys: Names of the recorded infos.
        framed: How many of the latest clips that came with frames keep them. If not 0, only
            those are handed out: others could not be shown.
    """

    def __init__(
        self,
        capacity: int,
        *,
        length: int,
        obs_dim: int,
        act_dim: int,
        state_dim: int,
        info_keys: tuple[str, ...] = (),
        framed: int = 0,
    ) -> None:
        self._framed = framed
        self._frames: dict[int, np.ndarray] = {}
        self.info_keys = info_keys
        self.arrays: dict[str, np.ndarray] = {
            "observations": np.zeros((capacity, length, obs_dim), np.float32),
            "actions": np.zeros((capacity, length, act_dim), np.float32),
            "true_rewards": np.zeros((capacity, length), np.float64),
            "states": np.zeros((capacity, length, state_dim), np.float64),
            "infos": np.zeros((capacity, length, len(info_keys)), np.float64),
            "steps": np.zeros(capacity, np.int64),
            "fresh": np.zeros(capacity, bool),
        }
        """By what they hold of each clip, one row per clip; `fresh`: no query has used it yet."""
        self.added = 0
        """Clips ever added; the latest `capacity` of them are there."""

    def __len__(self) -> int:
        return min(self.added, len(self.arrays["fresh"]))

    def __getitem__(self, index: int) -> Clip:
        """A copy of the clip at `index`, so that it outlives the buffer's slot."""
        a = self.arrays
        return Clip(
            observations=a["observations"][index].copy(),
            actions=a["actions"][index].copy(),
            true_rewards=a["true_rewards"][index].copy(),
            states=a["states"][index].copy(),
            infos={k: a["infos"][index, :, j].copy() for j, k in enumerate(self.info_keys)},
            step=int(a["steps"][index]),
            frames=self._frames.get(int(index)),
        )

    def add(self, *, frames: np.ndarray | None = None, **values: np.ndarray | int) -> None:
        """Copy one clip into the oldest slot: one value for each of `arrays` but `fresh`."""
        slot = self.added % len(self.arrays["fresh"])
        self._frames.pop(slot, None)
        if frames is not None:
            self._frames[slot] = frames
            if len(self._frames) > self._framed:
                del self._frames[next(iter(self._frames))]
        for name, value in values.items():
            self.arrays[name][slot] = value
        self.arrays["fresh"][slot] = True
        self.added += 1

    def fresh(self) -> np.ndarray:
        """`(n,)` indices of clips that no query has used yet."""
        fresh = np.flatnonzero(self.arrays["fresh"])
        return np.intersect1d(fresh, list(self._frames)).astype(int) if self._framed else fresh

    def latest(self, n: int) -> np.ndarray:
        """`(m,)` indices of the latest clips, oldest first, `m` at most `n`."""
        count = min(n, len(self))
        return np.arange(self.added - count, self.added) % len(self.arrays["fresh"])

    def take(self, index: int) -> Clip:
        """The clip at `index`, marked as used."""
        self.arrays["fresh"][index] = False
        return self[index]

    def inputs(self, indices: np.ndarray) -> np.ndarray:
        """`(n, T, obs_dim + act_dim)` float32: what the ensemble sees of the clips there."""
        return np.concatenate(
            [self.arrays["observations"][indices], self.arrays["actions"][indices]], axis=-1
        )

    def state_dict(self) -> dict[str, np.ndarray]:
        """Everything in the buffer but frames, for a checkpoint."""
        return self.arrays | {"added": np.array(self.added)}

    def load_state_dict(self, state: dict[str, np.ndarray]) -> None:
        """Restore what `state_dict` gave."""
        for name, array in self.arrays.items():
            array[...] = state[name]
        self.added = int(state["added"])

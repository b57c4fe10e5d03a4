"""The half-cheetah that is to run on its hind leg alone."""

from typing import Any

import mujoco
import numpy as np
from gymnasium.envs.mujoco.half_cheetah_v5 import HalfCheetahEnv
from gymnasium.utils import EzPickle

from .counted import geoms_on_floor, model_with_counters


class HalfCheetahOneLegEnv(HalfCheetahEnv):
    """MuJoCo's half-cheetah, which is to run on its hind leg with the front leg off the ground.

    The second behaviour that Christiano et al. 2017 (section 3.2) taught by hand, from 800
    answers. Their environment had no reward for it; this one is hand-written, to compare with.

    ## Action space
    `Box(-1, 1, (6,), float32)`: torques at the hind thigh, shin and foot, and at the front
    thigh, shin and foot, as in Gymnasium's `HalfCheetah-v5`.

    ## Observation space
    `Box(-inf, inf, (17,), float64)`, as in `HalfCheetah-v5`:

    | num | observation | unit |
    | --- | --- | --- |
    | 0 | height of the torso, from where it starts | m |
    | 1 | angle of the torso; negative is head up | rad |
    | 2, 3, 4 | angles of the hind thigh, shin and foot | rad |
    | 5, 6, 7 | angles of the front thigh, shin and foot | rad |
    | 8, 9 | velocity of the torso, forward and upward | m/s |
    | 10 | angular velocity of the torso | rad/s |
    | 11, 12, 13 | angular velocities of the hind thigh, shin and foot | rad/s |
    | 14, 15, 16 | angular velocities of the front thigh, shin and foot | rad/s |

    ## Reward
    `v - 0.1 a·a`, the reward of `HalfCheetah-v5` with the forward velocity v and the action a,
    where the hind foot and shin alone, or nothing, touched the ground in the whole step; where
    anything else did, `-20 - 0.1 a·a`.

    `info`, of the step; shares are of the episode's steps so far:

    | key | value | unit |
    | --- | --- | --- |
    | `x_position` | place of the torso, after the step | m |
    | `x_velocity` | forward velocity | m/s |
    | `distance` | forward from where the episode started | m |
    | `front_contact` | 1 where the front leg touched the ground at any time of the step, else 0 | |
    | `hind_contact` | 1 where the hind foot or shin did, else 0 | |
    | `body_contact` | 1 where anything else did, else 0 | |
    | `front_contact_share`, `hind_contact_share`, `body_contact_share` | share of steps in which each did | |
    | `reward_forward`, `reward_ctrl`, `reward_contact` | the three parts of the reward | |

    ## Starting state
    As in `HalfCheetah-v5`: on both feet, up to uniform noise of ±0.1 in positions and normal
    noise of 0.1 in velocities.

    ## Episode end
    Never terminates; truncates after 300 steps of 0.05 s, 15 s.

    ## Arguments
    Those of `HalfCheetah-v5`, except for what decides its reward and its observations.

    ## Version history
    - v0: first version.
    """  # noqa: E501

    CONTACT_COST = 20.0
    """Of a step in which more than the hind leg touches the ground, beside what it advances."""

    _FIXED = frozenset(
        {
            "forward_reward_weight",
            "ctrl_cost_weight",
            "exclude_current_positions_from_observation",
        }
    )
    _FRONT = ("fthigh", "fshin", "ffoot")
    _HIND = ("bshin", "bfoot")

    def __init__(self, **kwargs: Any) -> None:
        if given := sorted(self._FIXED & kwargs.keys()):
            raise ValueError(f"the one-legged run has a reward of its own, not {given[0]}")
        super().__init__(**kwargs)
        EzPickle.__init__(self, **kwargs)
        self.metadata |= {"fixed_horizon": True, "drawn_from_state": True}
        self._floor = self._geom("floor")
        self._front = {self._geom(name) for name in self._FRONT}
        self._hind = {self._geom(name) for name in self._HIND}
        self._touched: set[int] = set()

    def _geom(self, name: str) -> int:
        return mujoco.mj_name2id(self.model, mujoco.mjtObj.mjOBJ_GEOM, name)

    def _initialize_simulation(self) -> tuple[mujoco.MjModel, mujoco.MjData]:
        """The model, with room for its starting place and what is counted."""
        model = model_with_counters(self.fullpath, 5, self.width, self.height)
        return model, mujoco.MjData(model)

    def reset_model(self) -> np.ndarray:
        observation = super().reset_model()
        self.data.userdata[:] = self.data.qpos[0], 0, 0, 0, 0
        return observation

    def _step_mujoco_simulation(self, ctrl: np.ndarray, n_frames: int) -> None:
        """The same physics, looked at in between: a foot touches the ground for a moment only."""
        self._touched = set()
        for _ in range(n_frames):
            super()._step_mujoco_simulation(ctrl, 1)
            self._touched |= geoms_on_floor(self.data, self._floor)

    def _get_rew(self, x_velocity: float, action: np.ndarray) -> tuple[float, dict[str, float]]:
        reward, parts = super()._get_rew(x_velocity, action)
        contacts = (
            bool(self._touched & self._front),
            bool(self._touched & self._hind),
            bool(self._touched - self._front - self._hind),
        )
        self.data.userdata[1] += 1
        self.data.userdata[2:] += contacts
        front, hind, body = (float(touches) for touches in contacts)
        cost = max(front, body) * (self.CONTACT_COST + x_velocity)
        measures = {"front_contact": front, "hind_contact": hind, "body_contact": body}
        return reward - cost, parts | {"reward_contact": -cost} | measures | self._so_far()

    def _so_far(self) -> dict[str, float]:
        """What the episode amounts to by now."""
        start, steps, *counts = self.data.userdata
        shares = np.array(counts) / max(1.0, steps)
        return {
            "distance": float(self.data.qpos[0] - start),
            "front_contact_share": float(shares[0]),
            "hind_contact_share": float(shares[1]),
            "body_contact_share": float(shares[2]),
        }

    def _get_reset_info(self) -> dict[str, float]:
        return super()._get_reset_info() | self._so_far()

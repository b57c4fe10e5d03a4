"""The hopper that is to do backflips: the best-known picture of learning from preferences."""

from typing import Any

import mujoco
import numpy as np
from gymnasium.envs.mujoco.hopper_v5 import HopperEnv
from gymnasium.spaces import Box
from gymnasium.utils import EzPickle

from .counted import geoms_on_floor, model_with_counters


class HopperBackflipEnv(HopperEnv):
    """MuJoCo's hopper, whose true reward is the hand-written one for a backward somersault.

    The reward is that of the blog post "Learning from human preferences" (OpenAI, 2017), which
    its authors wrote to compare with what 900 answers of a person had taught. It says nothing
    about how a somersault ends: `info["landings"]` counts those that end on the foot.

    ## Action space
    `Box(-1, 1, (3,), float32)`: torque at hip, knee and ankle, in units of 200 N m, as in
    Gymnasium's `Hopper-v5`.

    ## Observation space
    `Box(-inf, inf, (12,), float64)`

    | num | observation | unit |
    | --- | --- | --- |
    | 0 | height of the torso; 1.25 when it stands | m |
    | 1, 2 | sine and cosine of the torso's angle, forward is positive | |
    | 3, 4, 5 | angles of hip, knee and ankle | rad |
    | 6, 7 | velocity of the torso, forward and upward | m/s |
    | 8 | angular velocity of the torso, forward is positive | rad/s |
    | 9, 10, 11 | angular velocities of hip, knee and ankle | rad/s |

    Velocities are clipped to ±10. These are the observations of `Hopper-v5`, save for the angle,
    which counts whole turns there: the second somersault would be a stranger to a policy, or to a
    learned reward, that knows the first.

    ## Reward
    `-w (1 + 0.3 z + 0.1 a·q - 0.05 v)` with the torso's angular velocity w, height z and forward
    velocity v, the joints' angular velocities q and the action a: backward spin, the more so the
    higher, the more forceful and the less forward. All as observed after the step, so that velocities
    count up to 10.

    `info`, as it is after the step:

    | key | value | unit |
    | --- | --- | --- |
    | `rotations` | backward turns since the start of the episode | |
    | `landings` | of these, those that ended on the foot: at some time from 1/8 turn before to 1/8 turn after the end of a further whole turn, the foot and nothing else touched the ground | |
    | `height` | height of the torso | m |
    | `x_position` | place of the torso | m |
    | `foot_contact` | 1 where the foot touches the ground, else 0 | |
    | `body_contact` | 1 where anything else does, else 0 | |
    | `body_contact_share` | share of the episode's steps so far in which it did | |

    ## Starting state
    As in `Hopper-v5`: upright and at rest, up to uniform noise of ±0.005.

    ## Episode end
    Never terminates; truncates after 300 steps of 0.008 s, 2.4 s.

    ## Arguments
    Those of `Hopper-v5`, except for what decides its reward, its termination and its
    observations.

    ## Version history
    - v0: first version.
    """  # noqa: E501

    _FIXED = frozenset(
        {
            "terminate_when_unhealthy",
            "healthy_reward",
            "healthy_state_range",
            "healthy_z_range",
            "healthy_angle_range",
            "forward_reward_weight",
            "ctrl_cost_weight",
            "exclude_current_positions_from_observation",
        }
    )

    def __init__(self, **kwargs: Any) -> None:
        if given := sorted(self._FIXED & kwargs.keys()):
            raise ValueError(f"the backflip has a reward and a horizon of its own, not {given[0]}")
        super().__init__(terminate_when_unhealthy=False, **kwargs)
        EzPickle.__init__(self, **kwargs)
        self.metadata |= {"fixed_horizon": True, "drawn_from_state": True}
        self.observation_space = Box(-np.inf, np.inf, (12,), np.float64)
        self._floor, self._foot = (
            mujoco.mj_name2id(self.model, mujoco.mjtObj.mjOBJ_GEOM, name)
            for name in ("floor", "foot_geom")
        )

    def _initialize_simulation(self) -> tuple[mujoco.MjModel, mujoco.MjData]:
        """The model, with room for what is counted."""
        model = model_with_counters(self.fullpath, 4, self.width, self.height)
        return model, mujoco.MjData(model)

    def _get_obs(self) -> np.ndarray:
        angle = self.data.qpos[2]
        attitude = [self.data.qpos[1], np.sin(angle), np.cos(angle)]
        return np.concatenate([attitude, self.data.qpos[3:], np.clip(self.data.qvel, -10, 10)])

    def step(self, action: np.ndarray) -> tuple[np.ndarray, np.float64, bool, bool, dict[str, Any]]:
        self.do_simulation(action, self.frame_skip)
        observation = self._get_obs()
        z, v, w, q = observation[0], observation[6], observation[8], observation[9:12]
        reward = -w * (1 + 0.3 * z + 0.1 * np.dot(action, q) - 0.05 * v)
        if self.render_mode == "human":
            self.render()
        return observation, reward, False, False, self._judge()

    def _judge(self) -> dict[str, float]:
        """Count, and give what there is to judge by."""
        rotations = -self.data.qpos[2] / (2 * np.pi)
        touching = geoms_on_floor(self.data, self._floor)
        body = bool(touching - {self._foot})
        landings, last, steps, body_steps = self.data.userdata
        whole = round(rotations)
        if touching == {self._foot} and whole > last and abs(rotations - whole) <= 1 / 8:
            landings, last = landings + 1, whole
        self.data.userdata[:] = landings, last, steps + 1, body_steps + body
        return {
            "rotations": float(rotations),
            "landings": float(landings),
            "height": float(self.data.qpos[1]),
            "x_position": float(self.data.qpos[0]),
            "foot_contact": float(self._foot in touching),
            "body_contact": float(body),
            "body_contact_share": float((body_steps + body) / (steps + 1)),
        }

    def _get_reset_info(self) -> dict[str, float]:
        measures = self._judge()
        self.data.userdata[:] = 0.0  # nothing has happened yet
        return measures

"""Frames of an environment, drawn fast enough for a renderer without a graphics card.

Software rendering of a Hopper frame takes 118 ms with MuJoCo's defaults and 9 ms without shadows,
reflections and multisampling, which is what `Renderer` leaves out.
"""

from typing import Any

import gymnasium as gym
import numpy as np

from prefrl.clips.simulator import is_mujoco
from prefrl.errors import UserError


class Renderer:
    """Draws the present scene of an environment made with `render_mode="rgb_array"`.

    Args:
        env: The environment, reset once.

    Raises:
        UserError: Nothing can be drawn here; says what to install.
    """

    def __init__(self, env: gym.Env) -> None:
        self._env = env
        if is_mujoco(env):
            base: Any = env.unwrapped
            base.model.vis.quality.offsamples = 0
            _follow(base)
        self.frame()
        if is_mujoco(env):
            import mujoco

            viewer = base.mujoco_renderer._get_viewer("rgb_array")
            for flag in (mujoco.mjtRndFlag.mjRND_SHADOW, mujoco.mjtRndFlag.mjRND_REFLECTION):
                viewer.scn.flags[flag] = False

    def frame(self) -> np.ndarray:
        """The scene now, `(height, width, 3)` uint8."""
        try:
            frame: Any = self._env.render()
        except Exception as error:  # every GL backend fails in a way of its own
            raise UserError(
                f"no renderer works here ({type(error).__name__}: {error}): install EGL "
                f"(Debian: libegl1 libgl1-mesa-dri) and set MUJOCO_GL=egl, or use a display"
            ) from None
        if not isinstance(frame, np.ndarray):
            raise UserError(f"the environment draws no frames (render gave {type(frame)})")
        return frame


def _follow(base: Any) -> None:
    """Look through the model's camera that follows the body, unless the default one does.

    Gymnasium 1.4 looks through a free camera, which HalfCheetah runs away from.
    """
    import mujoco

    renderer = base.mujoco_renderer
    camera = mujoco.mj_name2id(base.model, mujoco.mjtObj.mjOBJ_CAMERA, "track")
    if camera >= 0 and "trackbodyid" not in (renderer.default_cam_config or {}):
        renderer.camera_id = camera


def playback(env: gym.Env, at_most: float = 30.0) -> tuple[int, float]:
    """How to show an environment in its own time: `(stride, frames per second)`.

    Every `stride`-th step is a frame, at most `at_most` a second.

    Args:
        env: Its `metadata["render_fps"]` says how many steps a second of its time has.
        at_most: Frames per second.
    """
    steps_per_second = float(env.metadata.get("render_fps") or 30)
    stride = max(1, round(steps_per_second / at_most))
    return stride, steps_per_second / stride

"""Frames of an environment, drawn fast enough for a renderer without a graphics card.

Software rendering of a Hopper frame takes 118 ms with MuJoCo's defaults and 9 ms without shadows,
reflections and multisampling, which is what `Renderer` leaves out.
"""

import math
from typing import Any

import gymnasium as gym
import numpy as np

from prefrl.clips.clip import Clip
from prefrl.clips.simulator import is_mujoco, write_state
from prefrl.errors import UserError, one_line, sentence


class Renderer:
    """Draws the present scene of an environment made with `render_mode="rgb_array"`.

    Args:
        env: The environment, reset once.
        acts: Whether it goes on acting, so that nothing may be changed that it could look at.

    Raises:
        UserError: Nothing can be drawn here; says what to install.
    """

    def __init__(self, env: gym.Env, *, acts: bool = False) -> None:
        base: Any = env.unwrapped
        self._env = env
        self._base = base
        self._viewer: Any = None
        self._body = 0
        if not (is_mujoco(env) and hasattr(base, "mujoco_renderer")):  # it draws in its own way
            self.frame()
            return
        import mujoco

        self._base.model.vis.quality.offsamples = 0
        if not acts:
            _unbound_floor(base.model)
        self._body = _followed(self._base)
        self.frame()  # makes the viewer
        self._viewer = self._base.mujoco_renderer._get_viewer("rgb_array")
        for flag in (mujoco.mjtRndFlag.mjRND_SHADOW, mujoco.mjtRndFlag.mjRND_REFLECTION):
            self._viewer.scn.flags[flag] = False

    def frame(self) -> np.ndarray:
        """The scene now, `(height, width, 3)` uint8."""
        if self._body and self._viewer:
            self._viewer.cam.lookat[:2] = self._base.data.subtree_com[self._body][:2]
        try:
            frame: Any = self._env.render()
        except Exception as error:  # every GL backend, and the user's code, fails in its own way
            if not type(self._base).render.__module__.startswith("gymnasium.envs.mujoco."):
                raise UserError(f"the environment cannot be drawn: {sentence(error)}") from None
            raise UserError(
                f"no renderer works here ({one_line(error)}): install EGL "
                f"(Debian: libegl1 libgl1-mesa-dri) and set MUJOCO_GL=egl, or use a display"
            ) from None
        return checked_frame(frame)

    def draw(self, state: np.ndarray) -> np.ndarray:
        """The scene in a recorded state `(state_dim,)`: `(height, width, 3)` uint8."""
        write_state(self._env, state)
        return self.frame()


def checked_frame(frame: Any) -> np.ndarray:
    """What an environment drew, if it is a picture `(height, width, 3)` uint8.

    Raises:
        UserError: It is none.
    """
    if not isinstance(frame, np.ndarray):
        raise UserError(f"the environment draws no frames (render gave {type(frame)})")
    if frame.ndim != 3 or frame.shape[2] != 3 or frame.dtype != np.uint8:
        raise UserError(
            f"the environment's render must give frames (height, width, 3) of uint8, got "
            f"{frame.shape} of {frame.dtype}"
        )
    return frame


def _followed(base: Any) -> int:
    """The body that the view is moved along with, or 0: the model has a camera that follows.

    Gymnasium 1.4 looks through a free camera that stands still, also where an environment names a
    body to track: Hopper and HalfCheetah run out of the picture.
    """
    import mujoco

    renderer = base.mujoco_renderer
    body = (renderer.default_cam_config or {}).get("trackbodyid", 0)
    if body > 0:
        return body
    camera = mujoco.mj_name2id(base.model, mujoco.mjtObj.mjOBJ_CAMERA, "track")
    if camera >= 0:
        renderer.camera_id = camera
    return 0


def _unbound_floor(model: Any) -> None:
    """Draw planes without an end, as physics has them; a fast agent runs off the drawn ones.

    Without a floor under it, nobody can see how fast it is.
    """
    import mujoco

    for geom in np.flatnonzero(model.geom_type == mujoco.mjtGeom.mjGEOM_PLANE):
        size, material = model.geom_size[geom, :2], model.geom_matid[geom]
        if material >= 0 and size.all():
            # A bounded plane is covered by so many repeats; an unbounded one has them per metre.
            if not model.mat_texuniform[material]:
                model.mat_texrepeat[material] /= 2 * size
            model.geom_size[geom, :2] = 0.0


FASTEST = 30.0
"""Frames per second at most: what a screen and an eye make use of."""

SHORTEST, LONGEST = 1.5, 3.0
"""Seconds on the screen in which a clip is judged well: its pace is slowed or hurried to them. The
clips of Christiano et al. 2017 last 1.5 s."""


def playback(env: gym.Env) -> tuple[int, float]:
    """How to show an environment in its own time: `(stride, frames per second)`.

    Every `stride`-th step is a frame.
    """
    rate = steps_per_second(env)
    stride = max(1, round(rate / FASTEST))
    return stride, rate / stride


def clip_playback(length: int, rate: float) -> tuple[int, float]:
    """How to show a clip so that a person can judge it: `(stride, frames per second)`.

    Args:
        length: Environment steps in the clip.
        rate: Environment steps in a second of the environment's time.
    """
    seconds = min(max(length / rate, SHORTEST), LONGEST)
    stride = max(1, math.ceil(length / (FASTEST * seconds)))
    return stride, math.ceil(length / stride) / seconds


def steps_per_second(env: gym.Env) -> float:
    """Environment steps in a second of its time, as its `metadata` says, or 30.

    Raises:
        UserError: It says no number above 0.
    """
    said = env.metadata.get("render_fps") or 30
    try:
        rate = float(said)
    except (TypeError, ValueError):
        rate = math.nan
    if not 0 < rate < math.inf:
        raise UserError(
            f"the environment's metadata['render_fps'] must be its steps in a second, got {said!r}"
        )
    return rate


def draw_clip(renderer: Renderer, clip: Clip, stride: int) -> np.ndarray:
    """Frames of every `stride`-th step of a clip: `(n, height, width, 3)` uint8.

    Raises:
        UserError: The clip holds nothing that could be drawn.
    """
    if clip.frames is not None:
        return clip.frames[::stride]
    if not clip.states.shape[1]:
        raise UserError(
            "these clips hold neither simulator states nor frames, so they cannot be shown: "
            "clips are made to be shown where a run is trained with --labeller human"
        )
    return np.stack([renderer.draw(state) for state in clip.states[::stride]])

"""Videos of a run's policy: one episode's first seconds, in the environment's own time."""

from collections.abc import Callable
from pathlib import Path

import imageio.v3 as iio
import numpy as np

from prefrl.agent.stack import Stack
from prefrl.clips.render import Renderer, playback
from prefrl.clock import Stopwatch
from prefrl.environment import acting_in, choose_renderer, make_drawable
from prefrl.errors import UserError, one_line
from prefrl.evaluation import SEED, best_episode, deciding_return, roll_out
from prefrl.run import Run

Act = Callable[[np.ndarray], np.ndarray]
"""Observation → action."""


def video(
    run: str | Path | Run,
    out: str | Path | None = None,
    *,
    seconds: float | None = None,
    best: bool = False,
) -> Path:
    """Write an mp4 of the run's policy, acting deterministically; give its path.

    Args:
        run: The run or its folder.
        out: The file; `videos/step_<n>.mp4` in the run folder when None, with `best` in its name
            for the best episode.
        seconds: Length, s of the environment's time; 10 when None, or with `best` the whole
            episode.
        best: Show the best of the 20 episodes that `prefrl evaluate` looks at, from its start.

    Raises:
        UserError: There is no such run, nothing can be drawn, or the file cannot be written.
    """
    run = run if isinstance(run, Run) else Run(run)
    if seconds is not None and not 0 < seconds <= 600:
        raise UserError(f"seconds must be above 0 and at most 600, got {seconds:g}")
    if out and Path(out).suffix != ".mp4":
        raise UserError(f"cannot write '{out}': a video's name must end in .mp4")
    run.warn_of_edits()
    name = run.checkpoint().name
    path = Path(out) if out else run.path / "videos" / f"{name}{'_best' * best}.mp4"
    if best:
        shown = best_episode(roll_out(run, 20), deciding_return(run.config))
        actions = iter(shown.actions)
        length = min(shown.seconds, seconds or shown.seconds)
        last = shown.actions[-1]  # of an episode that is shorter than one frame
        frames, fps = film(run, lambda _: next(actions, last), length, seed=shown.seed)
    else:
        frames, fps = film(run, run.policy.predict, seconds or 10.0)
    write_mp4(path, frames, fps)
    return path


def before_after(run: Run, out: Path, *, seconds: float = 10.0) -> Path:
    """Write an mp4: on the left the untrained policy explores, on the right the trained acts."""
    untrained = Stack(run.config, Stopwatch())

    def act(observation: np.ndarray) -> np.ndarray:
        scaled = untrained.normalise.normalize_obs(observation)
        return untrained.model.predict(scaled, deterministic=False)[0]

    before, fps = film(run, act, seconds)
    after, _ = film(run, run.policy.predict, seconds)
    untrained.close()
    frames = [np.concatenate(pair, axis=1) for pair in zip(before, after, strict=True)]
    write_mp4(out, frames, fps)
    return out


def film(run: Run, act: Act, seconds: float, *, seed: int = SEED) -> tuple[list[np.ndarray], float]:
    """Frames `(height, width, 3)` from the start of an episode, and how many go into a second."""
    choose_renderer()
    env = make_drawable(run.config.env, 480, 360)
    try:
        with acting_in(run.config.env.id):
            observation, _ = env.reset(seed=seed)
        renderer = Renderer(env)
        stride, fps = playback(env)
        frames = []
        for step in range(max(1, int(seconds * fps + 1e-6)) * stride):
            if step % stride == 0:
                frames.append(renderer.frame())
            action = act(observation)
            with acting_in(run.config.env.id):
                observation, _, terminated, truncated, _ = env.step(action)
                if terminated or truncated:
                    observation, _ = env.reset()
        return frames, fps
    finally:
        env.close()


def write_mp4(path: Path, frames: list[np.ndarray], fps: float) -> None:
    """Write frames `(height, width, 3)` uint8 as H.264.

    Raises:
        UserError: The file cannot be written.
    """
    height, width = (side - side % 2 for side in frames[0].shape[:2])  # H.264 wants even sides
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.open("wb").close()  # a plain error now, instead of ffmpeg's page of text later
        iio.imwrite(
            path,
            np.stack(frames)[:, :height, :width],
            plugin="FFMPEG",
            fps=fps,
            codec="libx264",
            macro_block_size=2,
            extension=".mp4",
        )
    except OSError as error:
        raise UserError(f"cannot write '{path}': {error.strerror or one_line(error)}") from None

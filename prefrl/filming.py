"""Videos of a run's policy from an episode's start on, in the environment's own time."""

import itertools
import subprocess
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from numbers import Real
from pathlib import Path

import imageio.v2 as iio
import numpy as np
from imageio_ffmpeg import get_ffmpeg_exe

from prefrl.agent.stack import Stack
from prefrl.clips.render import Renderer, playback
from prefrl.clock import Stopwatch
from prefrl.environment import acting_in, checked_observations, close_env, make_drawable
from prefrl.errors import UserError
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
    if seconds is not None and not (isinstance(seconds, Real) and 0 < seconds <= 600):
        raise UserError(f"seconds must be above 0 and at most 600, got {seconds!r}")
    if out and Path(out).suffix != ".mp4":
        raise UserError(f"cannot write '{out}': a video's name must end in .mp4")
    run.warn_of_edits()
    name = run.loaded.name
    path = Path(out) if out else run.path / "videos" / f"{name}{'_best' * best}.mp4"
    if best:
        shown = best_episode(roll_out(run, 20), deciding_return(run.config))
        actions = iter(shown.actions)
        length = min(shown.seconds, seconds or shown.seconds)
        last = shown.actions[-1]  # of an episode that is shorter than one frame
        filmed = film(run, lambda _: next(actions, last), length, seed=shown.seed)
    else:
        filmed = film(run, run.policy.predict, seconds or 10.0)
    with filmed as (frames, fps):
        write_mp4(path, frames, fps)
    return path


def before_after(run: Run, out: Path, *, seconds: float = 10.0) -> Path:
    """Write an mp4: on the left the untrained policy explores, on the right the trained acts."""
    with closing(Stack(run.config, Stopwatch())) as untrained:
        every, steps = run.config.agent.sde_sample_freq, itertools.count()

        def act(observation: np.ndarray) -> np.ndarray:
            if every and next(steps) % every == 0:
                untrained.model.policy.reset_noise()
            scaled = untrained.normalise.normalize_obs(observation)
            return untrained.model.predict(scaled, deterministic=False)[0][()]

        trained = run.policy.predict
        with film(run, act, seconds) as (before, fps), film(run, trained, seconds) as (after, _):
            pairs = zip(before, after, strict=True)
            write_mp4(out, (np.concatenate(pair, axis=1) for pair in pairs), fps)
    return out


@contextmanager
def film(
    run: Run, act: Act, seconds: float, *, seed: int = SEED
) -> Iterator[tuple[Iterator[np.ndarray], float]]:
    """Frames `(height, width, 3)` from the start of an episode, and how many go into a second.

    A frame is drawn when it is asked for, within the block, so that a long video takes no more
    memory.
    """
    env = make_drawable(run.config.env, 480, 360)

    def frames(steps: int, stride: int) -> Iterator[np.ndarray]:
        with acting_in(run.config.env.id):
            observation, _ = env.reset(seed=seed)
        renderer = Renderer(env)
        for step in range(steps):
            if step % stride == 0:
                yield renderer.frame()
            action = act(checked_observations(run.config.env.id, observation))
            with acting_in(run.config.env.id):
                observation, _, terminated, truncated, _ = env.step(action)
                if terminated or truncated:
                    observation, _ = env.reset()

    try:
        stride, fps = playback(env)
        run.policy.check_env(env, run.config.env.id)
        yield frames(max(1, int(seconds * fps + 1e-6)) * stride, stride), fps
    finally:
        close_env(env, run.config.env.id)


def write_mp4(path: Path, frames: Iterable[np.ndarray], fps: float) -> None:
    """Write frames `(height, width, 3)` uint8 as H.264, each as it comes.

    The file is the old or the new one, never half of it.

    Raises:
        UserError: The file cannot be written.
    """
    frames = iter(frames)
    first = next(frames)
    height, width = (side - side % 2 for side in first.shape[:2])  # H.264 wants even sides
    part = path.with_suffix(".part.mp4")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.open("wb").close()  # a plain error now, instead of ffmpeg's page of text later
        options = {"fps": fps, "codec": "libx264", "macro_block_size": 2}
        writer = iio.get_writer(
            part, format="FFMPEG", mode="I", ffmpeg_log_level="quiet", **options
        )
        with closing(writer):  # its own `with` leaves ffmpeg running after an error
            for frame in itertools.chain([first], frames):
                writer.append_data(frame[:height, :width])
        if not _is_whole(part):
            raise OSError  # as the writer does, but for what fails while it is closed
        part.replace(path)
    except OSError as error:
        reason = error.strerror or "ffmpeg failed (is the disk full?)"
        raise UserError(f"cannot write '{path}': {reason}") from None
    finally:
        part.unlink(missing_ok=True)


def _is_whole(video: Path) -> bool:
    """Whether ffmpeg can read a video to its end."""
    command = [get_ffmpeg_exe(), "-v", "quiet", "-i", video, "-c", "copy", "-f", "null", "-"]
    return subprocess.run(command, stdin=subprocess.DEVNULL).returncode == 0

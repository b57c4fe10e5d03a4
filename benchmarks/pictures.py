"""Takes the README's pictures of the window: `python benchmarks/pictures.py LABELS.db`.

A run starts from the labels in that file, so that after a minute there is something to look at,
and a scripted person labels while the screen is recorded.
"""

import argparse
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import imageio.v3 as iio
import imageio_ffmpeg
import numpy as np
from desktop import Desktop, ScriptedPerson, missing
from measuring import PREFRL
from PIL import Image

from prefrl.labels.store import LabelStore
from prefrl.run import Run

DOCS = Path(__file__).parent.parent / "docs"
FPS = 10
SECONDS = 8
SIZE = (1280, 720)


def main() -> None:
    """Train, label, record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("labels", type=Path, help="labels.db of a run on the same environment")
    parser.add_argument("--env-id", default="HalfCheetah-v5")
    parser.add_argument("--warm-up", type=float, default=60.0, help="seconds of training before")
    parser.add_argument("--out", type=Path, default=DOCS)
    args = parser.parse_args()
    if missing():
        sys.exit(f"install {', '.join(missing())} first")
    folder = Path(tempfile.mkdtemp()) / "run"
    options = ["--labeller", "human", "--labels-from", str(args.labels), "--labels", "200"]
    options += ["--steps", "3000000", "--out", str(folder), "--quiet"]
    with Desktop(*SIZE) as desktop:
        training = subprocess.Popen(
            [*PREFRL, "train", args.env_id, *options], env=desktop.environment
        )
        person = ScriptedPerson(desktop, folder / "labels.db")
        try:
            person.wait_for_pair()
            desktop.resize(*SIZE)
            time.sleep(args.warm_up)
            person.label(25)  # pairs of the agent as it was give way to those as it is
            time.sleep(5.0)  # until pairs are drawn ahead again
            record(desktop, person, args.out / "labelling.gif")
            time.sleep(2.0)
            desktop.screenshot(args.out / "window.png")
        finally:
            training.send_signal(signal.SIGINT)
            training.wait()
            desktop.key("Escape")
            person.close()
    print(LabelStore(Run(folder).label_file).count_answered(), "labels")
    shutil.rmtree(folder.parent)


def record(desktop: Desktop, person: ScriptedPerson, path: Path) -> None:
    """Film the window at a smaller size while the person labels."""
    width, height = SIZE
    film = path.with_suffix(".mkv")
    source = ["-f", "x11grab", "-draw_mouse", "0", "-framerate", str(FPS)]
    source += ["-video_size", f"{width}x{height}", "-i", desktop.environment["DISPLAY"]]
    output = ["-t", str(SECONDS), "-c:v", "ffv1", str(film)]
    camera = subprocess.Popen(
        [imageio_ffmpeg.get_ffmpeg_exe(), "-loglevel", "error", *source, *output]
    )
    person.label(5, pause=2.2)
    camera.wait()
    frames = iio.imread(film, plugin="FFMPEG")
    film.unlink()
    size = (width // 2, height // 2)
    small = [np.asarray(Image.fromarray(frame).resize(size)) for frame in frames]
    iio.imwrite(path, small, plugin="pillow", duration=1000 / FPS, loop=0)


if __name__ == "__main__":
    main()

"""Makes a moving picture of videos, side by side: `python benchmarks/gif.py A.mp4 OUT.gif`."""

import argparse
from pathlib import Path

import imageio.v3 as iio
import numpy as np
from PIL import Image

COLOURS = Image.Quantize.FASTOCTREE
"""Keeps the colour of small things, which the default spends on the floor."""


def main() -> None:
    """Convert."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("videos", type=Path, nargs="+")
    parser.add_argument("out", type=Path)
    parser.add_argument("--width", type=int, default=640, help="pixels")
    parser.add_argument("--seconds", type=float, default=5.0, help="of the videos, from the start")
    parser.add_argument("--slow", type=float, default=1.0, help="how much slower to show them")
    parser.add_argument("--zoom", type=float, default=1.0, help="how much of the edges to cut off")
    parser.add_argument("--panels", type=int, default=1, help="pictures beside one another in each")
    parser.add_argument("--fps", type=float, default=15.0, help="frames a second")
    args = parser.parse_args()
    times = np.arange(0, args.seconds, 1 / args.fps / args.slow)
    panels = [
        cropped(panel, args.zoom)
        for video in args.videos
        for panel in np.split(sample(video, times), args.panels, axis=2)
    ]
    frames = np.concatenate(panels, axis=2)
    size = (args.width, args.width * frames.shape[1] // frames.shape[2])
    small = [Image.fromarray(frame).resize(size).quantize(64, COLOURS) for frame in frames]
    small[0].save(
        args.out,
        save_all=True,
        append_images=small[1:],
        duration=1000 / args.fps,  # ms
        loop=0,
        optimize=True,
    )
    print(f"{args.out}: {len(small)} frames, {args.out.stat().st_size / 1e6:.1f} MB")


def sample(video: Path, times: np.ndarray) -> np.ndarray:
    """Frames `(n, height, width, 3)` of a video at those seconds; the last where it has ended."""
    rate = iio.immeta(video, plugin="FFMPEG")["fps"]
    frames = iio.imread(video, plugin="FFMPEG")
    return frames[np.minimum((times * rate).astype(int), len(frames) - 1)]


def cropped(frames: np.ndarray, zoom: float) -> np.ndarray:
    """The lower middle of frames, `1 / zoom` of height and width."""
    height, width = frames.shape[1:3]
    top, right = round(height * (1 - 1 / zoom)), round(width * (1 - 1 / zoom) / 2)
    return frames[:, top:, right : width - right]


if __name__ == "__main__":
    main()

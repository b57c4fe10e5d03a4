"""Makes a README's moving picture of a video: `python benchmarks/gif.py VIDEO.mp4 OUT.gif`."""

import argparse
from pathlib import Path

import imageio.v3 as iio
from PIL import Image


def main() -> None:
    """Convert."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("video", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--width", type=int, default=640, help="pixels")
    parser.add_argument("--seconds", type=float, default=5.0, help="of the video, from its start")
    parser.add_argument("--slow", type=float, default=1.0, help="how much slower to show it")
    parser.add_argument("--fps", type=float, default=16.0, help="most frames a second")
    args = parser.parse_args()
    rate = iio.immeta(args.video, plugin="FFMPEG")["fps"]
    stride = max(1, round(rate / args.slow / args.fps))
    frames = iio.imread(args.video, plugin="FFMPEG")[: round(args.seconds * rate) : stride]
    size = (args.width, args.width * frames.shape[1] // frames.shape[2])
    small = [Image.fromarray(frame).resize(size).quantize(64) for frame in frames]
    small[0].save(
        args.out,
        save_all=True,
        append_images=small[1:],
        duration=1000 * stride * args.slow / rate,  # ms
        loop=0,
        optimize=True,
    )
    print(f"{args.out}: {len(small)} frames, {args.out.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()

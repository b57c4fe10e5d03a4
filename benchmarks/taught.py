"""A scripted person teaches an environment through the window: `python benchmarks/taught.py`.

They judge by the true return, err in 5 % of the pairs, and press real keys at the real window, on
a desktop without a screen. Prints the result that docs/benchmarks.md has.
"""

import argparse
import subprocess
import sys
import time
from pathlib import Path

from desktop import Desktop, ScriptedPerson, missing

from prefrl.run import Run


def main() -> None:
    """Train and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("env_id", nargs="?", default="HalfCheetah-v5")
    parser.add_argument("--labels", default="300")
    parser.add_argument("--steps", default="1000000")
    parser.add_argument("--seed", default="0")
    parser.add_argument("--out", type=Path, default=Path("runs/taught"))
    args = parser.parse_args()
    if missing():
        sys.exit(f"install {', '.join(missing())} first")
    options = ["--labeller", "human", "--wait-for-labels", "--labels", args.labels]
    options += ["--steps", args.steps, "--seed", args.seed, "--out", str(args.out)]
    began = time.time()
    with Desktop() as desktop:
        training = subprocess.Popen(
            [sys.executable, "-m", "prefrl.cli", "train", args.env_id, *options],
            env=desktop.environment,
        )
        person = ScriptedPerson(desktop, args.out / "labels.db", mistakes=0.05)
        pressed = person.label(10**6, done=lambda: training.poll() is not None, patience=600)
        training.wait()
        person.close()
        desktop.key("Escape")
    print(f"{pressed} answers, probes included, in {(time.time() - began) / 60:.0f} min")
    print(Run(args.out).record["result"])


if __name__ == "__main__":
    main()

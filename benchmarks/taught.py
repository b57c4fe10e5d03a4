"""A scripted person teaches an environment through the window: `python benchmarks/taught.py`.

They judge by the true return or an oracle's score, err in 5 % of the pairs, and press real keys at
the real window, on a desktop without a screen. The training waits for their labels, or goes on
meanwhile. Prints the result that docs/behaviours.md has.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

from desktop import READ, Desktop, ScriptedPerson, missing

from prefrl.evaluation import evaluate
from prefrl.labellers.oracle import load_score, true_reward
from prefrl.run import Run


def main() -> None:
    """Train and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("env_id", nargs="?", default="HalfCheetah-v5")
    parser.add_argument("--labels", default="300")
    parser.add_argument("--steps", default="1000000")
    parser.add_argument("--seed", default="0")
    parser.add_argument("--out", type=Path, default=Path("runs/taught"))
    parser.add_argument("--oracle", help="FILE.py:FUNC that they judge by")
    parser.add_argument("--pace", type=float, default=READ, help="seconds from answer to answer")
    parser.add_argument("--no-wait", action="store_true", help="train on while they think")
    args = parser.parse_args()
    if missing():
        sys.exit(f"install {', '.join(missing())} first")
    options = ["--labeller", "human", "--labels", args.labels]
    options += [] if args.no_wait else ["--wait-for-labels"]
    options += ["--steps", args.steps, "--seed", args.seed, "--out", str(args.out)]
    began = time.time()
    with Desktop() as desktop:
        training = subprocess.Popen(
            [sys.executable, "-m", "prefrl.cli", "train", args.env_id, *options],
            env=desktop.environment,
        )
        score = load_score(args.oracle) if args.oracle else true_reward
        person = ScriptedPerson(desktop, args.out / "labels.db", mistakes=0.05, score=score)
        pressed = person.label(
            10**6, pause=args.pace, done=lambda: training.poll() is not None, patience=600
        )
        training.wait()
        person.close()
        desktop.key("Escape")
    print(f"{pressed} answers, probes included, in {(time.time() - began) / 60:.0f} min")
    print(Run(args.out).record["result"])
    print(json.dumps(evaluate(args.out), indent=1))


if __name__ == "__main__":
    main()

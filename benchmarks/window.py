"""What labelling costs, and how quick it is: `python benchmarks/window.py [ENV] [--answers 200]`.

A scripted person answers one pair a second at the real window, on a desktop without a screen,
while the agent trains. Then, in the same run, stretches with a labelling person and without a
window take turns. Prints what docs/speed.md has.
"""

import argparse
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from desktop import Desktop, ScriptedPerson, missing
from measuring import PREFRL

from prefrl.labels.store import LabelStore

STRETCH = 30.0
"""Seconds of each stretch with or without a person."""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("env_id", nargs="?", default="Hopper-v5")
    parser.add_argument("--answers", type=int, default=200)
    parser.add_argument("--turns", type=int, default=3, help="stretches of each kind")
    args = parser.parse_args()
    if missing():
        sys.exit(f"install {', '.join(missing())} first")
    folder = Path(tempfile.mkdtemp())
    try:
        with Desktop() as desktop:
            measure(desktop, folder / "run", args.env_id, args.answers, args.turns)
    finally:
        shutil.rmtree(folder)


def measure(desktop: Desktop, run: Path, env_id: str, answers: int, turns: int) -> None:
    """Train `env_id` in the folder `run` while a scripted person labels on and off."""
    options = ["--labeller", "human", "--labels", "2000", "--steps", "20000000", "--quiet"]
    began = time.time()
    training = subprocess.Popen(
        [*PREFRL, "train", env_id, *options, "--out", str(run)], env=desktop.environment
    )
    person = ScriptedPerson(desktop, run / "labels.db")
    try:
        shown = person.wait_for_pair()[2]
        print(f"from `train` to the first pair on the screen: {shown - began:.1f} s", flush=True)
        given = person.label(answers, pause=1.0)
        desktop.key("Escape")
        while not (words := (run / "window.log").read_text()):
            time.sleep(0.1)
        print(f"{given} answers at one a second:\n{words}", flush=True)

        store = LabelStore(run / "labels.db")
        speeds: dict[str, list[float]] = {"with": [], "without": []}
        for _ in range(turns):
            window = subprocess.Popen(
                [*PREFRL, "label", str(run)], env=desktop.environment, stdout=subprocess.DEVNULL
            )
            person.wait_for_pair(after=time.time())
            start = position(store)
            # A quick person: one answer every two seconds.
            person.label(int(STRETCH / 2), pause=2.0)
            speeds["with"].append(rate(start, position(store)))
            desktop.key("Escape")
            window.wait()
            start = position(store)
            time.sleep(STRETCH)
            speeds["without"].append(rate(start, position(store)))
            print({k: [round(v) for v in values] for k, values in speeds.items()}, flush=True)
        store.close()
        labelled, alone = (sum(speeds[k]) / turns for k in ("with", "without"))
        print(f"steps/s with a person {labelled:,.0f}, without {alone:,.0f}")
        print(f"a labelling person costs {1 - labelled / alone:.0%} of the throughput")
    finally:
        training.send_signal(signal.SIGINT)
        training.wait()
        person.close()


def position(store: LabelStore) -> tuple[int, float]:
    """The agent's step at the next note of it, and when that is."""
    before = store.facts()["noted"]
    while (facts := store.facts())["noted"] == before:
        time.sleep(0.02)
    return int(facts["step"]), float(facts["noted"])


def rate(start: tuple[int, float], end: tuple[int, float]) -> float:
    """Steps per second from one position to another."""
    return (end[0] - start[0]) / (end[1] - start[1])


if __name__ == "__main__":
    main()

"""HalfCheetah from comparisons: prefrl and imitation side by side, one core each.

    python benchmarks/peers/side_by_side.py --steps 200000 --labels 200

imitation runs with prefrl's settings of PPO, and with those of its own tutorial (`peer_settings` in
the table). In the first case PPO's step size is constant in both: imitation learns in slices, in
each of which a falling one would start over. Makes imitation's environment in
`runs/peers/imitation` where there is none, starts imitation, and runs prefrl seed after seed beside
it until it is done, so that both are timed under the same load; a run that imitation does not last
for does not count. Writes `benchmarks/peers/halfcheetah.csv`, one row per run.
"""

import argparse
import csv
import itertools
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import yaml

from prefrl.configfile import read_preset

TASK = "HalfCheetah-v5"
HERE = Path(__file__).parent
COLUMNS = (
    "tool",
    "peer_settings",
    "seed",
    "labels",
    "steps",
    "true_return_mean",
    "true_return_std",
    "steps_per_second",
    "wall_seconds",
)


def main() -> None:
    """Run both, then write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=200_000)
    parser.add_argument("--labels", type=int, default=200)
    parser.add_argument("--seeds", type=int, default=1, help="of imitation")
    parser.add_argument("--out", type=Path, default=Path("runs/peers"))
    args = parser.parse_args()
    python = peer_python(args.out / "imitation")
    cores = sorted(os.sched_getaffinity(0))
    task = ["--steps", str(args.steps), "--labels", str(args.labels)]
    shutil.rmtree(args.out / "runs", ignore_errors=True)
    (args.out / "runs").mkdir(parents=True)
    rows, own_seed = [], 0
    for settings, seed in itertools.product(("prefrl", "tutorial"), range(args.seeds)):
        result = args.out / "runs" / f"imitation-{settings}-{seed}.json"
        command = [python, str(HERE / "imitation_halfcheetah.py"), *task, "--settings", settings]
        key = {"peer_settings": settings, "labels": args.labels}
        peer = start([*command, "--seed", str(seed), "--out", str(result)], cores[0])
        preset = args.out / "runs" / f"{settings}.yaml"
        write_preset(preset, constant_step_size=settings == "prefrl")
        try:
            while True:
                folder = args.out / "runs" / f"prefrl-{settings}-{seed}-{own_seed}"
                train = [sys.executable, "-m", "prefrl.cli", "train", TASK, *task]
                train += ["--preset", str(preset)]
                train += ["--seed", str(own_seed), "--out", str(folder), "--quiet"]
                if not finished_beside(peer, start(train, cores[-1])):
                    break
                own = json.loads((folder / "run.json").read_text())["result"]
                rows.append(key | {"tool": "prefrl", "seed": own_seed} | own)
                own_seed += 1
        finally:
            peer.kill()
            peer.wait()
        if peer.returncode:
            raise SystemExit("imitation failed")
        rows.append(key | {"tool": "imitation", "seed": seed} | json.loads(result.read_text()))
    with (HERE / "halfcheetah.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, extrasaction="ignore")
        writer.writeheader()
        for row in sorted(rows, key=lambda row: (row["tool"], row["peer_settings"], row["seed"])):
            writer.writerow({k: round(v, 3) if isinstance(v, float) else v for k, v in row.items()})


def write_preset(path: Path, *, constant_step_size: bool) -> None:
    """Write the task's preset, with a step size that falls as there or does not."""
    sections = {name: dict(values) for name, values in read_preset(TASK).items()}
    if constant_step_size:
        sections["agent"]["anneal"] = False
    path.write_text(yaml.safe_dump(sections))


def finished_beside(peer: subprocess.Popen, own: subprocess.Popen) -> bool:
    """Whether a run of prefrl came to its end while the peer was at work; if not, it is ended."""
    try:
        while own.poll() is None and peer.poll() is None:
            time.sleep(0.2)
    finally:
        own.kill()
        own.wait()
    if own.returncode > 0:
        raise SystemExit("prefrl failed")
    return own.returncode == 0


def start(command: list[str], core: int) -> subprocess.Popen:
    """Start a process that stays on one core, with one thread."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(["taskset", "--cpu-list", str(core), *command], env=environment)


def peer_python(folder: Path) -> str:
    """The interpreter of imitation's environment, which is made if there is none."""
    python = folder / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        requirements = str(HERE / "requirements.txt")
        subprocess.run([str(python), "-m", "pip", "install", "-q", "-r", requirements], check=True)
    return str(python)


if __name__ == "__main__":
    main()

"""How fast the parts are: `python benchmarks/speed.py [PART ...]`; docs/benchmarks.md has figures.

Ratios are of things that were measured in turns or side by side in this run; times depend on the
machine and on what else it does.
"""

import argparse
import itertools
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch

import prefrl
from prefrl.clips.clip import Clip, ClipBuffer
from prefrl.configfile import load_config
from prefrl.environment import make_env
from prefrl.labels.store import LabelStore
from prefrl.metrics import read_last
from prefrl.queries.rules import RULES
from prefrl.queries.sampler import select_pairs
from prefrl.reward.data import LabelledClips
from prefrl.reward.ensemble import RewardEnsemble
from prefrl.reward.fit import RewardFitter

PREFRL = [sys.executable, "-m", "prefrl.cli"]
LENGTH, OBS_DIM, ACT_DIM = 50, 17, 6
"""Of a clip: those of HalfCheetah-v5."""

STEPS = 1_000_000
"""Of each training run."""

Line = tuple[str, str, str]
"""What was measured, its value, what it should be."""


def best(call: Callable[[], object], times: int = 5) -> float:
    """Seconds of the quickest of so many calls: the one that was disturbed least."""
    seconds = []
    for _ in range(times):
        began = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - began)
    return min(seconds)


def random_clip(rng: np.random.Generator) -> Clip:
    """A clip of noise in the shape of HalfCheetah's."""
    return Clip(
        observations=rng.normal(size=(LENGTH, OBS_DIM)).astype(np.float32),
        actions=rng.normal(size=(LENGTH, ACT_DIM)).astype(np.float32),
        true_rewards=rng.normal(size=LENGTH),
        states=np.zeros((LENGTH, 0)),
        infos={},
        step=0,
    )


def selection(_: Path) -> Iterator[Line]:
    """10,000 candidate pairs of 2,000 clips, five members."""
    rng = np.random.default_rng(0)
    buffer = ClipBuffer(
        2000, length=LENGTH, obs_dim=OBS_DIM, act_dim=ACT_DIM, state_dim=0, info_keys=(), framed=0
    )
    for _ in range(2000):
        clip = random_clip(rng)
        buffer.add(
            observations=clip.observations,
            actions=clip.actions,
            true_rewards=clip.true_rewards,
            states=clip.states,
            infos=np.zeros((LENGTH, 0)),
            steps=0,
        )
    ensemble = RewardEnsemble(OBS_DIM, ACT_DIM, members=5)
    ensemble.normalise_outputs(buffer.inputs(np.arange(80)).reshape(-1, OBS_DIM + ACT_DIM))

    def select(rule: str) -> Callable[[], object]:
        return lambda: select_pairs(
            buffer, ensemble, RULES[rule], 250, candidates=40, rng=np.random.default_rng(1)
        )

    scored = best(select("mutual-information"))
    plain = best(select("disagreement"))
    spread = best(select("diverse-disagreement"))
    yield "selection of 250 among 10,000 pairs, 5 members", f"{scored:.3f} s", "under 0.15 s"
    yield "k-centre: 250 of the top 1,000", f"{max(0.0, spread - plain):.3f} s", "under 0.1 s"


def fitting(folder: Path) -> Iterator[Line]:
    """A refit, as the loop does one when 2 % of the labels are new, at ever more labels."""
    rng = np.random.default_rng(0)
    store = LabelStore(folder / "labels.db")
    data = LabelledClips(store, members=3, seed=0)
    ensemble = RewardEnsemble(OBS_DIM, ACT_DIM, members=3)
    fitter = RewardFitter(ensemble)
    labels = 0
    for target in (100, 500, 1_000, 5_000, 20_000):
        new = max(1, target // 50)
        labels = label(store, rng, labels, target - new)
        data.update(labels)
        fitter.fit(data, 40)
        labels = label(store, rng, labels, target)
        began = time.perf_counter()
        data.update(labels)
        taken = time.perf_counter() - began
        fitted = best(lambda: fitter.fit(data, 40), 3)
        yield (
            f"refit of {target:,} labels, {new:,} of them new",
            f"{taken + fitted:.2f} s ({taken:.2f} s to read the new ones)",
            "under 5 s" if target == 5_000 else "",
        )
    store.close()


def label(store: LabelStore, rng: np.random.Generator, have: int, wanted: int) -> int:
    """Ask and answer until there are so many labels; the step of an answer is its number."""
    for n in range(have + 1, wanted + 1):
        with store.transaction():
            query = store.ask(random_clip(rng), random_clip(rng), step=n, rule="random")
            store.answer(query, "left" if n % 2 else "right", labeller="a", seconds=0.0, step=n)
    return wanted


def storage(folder: Path) -> Iterator[Line]:
    """A store of a million labels on a few thousand clips."""
    store = LabelStore(folder / "labels.db")
    rng = np.random.default_rng(0)
    for n in range(2000):
        store.ask(random_clip(rng), random_clip(rng), step=n, rule="random")
    first = 2001
    pairs = [(left, right) for left in range(1, 2000) for right in range(left + 1, 2000)]
    asked = [(*pair, first + n, 0.0, "random") for n, pair in enumerate(pairs[:1_000_000])]
    columns = "left_clip, right_clip, step, asked, rule"
    with store.transaction():
        store.db.executemany(
            f"INSERT OR IGNORE INTO queries ({columns}) VALUES (?, ?, ?, ?, ?)", asked
        )
        store.db.execute("INSERT INTO labellers (name) VALUES ('a')")
        store.db.execute(
            "INSERT INTO answers (query, answer, labeller, seconds, swapped, step, answered) "
            "SELECT id, 'left', (SELECT id FROM labellers), 1, 0, step, 0 FROM queries "
            "WHERE id > 2000"
        )
    yield "labels in the store", f"{store.count_answered():,}", "1,000,000"
    store.close()
    before = resident()
    began = time.perf_counter()
    store = LabelStore(folder / "labels.db")
    opened = time.perf_counter() - began
    seconds = []
    for query in range(1, 1001):
        began = time.perf_counter()
        store.answer(query, "left", labeller="a", seconds=1.0, step=query)
        seconds.append(time.perf_counter() - began)
    yield "opening it", f"{opened:.3f} s", "under 1 s"
    yield (
        "an answer on disk, median and 99 %",
        f"{np.median(seconds) * 1e3:.1f} ms, {np.quantile(seconds, 0.99) * 1e3:.1f} ms",
        "under 5 ms",
    )
    for name, call in (
        ("count of answered labels", store.count_answered),
        ("count of asked ones", store.count_asked),
        ("what is pending", store.pending),
    ):
        yield name, f"{best(call, 3):.2f} s", ""
    yield "memory that it takes", f"{resident() - before:,.0f} MB", ""
    store.close()


def resident() -> float:
    """Resident memory of this process, MB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def start(folder: Path) -> Iterator[Line]:
    """From a command to what it does."""
    shown = best(lambda: subprocess.run([*PREFRL, "--help"], stdout=subprocess.DEVNULL), 10)
    yield "`prefrl --help`", f"{shown:.2f} s", "under 0.3 s"
    for env_id in ("HalfCheetah-v5", "Hopper-v5"):
        began = time.perf_counter()
        out = folder / env_id
        process = subprocess.Popen([*PREFRL, "train", env_id, "--out", str(out), "--quiet"])
        while not (row := read_last(out / "metrics.csv")):
            time.sleep(0.01)
        stepping = time.perf_counter() - began - row["time/seconds"]
        process.kill()
        process.wait()
        yield f"`prefrl train {env_id}` to its first step", f"{stepping:.1f} s", "under 5 s"


def loop(folder: Path) -> Iterator[Line]:
    """A run on 700 labels beside the same PPO on the true reward, a core each."""
    for env_id in ("HalfCheetah-v5", "Hopper-v5", "Ant-v5"):
        options = {"steps": STEPS, "quiet": True, "seed": 0}
        learned, true = side_by_side(
            (train, (env_id,), options | {"labels": 700, "out": folder / f"{env_id}-learned"}),
            (train, (env_id,), options | {"true_reward": True, "out": folder / f"{env_id}-true"}),
        )
        pace, ceiling = learned["steps_per_second"], true["steps_per_second"]
        yield (
            f"steps/s of {env_id} on 700 labels ÷ on the true reward, {STEPS:,} steps",
            f"{pace:,.0f} ÷ {ceiling:,.0f} = {pace / ceiling:.3f}",
            "at least 0.97",
        )
        spent = learned["seconds"]
        stages = ", ".join(f"{k} {v:.0f}/{true['seconds'][k]:.0f}" for k, v in spent.items())
        yield f"seconds of {env_id} on labels/on the true reward", stages, ""


def ppo(folder: Path) -> Iterator[Line]:
    """The preset's PPO beside SB3's default settings, on the true reward, a core each."""
    for env_id in ("HalfCheetah-v5", "Hopper-v5"):
        options = {"steps": STEPS, "quiet": True, "true_reward": True}
        ours, default = side_by_side(
            (train, (env_id,), options | {"out": folder / env_id}),
            (train_by_default, (env_id, STEPS), {}),
        )
        pace, other = ours["steps_per_second"], default["steps_per_second"]
        yield (
            f"steps/s of {env_id}'s preset ÷ SB3's defaults, {STEPS:,} steps",
            f"{pace:,.0f} ÷ {other:,.0f} = {pace / other:.2f}",
            "at least 2.5",
        )
        returns = [result["true_return_mean"] for result in (ours, default)]
        yield f"true return of the two on {env_id}", "{:,.0f}, {:,.0f}".format(*returns), ""


def side_by_side(*calls: tuple[Callable[..., dict], tuple, dict]) -> list[dict]:
    """What functions return that run at the same time, in a process and on a core each."""
    cores = sorted(os.sched_getaffinity(0))
    with ProcessPoolExecutor(len(calls), multiprocessing.get_context("spawn")) as pool:
        waiting = [
            pool.submit(_on_core, core, *call)
            for core, call in zip(itertools.cycle(cores), calls, strict=False)
        ]
        return [future.result() for future in waiting]


def _on_core(core: int, function: Callable[..., dict], arguments: tuple, options: dict) -> dict:
    os.sched_setaffinity(0, {core})
    torch.set_num_threads(1)
    return function(*arguments, **options)


def train(*arguments: Any, **options: Any) -> dict:
    """`prefrl.train`; its result."""
    return prefrl.train(*arguments, **options).record["result"]


def train_by_default(env_id: str, steps: int) -> dict:
    """Train SB3's PPO as it comes, in one environment of fixed horizon."""
    from stable_baselines3 import PPO
    from stable_baselines3.common.evaluation import evaluate_policy
    from stable_baselines3.common.monitor import Monitor

    env = Monitor(make_env(load_config(env_id, {}).env))
    model = PPO("MlpPolicy", env, device="cpu", seed=0)
    began = time.perf_counter()
    model.learn(steps)
    pace = steps / (time.perf_counter() - began)
    mean, _ = evaluate_policy(model, env, n_eval_episodes=20)
    return {"steps_per_second": pace, "true_return_mean": mean}


PARTS = {f.__name__: f for f in (selection, fitting, storage, start, loop, ppo)}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}")
    parts = parser.parse_args().parts or list(PARTS)
    if unknown := set(parts) - set(PARTS):
        parser.error(f"unknown part '{unknown.pop()}': there are {', '.join(PARTS)}")
    torch.set_num_threads(1)
    print("| measured | | aim |\n| --- | --- | --- |", flush=True)
    for part in parts:
        with tempfile.TemporaryDirectory() as folder:
            for what, value, target in PARTS[part](Path(folder)):
                print(f"| {what} | {value} | {target} |", flush=True)


if __name__ == "__main__":
    main()

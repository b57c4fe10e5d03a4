"""How fast whole runs are: `python benchmarks/throughput.py [PART ...]`.

Ratios are of runs side by side, one core each, or in turns; docs/speed.md has figures.
"""

import itertools
import json
import multiprocessing
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from statistics import median
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import mujoco
import mujoco.rollout
import numpy as np
import torch
import yaml
from measuring import PREFRL, Line, measure, resident

import prefrl
from prefrl.clips.simulator import read_state
from prefrl.configfile import config_to_tree, load_config
from prefrl.environment import make_env
from prefrl.metrics import read_last

STEPS = 1_000_000
"""Of each training run whose return counts, too."""

SHORT = 100_000
"""Of each whose pace alone counts."""

TURNS = 3
"""How often each of two kinds of run has its turn."""

LASTING, LASTING_LABELS = 10_000_000, 5_000
"""Of the run whose memory is watched."""


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
        spent = stages(learned["seconds"], true["seconds"])
        yield f"seconds of {env_id} on labels/on the true reward", spent, ""


def ppo(folder: Path) -> Iterator[Line]:
    """The preset's PPO beside SB3's default settings, on the true reward."""
    for env_id in ("HalfCheetah-v5", "Hopper-v5"):
        ours, default = [], []
        for turn in range(TURNS):
            out = folder / f"{env_id}-{turn}"
            ours.append(train(env_id, steps=SHORT, quiet=True, true_reward=True, out=out))
            default.append(train_by_default(env_id, SHORT))
        paces = [median(result["steps_per_second"] for result in of) for of in (ours, default)]
        yield (
            f"steps/s of {env_id}'s preset ÷ SB3's defaults, medians of {TURNS} x {SHORT:,} steps",
            "{:,.0f} ÷ {:,.0f} = {:.2f}".format(*paces, paces[0] / paces[1]),
            "at least 2.5",
        )
        options = {"steps": STEPS, "quiet": True, "true_reward": True, "out": folder / env_id}
        finished = side_by_side(
            (train, (env_id,), options), (train_by_default, (env_id, STEPS), {})
        )
        returns = [result["true_return_mean"] for result in finished]
        yield (
            f"true return of {env_id}'s preset, of SB3's defaults, {STEPS:,} steps",
            "{:,.0f}, {:,.0f}".format(*returns),
            "no lower",
        )


def backend(folder: Path) -> Iterator[Line]:
    """The preset's PPO with Gymnasium's environments and with EnvPool's, in turns, alone."""
    cores = len(os.sched_getaffinity(0))
    for env_id in ("HalfCheetah-v5", "Hopper-v5", "Walker2d-v5", "Ant-v5"):
        plain, one, every = (
            short_run(folder, env_id, *how)["steps_per_second"]
            for how in (("gymnasium",), ("envpool", 1), ("envpool", cores))
        )
        yield (
            f"steps/s of {env_id} with EnvPool ÷ with Gymnasium, {SHORT:,} steps",
            f"1 thread: {one:,.0f} ÷ {plain:,.0f} = {one / plain:.2f}, "
            f"{cores} threads: {every:,.0f} ÷ {plain:,.0f} = {every / plain:.2f}",
            "above 1",
        )


def physics(folder: Path) -> Iterator[Line]:
    """What the whole training loop leaves of bare MuJoCo, on all cores under random actions."""
    cores = len(os.sched_getaffinity(0))
    for env_id in ("HalfCheetah-v5", "Hopper-v5", "Ant-v5"):
        bare = bare_physics(env_id, cores)
        result = short_run(folder, env_id, "envpool", cores)
        pace = result["steps_per_second"]
        yield (
            f"steps/s of {env_id}'s training on EnvPool ÷ of bare physics, {cores} cores",
            f"{pace:,.0f} ÷ {bare:,.0f} = {pace / bare:.2f}",
            "0.4" if env_id == "Hopper-v5" else "",
        )
        yield f"seconds of that training, {SHORT:,} steps", stages(result["seconds"]), ""
        folders = [folder / str(core) for core in range(cores)]
        for own in folders:
            own.mkdir(exist_ok=True)
        each = side_by_side(*((short_run, (own, env_id, "envpool", 1), {}) for own in folders))
        pace = sum(result["steps_per_second"] for result in each)
        yield (
            f"steps/s of {cores} such trainings at a time, a core each ÷ of bare physics",
            f"{pace:,.0f} ÷ {bare:,.0f} = {pace / bare:.2f}",
            "",
        )


def short_run(folder: Path, env_id: str, backend: str, threads: int = 0) -> dict:
    """The result of a short run on labels, alone."""
    config = load_config(env_id, {"env": {"backend": backend, "threads": threads}})
    preset = folder / f"{env_id}-{backend}-{threads}.yaml"
    preset.write_text(yaml.safe_dump(config_to_tree(config)))
    options = {"labels": 100, "steps": SHORT, "quiet": True, "preset": str(preset)}
    return train(env_id, out=preset.with_suffix(""), **options)


def stages(*spent: dict[str, float]) -> str:
    """The seconds of each stage of runs, side by side."""
    return ", ".join(f"{name} " + "/".join(f"{s[name]:.1f}" for s in spent) for name in spent[0])


def bare_physics(env_id: str, threads: int, steps: int = 500, copies: int = 16) -> float:
    """Environment steps per second of `mujoco.rollout` under random actions."""
    env: Any = make_env(load_config(env_id, {}).env)
    env.reset(seed=0)
    model, skip = env.unwrapped.model, env.unwrapped.frame_skip
    starts = np.tile(read_state(env), (copies, 1))
    low, high = env.action_space.low, env.action_space.high
    actions = np.random.default_rng(0).uniform(low, high, (copies, steps, len(low)))
    data = [mujoco.MjData(model) for _ in range(threads)]
    with mujoco.rollout.Rollout(nthread=threads) as pool:
        seconds = []
        for _ in range(3):
            began = time.perf_counter()
            pool.rollout([model] * copies, data, starts, np.repeat(actions, skip, axis=1))
            seconds.append(time.perf_counter() - began)
    env.close()
    return copies * steps / min(seconds)


def jobs(folder: Path) -> Iterator[Line]:
    """A suite of four short runs with one job, then with two."""
    suite = folder / "four.yaml"
    suite.write_text(
        yaml.safe_dump(
            {
                "about": "Four short runs.",
                "seeds": 4,
                "tasks": {"HalfCheetah-v5": {"run": {"steps": SHORT}, "labels": {"budget": 100}}},
                "conditions": {"default": {}},
            }
        )
    )
    spent = {}
    for number in (1, 2):
        options = ["--jobs", str(number), "--out", str(folder / str(number)), "--quiet"]
        began = time.perf_counter()
        subprocess.run(
            [*PREFRL, "bench", str(suite), *options], check=True, stdout=subprocess.DEVNULL
        )
        spent[number] = time.perf_counter() - began
    yield (
        f"time of 4 runs of {SHORT:,} steps with `--jobs 1` ÷ with `--jobs 2`",
        f"{spent[1]:.0f} s ÷ {spent[2]:.0f} s = {spent[1] / spent[2]:.2f}",
        "at least 1.8",
    )


def memory(folder: Path) -> Iterator[Line]:
    """Resident memory of a long run of Ant, read while it goes on."""
    out = folder / "ant"
    sizes = ["--steps", str(LASTING), "--labels", str(LASTING_LABELS), "--out", str(out)]
    process = subprocess.Popen([*PREFRL, "train", "Ant-v5", *sizes, "--quiet"])
    seen: list[tuple[float, float]] = []
    while process.poll() is None:
        time.sleep(5)
        row = read_last(out / "metrics.csv")
        if row and process.poll() is None:
            seen.append((row["time/step"], resident(process.pid)))
    done = json.loads((out / "run.json").read_text())["result"]
    for share in (0.1, 0.25, 0.5, 0.75, 1.0):
        step, megabytes = min(seen, key=lambda pair: abs(pair[0] - share * LASTING))
        yield f"memory of Ant after {step:,.0f} steps", f"{megabytes:,.0f} MB", ""
    yield (
        f"most memory of {done['steps']:,} steps and {done['labels_answered']:,} labels of Ant",
        f"{max(megabytes for _, megabytes in seen):,.0f} MB",
        "within 1,500 MB, flat",
    )


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


if __name__ == "__main__":
    measure(__doc__, {f.__name__: f for f in (loop, ppo, backend, physics, jobs, memory)})

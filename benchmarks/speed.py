"""How fast the parts are: `python benchmarks/speed.py [PART ...]`; docs/speed.md has figures.

Times depend on the machine and on what else it does; benchmarks/throughput.py has whole runs.
"""

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import gymnasium as gym
import numpy as np
import torch
from measuring import PREFRL, Line, measure, resident
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import DummyVecEnv

from prefrl.agent.ppo import PatientPPO
from prefrl.clips.clip import Clip, ClipBuffer
from prefrl.config import RewardConfig
from prefrl.labels.store import LabelStore
from prefrl.metrics import read_last
from prefrl.queries.rules import RULES
from prefrl.queries.sampler import select_pairs
from prefrl.reward.data import LabelledClips
from prefrl.reward.ensemble import RewardEnsemble
from prefrl.reward.fit import RewardFitter

LENGTH, OBS_DIM, ACT_DIM = 50, 17, 6
"""Of a clip: those of HalfCheetah-v5."""

ROLLOUT = 2048
"""Steps between two updates of PPO, over all environments."""


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
    fitter, steps = RewardFitter(ensemble), RewardConfig().refit_steps
    labels = 0
    for target in (100, 500, 1_000, 5_000, 20_000):
        new = max(1, target // 50)
        labels = label(store, rng, labels, target - new)
        data.update(labels)
        fitter.fit(data, steps)
        labels = label(store, rng, labels, target)
        began = time.perf_counter()
        data.update(labels)
        taken = time.perf_counter() - began
        fitted = best(lambda: fitter.fit(data, steps), 3)
        yield (
            f"refit of {target:,} labels, {new:,} of them new",
            f"{taken + fitted:.2f} s ({taken:.2f} s to read the new ones)",
            "under 5 s" if target == 5_000 else "",
        )
    store.close()


def update(_: Path) -> Iterator[Line]:
    """A gradient step of PPO and a choice of actions, SB3's beside ours."""
    for size in (64, 128, 256, 512):
        yield compare(
            f"a gradient step of SB3's PPO ÷ of ours, minibatch of {size}",
            size,
            lambda model: model.train(),
            calls=10 * ROLLOUT // size,
        )
    observations = torch.zeros((8, OBS_DIM))

    def act(model: PPO) -> None:
        with torch.no_grad():
            for _ in range(1000):
                model.policy(observations)

    yield compare("actions of SB3's PPO ÷ of ours, 8 environments", 128, act, calls=1000)


def compare(what: str, batch_size: int, work: Callable[[PPO], object], *, calls: int) -> Line:
    """What `work` takes with either PPO after a rollout of HalfCheetah; it makes so many calls."""
    spent = []
    for algorithm in (PPO, PatientPPO):
        model = algorithm(
            "MlpPolicy",
            DummyVecEnv([lambda: gym.make("HalfCheetah-v5")] * 8),
            n_steps=ROLLOUT // 8,
            batch_size=batch_size,
            n_epochs=10,
            policy_kwargs={"activation_fn": torch.nn.ReLU, "optimizer_kwargs": {"fused": True}},
            device="cpu",
        )
        model.learn(ROLLOUT)
        spent.append(best(lambda model=model: work(model)) / calls * 1e6)
    plain, ours = spent
    return what, f"{plain:,.0f} us ÷ {ours:,.0f} us = {plain / ours:.1f}", ""


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


def start(folder: Path) -> Iterator[Line]:
    """From a command to what it does."""
    shown = best(lambda: subprocess.run([*PREFRL, "--help"], stdout=subprocess.DEVNULL), 10)
    yield "`prefrl --help`", f"{shown:.2f} s", "under 0.3 s"
    for env_id in ("HalfCheetah-v5", "Hopper-v5"):
        began = time.perf_counter()
        out = folder / env_id
        process = subprocess.Popen([*PREFRL, "train", env_id, "--out", str(out), "--quiet"])
        while not (row := read_last(out / "metrics.csv")):
            assert process.poll() is None, "it ended before its first rollout"
            time.sleep(0.01)
        stepping = time.perf_counter() - began - row["time/seconds"]
        process.kill()
        process.wait()
        yield f"`prefrl train {env_id}` to its first step", f"{stepping:.1f} s", "under 5 s"


if __name__ == "__main__":
    measure(__doc__, {f.__name__: f for f in (update, selection, fitting, storage, start)})

"""HalfCheetah from comparisons through imitation.

Run by `side_by_side.py` in an environment of its own. It follows imitation's tutorial 5, "Learn a
reward function using preference comparisons", with an oracle that does not err. `--settings prefrl`
has PPO's settings, the length of clips and the share of labels at the start as in prefrl's preset,
but for PPO's step size, which is constant (`side_by_side.py` says why). `--settings tutorial` has
all as in the tutorial.

    python imitation_halfcheetah.py --steps 200000 --labels 200 --seed 0 --out result.json
"""

import argparse
import json
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

warnings.filterwarnings("ignore")

from imitation.algorithms import preference_comparisons as pc  # noqa: E402
from imitation.policies.base import FeedForward32Policy, NormalizeFeaturesExtractor  # noqa: E402
from imitation.rewards.reward_nets import BasicRewardNet  # noqa: E402
from imitation.util.networks import RunningNorm  # noqa: E402
from imitation.util.util import make_vec_env  # noqa: E402
from stable_baselines3 import PPO  # noqa: E402
from stable_baselines3.common.evaluation import evaluate_policy  # noqa: E402

N_ENVS, N_STEPS = 8, 256
NORMALISE = {
    "features_extractor_class": NormalizeFeaturesExtractor,
    "features_extractor_kwargs": {"normalize_class": RunningNorm},
}


@dataclass(frozen=True)
class Settings:
    """What may differ from one way of using imitation to another."""

    ppo: dict[str, Any]
    reward_net: dict[str, Any]
    clip_length: int
    initial: float
    """Share of the labels that is asked for before the agent learns."""
    iterations: int | None
    """How often labels are asked for; None: after every two rollouts."""


SETTINGS = {
    "prefrl": Settings(
        ppo={
            "policy": "MlpPolicy",
            "batch_size": 128,
            "n_epochs": 10,
            "learning_rate": 3e-4,
            "gamma": 0.98,
            "gae_lambda": 0.92,
            "clip_range": 0.1,
            "ent_coef": 4e-4,
            "vf_coef": 0.58,
            "max_grad_norm": 0.8,
            "policy_kwargs": NORMALISE
            | {
                "net_arch": [64, 64],
                "activation_fn": torch.nn.ReLU,
                "log_std_init": -1.0,
                "ortho_init": False,
            },
        },
        reward_net={"hid_sizes": (64, 64)},
        clip_length=50,
        initial=0.25,
        iterations=None,
    ),
    "tutorial": Settings(
        ppo={
            "policy": FeedForward32Policy,
            "batch_size": 64,
            "n_epochs": 10,
            "learning_rate": 2e-3,
            "gamma": 0.97,
            "gae_lambda": 0.95,
            "clip_range": 0.1,
            "ent_coef": 0.01,
            "policy_kwargs": NORMALISE,
        },
        reward_net={},
        clip_length=100,
        initial=0.1,
        iterations=60,
    ),
}


def main() -> None:
    """Train, evaluate, write the result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--settings", choices=SETTINGS, default="prefrl")
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--labels", type=int, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    settings = SETTINGS[args.settings]
    torch.set_num_threads(1)
    rng = np.random.default_rng(args.seed)
    venv = make_vec_env("HalfCheetah-v4", rng=rng, n_envs=N_ENVS, parallel=False)
    reward_net = BasicRewardNet(
        venv.observation_space,
        venv.action_space,
        normalize_input_layer=RunningNorm,
        **settings.reward_net,
    )
    agent = PPO(env=venv, n_steps=N_STEPS, seed=args.seed, device="cpu", **settings.ppo)
    # In each iteration it trains for whole rollouts, and once more than it is told to.
    rollout = N_ENVS * N_STEPS
    iterations = settings.iterations or max(1, args.steps // (2 * rollout) - 1)
    steps = max(1, round(args.steps / (iterations + 1) / rollout)) * rollout * iterations
    learner = pc.PreferenceComparisons(
        pc.AgentTrainer(agent, reward_net, venv, rng=rng, exploration_frac=0.05),
        reward_net,
        num_iterations=iterations,
        fragmenter=pc.RandomFragmenter(warning_threshold=0, rng=rng),
        preference_gatherer=pc.SyntheticGatherer(temperature=0, rng=rng),
        reward_trainer=pc.BasicRewardTrainer(
            pc.PreferenceModel(reward_net), pc.CrossEntropyRewardLoss(), epochs=3, rng=rng
        ),
        fragment_length=settings.clip_length,
        initial_comparison_frac=settings.initial,
        initial_epoch_multiplier=4,
    )
    start = time.perf_counter()
    learner.train(total_timesteps=steps, total_comparisons=args.labels)
    seconds = time.perf_counter() - start
    mean, std = evaluate_policy(agent, make_vec_env("HalfCheetah-v4", rng=rng, n_envs=1), 20)
    result = {
        "true_return_mean": float(mean),
        "true_return_std": float(std),
        "steps": int(agent.num_timesteps),
        "wall_seconds": seconds,
        "steps_per_second": agent.num_timesteps / seconds,
    }
    args.out.write_text(json.dumps(result))


if __name__ == "__main__":
    main()

"""HalfCheetah from comparisons through imitation, with PPO as in prefrl's preset.

Run by `side_by_side.py` in an environment of its own. It follows imitation's tutorial 5, "Learn a
reward function using preference comparisons", but for PPO's settings, clips of 50 steps, and an
oracle that does not err. PPO's step size is constant: imitation learns in slices, in each of which
a falling step size would start over.

    python imitation_halfcheetah.py --steps 200000 --labels 200 --seed 0 --out result.json
"""

import argparse
import json
import time
import warnings
from pathlib import Path

import numpy as np
import torch

warnings.filterwarnings("ignore")

from imitation.algorithms import preference_comparisons as pc  # noqa: E402
from imitation.policies.base import NormalizeFeaturesExtractor  # noqa: E402
from imitation.rewards.reward_nets import BasicRewardNet  # noqa: E402
from imitation.util.networks import RunningNorm  # noqa: E402
from imitation.util.util import make_vec_env  # noqa: E402
from stable_baselines3 import PPO  # noqa: E402
from stable_baselines3.common.evaluation import evaluate_policy  # noqa: E402

SLICE = 2 * 8 * 256
"""Steps between two batches of labels: whole rollouts, because imitation rounds them up."""


def main() -> None:
    """Train, evaluate, write the result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--labels", type=int, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    torch.set_num_threads(1)
    rng = np.random.default_rng(args.seed)
    venv = make_vec_env("HalfCheetah-v4", rng=rng, n_envs=8, parallel=False)
    reward_net = BasicRewardNet(
        venv.observation_space,
        venv.action_space,
        hid_sizes=(64, 64),
        normalize_input_layer=RunningNorm,
    )
    agent = PPO(
        "MlpPolicy",
        venv,
        n_steps=256,
        batch_size=128,
        n_epochs=10,
        learning_rate=3e-4,
        gamma=0.98,
        gae_lambda=0.92,
        clip_range=0.1,
        ent_coef=4e-4,
        vf_coef=0.58,
        max_grad_norm=0.8,
        policy_kwargs={
            "features_extractor_class": NormalizeFeaturesExtractor,
            "features_extractor_kwargs": {"normalize_class": RunningNorm},
            "net_arch": [64, 64],
            "activation_fn": torch.nn.ReLU,
            "log_std_init": -1.0,
            "ortho_init": False,
        },
        seed=args.seed,
        device="cpu",
    )
    iterations = max(1, args.steps // SLICE - 1)  # it trains for one slice more than it is told to
    learner = pc.PreferenceComparisons(
        pc.AgentTrainer(agent, reward_net, venv, rng=rng, exploration_frac=0.05),
        reward_net,
        num_iterations=iterations,
        fragmenter=pc.RandomFragmenter(warning_threshold=0, rng=rng),
        preference_gatherer=pc.SyntheticGatherer(temperature=0, rng=rng),
        reward_trainer=pc.BasicRewardTrainer(
            pc.PreferenceModel(reward_net), pc.CrossEntropyRewardLoss(), epochs=3, rng=rng
        ),
        fragment_length=50,
        initial_comparison_frac=0.25,
        initial_epoch_multiplier=4,
    )
    start = time.perf_counter()
    learner.train(total_timesteps=iterations * SLICE, total_comparisons=args.labels)
    seconds = time.perf_counter() - start
    mean, std = evaluate_policy(agent, make_vec_env("HalfCheetah-v4", rng=rng, n_envs=1), 20)
    result = {
        "true_return_mean": float(mean),
        "true_return_std": float(std),
        "labels": args.labels,
        "steps": int(agent.num_timesteps),
        "wall_seconds": seconds,
        "steps_per_second": agent.num_timesteps / seconds,
    }
    args.out.write_text(json.dumps(result))


if __name__ == "__main__":
    main()

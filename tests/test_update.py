"""PPO's update is SB3's, to rounding, and its networks are SB3's own."""

import copy

import gymnasium as gym
import numpy as np
import pytest
import torch
from compare import SMALL
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import CallbackList
from stable_baselines3.common.vec_env import DummyVecEnv
from threadpoolctl import threadpool_info, threadpool_limits
from torch import nn

import prefrl
from prefrl.agent.actor_critic import ActorCritic, is_plain
from prefrl.agent.ppo import PatientPPO
from prefrl.agent.update import clip_norm
from prefrl.errors import RunFailed


def make(algorithm: type[PPO], env_id: str = "Pendulum-v1", **settings) -> PPO:
    """PPO with unlike settings, so that each of them counts."""
    network = {"net_arch": [24, 16], "log_std_init": -0.4, "optimizer_kwargs": {"fused": True}}
    network |= settings.pop("policy_kwargs", {})
    return algorithm(
        "MlpPolicy",
        DummyVecEnv([lambda: gym.make(env_id)] * 3),
        n_steps=64,
        batch_size=48,
        n_epochs=4,
        learning_rate=lambda left: 2e-3 * left,
        clip_range=0.1,
        ent_coef=0.01,
        vf_coef=0.7,
        max_grad_norm=0.8,
        policy_kwargs=network,
        seed=0,
        device="cpu",
        **settings,
    )


def collect(model: PPO) -> None:
    _, callback = model._setup_learn(1000, CallbackList([]))
    model._update_current_progress_remaining(100, 1000)
    model.collect_rollouts(model.env, callback, model.rollout_buffer, model.n_steps)


@pytest.mark.parametrize("activation", [nn.ReLU, nn.Tanh])
def test_an_update_is_sb3s(activation):
    plain, lean = (make(c, policy_kwargs={"activation_fn": activation}) for c in (PPO, PatientPPO))
    before = [p.detach().clone() for p in lean.policy.parameters()]
    collect(lean)  # which also makes its logger
    collect(plain)
    for _ in range(2):  # the second goes on with Adam's moments
        lean.rollout_buffer = copy.deepcopy(plain.rollout_buffer)
        for model in (plain, lean):
            np.random.seed(3)  # noqa: NPY002 - SB3 shuffles with it
            model.train()
    names = [name for name, _ in plain.policy.named_parameters()]
    both = zip(plain.policy.parameters(), lean.policy.parameters(), before, strict=True)
    for name, (a, b, old) in zip(names, both, strict=True):
        assert (b - old).abs().max() > 1e-3, f"{name} does not learn"
        torch.testing.assert_close(a, b, rtol=0, atol=2e-6, msg=name)
    states = [model.policy.optimizer.state_dict() for model in (plain, lean)]
    assert states[1]["param_groups"] == states[0]["param_groups"]
    for name, *both in zip(names, *(state["state"].values() for state in states), strict=True):
        for key, value in both[0].items():
            torch.testing.assert_close(both[1][key], value, rtol=1e-3, atol=1e-6, msg=name)
    logged = plain.logger.name_to_value
    assert logged["train/clip_fraction"] > 0.02, "the clipped side was tried as well"
    assert lean.logger.name_to_value == pytest.approx(logged, abs=1e-4, rel=1e-4)


def test_a_rollout_is_sb3s():
    plain, lean = make(PPO), make(PatientPPO)
    observations = torch.linspace(-1, 1, 12).reshape(4, 3)
    for deterministic in (False, True):
        outcomes = []
        for model in (plain, lean):
            torch.manual_seed(5)
            with torch.no_grad():
                outcomes.append(model.policy(observations, deterministic=deterministic))
        for a, b in zip(*outcomes, strict=True):
            assert a.shape == b.shape
            torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


def test_observations_of_double_precision_are_as_good():
    lean = make(PatientPPO)
    observations = torch.linspace(-1, 1, 12, dtype=torch.float64).reshape(4, 3)
    _, values, _ = lean.policy(observations, deterministic=True)
    assert values.dtype == torch.float32
    torch.testing.assert_close(values, lean.policy.predict_values(observations).detach())


def test_gradient_is_torchs():
    """Of any function of means and values, here of one with random slopes."""
    policy = make(PPO, policy_kwargs={"activation_fn": nn.Tanh}).policy
    rng = np.random.default_rng(0)
    observations, by_means, by_values = (
        rng.normal(size=shape).astype(np.float32) for shape in ((9, 3), (9, 1), (9,))
    )
    features = torch.from_numpy(observations)
    actor, critic = policy.mlp_extractor(features)
    means, values = policy.action_net(actor), policy.value_net(critic)[:, 0]
    (means * torch.from_numpy(by_means)).sum().add(
        (values * torch.from_numpy(by_values)).sum()
    ).backward()
    expected = {n: p.grad.clone() for n, p in policy.named_parameters() if p.grad is not None}
    networks = ActorCritic(policy)
    found = networks.forward(observations)
    np.testing.assert_allclose(found[0], means.detach().numpy(), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found[1], values.detach().numpy(), rtol=1e-5, atol=1e-6)
    networks.backward(by_means, by_values)
    assert set(expected) == {n for n, _ in policy.named_parameters()} - {"log_std"}
    for name, parameter in policy.named_parameters():
        if name in expected:
            torch.testing.assert_close(parameter.grad, expected[name], rtol=1e-4, atol=1e-5)


def test_saved_policy_is_plain_sb3s(tmp_path):
    lean = make(PatientPPO)
    lean.learn(192)
    lean.save(tmp_path / "policy.zip")
    observation = np.array([0.5, -0.5, 1.0], np.float32)
    expected = lean.predict(observation, deterministic=True)[0]
    plain = PPO.load(tmp_path / "policy.zip")
    np.testing.assert_allclose(plain.predict(observation, deterministic=True)[0], expected)
    moments = plain.policy.optimizer.state_dict()["state"]
    assert len(moments) == len(list(plain.policy.parameters()))
    assert all(moment["exp_avg"].abs().sum() > 0 for moment in moments.values())


@pytest.mark.parametrize(
    ("env_id", "settings"),
    [
        ("CartPole-v1", {}),
        ("Pendulum-v1", {"policy_kwargs": {"activation_fn": nn.GELU}}),
        ("Pendulum-v1", {"policy_kwargs": {"net_arch": {"pi": [8], "vf": [9]}}}),
        ("Pendulum-v1", {"policy_kwargs": {"net_arch": []}}),
        ("Pendulum-v1", {"policy_kwargs": {"optimizer_class": torch.optim.AdamW}}),
        ("Pendulum-v1", {"use_sde": True}),
    ],
)
def test_other_policies_are_left_to_sb3(env_id, settings):
    settings = copy.deepcopy(settings)
    if env_id == "CartPole-v1":
        settings["policy_kwargs"] = {}
    lean = make(PatientPPO, env_id, **settings)
    assert not is_plain(lean.policy)
    before = [p.detach().clone() for p in lean.policy.parameters()]
    lean.learn(384)  # the step size falls to 0 at the end
    assert any((a != b).any() for a, b in zip(before, lean.policy.parameters(), strict=True))


@pytest.mark.parametrize("settings", [{}, {"use_sde": True}])
@pytest.mark.parametrize("batches", [4, 1])
def test_a_policy_that_is_no_longer_a_number_ends_the_run(settings, batches):
    lean = make(PatientPPO, **settings)
    lean.batch_size, lean.n_epochs = 192 // batches, batches
    with torch.no_grad():
        lean.policy.value_net.weight.fill_(float("nan"))
    with pytest.raises(RunFailed, match="no longer a number"):
        lean.learn(192)


def test_matrix_products_take_one_thread(tmp_path, monkeypatch):
    counts = []
    optimise = PatientPPO._optimise

    def watch(self, networks):
        counts.extend(p["num_threads"] for p in threadpool_info() if p["user_api"] == "blas")
        optimise(self, networks)

    monkeypatch.setattr(PatientPPO, "_optimise", watch)
    with threadpool_limits(2, "blas"):
        prefrl.train("prefrl/PointMass-v0", true_reward=True, out=tmp_path / "run", **SMALL)
        after = [p["num_threads"] for p in threadpool_info() if p["user_api"] == "blas"]
    assert set(counts) == {1}
    assert 2 in after, "as it was before; libraries loaded in between have their own"


def test_a_long_gradient_is_shortened():
    long, short = np.array([3.0, 4.0], np.float32), np.array([0.3, 0.4], np.float32)
    clip_norm(long, 2.0)
    clip_norm(short, 2.0)
    np.testing.assert_allclose(long, [1.2, 1.6], rtol=1e-5)
    np.testing.assert_array_equal(short, np.array([0.3, 0.4], np.float32))

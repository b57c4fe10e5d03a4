"""The fit of the reward ensemble to labels."""

import numpy as np
import pytest
import torch
from compare import preferences

from prefrl.reward.data import LabelledClips
from prefrl.reward.ensemble import RewardEnsemble
from prefrl.reward.fit import L2_START, RewardFitter, negative_log_likelihood

RNG = np.random.default_rng


def inputs(*shape: int, seed: int = 0) -> np.ndarray:
    return RNG(seed).normal(size=shape).astype(np.float32)


def test_likelihood_by_hand():
    logits = torch.tensor([0.0, 2.0, -100.0])
    preferences = torch.tensor([1.0, 0.5, 1.0])
    sigmoid = 1 / (1 + np.exp(-2.0))
    left, right = 0.9 * sigmoid + 0.05, 0.9 * (1 - sigmoid) + 0.05
    expected = [np.log(2), -(np.log(left) + np.log(right)) / 2, -np.log(0.05)]
    loss = negative_log_likelihood(logits, preferences, 0.1).numpy()
    np.testing.assert_allclose(loss, expected, rtol=1e-5)


def test_without_an_error_term_every_contradiction_counts():
    """At a difference of 200 the probability of the other answer is 0 in single precision."""
    logits = torch.tensor([0.0, 2.0, 200.0], requires_grad=True)
    loss = negative_log_likelihood(logits, torch.tensor([0.5, 1.0, 0.0]), 0.0)
    expected = [np.log(2), np.log1p(np.exp(-2.0)), 200.0]
    np.testing.assert_allclose(loss.detach().numpy(), expected, rtol=1e-5)
    loss.sum().backward()
    slopes = [0.0, 1 / (1 + np.exp(-2.0)) - 1, 1.0]
    np.testing.assert_allclose(logits.grad.numpy(), slopes, atol=1e-6)


def labelled(
    n: int,
    width: int = 4,
    length: int = 6,
    members: int = 3,
    noise: float = 0.0,
    effort: float = 0.0,
):
    """Labels of a linear reward, less the squares of all inputs: `(data, reward of inputs)`."""
    rng = RNG(0)
    direction = rng.normal(size=width).astype(np.float32)

    def reward(x):
        return x @ direction - effort * np.square(x).sum(axis=-1)

    data = LabelledClips.__new__(LabelledClips)
    data._inputs = rng.normal(size=(n, 2, length, width)).astype(np.float32)
    returns = reward(data._inputs).sum(axis=-1)
    wins = returns[:, 0] > returns[:, 1]
    data.preferences = (wins ^ (rng.random(n) < noise)).astype(np.float32)
    data.weights = rng.poisson(1, (n, members)).astype(np.float32)
    data.held_out = data.weights == 0
    return data, reward


def test_fit_learns_a_linear_reward():
    data, true_reward = labelled(300)
    ensemble = RewardEnsemble(3, 1)
    report = RewardFitter(ensemble, rng=RNG(0)).fit(data, 400)
    assert (report.validation_accuracy > 0.9).all()
    assert (report.training_loss < 0.25).all()
    ensemble.normalise_outputs(inputs(1000, 4))
    x = inputs(500, 4, seed=8)
    assert np.corrcoef(ensemble.rewards(x), true_reward(x))[0, 1] > 0.95


def test_a_linear_path_goes_on_where_no_label_was():
    data, true_reward = labelled(50)
    beyond = 2 * inputs(500, 4, seed=8)
    with_path, without = [], []
    for linear_path, found in ((True, with_path), (False, without)):
        for seed in range(3):
            ensemble = RewardEnsemble(3, 1, linear_path=linear_path, seed=seed)
            RewardFitter(ensemble, rng=RNG(0)).fit(data, 400)
            ensemble.normalise_outputs(inputs(1000, 4))
            found.append(np.corrcoef(ensemble.rewards(beyond), true_reward(beyond))[0, 1])
    assert min(with_path) > max(without)


@pytest.mark.parametrize("linear_path", [True, False])
def test_much_more_than_was_ever_labelled_is_worth_more(linear_path):
    data, true_reward = labelled(200)
    ensemble = RewardEnsemble(3, 1, linear_path=linear_path)
    RewardFitter(ensemble, rng=RNG(0)).fit(data, 400)
    ensemble.normalise_outputs(inputs(1000, 4))
    best = np.eye(4, dtype=np.float32)
    best *= np.sign(true_reward(best))  # a step along each input, in its better direction
    for near, far in ((0, 5), (5, 8)):
        assert (ensemble.rewards(far * best) > ensemble.rewards(near * best)).all()


@pytest.mark.parametrize("linear_path", [True, False])
def test_squares_learn_what_an_effort_costs(linear_path):
    data, true_reward = labelled(200, width=12, length=20, effort=0.5)
    x = inputs(500, 12, seed=8)
    effort = -np.square(x).sum(axis=1)
    found = {}
    for squares in (True, False):
        ensemble = RewardEnsemble(10, 2, linear_path=linear_path, squares=squares)
        RewardFitter(ensemble, rng=RNG(0)).fit(data, 400)
        ensemble.normalise_outputs(inputs(1000, 12))
        learned = ensemble.rewards(x)
        found[squares] = [np.corrcoef(learned, y)[0, 1] for y in (true_reward(x), effort)]
    assert found[True][0] > found[False][0]
    assert found[True][1] > found[False][1] + 0.15


def test_the_linear_path_learns_faster_than_the_layers():
    data, _ = labelled(50)
    ensemble = RewardEnsemble(3, 1, linear_path=True)
    assert ensemble.linear is not None
    first = ensemble.weights[0].detach().clone()
    RewardFitter(ensemble, learning_rate=1e-3, rng=RNG(0)).fit(data, 1)
    # Adam's first step is as long as its step size.
    assert ensemble.linear.abs().max().item() == pytest.approx(1e-2, rel=1e-3)
    assert (ensemble.weights[0] - first).abs().max().item() == pytest.approx(1e-3, rel=1e-3)


def test_equal_answers_pull_rewards_together():
    data, _ = labelled(200)
    data.preferences[:] = 0.5
    ensemble = RewardEnsemble(3, 1)
    RewardFitter(ensemble, rng=RNG(0)).fit(data, 300)
    p = preferences(ensemble, data.inputs[:, 0], data.inputs[:, 1])
    assert np.abs(p - 0.5).max() < 0.25


def test_held_out_labels_are_not_trained_on():
    data, _ = labelled(60)
    changed, _ = labelled(60)
    out = data.held_out.all(axis=1)
    assert out.any()
    changed.preferences[out] = 1 - changed.preferences[out]
    fitted = []
    for some in (data, changed):
        ensemble = RewardEnsemble(3, 1)
        # One round, so that the validation loss has not yet moved the L2 coefficient.
        RewardFitter(ensemble, rng=RNG(0)).fit(some, 40)
        fitted.append([p.detach().numpy() for p in ensemble.parameters()])
    for a, b in zip(*fitted, strict=True):
        np.testing.assert_array_equal(a, b)


def test_l2_rises_on_noise_and_falls_on_plenty():
    noisy, _ = labelled(40, noise=0.5)
    plenty, _ = labelled(2000, width=2)
    fitter = RewardFitter(RewardEnsemble(3, 1), rng=RNG(0))
    overfitted = fitter.fit(noisy, 400)
    assert (overfitted.validation_loss > 1.5 * overfitted.training_loss).all()
    fitter = RewardFitter(RewardEnsemble(1, 1), rng=RNG(0))
    underfitted = fitter.fit(plenty, 200)
    assert (overfitted.l2 > L2_START).all()
    assert (underfitted.l2 < overfitted.l2).all()
    assert underfitted.l2.min() < L2_START


def test_losses_are_means():
    """Twice the labels of the same kind give the same losses."""
    data, _ = labelled(60)
    twice, _ = labelled(60)
    twice._inputs = np.concatenate([data.inputs, data.inputs])
    for name in ("preferences", "weights", "held_out"):
        setattr(twice, name, np.concatenate([getattr(data, name)] * 2))
    fitter = RewardFitter(RewardEnsemble(3, 1, seed=4))
    one, two = fitter._evaluate(data), fitter._evaluate(twice)
    np.testing.assert_allclose(one.training_loss, two.training_loss, rtol=1e-5)
    np.testing.assert_allclose(one.validation_loss, two.validation_loss, rtol=1e-5)


def test_accuracy_counts_decisive_labels_only():
    data, _ = labelled(100)
    fitter = RewardFitter(RewardEnsemble(3, 1, seed=4))
    before = fitter._evaluate(data).validation_accuracy
    wrong = data.preferences != (
        preferences(fitter._ensemble, data.inputs[:, 0], data.inputs[:, 1])[0] > 0.5
    )
    data.preferences[wrong] = 0.5
    after = fitter._evaluate(data).validation_accuracy
    assert before[0] < 1
    assert after[0] == 1


def test_fit_is_a_function_of_its_seed_and_resumes():
    data, _ = labelled(80)

    def fitted(split: bool):
        ensemble, rng = RewardEnsemble(3, 1, linear_path=True), RNG(0)
        fitter = RewardFitter(ensemble, rng=rng)
        fitter.fit(data, 40)
        if split:
            state = fitter.state_dict()
            other = RewardEnsemble(3, 1, linear_path=True, seed=9)
            other.load_state_dict(ensemble.state_dict())
            ensemble, fitter = other, RewardFitter(other, rng=rng)
            fitter.load_state_dict(state)
        fitter.fit(data, 40)
        return [p.detach().numpy() for p in ensemble.parameters()]

    for a, b in zip(fitted(False), fitted(True), strict=True):
        np.testing.assert_array_equal(a, b)

import copy
import pickle

import numpy as np
import pytest
import torch
from compare import preferences
from hypothesis import given
from hypothesis import strategies as st

from prefrl.labels.store import LabelStore
from prefrl.reward.data import LabelledClips, bootstrap_weights
from prefrl.reward.ensemble import INPUT_BOUND, RewardEnsemble
from prefrl.reward.fit import L2_START, RewardFitter, negative_log_likelihood

RNG = np.random.default_rng


def inputs(*shape: int, seed: int = 0) -> np.ndarray:
    return RNG(seed).normal(size=shape).astype(np.float32)


def reference_forward(ensemble: RewardEnsemble, member: int, x: np.ndarray) -> np.ndarray:
    """One member, written out: torch's own linear layers and leaky ReLU."""
    if ensemble.weights[0].shape[1] == 2 * x.shape[1]:
        x = np.hstack([x, (x - ensemble.input_mean.numpy()[: x.shape[1]]) ** 2])
    x = (torch.from_numpy(x) - ensemble.input_mean) / ensemble.input_sd
    x = x.clamp(-INPUT_BOUND, INPUT_BOUND)
    along = 0 if ensemble.linear is None else (x @ ensemble.linear[member])[:, 0]
    for layer, (w, b) in enumerate(zip(ensemble.weights, ensemble.biases, strict=True)):
        x = torch.nn.functional.linear(x, w[member].T, b[member, 0])
        if layer < len(ensemble.weights) - 1:
            x = torch.nn.functional.leaky_relu(x, 0.01)
    return (x[:, 0] + along).detach().numpy()


@pytest.mark.parametrize("squares", [True, False])
@pytest.mark.parametrize("linear_path", [True, False])
def test_batched_members_are_separate_networks(linear_path, squares):
    options = {"hidden": (8, 6), "linear_path": linear_path, "squares": squares}
    ensemble = RewardEnsemble(3, 2, members=4, **options, seed=1)
    if ensemble.linear is not None:
        assert (ensemble.linear == 0).all(), "it begins with hidden layers alone"
        ensemble.linear.data.copy_(torch.from_numpy(inputs(*ensemble.linear.shape, seed=7)))
    x = inputs(20, 5) * 4
    ensemble.normalise_inputs(inputs(100, 5, seed=2) * 2 + 1)
    raw = ensemble(torch.from_numpy(x)).detach().numpy()
    assert raw.shape == (4, 20)
    for member in range(4):
        np.testing.assert_allclose(raw[member], reference_forward(ensemble, member, x), atol=1e-5)
    np.testing.assert_allclose(ensemble.member_rewards(x), raw, atol=1e-5)
    assert len({tuple(row) for row in raw.tolist()}) == 4, "members start alike"


def test_rewards_are_the_mean_of_normalised_members():
    ensemble = RewardEnsemble(3, 2, members=3)
    reference, x = inputs(500, 5), inputs(7, 5, seed=3)
    assert (ensemble.rewards(x) == 0).all(), "no reward before the first fit"
    ensemble.normalise_outputs(reference)
    members = ensemble.member_rewards(reference)
    np.testing.assert_allclose(members.mean(axis=1), 0, atol=1e-5)
    np.testing.assert_allclose(members.std(axis=1), 1, atol=1e-2)
    raw = np.stack([reference_forward(ensemble, m, x) for m in range(3)])
    on_reference = np.stack([reference_forward(ensemble, m, reference) for m in range(3)])
    expected = (raw - on_reference.mean(1, keepdims=True)) / on_reference.std(1, keepdims=True)
    np.testing.assert_allclose(ensemble.rewards(x), expected.mean(axis=0), atol=1e-2)
    np.testing.assert_allclose(ensemble.reward(x[:, :3], x[:, 3:]), ensemble.rewards(x))


def test_scale_is_frozen_between_fits():
    ensemble = RewardEnsemble(3, 2)
    ensemble.normalise_outputs(inputs(500, 5))
    before = ensemble.rewards(inputs(7, 5))
    ensemble.rewards(inputs(100, 5, seed=9) * 10)
    preferences(ensemble, inputs(6, 4, 5), inputs(6, 4, 5, seed=1))
    np.testing.assert_array_equal(ensemble.rewards(inputs(7, 5)), before)


@pytest.mark.parametrize("again", [copy.deepcopy, lambda e: pickle.loads(pickle.dumps(e))])
def test_a_copy_has_networks_of_its_own(again):
    ensemble = RewardEnsemble(3, 2, linear_path=True)
    ensemble.normalise_outputs(inputs(500, 5))
    x = inputs(7, 5)
    before = ensemble.rewards(x)
    other = again(ensemble)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter += 0.1
    assert (other.rewards(x) != before).any()
    np.testing.assert_allclose(
        other.member_rewards(x) * other.output_sd.numpy() + other.output_mean.numpy(),
        other(torch.from_numpy(x)).detach().numpy(),
        rtol=1e-4,
    )
    np.testing.assert_array_equal(ensemble.rewards(x), before)


@given(seed=st.integers(0, 20), shift=st.floats(-3, 3))
def test_preference_model(seed, shift):
    """Antisymmetric in the two clips, indifferent to a constant added to the reward."""
    ensemble = RewardEnsemble(3, 2, seed=seed)
    left, right = inputs(6, 4, 5, seed=seed), inputs(6, 4, 5, seed=seed + 100)
    p = preferences(ensemble, left, right)
    assert p.shape == (3, 6)
    np.testing.assert_allclose(p + preferences(ensemble, right, left), 1, atol=1e-5)
    np.testing.assert_allclose(preferences(ensemble, left, left), 0.5)
    with torch.no_grad():
        ensemble.biases[-1] += shift
    np.testing.assert_allclose(preferences(ensemble, left, right), p, atol=1e-4)


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


# ---- labels as data


@pytest.fixture
def store(tmp_path):
    store = LabelStore(tmp_path / "labels.db")
    yield store
    store.close()


def add_labels(store, make_clip, answers, first=0):
    queries = []
    for i, answer in enumerate(answers, start=first):
        query = store.ask(make_clip(float(2 * i)), make_clip(2 * i + 1.0), step=1, rule="random")
        store.answer(query, answer, labeller="me", seconds=0, step=i)
        queries.append(query)
    return queries


def test_bootstrap_is_poisson_and_holds_out_one_in_e():
    drawn = np.array([bootstrap_weights(0, query, 4) for query in range(5000)])
    # Of 20,000 draws; the standard deviation of the share is 0.0034.
    assert (drawn == 0).mean() == pytest.approx(np.exp(-1), abs=0.012)
    assert drawn.mean() == pytest.approx(1, abs=0.03)
    assert drawn.var() == pytest.approx(1, abs=0.06)
    assert np.abs(np.corrcoef(drawn.T) - np.eye(4)).max() < 0.06, "members share their bootstrap"


def test_held_out_for_ever(store, make_clip):
    add_labels(store, make_clip, ["left"] * 30)
    data = LabelledClips(store, members=3, seed=5)
    assert data.update(100) == 30
    held_out, weights = data.held_out.copy(), data.weights.copy()
    assert ((weights > 0) ^ held_out).all(), "each label trains a member or validates it"
    add_labels(store, make_clip, ["right"] * 30, first=30)
    assert data.update(100) == 30
    np.testing.assert_array_equal(data.held_out[:30], held_out)
    np.testing.assert_array_equal(data.weights[:30], weights)
    rebuilt = LabelledClips(store, members=3, seed=5)
    rebuilt.update(100)
    np.testing.assert_array_equal(rebuilt.weights, data.weights)
    np.testing.assert_array_equal(rebuilt.inputs, data.inputs)


def test_labels_that_share_a_clip_share_their_fate(store, make_clip):
    clips = [make_clip(float(i)) for i in range(40)]
    for i in range(39):  # a chain: each clip is in two queries
        query = store.ask(clips[i], clips[i + 1], step=1, rule="random")
        store.answer(query, "left", labeller="me", seconds=0, step=1)
    data = LabelledClips(store, members=5, seed=0)
    data.update(1)
    for member in range(5):
        trained = np.flatnonzero(data.weights[:, member])
        validated = np.flatnonzero(data.held_out[:, member])
        seen = {i for row in trained for i in (row, row + 1)}
        assert not seen & {i for row in validated for i in (row, row + 1)}


def test_skip_is_not_trained_on_and_equal_is_a_half(store, make_clip):
    add_labels(store, make_clip, ["left", "skip", "equal", "right"])
    data = LabelledClips(store, members=3, seed=0)
    assert data.update(10) == 3
    assert data.preferences.tolist() == [1.0, 0.5, 0.0]


def test_equal_may_be_left_out(store, make_clip):
    add_labels(store, make_clip, ["left", "skip", "equal", "right"])
    data = LabelledClips(store, members=3, seed=0, learn_equal=False)
    assert data.update(10**9) == 2
    assert data.preferences.tolist() == [1.0, 0.0]


def test_changed_and_withdrawn_answers(store, make_clip):
    first, second = add_labels(store, make_clip, ["left", "left"])
    data = LabelledClips(store, members=3, seed=0)
    data.update(10)
    store.answer(first, "right", labeller="me", seconds=0, step=5)
    store.answer(second, "withdrawn", labeller="me", seconds=0, step=5)
    assert data.update(10) == 2
    assert data.update(10) == 0
    assert data.standing.tolist() == [True, False]
    assert data.preferences[0] == 0.0
    assert not data.weights[1].any()
    assert not data.held_out[1].any()
    store.answer(second, "left", labeller="me", seconds=0, step=6)
    data.update(10)
    rebuilt = LabelledClips(store, members=3, seed=0)
    rebuilt.update(10)
    np.testing.assert_array_equal(data.weights, rebuilt.weights)
    assert (data.weights[1].astype(bool) ^ data.held_out[1]).all()


# ---- the fit


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


@pytest.mark.parametrize("squares", [False, True])
def test_an_input_that_never_changes_counts_for_nothing(squares):
    """As where a goal's place is: its mean, rounded to float32, depends on how many there are."""
    ensemble = RewardEnsemble(obs_dim=2, act_dim=1, squares=squares)
    given = []
    for n in (30_000, 40_000):
        x = inputs(n, 3)
        x[:, 1] = -0.275
        ensemble.normalise_inputs(x)
        assert ensemble.input_sd[1] == 1
        given.append((x[0, 1] - ensemble.input_mean[1].numpy()).item())
    assert given == [0, 0]

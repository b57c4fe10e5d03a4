"""The reward ensemble, and the labels as its fit sees them."""

import copy

import numpy as np
import pytest
import torch
from compare import preferences
from hypothesis import given
from hypothesis import strategies as st

from prefrl.labels.store import LabelStore
from prefrl.reward.data import LabelledClips, bootstrap_weights
from prefrl.reward.ensemble import INPUT_BOUND, RewardEnsemble

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


def test_a_copy_has_networks_of_its_own():
    ensemble = RewardEnsemble(3, 2, linear_path=True)
    ensemble.normalise_outputs(inputs(500, 5))
    x = inputs(7, 5)
    before = ensemble.rewards(x)
    other = copy.deepcopy(ensemble)
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


@pytest.mark.parametrize("squares", [False, True])
def test_inputs_far_from_zero_are_brought_to_scale(squares):
    """Such as pressures, times or places, of which float32 sums are off by more than they vary."""
    ensemble = RewardEnsemble(3, 2, squares=squares)
    x = inputs(100_000, 5) + np.float32(10_000)
    ensemble.normalise_inputs(x)
    np.testing.assert_allclose(ensemble.input_mean[:5], 10_000, atol=0.01)
    np.testing.assert_allclose(ensemble.input_sd[:5], 1, atol=0.01)
    if squares:
        np.testing.assert_allclose(ensemble.input_mean[5:], 1, atol=0.02)
        np.testing.assert_allclose(ensemble.input_sd[5:], np.sqrt(2), atol=0.03)


def test_squares_of_small_inputs_are_brought_to_scale():
    small = inputs(5000, 2) * np.float32(5e-4)
    two = np.where(inputs(5000, 1, seed=1) > 0, 0.3, -0.3).astype(np.float32)
    two[::2] = -two[1::2]  # as often at the one as at the other place
    ensemble = RewardEnsemble(obs_dim=2, act_dim=1, squares=True)
    ensemble.normalise_inputs(np.concatenate([small, two], axis=1))
    sd = ensemble.input_sd.numpy()
    np.testing.assert_allclose(sd[[0, 1]], 5e-4, rtol=0.05)
    np.testing.assert_allclose(sd[[3, 4]], np.sqrt(2) * 5e-4**2, rtol=0.1)
    assert sd[5] == 1.0, "its square never changes"


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

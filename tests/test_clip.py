import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from prefrl.clips.clip import Clip, ClipBuffer


@given(
    length=st.integers(1, 8),
    obs_dim=st.integers(1, 4),
    state_dim=st.integers(0, 3),
    data=st.data(),
)
def test_bytes_round_trip(length, obs_dim, state_dim, data):
    floats = st.floats(allow_nan=True, width=32)
    clip = Clip(
        observations=data.draw(hnp.arrays(np.float32, (length, obs_dim), elements=floats)),
        actions=np.ones((length, 2), np.float32),
        true_rewards=data.draw(hnp.arrays(np.float64, length)),
        states=np.arange(length * state_dim, dtype=float).reshape(length, state_dim),
        infos={"a/b": np.arange(length, dtype=float), "speed": np.zeros(length)},
        step=3,
    )
    again = Clip.from_bytes(clip.to_bytes())
    for name in ("observations", "actions", "true_rewards", "states"):
        np.testing.assert_array_equal(getattr(again, name), getattr(clip, name))
    assert again.infos.keys() == clip.infos.keys()
    np.testing.assert_array_equal(again.infos["a/b"], clip.infos["a/b"])
    assert again.step == 3
    assert again.digest() == clip.digest()
    assert again.to_bytes() == clip.to_bytes()


def test_digest_is_of_what_a_labeller_sees(make_clip):
    clip = make_clip(1.0)
    poisoned = Clip(**(vars(clip) | {"true_rewards": np.full(5, np.nan), "step": 99}))
    assert poisoned.digest() == clip.digest()
    moved = Clip(**(vars(clip) | {"states": clip.states + 1}))
    assert moved.digest() != clip.digest()


def make_buffer(capacity: int) -> ClipBuffer:
    return ClipBuffer(capacity, length=2, obs_dim=1, act_dim=1, state_dim=1, info_keys=("k",))


def add(buffer: ClipBuffer, value: float) -> None:
    buffer.add(
        observations=np.full((2, 1), value),
        actions=np.full((2, 1), -value),
        true_rewards=np.full(2, value),
        states=np.full((2, 1), value),
        infos=np.full((2, 1), value),
        steps=int(value),
    )


def test_buffer_keeps_the_latest_and_frees_their_slots():
    buffer = make_buffer(3)
    for value in range(3):
        add(buffer, value)
    taken = buffer.take(0)
    assert buffer.fresh().tolist() == [1, 2]
    add(buffer, 3)
    assert len(buffer) == 3
    assert buffer.fresh().tolist() == [0, 1, 2]
    assert buffer[0].step == 3
    assert taken.step == 0, "a clip handed out must not change with its slot"
    assert taken.observations.tolist() == [[0.0], [0.0]]
    assert buffer.inputs(np.array([0])).tolist() == [[[3.0, -3.0], [3.0, -3.0]]]


def test_buffer_state_round_trip():
    buffer, other = make_buffer(3), make_buffer(3)
    for value in range(5):
        add(buffer, value)
    buffer.take(1)
    other.load_state_dict({k: v.copy() for k, v in buffer.state_dict().items()})
    add(buffer, 9)
    add(other, 9)
    assert [c.step for c in other] == [c.step for c in buffer]
    assert other.fresh().tolist() == buffer.fresh().tolist()

"""The labels as the fit sees them: arrays, with a bootstrap that never changes its mind.

Each label has a weight per member, drawn from a Poisson(1) distribution by the run's seed and the
label's query alone. A weight of 0, which 1/e of the draws give, holds the label out for that
member: its validation set is exactly what its bootstrap left out, for ever. Labels that share a
clip share the fate of being held out, so no member is validated on a clip that it trained on.
"""

import numpy as np

from prefrl.labels.answers import Label
from prefrl.labels.store import LabelStore


class LabelledClips:
    """The labels to train on, in arrays that grow with them.

    Args:
        store: Where labels and their clips come from.
        members: Members of the ensemble.
        seed: Decides the bootstrap weights.
        learn_equal: Whether `equal` is trained on, as a preference of ½, or left out like a skip.
    """

    def __init__(
        self, store: LabelStore, *, members: int, seed: int, learn_equal: bool = True
    ) -> None:
        self._store = store
        self._left_out = {"skip"} if learn_equal else {"skip", "equal"}
        self._members = members
        self._seed = seed
        self._rows: dict[int, int] = {}
        self._held_out: dict[int, np.ndarray] = {}
        self._inputs: np.ndarray | None = None
        self._drawn_weights = np.zeros((0, members), np.float32)
        self._drawn_held_out = np.zeros((0, members), bool)
        self.preferences = np.zeros(0, np.float32)
        """`(n,)` preference for the left clip: 1, 0 or ½."""
        self.weights = np.zeros((0, members), np.float32)
        """`(n, members)` bootstrap weights, 0 where the label is not trained on."""
        self.held_out = np.zeros((0, members), bool)
        """`(n, members)` whether the label validates the member."""
        self.standing = np.zeros(0, bool)
        """`(n,)` whether the answer was neither withdrawn nor changed into one that is left out."""

    def __len__(self) -> int:
        return len(self.preferences)

    @property
    def trainable(self) -> bool:
        """Whether every member has a label to train on."""
        return bool(len(self) and self.weights.any(axis=0).all())

    @property
    def inputs(self) -> np.ndarray:
        """`(n, 2, T, obs_dim + act_dim)` float32: left and right clip of each label."""
        assert self._inputs is not None, "no label has arrived yet"
        return self._inputs[: len(self)]

    def update(self, until_step: int) -> int:
        """Take in what was answered by the agent's step `until_step`; give how many are news.

        An answer that was changed is news, too, and counts as it stands now; one that was
        withdrawn weighs nothing; a skip is not trained on.
        """
        labels = [
            label for label in self._store.labels(until_step) if label.answer not in self._left_out
        ]
        new = [label for label in labels if label.query.id not in self._rows]
        for label in new:
            self._append(label)
        stood, before = self.standing, self.preferences.copy()
        self.standing = np.zeros(len(self), bool)
        for label in labels:
            row = self._rows[label.query.id]
            self.preferences[row] = label.preference
            self.standing[row] = True
        self.weights = self._drawn_weights * self.standing[:, None]
        self.held_out = self._drawn_held_out & self.standing[:, None]
        return int(((self.standing != stood) | (self.preferences != before)).sum())

    def catch_up(self, until_step: int) -> None:
        """Take in all that was answered by a step as it was the first time, bit by bit.

        Rows, weights and what is held out depend on the order in which answers came.
        """
        for step in self._store.answer_steps(until_step):
            self.update(step)

    def _append(self, label: Label) -> None:
        clips = [label.query.left_clip, label.query.right_clip]
        pair = np.stack([self._store.clip(clip).inputs for clip in clips])
        row = len(self)
        if self._inputs is None:
            self._inputs = np.zeros((64, *pair.shape), np.float32)
        elif row == len(self._inputs):
            self._inputs = np.concatenate([self._inputs, np.zeros_like(self._inputs)])
        self._inputs[row] = pair
        drawn = bootstrap_weights(self._seed, label.query.id, self._members)
        drawn[~self._drawn_weights.any(axis=0)] = (
            1  # every member trains on something from the start
        )
        fate = self._fate(clips, drawn == 0)
        usable = np.logical_and(*fate) | ~np.logical_or(*fate)
        held_out = fate[0] & usable
        # A label that must train although its own draw was 0 gets the bootstrap's mean weight.
        weights = np.where(usable & ~held_out, np.maximum(drawn, 1), 0)
        self._rows[label.query.id] = row
        self.preferences = np.append(self.preferences, np.float32(label.preference))
        self.standing = np.append(self.standing, False)
        self._drawn_weights = np.vstack([self._drawn_weights, weights.astype(np.float32)])
        self._drawn_held_out = np.vstack([self._drawn_held_out, held_out])

    def _fate(self, clips: list[int], drawn: np.ndarray) -> list[np.ndarray]:
        """Whether each clip is held out, `(members,)`: as first met, else as its partner."""
        known = [self._held_out.get(clip) for clip in clips]
        fate = [
            own if own is not None else other if other is not None else drawn
            for own, other in zip(known, reversed(known), strict=True)
        ]
        self._held_out.update(zip(clips, fate, strict=True))
        return fate


def bootstrap_weights(seed: int, query: int, members: int) -> np.ndarray:
    """`(members,)` Poisson(1) weights of a label, a function of seed and query id alone."""
    return np.random.default_rng([seed, query]).poisson(1.0, members)

"""What a person does at the window, without the window: answer, take back, look through.

`Labelling` goes through new pairs, `Review` through answered ones; the window drives both the same
way. Answers are words about the *screen*: `left`, `right`, `equal`, `skip`.
"""

import contextlib
import sqlite3
from typing import Protocol

import numpy as np

from prefrl.labellers.player import Player, Progress, open_store
from prefrl.labels.answers import turned
from prefrl.labels.desk import Claim, Desk
from prefrl.run import Run

NOT_SAVED = "Not saved: {}. The answer does not count yet: mend that and press the key again."
NOT_TAKEN_BACK = "Not taken back: {}. The answer still counts: mend that and press the key again."
ELSEWHERE = "This pair was answered at another window in the meantime."
NOTHING_TO_UNDO = "There is nothing to take back."


STANDSTILL = {
    "waiting": "waits for labels",
    "paused": "is paused",
    "finished": "has finished",
    "untaught": "has ended: too few labels",
}
"""What training does instead of going on, by `Progress.state`."""


class Session(Protocol):
    """What the window needs of what a person does."""

    reviews: bool
    """Whether answered pairs are looked through: one may be passed by without an answer."""
    seconds: list[float]
    """Taken for each new answer of this session that was not taken back."""

    @property
    def current(self) -> Claim | None:
        """The pair to show."""

    @property
    def mark(self) -> str | None:
        """The answer that stands for it, if one does."""

    def answer(self, claim: Claim, shown: str, seconds: float) -> str | None:
        """Answer the pair on the screen; a sentence where that did not go as it should."""

    def back(self) -> str | None:
        """Go back by one pair; a sentence where that was not possible."""

    def forward(self) -> None:
        """Go on by one pair, where no answer is needed for that."""

    def show(self) -> None:
        """Note that the current pair is on the screen now."""

    def status(self, progress: Progress) -> str:
        """The line at the bottom of the window."""

    def close(self) -> None:
        """Let go of the store."""


class _AtDesk:
    """A session's own connection to the store, in the window's thread."""

    def __init__(self, run: Run, player: Player, labeller: str) -> None:
        self.seconds: list[float] = []
        self._player = player
        self._store = open_store(run)
        self._desk = Desk(
            self._store,
            labeller=labeller,
            rng=np.random.default_rng(),
            session=player.session,
        )

    @property
    def current(self) -> Claim | None:
        claims = self._player.claims
        return claims[0] if claims else None

    def show(self) -> None:
        if self.current:
            with contextlib.suppress(sqlite3.Error):  # it is news for others, no more
                self._desk.show(self.current)

    def close(self) -> None:
        self._store.close()


class Labelling(_AtDesk):
    """New pairs one after another, with any number of steps back.

    Args:
        run: The run.
        player: Claims the pairs.
        labeller: Who sits here; what they answered before can be taken back too.
    """

    reviews = False

    def __init__(self, run: Run, player: Player, labeller: str) -> None:
        super().__init__(run, player, labeller)
        self._history = [Claim(label.query, label.swapped) for label in self._desk.answered()]

    @property
    def mark(self) -> str | None:
        return None

    def answer(self, claim: Claim, shown: str, seconds: float) -> str | None:
        player = self._player
        with player.lock:
            try:
                taken = self._desk.answer(claim, shown, seconds=seconds)
            except sqlite3.Error as error:
                return NOT_SAVED.format(error)
            player.claims = [other for other in player.claims if other != claim]
        if not taken:
            return ELSEWHERE
        self._history.append(claim)
        self.seconds.append(seconds)
        return None

    def back(self) -> str | None:
        while self._history:
            claim = self._history[-1]
            with self._player.lock:
                try:
                    taken_back = self._desk.retake(claim)
                except sqlite3.Error as error:
                    return NOT_TAKEN_BACK.format(error)
                if taken_back:
                    self._player.claims.insert(0, claim)
            self._history.pop()
            del self.seconds[-1:]  # of an answer of this session, none of an earlier one
            if taken_back:
                return None
        return NOTHING_TO_UNDO

    def forward(self) -> None:
        pass

    def status(self, progress: Progress) -> str:
        return status(progress, self.seconds)


class Review(_AtDesk):
    """Answered pairs, with the answer marked; another answer corrects it.

    Args:
        run: The run.
        player: Fetches the pairs; must not take new ones.
        labeller: Who corrects.
    """

    reviews = True

    def __init__(self, run: Run, player: Player, labeller: str) -> None:
        super().__init__(run, player, labeller)
        labels = self._store.labels()
        self._claims = [Claim(label.query, label.swapped) for label in labels]
        self._marks: list[str | None] = [turned(label.answer, label.swapped) for label in labels]
        self.place = 0
        """Of the current pair among `count`."""
        self.count = len(labels)
        self._before = list(self._marks)
        self._seconds = [label.seconds for label in labels]
        self._turn()

    @property
    def mark(self) -> str | None:
        return self._marks[self.place] if self.count else None

    @property
    def corrected(self) -> int:
        """Pairs whose answer is another one now."""
        return sum(now != before for now, before in zip(self._marks, self._before, strict=True))

    def answer(self, claim: Claim, shown: str, seconds: float) -> str | None:
        try:
            self._desk.correct(claim, shown, seconds=self._seconds[self.place])
        except sqlite3.Error as error:
            return NOT_SAVED.format(error)
        self._marks[self.place] = shown
        return None

    def back(self) -> str | None:
        self.place = max(0, self.place - 1)
        self._turn()
        return None

    def forward(self) -> None:
        self.place = max(0, min(self.count - 1, self.place + 1))
        self._turn()

    def status(self, progress: Progress) -> str:
        if not self.count:
            return "no pair has been answered yet"
        return f"pair {self.place + 1} of {self.count}   ·   {self.corrected} corrected"

    def _turn(self) -> None:
        if self.count:
            with contextlib.suppress(sqlite3.Error):  # it may have been corrected elsewhere
                self._marks[self.place] = self._desk.stands(self._claims[self.place])
        before = self._claims[max(0, self.place - 1) : self.place]
        with self._player.lock:
            self._player.claims = self._claims[self.place : self.place + 3] + before


def status(progress: Progress, seconds: list[float]) -> str:
    """The line at the bottom.

    Args:
        progress: What is known of the run.
        seconds: Taken for each answer of this session.
    """
    parts = [f"{progress.given} of {progress.budget} labels"]
    if seconds:
        parts.append(f"{np.median(seconds[-20:]):.1f} s per label")
    parts.append(f"{progress.waiting} pair{'s' if progress.waiting != 1 else ''} waiting")
    if progress.noted:
        parts.append(f"step {progress.step:,}")
    if progress.state == "training" and progress.noted:
        parts.append(f"{progress.steps_per_second:,.0f} steps/s")
    elif progress.state in STANDSTILL:
        parts.append(f"training {STANDSTILL[progress.state]}")
    return "   ·   ".join(parts)

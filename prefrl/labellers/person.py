"""The trainer's side of a labelling person: it never hurries them, and never makes them wait long.

The person answers in a process of their own, whenever they like; the store is all that the two
share. Between two rollouts the trainer notes how far it is, takes back what the policy has
outgrown, and, where the run is to wait for labels, waits for them.
"""

import shlex
import time
from collections.abc import Callable

from prefrl.errors import Interrupted
from prefrl.labels.store import LabelStore
from prefrl.queries.schedule import LabelSchedule

QUEUE = 10
"""Pairs that lie ready at most: half a minute's work, so that all are of a recent policy."""

QUIET_SECONDS = 120.0
"""Without an answer for so long, the trainer says that nobody answers."""


class Person:
    """Lets people at a store answer, while the agent trains on or waits.

    Args:
        schedule: How many labels are due when.
        wait: Train only as far as the schedule allows with the labels given; `slack` of them
            may be missing, so that a person has pairs before them while the agent trains, until
            all are asked.
        slack: Labels.
        horizon: Environment steps after which the policy has outgrown a query.
        step: The agent's step at the start.
        say: Prints a line for the person.
        news: What they should be told now besides, if anything.
        stopped: Whether the run was asked to stop, which ends waiting.
    """

    def __init__(
        self,
        schedule: LabelSchedule,
        *,
        wait: bool = False,
        slack: int = 10,
        horizon: int = 50_000,
        step: int = 0,
        say: Callable[[str], None] = print,
        news: Callable[[], str | None] = lambda: None,
        stopped: Callable[[], bool] = lambda: False,
    ) -> None:
        self._schedule = schedule
        self._wait = wait
        self._slack = slack
        self._horizon = horizon
        self._say = say
        self._news = news
        self._stopped = stopped
        self.queue = schedule.budget if wait else QUEUE
        """Pairs that lie ready at most."""
        self._last = (step, time.monotonic())
        self._heard = ((0, 0), time.monotonic())
        self._speed = 0.0
        self._has_waited = False

    def __call__(self, store: LabelStore, step: int) -> None:
        """Let people answer; on return, what they gave by now counts as given by `step`.

        Raises:
            Interrupted: The run was asked to stop while it waited for labels. It goes on from
                its last checkpoint and waits here again: a step more would be one without them.
        """
        self._measure_speed(step)
        if self._wait:
            self._wait_for_labels(store, step)
        # What is answered from here on is dated later, and read after the next rollout.
        self._note(store, step)
        if not self._wait:
            self._withdraw_outgrown(store, step)
        self._listen(store, step)
        self._tell()
        self._last = (step, time.monotonic())

    def _measure_speed(self, step: int) -> None:
        before, since = self._last
        speed = (step - before) / max(1e-9, time.monotonic() - since)
        self._speed = speed if not self._speed else 0.7 * self._speed + 0.3 * speed

    def _wait_for_labels(self, store: LabelStore, step: int) -> None:
        if store.count_asked(step) < self._schedule.first:
            return  # more clips are needed before the first batch can be asked
        if store.answered_after(step):
            return  # before a resume, it went on from here, and may have no pair left to answer
        waiting = False
        while self._lacks_labels(store, step):
            if self._stopped():
                raise Interrupted(
                    f"interrupted at step {step}, where training waits for labels: "
                    f"`prefrl resume {_run_of(store)}` goes on"
                )
            if not waiting:
                store.note(state="waiting")
                waiting = True
                if not self._has_waited:
                    self._say("training waits for labels; it goes on as they are given")
                    self._has_waited = True
            self._tell()
            time.sleep(0.1)

    def _lacks_labels(self, store: LabelStore, step: int) -> bool:
        pending = store.count_pending(step)
        begun = store.count_answered(step) >= self._schedule.enough
        complete = store.count_asked(step) >= self._schedule.budget
        return pending > (self._slack if begun and not complete else 0)

    def _note(self, store: LabelStore, step: int) -> None:
        asked = store.count_asked(step)
        store.note(
            step=step,
            steps_per_second=self._speed,
            noted=time.time(),
            next_step=self._schedule.step_of(min(asked + 1, self._schedule.budget)),
            state="training",
        )

    def _withdraw_outgrown(self, store: LabelStore, step: int) -> None:
        """Take back old queries, the more slowly the longer nobody answers."""
        if not store.count_answered(step):
            return  # the policy is still the one that the clips are of
        age = max(self._horizon, (step - store.last_answered(step)) // 2)
        store.withdraw_outgrown(step, until=step - age)

    def _tell(self) -> None:
        if words := self._news():
            self._say(words)

    def _listen(self, store: LabelStore, step: int) -> None:
        latest, heard = self._heard
        now = time.monotonic()
        if store.latest_answer(step) != latest:
            self._heard = (store.latest_answer(step), now)
        elif now - heard > QUIET_SECONDS and store.count_pending(step):
            self._say(
                f"nobody has answered for {(now - heard) / 60:.0f} min: training goes on, with "
                f"fewer new pairs; `prefrl label {_run_of(store)}` opens the window"
            )
            self._heard = (latest, now)


def _run_of(store: LabelStore) -> str:
    """The run's folder, as one types it."""
    return shlex.quote(str(store.path.parent))

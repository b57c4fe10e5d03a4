"""The player: fetches the next pairs and has their frames in memory before they are needed.

It runs beside the window, in a thread of its own, so that the window never waits for a disk, a
drawing or another process::

    player = Player(run, labeller="ada")
    player.start()
    player.claims[0]                 # the pair to show
    player.pair(player.claims[0])    # its frames, or None as long as they are not there
"""

import contextlib
import sqlite3
import threading
import time
import uuid
from collections import OrderedDict
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from prefrl.errors import sentence
from prefrl.labellers.reel import NotDrawn, Reel, ReelMaker
from prefrl.labels.desk import CLAIM_SECONDS, Claim, Desk
from prefrl.labels.store import LabelStore
from prefrl.lock import is_held
from prefrl.run import Run

AHEAD = 4
"""Pairs in hand, the one on the screen included."""

FOLD = 6000
"""Looks at the store, each twentieth of a second, after which its log is folded into the file."""

KEPT_CLIPS = 4 * AHEAD
"""Clips whose frames stay in memory: those in hand, and a few steps back for undo."""

KEPT_BYTES = 256 * 2**20
"""That those may take which are not in hand."""

RESTARTS = 3
"""Times that the drawing process may die in a row."""


@dataclass(frozen=True)
class Pair:
    """Two drawn clips, as they lie on the screen."""

    left: np.ndarray
    """`(n, height, width, 3)` uint8."""
    right: np.ndarray
    fps: float
    """Frames per second."""
    pace: float
    """How fast that is in the environment's own time."""


@dataclass(frozen=True)
class Progress:
    """What is known of the run, as a window tells it."""

    given: int = 0
    """Labels given of the budget, by whomever."""
    budget: int = 0
    waiting: int = 0
    """Pairs that wait for an answer, those on screens included."""
    elsewhere: int = 0
    """Of these, pairs at other windows."""
    step: int = 0
    """The agent's step, when it was last noted."""
    steps: int = 0
    """Of the whole run."""
    rollout: int = 1
    """Steps between two moments at which pairs can come."""
    steps_per_second: float = 0.0
    noted: float = 0.0
    """When that was, seconds since 1970; 0: the first rollout is not finished."""
    next_step: int = 0
    """The step by which the next pair is due."""
    state: str = ""
    """`training`, `waiting` for labels, `paused` (nobody trains), `finished`, or `untaught`: at its
    end without labels enough to learn from."""
    seen: float = field(default_factory=time.time)
    """When all this was read, seconds since 1970."""


class Player(threading.Thread):
    """Claims pairs and gets their frames; `claims` is shared with the window.

    Args:
        run: The run.
        labeller: Who sits at the window.
        probes: Share of pairs that repeat an earlier one.
        take: Claim new pairs; else only those that are put into `claims` are fetched.
    """

    def __init__(self, run: Run, *, labeller: str, probes: float, take: bool = True) -> None:
        super().__init__(name="player", daemon=True)
        self.claims: list[Claim] = []
        """Pairs in hand, the first on the screen; new pairs are those the session has claimed."""
        self.lock = threading.Lock()
        """Held while `claims` and what the store says of them change."""
        self.progress = Progress(
            budget=run.config.labels.budget,
            steps=run.config.run.steps,
            rollout=run.config.rollout_steps,
        )
        self.failure: str | None = None
        """Why nothing at all can be drawn."""
        self.seconds_drawn: list[float] = []
        """Seconds that drawing each clip took, as it was drawn."""
        self._run = run
        self._labeller = labeller
        self._probes = probes
        self._take = take
        self.session = uuid.uuid4().hex
        """Under which the claims stand."""
        self._reels: OrderedDict[int, tuple[Reel, np.ndarray]] = OrderedDict()
        self._asked: set[int] = set()
        self._faults: dict[int, str] = {}
        self._maker = ReelMaker(run.path)
        self._reader = threading.Thread(target=self._read, name="reels", daemon=True)
        self._closing = threading.Event()

    def pair(self, claim: Claim) -> Pair | None:
        """The frames of a claimed pair, if they are there."""
        left, right = (self._reels.get(clip) for clip in claim.shown)
        if left is None or right is None:
            return None
        return Pair(left[1], right[1], left[0].fps, left[0].pace)

    def fault(self, claim: Claim) -> str | None:
        """Why a claimed pair cannot be drawn, if so."""
        return next((self._faults[clip] for clip in claim.shown if clip in self._faults), None)

    def close(self) -> None:
        """Stop; the claims end."""
        self._closing.set()
        self.join()
        self._maker.end()
        self._reader.join()
        self._maker.close()

    def run(self) -> None:
        """What the thread does; if it ends before it is closed, `failure` says why."""
        self._reader.start()
        try:
            self._work()
        except Exception as error:  # the window would wait for pairs for ever
            self.failure = f"the label store cannot be used: {sentence(error)}"

    def _read(self) -> None:
        """What the reader's thread does, likewise."""
        try:
            self._read_reels()
        except Exception as error:
            self.failure = f"clips cannot be drawn: {sentence(error)}"

    def _work(self) -> None:
        store = open_store(self._run)
        desk = Desk(
            store,
            labeller=self._labeller,
            probes=self._probes,
            rng=np.random.default_rng(),
            session=self.session,
        )
        tick, before, awake = 0, time.time(), 0
        while not self._closing.wait(0.05):
            # Where the machine slept, or its clock was set, all claims look dead: first, their
            # holders renew them.
            woke = time.time() - before > CLAIM_SECONDS / 4
            awake, before = tick + 20 if woke else awake, time.time()
            try:
                if tick % 100 == 0 or woke:
                    desk.keep()
                if tick % FOLD == FOLD - 1:  # nobody else may be there to do it
                    store.db.execute("PRAGMA wal_checkpoint(PASSIVE)")
                if self._take and tick >= awake:
                    self._drop_lost(desk)
                    self._take_pairs(desk)
                if tick % 5 == 0:
                    self.progress = self._read_progress(store, desk)
            except sqlite3.OperationalError:
                time.sleep(0.5)  # a busy or full disk: the window says so when it answers
            self._ask_for_frames()
            tick += 1
        with contextlib.suppress(sqlite3.OperationalError):
            desk.leave()
        store.close()

    def _take_pairs(self, desk: Desk) -> None:
        missing = AHEAD - len(self.claims)
        if missing > 0:
            taken = desk.take(missing)
            with self.lock:
                self.claims += taken

    def _drop_lost(self, desk: Desk) -> None:
        """Let go of pairs that another window has taken over."""
        with self.lock:
            held = desk.held()
            self.claims = [claim for claim in self.claims if claim.query.id in held]

    def _read_progress(self, store: LabelStore, desk: Desk) -> Progress:
        facts = store.facts()
        state = facts.get("state", "")
        if state not in ("finished", "untaught") and not is_held(self._run.training_lock):
            state = "paused"
        return replace(
            self.progress,
            given=store.count_asked() - store.count_pending(),
            waiting=len(store.pending()),
            elsewhere=desk.count_claimed(),
            step=int(facts.get("step", 0)),
            steps_per_second=float(facts.get("steps_per_second", 0)),
            noted=float(facts.get("noted", 0)),
            next_step=int(facts.get("next_step", 0)),
            state=state,
            seen=time.time(),
        )

    def _ask_for_frames(self) -> None:
        """Ask for what is missing, little at a time: an undo must not stand in line."""
        with self.lock:
            needed = [clip for claim in self.claims[:AHEAD] for clip in claim.shown]
        for clip in needed:
            if len(self._asked) < 3 and not self._known(clip):
                self._asked.add(clip)
                with contextlib.suppress(BrokenPipeError, ValueError):  # it died: see the reader
                    self._maker.ask(clip)

    def _known(self, clip: int) -> bool:
        return clip in self._reels or clip in self._asked or clip in self._faults

    def _read_reels(self) -> None:
        """Take in what is drawn; start the drawing process again if it dies."""
        deaths = 0
        while not self._closing.is_set():
            made = self._maker.wait()
            if isinstance(made, Reel):
                deaths = 0
                self._take_in(made)
            elif isinstance(made, NotDrawn) and made.clip is not None:
                self._faults[made.clip] = made.reason
                self._asked.discard(made.clip)
            elif isinstance(made, NotDrawn):
                self.failure = made.reason
                return
            elif not self._closing.is_set():
                deaths += 1
                if deaths > RESTARTS:
                    self.failure = "the process that draws clips dies again and again"
                    return
                dead, self._maker = self._maker, ReelMaker(self._run.path)
                dead.end()
                dead.close()
                self._asked.clear()

    def _take_in(self, reel: Reel) -> None:
        try:
            frames = reel.load()
        except (OSError, ValueError, EOFError):  # thrown away by another's quota, or damaged
            Path(reel.path).unlink(missing_ok=True)
            self._asked.discard(reel.clip)  # so that it is asked for again
            return
        if reel.drawn_in:
            self.seconds_drawn.append(reel.drawn_in)
        with self.lock:
            needed = {clip for claim in self.claims[:AHEAD] for clip in claim.shown}
        self._reels[reel.clip] = (reel, frames)
        self._asked.discard(reel.clip)
        spare = [clip for clip in self._reels if clip not in needed]
        used = sum(self._reels[clip][1].nbytes for clip in spare)
        for clip in spare:  # the oldest first
            if len(self._reels) > KEPT_CLIPS or used > KEPT_BYTES:
                used -= self._reels.pop(clip)[1].nbytes


def open_store(run: Run) -> LabelStore:
    """A window's connection to the store of its run.

    Answers never wait for the log to be folded into the file, which takes long: the trainer does
    that, the player's thread, or whoever closes the store last.
    """
    store = LabelStore(run.label_file, patience=2.0)
    store.db.execute("PRAGMA wal_autocheckpoint = 0")
    return store

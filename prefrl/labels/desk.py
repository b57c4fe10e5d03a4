"""The desk: what one labelling person has before them, and how their answers reach the store.

Several may sit at the same store. A pair is claimed before it is shown, so that two do not look at
the same one, and an answer is only taken for a pair that has none. A claim ends by itself when its
holder dies. ::

    desk = Desk(store, labeller="ada", rng=np.random.default_rng())
    claim, *ahead = desk.take(3)
    desk.answer(claim, "left", seconds=2.4)      # the clip shown on the left is better

Now and then a pair is a probe: one answered before, with its sides swapped, to measure how
consistent the labeller is. Probes cost nothing of the budget and nothing is learned from them.
"""

import time
import uuid
from dataclasses import dataclass

import numpy as np

from prefrl.labels.answers import WITHDRAWN, Label, Query, turned
from prefrl.labels.store import QUERY_COLUMNS, LabelStore

CLAIM_SECONDS = 20.0
"""How long a claim holds unless it is renewed."""

PROBE_GAP = 10
"""Answers between a pair and its probe at least, so that it is judged and not remembered."""


@dataclass(frozen=True)
class Claim:
    """A query that is one session's to answer."""

    query: Query
    swapped: bool
    """Whether the left clip is shown on the right."""

    @property
    def shown(self) -> tuple[int, int]:
        """Ids of the clips on the left and on the right of the screen."""
        left, right = self.query.left_clip, self.query.right_clip
        return (right, left) if self.swapped else (left, right)


class Desk:
    """One labeller's session at a store.

    Args:
        store: Its connection is used from the thread that calls.
        labeller: Whose answers they are.
        probes: Share of pairs that repeat an earlier one.
        rng: Decides sides and probes.
        session: Tells this desk from others; a new one when None.
    """

    def __init__(
        self,
        store: LabelStore,
        *,
        labeller: str,
        probes: float = 0.1,
        rng: np.random.Generator,
        session: str | None = None,
    ) -> None:
        self.store = store
        self.session = session or uuid.uuid4().hex
        self._labeller = labeller
        self._probes = probes
        self._rng = rng

    def take(self, n: int) -> list[Claim]:
        """Claim up to `n` pairs that nobody is at, the most recently asked first.

        Who has none takes one over that lies ready at another desk, but is not looked at.
        """
        if not self._free(1, time.time()) and not self._spare(time.time()):
            return []  # found out without locking others out
        claims: list[Claim] = []
        with self.store.transaction():
            now = time.time()
            for query in self._free(n, now) or self._spare(now):
                if len(claims) == n:
                    break
                if self._rng.random() < self._probes and (probe := self._probe()):
                    claims.append(probe)
                if len(claims) < n:
                    claims.append(Claim(query, self._side(query)))
            for claim in claims:
                self._write(claim, now)
        return claims

    def retake(self, claim: Claim) -> bool:
        """Withdraw the answer to a pair and claim it again, sides as before.

        Returns:
            False where no answer of this labeller stands any more: it was taken back or
            corrected at another desk.
        """
        with self.store.transaction():
            if self._standing(claim) != self._labeller:
                return False
            self._record(claim, WITHDRAWN, 0.0)
            self._write(claim, time.time())
        return True

    def keep(self) -> None:
        """Renew this session's claims."""
        with self.store.transaction():
            self.store.db.execute(
                "UPDATE claims SET until = ? WHERE session = ?",
                (time.time() + CLAIM_SECONDS, self.session),
            )

    def held(self) -> set[int]:
        """Ids of the queries that this session has claimed."""
        rows = self.store.db.execute("SELECT query FROM claims WHERE session = ?", (self.session,))
        return {row[0] for row in rows}

    def leave(self) -> None:
        """Let go of all claims."""
        with self.store.transaction():
            self.store.db.execute("DELETE FROM claims WHERE session = ?", (self.session,))

    def show(self, claim: Claim) -> None:
        """Note that a pair is on the screen, for whoever watches the store."""
        self.store.db.execute(
            "UPDATE claims SET shown = ? WHERE query = ? AND session = ?",
            (time.time(), claim.query.id, self.session),
        )

    def answer(self, claim: Claim, shown: str, *, seconds: float) -> bool:
        """Store an answer; whether it was taken. It is on disk on return.

        Args:
            claim: The pair.
            shown: `left` or `right` *of the screen*, `equal` or `skip`.
            seconds: Time taken, s.

        Returns:
            False where the pair was answered at another desk meanwhile.
        """
        with self.store.transaction():
            if self._standing(claim) is not None:
                return False
            self._record(claim, shown, seconds)
            self.store.db.execute("DELETE FROM claims WHERE query = ?", (claim.query.id,))
        return True

    def stands(self, claim: Claim) -> str | None:
        """The standing answer to a pair, as of the screen; None if there is none."""
        row = self.store.db.execute(
            "SELECT answer FROM standing WHERE query = ?", (claim.query.id,)
        ).fetchone()
        return row and turned(row[0], claim.swapped)

    def correct(self, claim: Claim, shown: str, *, seconds: float) -> None:
        """Put another answer in the place of the standing one; both stay in the store.

        Args:
            claim: The pair, sides as they were then.
            shown: `left` or `right` of the screen, `equal` or `skip`.
            seconds: Taken for the answer that is corrected, s.
        """
        with self.store.transaction():
            if self.stands(claim) != shown:
                self._record(claim, shown, seconds)

    def answered(self) -> list[Label]:
        """This labeller's standing answers in the order of answering, probes included."""
        both = [*self.store.labels(), *self.store.labels(probes=True)]
        order = dict(self.store.db.execute("SELECT query, max(id) FROM answers GROUP BY query"))
        mine = [label for label in both if label.labeller == self._labeller]
        return sorted(mine, key=lambda label: order[label.query.id])

    def count_claimed(self) -> int:
        """Pairs that wait for an answer and are claimed at other desks."""
        return self.store.db.execute(
            "SELECT count(*) FROM claims WHERE session <> ? AND until > ?",
            (self.session, time.time()),
        ).fetchone()[0]

    def _free(self, n: int, now: float) -> list[Query]:
        rows = self.store.db.execute(
            f"SELECT {QUERY_COLUMNS} FROM queries q WHERE id NOT IN (SELECT query FROM standing) "
            "AND id NOT IN (SELECT query FROM outgrown) "
            "AND id NOT IN (SELECT query FROM claims WHERE session = ?1 OR until > ?2) "
            "AND (repeats IS NULL OR ?3 IN (SELECT l.name FROM answers a JOIN labellers l "
            "ON l.id = a.labeller WHERE a.query = repeats)) "
            "ORDER BY step DESC, id LIMIT ?4",
            (self.session, now, self._labeller, n),
        )
        return [Query(*row) for row in rows]

    def _spare(self, now: float) -> list[Query]:
        """A pair that lies ready at another desk, for one that has none at all.

        The other keeps one, which may be about to be looked at, and what was taken back there.
        """
        if self.held():
            return []
        row = self.store.db.execute(
            f"SELECT {QUERY_COLUMNS} FROM queries q JOIN claims c ON c.query = q.id "
            "WHERE c.shown IS NULL AND c.until > ? AND q.repeats IS NULL "
            "AND q.id NOT IN (SELECT query FROM answers) "
            "AND (SELECT count(*) FROM claims o WHERE o.session = c.session) > 1 "
            "ORDER BY q.id DESC LIMIT 1",
            (now,),
        ).fetchone()
        return [Query(*row)] if row else []

    def _side(self, query: Query) -> bool:
        """Whether to show the left clip on the right: by lot, but a probe the other way round."""
        if query.repeats is None:
            return bool(self._rng.random() < 0.5)
        row = self.store.db.execute(
            "SELECT swapped FROM answers WHERE query = ? ORDER BY id DESC", (query.repeats,)
        ).fetchone()
        return not row[0]

    def _probe(self) -> Claim | None:
        """A new probe of an earlier pair, sides swapped; None while there are too few."""
        earlier = [
            label
            for label in self.answered()[:-PROBE_GAP]
            if label.query.repeats is None and label.answer != "skip"
        ]
        probed = {row[0] for row in self.store.db.execute("SELECT repeats FROM queries")}
        earlier = [label for label in earlier if label.query.id not in probed]
        if not earlier:
            return None
        label = earlier[self._rng.integers(len(earlier))]
        probe = self.store.ask_again(label.query)
        return Claim(probe, self._side(probe))

    def _write(self, claim: Claim, now: float) -> None:
        self.store.db.execute(
            "INSERT OR REPLACE INTO claims (query, session, swapped, until) VALUES (?, ?, ?, ?)",
            (claim.query.id, self.session, claim.swapped, now + CLAIM_SECONDS),
        )

    def _standing(self, claim: Claim) -> str | None:
        """Who gave the standing answer to a pair, if anybody did."""
        row = self.store.db.execute(
            "SELECT l.name FROM standing s JOIN labellers l ON l.id = s.labeller WHERE query = ?",
            (claim.query.id,),
        ).fetchone()
        return row and row[0]

    def _record(self, claim: Claim, shown: str, seconds: float) -> None:
        self.store.answer(
            claim.query.id,
            turned(shown, claim.swapped),
            labeller=self._labeller,
            seconds=seconds,
            swapped=claim.swapped,
        )


def end_claims(store: LabelStore) -> None:
    """End everybody's claims."""
    with store.transaction():
        store.db.execute("DELETE FROM claims")


def consistency(store: LabelStore) -> tuple[int, int]:
    """`(agreeing, probes)`: answers to probes that agree with the pair's answer before.

    A correction of that one later, as in a review, changes nothing; nor does a probe of what had
    been taken back, or corrected to a skip, by then.
    """
    repeats = store.db.execute(
        "SELECT earlier.answer, again.answer FROM standing again "
        "JOIN queries q ON q.id = again.query "
        "JOIN answers earlier ON earlier.id = (SELECT max(id) FROM answers WHERE query = q.repeats "
        "AND id < (SELECT min(id) FROM answers WHERE query = q.id)) "
        f"WHERE again.answer <> 'skip' AND earlier.answer NOT IN ('skip', '{WITHDRAWN}')"
    ).fetchall()
    return sum(before == after for before, after in repeats), len(repeats)

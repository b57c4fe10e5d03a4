"""The label store: one SQLite file in which a trainer asks and labellers answer.

Trainer and labellers are separate and share nothing else; any of them may die at any moment.
What was asked and answered is only ever added to. A labeller corrects an answer by giving another
one: the latest counts, and both stay. ::

    store = LabelStore("labels.db")
    query = store.ask(left, right, step=2048, rule="random")
    store.answer(query, "left", labeller="me", seconds=2.4, step=4096)
    store.labels()

An answer is on disk (committed, synced) when `answer` returns.
"""

import hashlib
import sqlite3
import time
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from prefrl.clips.clip import Clip
from prefrl.labels.answers import WITHDRAWN, Label, Query, turned
from prefrl.labels.schema import connect

RECENT = 256
"""Clips kept in memory: what was just asked is soon read by labeller and fit."""

QUERY_COLUMNS = "q.id, q.left_clip, q.right_clip, q.step, q.rule, q.repeats"
"""What a `Query` is made of, of a table `queries q`."""

_STANDING = (  # answers as they stood at the agent's step ?1
    "(SELECT * FROM answers WHERE id IN "
    "(SELECT max(id) FROM answers WHERE ?1 IS NULL OR step <= ?1 GROUP BY query) "
    f"AND answer <> '{WITHDRAWN}')"
)


class LabelStore:
    """Clips, queries and answers in one file.

    Args:
        path: The file; made if it does not exist.
        read_only: Make no file and no table.
        patience: Seconds to wait while another process writes.

    Raises:
        UserError: The file is not a label store, or is of a newer version.
    """

    def __init__(
        self, path: str | Path, *, read_only: bool = False, patience: float = 30.0
    ) -> None:
        self.path = Path(path)
        self._recent: dict[int, Clip] = {}
        self.db = connect(self.path, read_only=read_only, patience=patience)
        """The connection, for what else lives in this room."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file; everything in it is already on disk."""
        self.db.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Commit everything in the block at once, or nothing of it."""
        self.db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self.db.execute("COMMIT")
        except BaseException:
            if self.db.in_transaction:  # a full disk may have ended it already
                self.db.execute("ROLLBACK")
            self._recent.clear()  # it may hold clips that were rolled back
            raise

    def facts(self) -> dict[str, str]:
        """What was noted about the store, such as the environment's id."""
        return dict(self.db.execute("SELECT name, value FROM facts"))

    def note(self, **facts: str | float) -> None:
        """Note facts about the store; `step`, the agent's, dates answers given from then on."""
        rows = [(name, str(value)) for name, value in facts.items()]
        with self.transaction():
            self.db.executemany("INSERT OR REPLACE INTO facts VALUES (?, ?)", rows)

    def ask(self, left: Clip, right: Clip, *, step: int, rule: str) -> int:
        """Store a query and its clips; give its id.

        A pair asked before, whichever way round, is that query, with its sides: a resumed run,
        which comes by its last queries again, finds them with their answers.
        """
        clips = self._add_clip(*_pack(left)), self._add_clip(*_pack(right))
        return self._ask(clips, step=step, rule=rule)

    def ask_all(self, pairs: Sequence[tuple[Clip, Clip]], *, step: int, rule: str) -> None:
        """Store queries in one transaction that is as short as can be.

        A pair of a clip and its double asks nothing, and is left out. Clips are compressed before
        it begins: a labeller who commits an answer at that moment waits for the writing alone.
        """
        packed = [(_pack(left), _pack(right)) for left, right in pairs]
        with self.transaction():
            for left, right in packed:
                if left[1] == right[1]:
                    continue
                clips = self._add_clip(*left), self._add_clip(*right)
                self._ask(clips, step=step, rule=rule)

    def ask_again(self, query: Query) -> Query:
        """Store a consistency probe of `query`."""
        clips = query.left_clip, query.right_clip
        probe = self._ask(clips, step=query.step, rule="probe", repeats=query.id)
        return Query(probe, *clips, query.step, "probe", query.id)

    def _ask(
        self, clips: tuple[int, int], *, step: int, rule: str, repeats: int | None = None
    ) -> int:
        if repeats is None:
            row = self.db.execute(
                "SELECT id FROM queries WHERE min(left_clip, right_clip) = min(?1, ?2) "
                "AND max(left_clip, right_clip) = max(?1, ?2) AND repeats IS NULL",
                clips,
            ).fetchone()
            if row:
                return row[0]
        return self._insert(
            "INSERT INTO queries (left_clip, right_clip, step, asked, rule, repeats) "
            "VALUES (?, ?, ?, ?, ?, ?)",
            (*clips, step, time.time(), rule, repeats),
        )

    def _add_clip(self, clip: Clip, digest: str, data: bytes) -> int:
        row = self.db.execute("SELECT id FROM clips WHERE digest = ?", (digest,)).fetchone()
        if row:
            return row[0]
        clip_id = self._insert("INSERT INTO clips (digest, data) VALUES (?, ?)", (digest, data))
        self._remember(clip_id, clip)
        return clip_id

    def _remember(self, clip_id: int, clip: Clip) -> None:
        if clip.frames is not None:
            return  # too large to keep by the hundred
        self._recent[clip_id] = clip
        if len(self._recent) > RECENT:
            del self._recent[next(iter(self._recent))]

    def _insert(self, statement: str, values: tuple) -> int:
        row = self.db.execute(statement, values).lastrowid
        assert row is not None
        return row

    def clip(self, clip_id: int) -> Clip:
        """The clip with that id.

        Raises:
            KeyError, sqlite3.DatabaseError: There is none; what the file holds of it is damaged.
        """
        if clip_id in self._recent:
            return self._recent[clip_id]
        row = self.db.execute("SELECT data FROM clips WHERE id = ?", (clip_id,)).fetchone()
        if row is None:
            raise KeyError(f"no clip {clip_id} in {self.path}")
        try:
            clip = Clip.from_bytes(row[0])
        except (zipfile.BadZipFile, zlib.error, ValueError, KeyError, OSError, EOFError) as error:
            raise sqlite3.DatabaseError(f"clip {clip_id} is malformed: {error}") from error
        self._remember(clip_id, clip)
        return clip

    def answer(
        self,
        query: int,
        answer: str,
        *,
        labeller: str,
        seconds: float,
        step: int | None = None,
        swapped: bool = False,
    ) -> None:
        """Store an answer; it is on disk on return, unless inside a `transaction`.

        Args:
            query: The query's id.
            answer: `left`, `right`, `equal`, `skip`, in the query's own order of clips, or
                `withdrawn`, which takes back the last one.
            labeller: Who answered.
            seconds: Time taken, s.
            step: The agent's step now. None, for whoever does not know it: right after the
                step noted last, since what was given by that step has been read, or that of
                asking, if later. So a resumed run learns from the answer when it first did.
            swapped: Whether the left clip was shown on the right.
        """
        self.db.execute("INSERT OR IGNORE INTO labellers (name) VALUES (?)", (labeller,))
        self.db.execute(
            "INSERT INTO answers (query, answer, labeller, seconds, swapped, step, answered) "
            "SELECT ?1, ?2, id, ?3, ?4, coalesce(?5, max("
            "(SELECT step FROM queries WHERE id = ?1), 1 + coalesce("
            "(SELECT CAST(value AS INTEGER) FROM facts WHERE name = 'step'), "
            "(SELECT max(step) FROM answers), 0))), ?6 "
            "FROM labellers WHERE name = ?7",
            (query, answer, seconds, int(swapped), step, time.time(), labeller),
        )

    def withdraw_outgrown(self, step: int, *, until: int) -> None:
        """Take back what was asked by step `until` and never answered, but for what is looked at.

        Args:
            step: The agent's step now. Where a resumed run comes by it again, nothing more is
                taken back: what somebody looked at then is not on record.
            until: The latest step of asking that the policy has outgrown.
        """
        with self.transaction():
            if step <= int(self.facts().get("withdrew", 0)):
                return
            self.db.execute("INSERT OR REPLACE INTO facts VALUES ('withdrew', ?)", (str(step),))
            self.db.execute(
                "INSERT OR IGNORE INTO outgrown (query, step) SELECT id, ?1 FROM queries "
                "WHERE repeats IS NULL AND step > 0 AND step <= ?2 "
                "AND id NOT IN (SELECT query FROM answers) "
                "AND id NOT IN (SELECT query FROM claims WHERE shown IS NOT NULL AND until > ?3)",
                (step, until, time.time()),
            )
            self.db.execute("DELETE FROM claims WHERE query IN (SELECT query FROM outgrown)")

    def pending(self, until_step: int | None = None) -> list[Query]:
        """Queries without a standing answer, oldest first.

        Args:
            until_step: Only those asked by this step of the agent.
        """
        rows = self.db.execute(
            f"SELECT {QUERY_COLUMNS} FROM queries q WHERE id NOT IN (SELECT query FROM standing) "
            "AND id NOT IN (SELECT query FROM outgrown) "
            "AND (?1 IS NULL OR step <= ?1) ORDER BY id",
            (until_step,),
        )
        return [Query(*row) for row in rows]

    def latest_queries(self, until_step: int, n: int) -> list[Query]:
        """The last `n` queries asked by that step of the agent, answered or not; no probes."""
        rows = self.db.execute(
            f"SELECT {QUERY_COLUMNS} FROM queries q WHERE repeats IS NULL AND step <= ? "
            "ORDER BY id DESC LIMIT ?",
            (until_step, n),
        )
        return [Query(*row) for row in rows]

    def labels(self, until_step: int | None = None, *, probes: bool = False) -> list[Label]:
        """Standing answers in the order of their queries.

        Args:
            until_step: As they stood at this step of the agent. A resumed run thus learns from
                each label at the step at which it did the first time.
            probes: The answers to consistency probes instead, from which nothing is learned.
        """
        rows = self.db.execute(
            f"SELECT {QUERY_COLUMNS}, s.answer, l.name, s.seconds, s.swapped, s.step "
            f"FROM {_STANDING} s JOIN queries q ON q.id = s.query "
            "JOIN labellers l ON l.id = s.labeller "
            "WHERE (q.repeats IS NOT NULL) = ?2 ORDER BY q.id",
            (until_step, probes),
        )
        return [
            Label(Query(*row[:6]), row[6], row[7], row[8], bool(row[9]), row[10]) for row in rows
        ]

    def digest(self) -> str:
        """A fingerprint of the standing answers that are learned from, and what they are about."""
        content = hashlib.sha256()
        for row in self.db.execute(
            "SELECT l.digest, r.digest, s.answer FROM standing s JOIN queries q ON q.id = s.query "
            "JOIN clips l ON l.id = q.left_clip JOIN clips r ON r.id = q.right_clip "
            "WHERE q.repeats IS NULL ORDER BY q.id"
        ):
            content.update(" ".join(row).encode())
        return content.hexdigest()

    def count_asked(self, until_step: int | None = None) -> int:
        """Queries asked by that step of the agent.

        Consistency probes, labels taken over from another store (asked at step 0) and queries
        that were taken back before anybody answered do not count.
        """
        return self._count_asked("", until_step)

    def count_pending(self, until_step: int | None = None) -> int:
        """Those of `count_asked` that had no answer at that step."""
        return self._count_asked(f"AND id NOT IN (SELECT query FROM {_STANDING})", until_step)

    def _count_asked(self, condition: str, until_step: int | None) -> int:
        return self.db.execute(
            "SELECT count(*) FROM queries "
            "WHERE repeats IS NULL AND step > 0 AND (?1 IS NULL OR step <= ?1) "
            "AND id NOT IN (SELECT query FROM outgrown WHERE (?1 IS NULL OR step <= ?1) "
            f"AND query NOT IN (SELECT query FROM {_STANDING})) {condition}",
            (until_step,),
        ).fetchone()[0]

    def count_answered(self, until_step: int | None = None) -> int:
        """Standing answers at that step of the agent, consistency probes aside."""
        return self.db.execute(
            f"SELECT count(*) FROM {_STANDING} s JOIN queries q ON q.id = s.query "
            "WHERE q.repeats IS NULL",
            (until_step,),
        ).fetchone()[0]

    def latest_answer(self, until_step: int) -> tuple[int, int]:
        """Highest id and latest step of the answers given by that step, 0 if none.

        Nothing is new while both stay. After a kill, answers from before it can have a lower id
        and a later step than those given since.
        """
        row = self.db.execute("SELECT max(id) FROM answers WHERE step <= ?", (until_step,))
        return row.fetchone()[0] or 0, self.last_answered(until_step)

    def answer_steps(self, until_step: int) -> list[int]:
        """The agent's steps up to that one at which answers were given, each once, ascending."""
        rows = self.db.execute(
            "SELECT DISTINCT step FROM answers WHERE step <= ? ORDER BY step", (until_step,)
        )
        return [row[0] for row in rows]

    def last_answered(self, until_step: int) -> int:
        """The agent's step at the latest answer given by that step, 0 if none was."""
        row = self.db.execute("SELECT max(step) FROM answers WHERE step <= ?", (until_step,))
        return row.fetchone()[0] or 0

    def answered_after(self, step: int) -> bool:
        """Whether an answer is dated later than that step of the agent's, as before a resume."""
        row = self.db.execute("SELECT EXISTS (SELECT 1 FROM answers WHERE step > ?)", (step,))
        return bool(row.fetchone()[0])

    def take_over(self, source: "LabelStore") -> int:
        """Copy all labels of another store, as given at step 0; give their number."""
        labels = source.labels()
        with self.transaction():
            for label in labels:
                left = source.clip(label.query.left_clip)
                right = source.clip(label.query.right_clip)
                query = self.ask(left, right, step=0, rule=label.query.rule)
                other_way = self._is_turned(query, left)
                self.answer(
                    query,
                    turned(label.answer, other_way),
                    labeller=label.labeller,
                    seconds=label.seconds,
                    swapped=label.swapped != other_way,
                    step=0,
                )
        return len(labels)

    def has_taken_over(self, clip: Clip) -> bool:
        """Whether a label from another store is about that clip."""
        row = self.db.execute(  # CROSS: the clip comes first, and most often there is none
            "SELECT 1 FROM clips c CROSS JOIN queries q ON c.id IN (q.left_clip, q.right_clip) "
            "WHERE c.digest = ? AND q.step = 0",
            (clip.digest(),),
        )
        return row.fetchone() is not None

    def _is_turned(self, query: int, left: Clip) -> bool:
        """Whether that clip is the right one of a query, which had it so before."""
        row = self.db.execute(
            "SELECT digest FROM clips WHERE id = (SELECT left_clip FROM queries WHERE id = ?)",
            (query,),
        ).fetchone()
        return row[0] != left.digest()


def _pack(clip: Clip) -> tuple[Clip, str, bytes]:
    """The clip, its digest and its bytes."""
    return clip, clip.digest(), clip.to_bytes()

"""The label store: one SQLite file in which a trainer asks and labellers answer.

Trainer and labellers are separate and share nothing else; any of them may die at any moment.
Rows are only ever added. A labeller corrects an answer by giving another one: the latest counts,
and both stay. ::

    store = LabelStore("labels.db")
    query = store.ask(left, right, step=2048, rule="random")
    store.answer(query, "left", labeller="me", seconds=2.4, step=4096)
    store.labels()

An answer is on disk (committed, synced) when `answer` returns.
"""

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from prefrl.clips.clip import Clip
from prefrl.errors import UserError

VERSION = 1

PREFERENCE = {"left": 1.0, "right": 0.0, "equal": 0.5, "skip": None}
"""Answer → preference for the left clip; None: cannot tell, not trained on."""

WITHDRAWN = "withdrawn"

RECENT = 256
"""Clips kept in memory: what was just asked is soon read by labeller and fit."""

_SCHEMA = f"""
CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE clips (
    id INTEGER PRIMARY KEY,
    digest TEXT NOT NULL UNIQUE,       -- of what a labeller can see
    data BLOB NOT NULL                 -- compressed .npz arrays
);
CREATE TABLE queries (
    id INTEGER PRIMARY KEY,
    left_clip INTEGER NOT NULL REFERENCES clips,
    right_clip INTEGER NOT NULL REFERENCES clips CHECK (left_clip <> right_clip),
    step INTEGER NOT NULL,             -- the agent's, at asking
    asked REAL NOT NULL,               -- seconds since 1970
    rule TEXT NOT NULL,
    repeats INTEGER REFERENCES queries -- a consistency probe of that query
);
CREATE UNIQUE INDEX pair_asked_once ON queries
    (min(left_clip, right_clip), max(left_clip, right_clip)) WHERE repeats IS NULL;
CREATE TABLE labellers (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE answers (
    id INTEGER PRIMARY KEY,
    query INTEGER NOT NULL REFERENCES queries,
    answer TEXT NOT NULL CHECK (answer IN ('left', 'right', 'equal', 'skip', '{WITHDRAWN}')),
    labeller INTEGER NOT NULL REFERENCES labellers,
    seconds REAL NOT NULL,             -- taken by the labeller
    swapped INTEGER NOT NULL,          -- 1: the left clip was shown on the right
    step INTEGER NOT NULL,             -- the agent's, at answering
    answered REAL NOT NULL             -- seconds since 1970
);
CREATE INDEX answers_by_query ON answers (query);
CREATE VIEW standing AS
    SELECT * FROM answers WHERE answer <> '{WITHDRAWN}'
    AND id IN (SELECT max(id) FROM answers GROUP BY query);
""" + "".join(
    f"CREATE TRIGGER {table}_no_{verb} BEFORE {verb} ON {table} "
    f"BEGIN SELECT raise(ABORT, '{table} are append-only'); END;\n"
    for table in ("clips", "queries", "answers")
    for verb in ("update", "delete")
)


@dataclass(frozen=True)
class Query:
    """An ordered pair of clips that was put to a labeller."""

    id: int
    left_clip: int
    right_clip: int
    step: int
    """The agent's step at asking."""
    rule: str
    repeats: int | None
    """Query that this one probes again, if it is a probe."""


@dataclass(frozen=True)
class Label:
    """The standing answer to a query."""

    query: Query
    answer: str
    """`left`, `right`, `equal` or `skip`: which clip is better, in the query's own order."""
    labeller: str
    seconds: float
    """Time that the labeller took, s."""
    swapped: bool
    """Whether the left clip was shown on the right."""
    step: int
    """The agent's step at answering."""

    @property
    def preference(self) -> float | None:
        """Preference for the left clip: 1, 0, ½, or None for a skip."""
        return PREFERENCE[self.answer]


class LabelStore:
    """Clips, queries and answers in one file.

    Args:
        path: The file; made if it does not exist.
        read_only: Make no file and no table. (SQLite's own read-only mode would leave its
            working files behind.)

    Raises:
        UserError: The file is not a label store, or is of a newer version.
    """

    def __init__(self, path: str | Path, *, read_only: bool = False) -> None:
        self.path = Path(path)
        self._recent: dict[int, Clip] = {}
        place = f"{self.path.absolute().as_uri()}?mode={'rw' if read_only else 'rwc'}"
        try:
            self._db = sqlite3.connect(place, isolation_level=None, timeout=30, uri=True)
            version = self._db.execute("PRAGMA user_version").fetchone()[0]
            if not read_only:
                self._db.execute("PRAGMA journal_mode = WAL")
                self._db.execute("PRAGMA synchronous = FULL")
                self._db.execute("PRAGMA foreign_keys = ON")
                if version == 0:
                    self._create()
        except sqlite3.DatabaseError as error:
            if "disk" in str(error) or "full" in str(error):
                raise
            raise UserError(f"'{path}' is not a label store: {error}") from None
        if version == 0 and read_only:
            self._db.close()
            raise UserError(f"'{path}' is not a label store: it has no labels' tables")
        if version > VERSION:
            self._db.close()
            raise UserError(
                f"'{path}' has label store version {version}, this prefrl reads up to "
                f"{VERSION}: upgrade prefrl"
            )

    def _create(self) -> None:
        with self.transaction():
            for statement in _statements(_SCHEMA):
                self._db.execute(statement)
            self._db.execute(f"PRAGMA user_version = {VERSION}")

    def close(self) -> None:
        """Let go of the file; everything in it is already on disk."""
        self._db.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Commit everything in the block at once, or nothing of it."""
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            self._recent.clear()  # it may hold clips that were rolled back
            raise
        self._db.execute("COMMIT")

    def facts(self) -> dict[str, str]:
        """What was noted about the store, such as the environment's id."""
        return dict(self._db.execute("SELECT name, value FROM facts"))

    def note(self, **facts: str) -> None:
        """Note facts about the store."""
        self._db.executemany("INSERT OR REPLACE INTO facts VALUES (?, ?)", facts.items())

    def ask(
        self, left: Clip, right: Clip, *, step: int, rule: str, repeats: int | None = None
    ) -> int:
        """Store a query and its clips; give its id.

        A pair that was asked before is the same query: a resumed run, which comes by its last
        queries again, finds them with their answers.
        """
        left_id, right_id = self._add_clip(left), self._add_clip(right)
        if repeats is None:
            row = self._db.execute(
                "SELECT id FROM queries WHERE min(left_clip, right_clip) = min(?1, ?2) "
                "AND max(left_clip, right_clip) = max(?1, ?2) AND repeats IS NULL",
                (left_id, right_id),
            ).fetchone()
            if row:
                return row[0]
        return self._insert(
            "INSERT INTO queries (left_clip, right_clip, step, asked, rule, repeats) "
            "VALUES (?, ?, ?, ?, ?, ?)",
            (left_id, right_id, step, time.time(), rule, repeats),
        )

    def _add_clip(self, clip: Clip) -> int:
        digest = clip.digest()
        row = self._db.execute("SELECT id FROM clips WHERE digest = ?", (digest,)).fetchone()
        if row:
            return row[0]
        clip_id = self._insert(
            "INSERT INTO clips (digest, data) VALUES (?, ?)", (digest, clip.to_bytes())
        )
        self._remember(clip_id, clip)
        return clip_id

    def _remember(self, clip_id: int, clip: Clip) -> None:
        self._recent[clip_id] = clip
        if len(self._recent) > RECENT:
            del self._recent[next(iter(self._recent))]

    def _insert(self, statement: str, values: tuple) -> int:
        row = self._db.execute(statement, values).lastrowid
        assert row is not None
        return row

    def clip(self, clip_id: int) -> Clip:
        """The clip with that id."""
        if clip_id in self._recent:
            return self._recent[clip_id]
        row = self._db.execute("SELECT data FROM clips WHERE id = ?", (clip_id,)).fetchone()
        if row is None:
            raise KeyError(f"no clip {clip_id} in {self.path}")
        clip = Clip.from_bytes(row[0])
        self._remember(clip_id, clip)
        return clip

    def answer(
        self,
        query: int,
        answer: str,
        *,
        labeller: str,
        seconds: float,
        step: int,
        swapped: bool = False,
    ) -> None:
        """Store an answer; it is on disk on return, unless inside a `transaction`.

        Args:
            query: The query's id.
            answer: `left`, `right`, `equal`, `skip`, in the query's own order of clips, or
                `withdrawn`, which takes back the last one.
            labeller: Who answered.
            seconds: Time taken, s.
            step: The agent's step now.
            swapped: Whether the left clip was shown on the right.
        """
        self._db.execute("INSERT OR IGNORE INTO labellers (name) VALUES (?)", (labeller,))
        self._db.execute(
            "INSERT INTO answers (query, answer, labeller, seconds, swapped, step, answered) "
            "SELECT ?, ?, id, ?, ?, ?, ? FROM labellers WHERE name = ?",
            (query, answer, seconds, int(swapped), step, time.time(), labeller),
        )

    def pending(self, until_step: int | None = None) -> list[Query]:
        """Queries without a standing answer, oldest first.

        Args:
            until_step: Only those asked by this step of the agent.
        """
        rows = self._db.execute(
            "SELECT id, left_clip, right_clip, step, rule, repeats FROM queries "
            "WHERE id NOT IN (SELECT query FROM standing) "
            "AND (?1 IS NULL OR step <= ?1) ORDER BY id",
            (until_step,),
        )
        return [Query(*row) for row in rows]

    def labels(self, until_step: int | None = None) -> list[Label]:
        """Standing answers in the order of their queries.

        Args:
            until_step: Only those given by this step of the agent. A resumed run thus learns
                from each label at the step at which it did the first time.
        """
        rows = self._db.execute(
            "SELECT q.id, q.left_clip, q.right_clip, q.step, q.rule, q.repeats, "
            "s.answer, l.name, s.seconds, s.swapped, s.step "
            "FROM standing s JOIN queries q ON q.id = s.query "
            "JOIN labellers l ON l.id = s.labeller "
            "WHERE ?1 IS NULL OR s.step <= ?1 ORDER BY q.id",
            (until_step,),
        )
        return [
            Label(Query(*row[:6]), row[6], row[7], row[8], bool(row[9]), row[10]) for row in rows
        ]

    def count_asked(self, until_step: int | None = None) -> int:
        """Queries asked by that step of the agent.

        Consistency probes and labels taken over from another store (asked at step 0) do not
        count.
        """
        return self._db.execute(
            "SELECT count(*) FROM queries "
            "WHERE repeats IS NULL AND step > 0 AND (?1 IS NULL OR step <= ?1)",
            (until_step,),
        ).fetchone()[0]

    def count_answered(self, until_step: int | None = None) -> int:
        """Standing answers given by that step of the agent."""
        return self._db.execute(
            "SELECT count(*) FROM standing WHERE ?1 IS NULL OR step <= ?1", (until_step,)
        ).fetchone()[0]

    def latest_answer(self, until_step: int) -> int:
        """Id of the latest answer given by that step, 0 if none: nothing is new if it stays."""
        row = self._db.execute("SELECT max(id) FROM answers WHERE step <= ?", (until_step,))
        return row.fetchone()[0] or 0

    def take_over(self, source: "LabelStore") -> int:
        """Copy all labels of another store, as given at step 0; give their number."""
        labels = source.labels()
        with self.transaction():
            for label in labels:
                query = self.ask(
                    source.clip(label.query.left_clip),
                    source.clip(label.query.right_clip),
                    step=0,
                    rule=label.query.rule,
                )
                self.answer(
                    query,
                    label.answer,
                    labeller=label.labeller,
                    seconds=label.seconds,
                    swapped=label.swapped,
                    step=0,
                )
        return len(labels)


def _statements(script: str) -> Iterator[str]:
    """Single statements of an SQL script (`executescript` would commit on its own)."""
    part = ""
    for line in script.splitlines(keepends=True):
        part += line
        if sqlite3.complete_statement(part):
            yield part
            part = ""

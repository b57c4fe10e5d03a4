"""The tables of a label store, how an older file becomes a present one, how a file is opened."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path

from prefrl.errors import UserError
from prefrl.labels.answers import ANSWERS, WITHDRAWN

_FIRST = f"""
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
    answer TEXT NOT NULL CHECK (answer IN {(*ANSWERS, WITHDRAWN)}),
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
"""

_SECOND = """
CREATE TABLE outgrown (                -- queries taken back before anybody answered them
    query INTEGER PRIMARY KEY REFERENCES queries,
    step INTEGER NOT NULL              -- the agent's, then
);
CREATE TABLE claims (                  -- who is at which query now; not for the record
    query INTEGER PRIMARY KEY REFERENCES queries,
    session TEXT NOT NULL,
    swapped INTEGER NOT NULL,          -- 1: the left clip is shown on the right
    shown REAL,                        -- since when it is on the screen, seconds since 1970
    until REAL NOT NULL                -- renewed until then, seconds since 1970
);
"""


def _append_only(*tables: str) -> str:
    return "".join(
        f"CREATE TRIGGER {table}_no_{verb} BEFORE {verb} ON {table} "
        f"BEGIN SELECT raise(ABORT, '{table} are append-only'); END;\n"
        for table in tables
        for verb in ("update", "delete")
    )


MIGRATIONS = (
    _FIRST + _append_only("clips", "queries", "answers"),
    _SECOND + _append_only("outgrown"),
)
"""What each version adds to the one before; a new file goes through all."""

VERSION = len(MIGRATIONS)

TABLES = {"facts", "clips", "queries", "labellers", "answers"}
"""Of every version."""


def connect(path: Path, *, read_only: bool, patience: float) -> sqlite3.Connection:
    """Open a store; unless `read_only`, make it if there is none and bring it up to date.

    Args:
        path: The file.
        read_only: Make no file and no table. (SQLite's own read-only mode would leave its
            working files behind.)
        patience: Seconds to wait for another process's transaction.

    Raises:
        UserError: The file is not a label store, or is of a newer version.
        sqlite3.OperationalError: The disk is full or broken, or another program keeps it locked.
    """
    try:
        db, version = _open(path, "rw" if read_only else "rwc", patience)
    except sqlite3.DatabaseError as error:
        if not (read_only and path.is_file() and _code(error) in _NO_RIGHTS):
            raise _not_a_store(path, error) from None
        db, version = _open_untouched(path, patience)
    try:
        if version > VERSION:
            raise UserError(
                f"'{path}' has label store version {version}, this prefrl reads up to "
                f"{VERSION}: upgrade prefrl"
            )
        if not _tables(db) >= TABLES if version else read_only:
            raise UserError(
                f"'{path}' is not a label store: it has no labels' tables (of a run under way, "
                f"they may be in {path.name}-wal, which has to be copied with it)"
            )
        if not read_only:
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("PRAGMA synchronous = FULL")
            db.execute("PRAGMA foreign_keys = ON")
            if version < VERSION:
                _migrate(db)
    except sqlite3.DatabaseError as error:
        db.close()
        raise _not_a_store(path, error) from None
    except BaseException:
        db.close()
        raise
    return db


def _tables(db: sqlite3.Connection) -> set[str]:
    return {row[0] for row in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}


def _open(path: Path, mode: str, patience: float) -> tuple[sqlite3.Connection, int]:
    """A connection and the version of the file."""
    place = f"{path.absolute().as_uri()}?mode={mode}"
    db = sqlite3.connect(place, isolation_level=None, timeout=patience, uri=True)
    try:
        return db, db.execute("PRAGMA user_version").fetchone()[0]
    except BaseException:
        db.close()
        raise


def _open_untouched(path: Path, patience: float) -> tuple[sqlite3.Connection, int]:
    """As `_open`, of a file in a folder that this user cannot write to: nothing is made there.

    Raises:
        UserError: It cannot be read, or not so: a trainer's latest answers are in another file.
    """
    real = path.resolve()  # beside which SQLite keeps it
    log = real.with_name(f"{real.name}-wal")
    try:
        if log.exists() and log.stat().st_size:
            raise UserError(
                f"'{path}' is in use, or was left in the middle, and this user may not write there "
                f"('{log.name}' holds its latest answers): copy the whole folder and use the copy"
            )
        with path.open("rb"):  # SQLite would not say why
            pass
        return _open(path, "ro&immutable=1", patience)
    except OSError as error:
        raise UserError(f"cannot read '{path}': {error.strerror}") from None
    except sqlite3.DatabaseError as error:
        raise UserError(f"cannot read '{path}': {error}") from None


def _not_a_store(path: Path, error: sqlite3.DatabaseError) -> Exception:
    """The disk's error as it is, or else a sentence about the file."""
    if _code(error) in _NOT_THE_FILES:
        return error
    return UserError(f"'{path}' is not a label store: {error}")


_NO_RIGHTS = {sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY}
"""SQLite may not make its working files beside the store."""

_NOT_THE_FILES = _NO_RIGHTS | {
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
}
"""What goes wrong with a file that is a store."""


def is_busy(error: Exception) -> bool:
    """Whether SQLite has waited in vain for another process's transaction."""
    return isinstance(error, sqlite3.Error) and _code(error) == sqlite3.SQLITE_BUSY


def _code(error: sqlite3.Error) -> int:
    """SQLite's primary result code; -1 for errors of Python's module itself."""
    code = getattr(error, "sqlite_errorcode", None)
    return -1 if code is None else code & 0xFF


def _migrate(db: sqlite3.Connection) -> None:
    db.execute("BEGIN IMMEDIATE")
    try:
        # Read again: another process may have come first.
        version = db.execute("PRAGMA user_version").fetchone()[0]
        for script in MIGRATIONS[version:]:
            for statement in _statements(script):
                db.execute(statement)
        db.execute(f"PRAGMA user_version = {VERSION}")
    except BaseException:
        db.execute("ROLLBACK")
        raise
    db.execute("COMMIT")


def _statements(script: str) -> Iterator[str]:
    """Single statements of an SQL script (`executescript` would commit on its own)."""
    part = ""
    for line in script.splitlines(keepends=True):
        part += line
        if sqlite3.complete_statement(part):
            yield part
            part = ""

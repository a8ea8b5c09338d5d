"""The ledger: in SQLite, what became of each study, instance and answer; it survives a SIGKILL and a power cut.

    study      nothing taken, collecting  ->  answered | unreadable          a new instance: collecting again
    instance   taken | left out (with its reason)
    answer     waiting  ->  sent  ->  cleared (its files are deleted)

UIDs stand in it, which name the study in the archive; nothing else of the patient.
"""

import os
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vkd_pyro.serving.pacs.selection import Instance
from vkd_pyro.utils.errors import UserError

VERSION = 1
SCHEMA = """
CREATE TABLE studies (
    uid TEXT PRIMARY KEY, state TEXT NOT NULL, heard REAL NOT NULL, attempts INTEGER NOT NULL DEFAULT 0,
    due REAL NOT NULL DEFAULT 0, problem TEXT NOT NULL DEFAULT '');
CREATE TABLE instances (
    uid TEXT PRIMARY KEY, study TEXT NOT NULL, left_out TEXT NOT NULL, on_disk INTEGER NOT NULL, sha256 TEXT NOT NULL);
CREATE INDEX instances_of_study ON instances (study);
CREATE TABLE answers (
    uid TEXT PRIMARY KEY, study TEXT NOT NULL, number INTEGER NOT NULL, state TEXT NOT NULL, made REAL NOT NULL,
    sent REAL, attempts INTEGER NOT NULL DEFAULT 0, due REAL NOT NULL DEFAULT 0, problem TEXT NOT NULL DEFAULT '');
CREATE INDEX answers_of_study ON answers (study);
CREATE TABLE polled (study TEXT PRIMARY KEY, instances INTEGER NOT NULL, at REAL NOT NULL);
"""
NOTHING, COLLECTING, ANSWERED, UNREADABLE = "nothing taken", "collecting", "answered", "unreadable"
WAITING, SENT, CLEARED = "waiting", "sent", "cleared"
ON_DISK, GONE = "on disk", "gone"


@dataclass(frozen=True)
class Complete:
    """A study to be answered.

    Attributes:
        uid: StudyInstanceUID.
        heard: when its last instance came.
        instances: SOPInstanceUIDs of those taken and on disk, sorted.
        gone: how many were taken, answered, and deleted since.
        earlier: SOPInstanceUIDs of the reports sent or to be sent before, the first one first.
        attempts: to answer it, which failed.
    """

    uid: str
    heard: float
    instances: tuple[str, ...]
    gone: int
    earlier: tuple[str, ...]
    attempts: int


@dataclass(frozen=True)
class Answer:
    """An answer to be sent: the report's SOPInstanceUID, the study's, and how many attempts have failed."""

    uid: str
    study: str
    attempts: int


class Ledger:
    """The ledger in a file; safe for threads. Each method is one transaction, on disk when it returns.

    Args:
        path: of the file, made where it is not there, for its owner alone.

    Raises:
        UserError: it is damaged, or another version's.
    """

    def __init__(self, path: Path) -> None:
        os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW, 0o600))
        self._lock = threading.RLock()
        self._connection = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        try:
            for pragma in ("journal_mode=WAL", "synchronous=FULL", "busy_timeout=10000"):
                self._connection.execute(f"PRAGMA {pragma}")
            (version,) = self._connection.execute("PRAGMA user_version").fetchone()
            if version == 0:
                self._connection.executescript(f"BEGIN; {SCHEMA} PRAGMA user_version={VERSION}; COMMIT;")
            elif version != VERSION:
                raise UserError(
                    f"{path}: version {version}, this vkd_pyro reads {VERSION}; choose another spool.folder"
                )
        except sqlite3.DatabaseError as error:
            raise UserError(
                f"{path}: damaged ({error}); move it away, and studies not yet answered are lost"
            ) from error

    def close(self) -> None:
        """Closes the file."""
        with self._lock:
            self._connection.close()

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")

    def _rows(self, query: str, *values: Any) -> list[Any]:
        with self._lock:
            return self._connection.execute(query, values).fetchall()

    # -------------------------------------------------------------------------------------- instances

    def take(self, instance: Instance, sha256: str, now: float | None = None) -> bool:
        """Notes an instance, taken or left out. Returns: whether its study is to be answered, or answered again.

        One that is known changes nothing but the time at which its study was last heard of.
        """
        now = time.time() if now is None else now
        taken = not instance.left_out
        with self._transaction() as db:
            row = db.execute("SELECT study, left_out FROM instances WHERE uid = ?", (instance.uid,)).fetchone()
            is_new = taken and row != (instance.study, "")
            db.execute(
                "INSERT INTO instances VALUES (?, ?, ?, ?, ?) ON CONFLICT (uid) DO UPDATE SET "
                "study = excluded.study, left_out = excluded.left_out, on_disk = excluded.on_disk, "
                "sha256 = excluded.sha256",
                (instance.uid, instance.study, instance.left_out, int(taken), sha256),
            )
            study = (
                "INSERT INTO studies (uid, state, heard) VALUES (?, ?, ?) "
                "ON CONFLICT (uid) DO UPDATE SET heard = excluded.heard"
            )
            db.execute(study, (instance.study, NOTHING, now))
            if taken:
                # The same instance may be whole this time, where nothing of its study could be read before.
                db.execute(
                    "UPDATE studies SET state = ?, attempts = 0, due = 0, problem = '' "
                    "WHERE uid = ? AND (? OR state = ?)",
                    (COLLECTING, instance.study, is_new, UNREADABLE),
                )
        return is_new

    def of_study(self, study: str) -> dict[str, str]:
        """The instances of a study that are known: SOPInstanceUID -> `ON_DISK`, `GONE`, or why it was left out."""
        rows = self._rows("SELECT uid, left_out, on_disk FROM instances WHERE study = ?", study)
        return {uid: left_out or (ON_DISK if on_disk else GONE) for uid, left_out, on_disk in rows}

    def files(self) -> tuple[list[str], list[str]]:
        """SOPInstanceUIDs of the instances that are on disk, and of the answers that are known."""
        instances = self._rows("SELECT uid FROM instances WHERE on_disk = 1")
        answers = self._rows("SELECT uid FROM answers WHERE state != ?", CLEARED)
        return [row[0] for row in instances], [row[0] for row in answers]

    # ---------------------------------------------------------------------------------------- studies

    def complete(self, quiet: float, since: float, now: float | None = None) -> Complete | None:
        """The study that has been quiet longest, of those due; None where there is none.

        Args:
            quiet: seconds without a new instance, after which a study is complete.
            since: when the node began to listen; what was sent before it could hear is not known.
            now: the time.
        """
        now = time.time() if now is None else now
        rows = self._rows(
            "SELECT uid, heard, attempts FROM studies WHERE state = ? AND due <= ? AND ? - max(heard, ?) >= ? "
            "ORDER BY heard LIMIT 1",
            *(COLLECTING, now, now, since, quiet),
        )
        if not rows:
            return None
        uid, heard, attempts = rows[0]
        found = self._rows("SELECT uid, on_disk FROM instances WHERE study = ? AND left_out = '' ORDER BY uid", uid)
        return Complete(
            uid=uid,
            heard=heard,
            instances=tuple(instance for instance, on_disk in found if on_disk),
            gone=sum(not on_disk for _, on_disk in found),
            earlier=tuple(row[0] for row in self._rows("SELECT uid FROM answers WHERE study = ? ORDER BY number", uid)),
            attempts=attempts,
        )

    def answered(self, study: Complete, uid: str, now: float | None = None) -> None:
        """Notes the answer to a study, which waits to be sent; nothing where it is noted already.

        An instance that came meanwhile leaves the study to be answered again.
        """
        now = time.time() if now is None else now
        with self._transaction() as db:
            db.execute(
                "INSERT OR IGNORE INTO answers (uid, study, number, state, made) VALUES (?, ?, ?, ?, ?)",
                (uid, study.uid, len(study.earlier) + 1, WAITING, now),
            )
            self._settle(db, study, ANSWERED)

    def unreadable(self, study: Complete, problem: str) -> None:
        """Notes that nothing can be said of a study; an instance that comes may change that."""
        with self._transaction() as db:
            self._settle(db, study, UNREADABLE, problem)

    @staticmethod
    def _settle(db: sqlite3.Connection, study: Complete, state: str, problem: str = "") -> None:
        taken = "SELECT COUNT(*) FROM instances WHERE study = ? AND left_out = ''"
        if db.execute(taken, (study.uid,)).fetchone()[0] == len(study.instances) + study.gone:
            change = "UPDATE studies SET state = ?, problem = ?, attempts = 0 WHERE uid = ?"
            db.execute(change, (state, problem, study.uid))

    def postpone_study(self, study: str, due: float, problem: str) -> None:
        """Notes that answering a study failed, and when it is tried again."""
        with self._transaction() as db:
            change = "UPDATE studies SET attempts = attempts + 1, due = ?, problem = ? WHERE uid = ?"
            db.execute(change, (due, problem, study))

    # ---------------------------------------------------------------------------------------- answers

    def due_answer(self, longest: float, now: float | None = None) -> Answer | None:
        """The first answer that is due to be sent; a wait longer than the longest is a clock that was set back."""
        now = time.time() if now is None else now
        query = "SELECT uid, study, attempts FROM answers WHERE state = ? AND (due <= ? OR due > ?) ORDER BY made"
        rows = self._rows(f"{query} LIMIT 1", WAITING, now, now + longest)
        return Answer(*rows[0]) if rows else None

    def sent(self, uid: str, now: float | None = None) -> None:
        """Notes that the archive has an answer."""
        with self._transaction() as db:
            change = "UPDATE answers SET state = ?, sent = ?, problem = '' WHERE uid = ?"
            db.execute(change, (SENT, time.time() if now is None else now, uid))

    def lost(self, answer: Answer) -> None:
        """Notes that the files of an answer are gone before it was sent: its study is answered anew."""
        with self._transaction() as db:
            db.execute("DELETE FROM answers WHERE uid = ?", (answer.uid,))
            db.execute("UPDATE studies SET state = ?, due = 0 WHERE uid = ?", (COLLECTING, answer.study))

    def postpone_answer(self, uid: str, due: float, problem: str) -> None:
        """Notes that the archive did not take an answer, and when it is tried again."""
        with self._transaction() as db:
            change = "UPDATE answers SET attempts = attempts + 1, due = ?, problem = ? WHERE uid = ?"
            db.execute(change, (due, problem, uid))

    def postpone_due_answers(self, until: float, problem: str, now: float | None = None) -> None:
        """The same for all answers that are due: the archive could not be reached."""
        with self._transaction() as db:
            change = "UPDATE answers SET attempts = attempts + 1, due = ?, problem = ? WHERE state = ? AND due <= ?"
            db.execute(change, (until, problem, WAITING, time.time() if now is None else now))

    # --------------------------------------------------------------------------------------- clearing

    def finished(self, before: float) -> tuple[list[str], list[str]]:
        """What may be deleted: instances of studies that have nothing to wait for, and answers that were sent.

        Args:
            before: studies heard of, and answers sent, before this time.
        """
        instances = self._rows(
            "SELECT instances.uid FROM instances JOIN studies ON studies.uid = instances.study "
            "WHERE on_disk = 1 AND studies.state != ? AND heard <= ? AND NOT EXISTS (SELECT 1 FROM answers "
            "WHERE answers.study = studies.uid AND (answers.state = ? OR answers.sent > ?))",
            *(COLLECTING, before, WAITING, before),
        )
        answers = self._rows("SELECT uid FROM answers WHERE state = ? AND sent <= ?", SENT, before)
        return [row[0] for row in instances], [row[0] for row in answers]

    def deleted(self, instances: Sequence[str], answers: Sequence[str] = ()) -> None:
        """Notes that files of instances and of answers were deleted."""
        with self._transaction() as db:
            db.executemany("UPDATE instances SET on_disk = 0 WHERE uid = ?", [(uid,) for uid in instances])
            db.executemany("UPDATE answers SET state = ? WHERE uid = ?", [(CLEARED, uid) for uid in answers])

    def forget(self, before: float) -> None:
        """Removes studies that were last heard of before a time and wait for nothing."""
        old = (
            "SELECT uid FROM studies WHERE state != ? AND heard <= ? AND NOT EXISTS "
            "(SELECT 1 FROM answers WHERE answers.study = studies.uid AND answers.state = ?)"
        )
        values = (COLLECTING, before, WAITING)
        with self._transaction() as db:
            for table in ("answers", "instances"):
                db.execute(f"DELETE FROM {table} WHERE study IN ({old})", values)
            db.execute(f"DELETE FROM studies WHERE uid IN ({old})", values)
            db.execute("DELETE FROM polled WHERE at <= ?", (before,))

    def counts(self) -> dict[str, int]:
        """How many studies are in each state, and how many answers wait."""
        found = dict(self._rows("SELECT state, COUNT(*) FROM studies GROUP BY state"))
        found[WAITING] = self._rows("SELECT COUNT(*) FROM answers WHERE state = ?", WAITING)[0][0]
        return found

    # ---------------------------------------------------------------------------------------- polling

    def polled(self, study: str) -> int | None:
        """How many instances a study had in the archive when all of it was last looked through."""
        rows = self._rows("SELECT instances FROM polled WHERE study = ?", study)
        return rows[0][0] if rows else None

    def note_polled(self, study: str, instances: int) -> None:
        """Notes that."""
        with self._transaction() as db:
            db.execute("INSERT OR REPLACE INTO polled VALUES (?, ?, ?)", (study, instances, time.time()))

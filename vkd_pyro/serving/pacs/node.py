"""The node: receives and polls, answers what is complete, sends what is answered, deletes what is sent.

Each of these is a loop of its own, and they meet in the ledger alone. So a SIGKILL at any moment leaves a state from
which the next start goes on: what was acknowledged is on disk; an answer that was made is sent; one that was sent and
not yet noted is sent again under the same UIDs.
"""

import logging
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from vkd_pyro.artifacts.predictor import Predictor
from vkd_pyro.data.images.quiet import quiet_readers
from vkd_pyro.serving.pacs.answering import Answered, Answerer
from vkd_pyro.serving.pacs.identifiers import in_logs
from vkd_pyro.serving.pacs.intake import Intake
from vkd_pyro.serving.pacs.ledger import Ledger
from vkd_pyro.serving.pacs.polling import Poller
from vkd_pyro.serving.pacs.receiving import Receiver
from vkd_pyro.serving.pacs.sending import NotTaken, Send, Unreachable, sender
from vkd_pyro.serving.pacs.settings import PacsSettings
from vkd_pyro.serving.pacs.spool import SpoolFolder
from vkd_pyro.serving.pacs.waits import wait_after
from vkd_pyro.serving.pacs.web import FAILURES
from vkd_pyro.utils.locks import locked

log = logging.getLogger(__name__)

LEDGER = "ledger.sqlite"
TALKATIVE = ("pynetdicom", "pydicom", "highdicom", "dicomweb_client", "urllib3", "requests", "retrying")
"""Libraries whose logs may hold identifiers; they are silent while a node runs, and the node says what matters."""
IDLE = 0.2
"""Seconds between two looks for something to do."""
HOUR, DAY = 3600.0, 86400.0


class Node:
    """A node.

    Args:
        predictor: a bundle or an export.
        settings: all settings.
        send: what sends to the archive; by default what the settings name.

    Attributes:
        port: that it listens on, once it runs.
    """

    def __init__(self, predictor: Predictor, settings: PacsSettings, send: Send | None = None) -> None:
        self.predictor, self.settings = predictor, settings
        self.send = send or sender(settings)
        self.port: int | None = None
        self.ready = threading.Event()

    def run(self, stop: threading.Event) -> None:
        """Runs until `stop` is set; what is being answered or sent then is finished first.

        Raises:
            UserError: another node has the spool, it is damaged, or the port is taken.
        """
        self.spool = SpoolFolder(self.settings.spool.folder)
        with ExitStack() as stack:
            stack.enter_context(locked(self.spool.folder, "vkd pacs"))
            stack.enter_context(quiet_readers())
            stack.enter_context(_silent())
            self.ledger = Ledger(self.spool.folder / LEDGER)
            stack.callback(self.ledger.close)
            self.spool.remove_others(*self.ledger.files())
            self.answerer = Answerer(self.predictor, self.settings.answer, self.spool)
            intake = Intake(self.spool, self.ledger, self.predictor.views)
            self.since, self.forgotten = time.time(), 0.0
            if self.settings.receive is not None:
                receiver = stack.enter_context(Receiver(self.settings.receive, intake))
                self.port = receiver.port
                log.info("listening on %s:%d", self.settings.receive.host, self.port)
            loops = {"answering": self._answer_next, "sending": self._send_next, "clearing": self._clear}
            if self.settings.poll is not None:
                loops["polling"] = _Polling(Poller(self.settings.poll, intake), self.settings).step
            threads = [
                threading.Thread(target=_loop, args=(name, step, stop), name=name) for name, step in loops.items()
            ]
            for thread in threads:
                thread.start()
            self.ready.set()
            for thread in threads:
                thread.join()
        log.info("stopped")

    # ------------------------------------------------------------------------------------------ steps

    def _answer_next(self) -> float:
        """Answers the study that has been complete longest. Returns: seconds until the next look."""
        study = self.ledger.complete(self.settings.answer.quiet_seconds, self.since)
        if study is None:
            return IDLE
        uid = self.answerer.uid(study)
        if uid in study.earlier:  # what was sent again changes nothing
            self.ledger.answered(study, uid)
            return 0.0
        try:
            answer = self.answerer.answer(study)
        except Exception as error:  # of any kind: one study must not keep the node from the others
            wait = wait_after(study.attempts, self.settings.wait)
            log.error("%s: not answered (%s); again in %.3g s", in_logs(study.uid), _kind(error), wait)
            self.ledger.postpone_study(study.uid, time.time() + wait, _kind(error))
            return 0.0
        if isinstance(answer, Answered):
            self.ledger.answered(study, answer.uid)
            log.info(
                "%s: answered, %d images, %d documents", in_logs(study.uid), len(study.instances), answer.documents
            )
        else:
            self.ledger.unreadable(study, answer.problem)
            log.warning("%s: cannot be answered: %s", in_logs(study.uid), answer.problem)
        return 0.0

    def _send_next(self) -> float:
        """Sends the answer that has waited longest. Returns: seconds until the next look."""
        answer = self.ledger.due_answer(self.settings.wait.longest_seconds)
        if answer is None:
            return IDLE
        documents = self.spool.documents(answer.uid)
        if not documents:
            log.error("%s: the answer is gone from the spool; made anew", in_logs(answer.study))
            self.ledger.lost(answer)
            return 0.0
        wait = wait_after(answer.attempts, self.settings.wait)
        try:
            self.send(documents)
        except Unreachable as error:
            log.warning("archive cannot be reached: %s; again in %.3g s", error, wait)
            self.ledger.postpone_due_answers(time.time() + wait, str(error))
            return 0.0
        except Exception as error:  # of any kind: it is tried again, and the others are sent
            why = str(error) if isinstance(error, NotTaken) else _kind(error)
            log.error("%s: archive did not take the answer: %s; again in %.3g s", in_logs(answer.study), why, wait)
            self.ledger.postpone_answer(answer.uid, time.time() + wait, why)
            return 0.0
        self.ledger.sent(answer.uid)
        log.info("%s: answer is in the archive", in_logs(answer.study))
        return 0.0

    def _clear(self) -> float:
        """Deletes what the archive has. Returns: seconds until the next look.

        Images stay for as long as a study must be quiet, so that one that is sent again, with others that are new, is
        judged with them.
        """
        settings, now = self.settings.spool, time.time()
        with self.spool.lock:
            kept = max(settings.keep_hours * HOUR, self.settings.answer.quiet_seconds)
            instances, answers = self.ledger.finished(now - kept)
            if instances or answers:
                self.spool.remove(instances, answers)
                self.ledger.deleted(instances, answers)
        if now - self.forgotten > HOUR:
            self.forgotten = now
            self.ledger.forget(now - settings.ledger_days * DAY)
            log.info("so far: %s", _counts(self.ledger))
        return 5 * IDLE


class _Polling:
    """A poll, and when the next one is."""

    def __init__(self, poller: Poller, settings: PacsSettings) -> None:
        self.poller, self.settings, self.attempts, self.next = poller, settings, 0, 0.0

    def step(self) -> float:
        """Polls where it is time. Returns: seconds until the next look."""
        if time.monotonic() < self.next:
            return IDLE
        assert self.settings.poll is not None
        wait = self.settings.poll.seconds
        try:
            self.poller.poll()
            self.attempts = 0
        except FAILURES as error:
            wait = max(wait, wait_after(self.attempts, self.settings.wait))
            self.attempts += 1
            log.warning("archive cannot be asked (%s); again in %.3g s", _kind(error), wait)
        self.next = time.monotonic() + wait
        return IDLE


def _loop(name: str, step: Callable[[], float], stop: threading.Event) -> None:
    """Takes step after step; one that fails, as on a full disk, is said, and the next one is taken a while later."""
    wait = 0.0
    while not stop.wait(wait):
        try:
            wait = step()
        except Exception as error:  # of any kind: the node runs on
            log.error("%s: failed (%s)", name, _kind(error))
            wait = 25 * IDLE


def _kind(error: Exception) -> str:
    """An error by its class: its text may hold what is in a file."""
    return type(error).__name__


def _counts(ledger: Ledger) -> str:
    return ", ".join(f"{count} {state}" for state, count in sorted(ledger.counts().items()))


@contextmanager
def _silent() -> Iterator[None]:
    """Silences libraries while the block lasts: their logs, and their warnings, which may quote a patient's name."""
    levels = {name: logging.getLogger(name).level for name in TALKATIVE}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in TALKATIVE:
            logging.getLogger(name).setLevel(logging.CRITICAL + 1)
        try:
            yield
        finally:
            for name, level in levels.items():
                logging.getLogger(name).setLevel(level)

"""Settings of the node, as configs/pacs.yaml has them."""

import ipaddress
import re
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from vkd_pyro.utils.errors import UserError, check_count, check_number, check_probability

AE_TITLE = re.compile(r"(?! )[ -\[\]-~]{1,16}(?<! )")
"""An application entity's title: up to 16 characters of ASCII, without a backslash."""


@dataclass(frozen=True)
class Receiving:
    """Listening for instances (C-STORE), and for the question whether it is there (C-ECHO).

    Args:
        port: to listen on.
        host: address to listen on; the machine itself alone, unless said.
        ae_title: of this node.
        calling_ae_titles: who may send; may be empty, anybody, only where the machine itself alone is heard.
        max_megabytes: of one instance; a larger one is refused.
        max_associations: at the same time.
    """

    port: int = 11112
    host: str = "127.0.0.1"
    ae_title: str = "VKD"
    calling_ae_titles: list[str] = field(default_factory=list)
    max_megabytes: int = 128
    max_associations: int = 4


@dataclass(frozen=True)
class Web:
    """A DICOMweb archive.

    Args:
        url: of its services, e.g. http://127.0.0.1:8042/dicom-web.
        authorization_file: a file with the value of the HTTP header Authorization, e.g. "Bearer 3f1c..."; none by
            default.
        ca_file: certificates that its own is checked by, in PEM; those of the system by default.
        timeout_seconds: until an answer is given up.
    """

    url: str
    authorization_file: Path | None = None
    ca_file: Path | None = None
    timeout_seconds: float = 30.0


@dataclass(frozen=True)
class Polling:
    """Asking a DICOMweb archive for new chest radiographs.

    Args:
        archive: which.
        seconds: between two questions.
        days: by study date, today and so many days before.
        max_megabytes: of one instance; a larger one is left out.
    """

    archive: Web
    seconds: float = 60.0
    days: int = 1
    max_megabytes: int = 128


@dataclass(frozen=True)
class Dicom:
    """An archive that answers are sent to by C-STORE.

    Args:
        host, port, ae_title: of the archive.
        calling_ae_title: by which this node calls it.
        timeout_seconds: until an answer is given up.
    """

    host: str
    port: int
    ae_title: str
    calling_ae_title: str = "VKD"
    timeout_seconds: float = 30.0


@dataclass(frozen=True)
class Spool:
    """What is kept on disk.

    Args:
        folder: of this node alone; only its owner may enter.
        keep_hours: that images and answers stay after the archive has the answer; 0 deletes them then.
        ledger_days: that the ledger remembers an answered study.
    """

    folder: Path = Path("pacs_spool")
    keep_hours: float = 0.0
    ledger_days: float = 90.0


@dataclass(frozen=True)
class Answering:
    """How a study is answered.

    Args:
        quiet_seconds: without a new instance, after which a study is complete.
        num_samples: draws of z.
        seed: of the draws.
        level: of the intervals.
        overlays: whether pictures of where findings are seen are sent too, as secondary captures.
    """

    quiet_seconds: float = 60.0
    num_samples: int = 100
    seed: int = 0
    level: float = 0.95
    overlays: bool = True


@dataclass(frozen=True)
class Waiting:
    """Waits after which something is tried again: doubled each time, at random up to a half shorter.

    Args:
        first_seconds: the first.
        longest_seconds: no wait is longer.
    """

    first_seconds: float = 5.0
    longest_seconds: float = 3600.0


@dataclass(frozen=True)
class PacsSettings:
    """All settings of a node.

    Args:
        receive: listening by C-STORE; null does not listen.
        poll: asking a DICOMweb archive; null does not ask.
        send_dicom: the archive that answers go to, by C-STORE; one of the two.
        send_web: the same, by STOW-RS.
        spool: what is kept on disk.
        answer: how a study is answered.
        wait: when something is tried again.

    Raises:
        UserError: a value that cannot be.
    """

    receive: Receiving | None = None
    poll: Polling | None = None
    send_dicom: Dicom | None = None
    send_web: Web | None = None
    spool: Spool = Spool()
    answer: Answering = Answering()
    wait: Waiting = Waiting()

    def __post_init__(self) -> None:
        if self.receive is None and self.poll is None:
            raise UserError("receive, poll: both are null, so no study would ever come; set one, or both")
        if (self.send_dicom is None) == (self.send_web is None):
            found = "neither" if self.send_dicom is None else "both"
            raise UserError(f"send_dicom, send_web: found {found}, expected one, the archive that answers go to")
        if self.receive is not None:
            _check_receiving(self.receive)
        if self.poll is not None:
            _check_web("poll.archive", self.poll.archive)
            check_number("poll.seconds", self.poll.seconds, above=0)
            check_count("poll.days", self.poll.days, 0, 366)
            check_count("poll.max_megabytes", self.poll.max_megabytes, 1, 512)
        if self.send_web is not None:
            _check_web("send_web", self.send_web)
        if self.send_dicom is not None:
            _check_dicom(self.send_dicom)
        self._check_rest()

    def _check_rest(self) -> None:
        check_number("spool.keep_hours", self.spool.keep_hours)
        least = 1.0 + (self.poll.days if self.poll else 0)
        check_number("spool.ledger_days", self.spool.ledger_days, least)
        check_number("answer.quiet_seconds", self.answer.quiet_seconds, above=0)
        check_count("answer.num_samples", self.answer.num_samples, 1, 10_000)
        check_probability("answer.level", self.answer.level)
        check_number("wait.first_seconds", self.wait.first_seconds, above=0)
        check_number("wait.longest_seconds", self.wait.longest_seconds, self.wait.first_seconds)


def is_loopback(host: str) -> bool:
    """Whether an address is heard by this machine alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _check_receiving(receive: Receiving) -> None:
    check_count("receive.port", receive.port, 0, 65535)
    check_count("receive.max_megabytes", receive.max_megabytes, 1, 512)
    check_count("receive.max_associations", receive.max_associations, 1, 100)
    _check_title("receive.ae_title", receive.ae_title)
    for title in receive.calling_ae_titles:
        _check_title("receive.calling_ae_titles", title)
    if not receive.calling_ae_titles and not is_loopback(receive.host):
        raise UserError(
            f"receive.calling_ae_titles: empty, and {receive.host} is heard by other machines; name who may send, "
            "or listen on 127.0.0.1"
        )


def _check_dicom(archive: Dicom) -> None:
    check_count("send_dicom.port", archive.port, 1, 65535)
    _check_title("send_dicom.ae_title", archive.ae_title)
    _check_title("send_dicom.calling_ae_title", archive.calling_ae_title)
    check_number("send_dicom.timeout_seconds", archive.timeout_seconds, above=0)


def _check_web(name: str, archive: Web) -> None:
    parts = urlsplit(archive.url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.password:
        raise UserError(f"{name}.url: expected http(s)://HOST/PATH, without a password; see authorization_file")
    for field_name in ("authorization_file", "ca_file"):
        path = getattr(archive, field_name)
        if path is not None and not path.is_file():
            raise UserError(f"{name}.{field_name}: no file {path}")
    check_number(f"{name}.timeout_seconds", archive.timeout_seconds, above=0)


def _check_title(name: str, title: str) -> None:
    if not AE_TITLE.fullmatch(title):
        raise UserError(f"{name}: found {title[:40]!r}, expected 1 to 16 characters of ASCII, without a backslash")

"""A client of a DICOMweb archive, whose answers are limited in time and size."""

from typing import Any

import requests
from dicomweb_client import DICOMwebClient

from vkd_pyro.serving.pacs.settings import Web
from vkd_pyro.utils.errors import UserError
from vkd_pyro.utils.reading import read_text

MAX_LIST = 32 << 20
"""Bytes of a list of studies, series or instances, at most."""
FAILURES = (requests.RequestException, OSError, ValueError, KeyError, AssertionError)
"""What `DICOMwebClient` raises where an archive is not there, or does not answer as the standard says."""


class TooLong(OSError):
    """An answer with more bytes than were allowed."""


class LimitedSession(requests.Session):
    """A session that reads no more of an answer than is allowed, and follows no redirection.

    Attributes:
        limit: bytes of an answer, at most.
    """

    def __init__(self) -> None:
        super().__init__()
        self.limit = MAX_LIST
        self.trust_env = False  # no proxy and no password that happens to lie in the environment
        self.max_redirects = 0

    def send(self, request: requests.PreparedRequest, **options: Any) -> requests.Response:
        """The answer, read whole."""
        response = super().send(request, **(options | {"stream": True, "allow_redirects": False}))
        parts, size = [], 0
        for part in response.iter_content(1 << 16):
            size += len(part)
            if size > self.limit:
                response.close()
                raise TooLong(f"more than {self.limit} bytes")
            parts.append(part)
        response._content = b"".join(parts)
        return response


def client(archive: Web, limit: int = MAX_LIST) -> DICOMwebClient:
    """A client of an archive.

    Args:
        archive: which.
        limit: bytes of an answer, at most.

    Raises:
        UserError: the file of authorization cannot be read, or is no value of a header.
    """
    session = LimitedSession()
    session.limit = limit
    if archive.ca_file is not None:
        session.verify = str(archive.ca_file)
    if archive.authorization_file is not None:
        value = read_text(archive.authorization_file).strip()
        if not value or not value.isascii() or not value.isprintable():
            raise UserError(f"authorization_file: {archive.authorization_file}: expected one line, e.g. Bearer 3f1c...")
        session.headers["Authorization"] = value
    made = DICOMwebClient(archive.url.rstrip("/"), session=session, timeout=archive.timeout_seconds)
    made.set_http_retry_params(retry=False)
    return made

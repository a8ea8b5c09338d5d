"""Receiving by C-STORE: an instance is acknowledged when it is on disk, and refused with the status that says why.

pynetdicom holds an instance in memory until it is whole; what a peer can make it hold is limited here.
"""

import logging
from io import BytesIO
from typing import Any

from pynetdicom import AE, ALL_TRANSFER_SYNTAXES, evt

from vkd_pyro.serving.pacs.intake import Intake
from vkd_pyro.serving.pacs.selection import FOR_PRESENTATION, FOR_PROCESSING, OUT_OF_RESOURCES, Refused
from vkd_pyro.serving.pacs.settings import Receiving
from vkd_pyro.utils.errors import UserError

log = logging.getLogger(__name__)

SUCCESS = 0x0000
VERIFICATION = "1.2.840.10008.1.1"
MAX_PDU = 65536
"""Bytes of a protocol data unit that this node asks for; much longer ones end the connection."""
MAX_COMMAND = 65536
"""Bytes of the command before a data set; usual ones have some hundred."""
DEFLATED = "1.2.840.10008.1.2.1.99"
"""A transfer syntax that is not accepted: what is in it could inflate to any size."""


class Receiver:
    """Listens while the block lasts.

    Args:
        settings: where, and to whom.
        intake: takes what comes.

    Attributes:
        port: that it listens on, where the settings say 0.

    Raises:
        UserError: the port is taken, or is another user's.
    """

    def __init__(self, settings: Receiving, intake: Intake) -> None:
        self.settings, self.intake, self.port = settings, intake, settings.port
        self._limit = settings.max_megabytes << 20

    def __enter__(self) -> "Receiver":
        entity = AE(self.settings.ae_title)
        entity.maximum_pdu_size, entity.maximum_associations = MAX_PDU, self.settings.max_associations
        entity.require_called_aet, entity.require_calling_aet = True, list(self.settings.calling_ae_titles)
        entity.add_supported_context(VERIFICATION)
        syntaxes = decodable()
        for sop_class in (*FOR_PRESENTATION, FOR_PROCESSING):
            entity.add_supported_context(sop_class, syntaxes)
        handlers: list[Any] = [
            (evt.EVT_C_STORE, self._store),
            (evt.EVT_CONN_OPEN, _limit_units),
            (evt.EVT_PDU_RECV, self._limit_message),
        ]
        host, port = self.settings.host, self.settings.port
        try:
            server = entity.start_server((host, port), block=False, evt_handlers=handlers)
        except OSError as error:
            raise UserError(f"receive: cannot listen on {host}:{port} ({error.strerror}); choose another") from error
        assert server is not None
        self._entity, self.port = entity, server.server_address[1]
        return self

    def __exit__(self, *_: object) -> None:
        self._entity.shutdown()

    def _store(self, event: evt.Event) -> int:
        request: Any = event.request
        try:
            if isinstance(request.DataSet, TooLarge):
                raise Refused(OUT_OF_RESOURCES, f"larger than {self.settings.max_megabytes} MB")
            uid, sop_class = str(request.AffectedSOPInstanceUID), str(request.AffectedSOPClassUID)
            self.intake.take(uid, event.encoded_dataset(), sop_class)
        except Refused as refused:
            log.warning("instance refused with status 0x%04X: %s", refused.status, refused.reason)
            return refused.status
        return SUCCESS

    def _limit_message(self, event: evt.Event) -> None:
        """Stops to keep what comes of an instance that is too large; it is refused when it has passed."""
        message: Any = event.assoc.dimse.message
        if message is None:
            return
        if message.data_set.tell() > self._limit:
            message.data_set = TooLarge()
        if message.encoded_command_set.tell() > MAX_COMMAND:
            message.encoded_command_set = TooLarge()


class TooLarge(BytesIO):
    """Stands for what is not kept."""

    def write(self, content: Any) -> int:
        """Keeps nothing."""
        return len(content)


def _limit_units(event: evt.Event) -> None:
    """Ends a connection whose next unit is too long, or which sends without waiting for any answer."""
    association: Any = event.assoc
    socket = association.dul.socket
    receive = socket.recv

    def limited(size: int) -> bytearray:
        if size > 4 * MAX_PDU or association.dimse.msg_queue.qsize() > 1:
            raise OSError("more than was asked for")
        return receive(size)

    socket.recv = limited


def decodable() -> list[str]:
    """The transfer syntaxes whose pixels can be read here, so that an archive sends none that cannot."""
    from pydicom.pixels import get_decoder

    found = []
    for syntax in ALL_TRANSFER_SYNTAXES:
        try:
            if syntax != DEFLATED and get_decoder(syntax).is_available:
                found.append(str(syntax))
        except NotImplementedError:  # of a film
            continue
    return found

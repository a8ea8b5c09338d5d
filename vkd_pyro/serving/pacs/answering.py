"""From a complete study to the documents that answer it: pictures of where findings are seen, then the report."""

import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pydicom import Dataset, dcmwrite

from vkd_pyro.artifacts.export import Export
from vkd_pyro.artifacts.predictor import Predictor
from vkd_pyro.prediction.files import Predicted, predict_files
from vkd_pyro.prediction.images import Unread
from vkd_pyro.prediction.prediction import UncertaintySources
from vkd_pyro.serving.pacs.identifiers import report_uid
from vkd_pyro.serving.pacs.ledger import Complete
from vkd_pyro.serving.pacs.secondary_capture import secondary_captures
from vkd_pyro.serving.pacs.settings import Answering
from vkd_pyro.serving.pacs.spool import SpoolFolder
from vkd_pyro.serving.pacs.structured_report import Algorithm, structured_report
from vkd_pyro.serving.pacs.study_header import study_header

if TYPE_CHECKING:
    from vkd_pyro.prediction.overlays import Drawing


@dataclass(frozen=True)
class Answered:
    """An answer: the SOPInstanceUID of its report, and how many documents it has."""

    uid: str
    documents: int


@dataclass(frozen=True)
class NotAnswered:
    """Why nothing can be said of a study."""

    problem: str


class Answerer:
    """Answers studies into the spool.

    Args:
        predictor: a bundle or an export; pictures need a bundle.
        settings: how.
        spool: where images are, and answers go.

    Raises:
        UserError: pictures are wanted of a bundle, and cannot be drawn: see `Drawing`.
    """

    def __init__(self, predictor: Predictor, settings: Answering, spool: SpoolFolder) -> None:
        self.predictor, self.settings, self.spool = predictor, settings, spool
        self.uncertainty = UncertaintySources(settings.num_samples, seed=settings.seed)
        self.algorithm = Algorithm(predictor.bundle_hash, settings.num_samples, settings.seed, settings.level)
        self.drawing = _drawing(predictor, settings)

    def uid(self, study: Complete) -> str:
        """SOPInstanceUID of the report on a study: by the bundle, the study and its instances."""
        return report_uid(self.algorithm.bundle, study.uid, study.instances)

    def answer(self, study: Complete) -> Answered | NotAnswered:
        """Predicts a study and puts the documents on disk.

        Raises:
            UserError: the disk is full.
        """
        if not study.instances:  # all were corrected, and then left out
            return NotAnswered("no image")
        files = {self.spool.instance(uid): uid for uid in study.instances}
        results = list(predict_files(self.predictor, [tuple(files)], self.uncertainty, level=self.settings.level))
        unread = [result for result in results if isinstance(result, Unread)]
        said = next((result for result in results if isinstance(result, Predicted)), None)
        if said is None:
            return NotAnswered(unread[0].problem)
        documents = [_encoded(document) for document in self._documents(study, said, unread, files)]
        self.spool.put_answer(self.uid(study), documents)
        return Answered(self.uid(study), len(documents))

    def _documents(
        self, study: Complete, said: Predicted, unread: list[Unread], files: dict[Path, str]
    ) -> Iterator[Dataset]:
        """The report last, so that who sees it finds the pictures."""
        uid, number = self.uid(study), len(study.earlier) + 1
        headers = {path: study_header(path) for path in said.images}
        if self.drawing is not None:
            yield from secondary_captures(self.drawing, said, headers, uid, number, self.algorithm)
        comments = [f"Image {files[one.image]} was not judged: {one.problem}" for one in unread]
        if study.gone:
            comments.append(f"{study.gone} more images were judged in an earlier report and are not judged here")
        images = list(headers.values())
        yield structured_report(uid, number, said, images, self.algorithm, comments, study.earlier)


def _drawing(predictor: Predictor, settings: Answering) -> "Drawing | None":
    if isinstance(predictor, Export) or not settings.overlays:
        return None
    from vkd_pyro.prediction.overlays import Drawing  # with PyTorch, which an export does without

    return Drawing([predictor], None, settings.seed)


def _encoded(document: Dataset) -> bytes:
    """A document as a DICOM file."""
    file = io.BytesIO()
    dcmwrite(file, document, enforce_file_format=True)
    return file.getvalue()

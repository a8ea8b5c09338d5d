"""What several test files share: a corpus small enough to train on in seconds."""

from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from vkd_pyro.data.loading import Loading
from vkd_pyro.data.selection import Selection
from vkd_pyro.data.splits import split_of
from vkd_pyro.data.study import Corpus, Study
from vkd_pyro.data.study_data import StudyData
from vkd_pyro.data.task import Task


def pytest_configure(config):
    """A network of a few steps ignores z, and says so; `test_collapse.py` is about that."""
    config.addinivalue_line("filterwarnings", "ignore:(z is|reports are) ignored")


CORNERS = {"Upper Square": (2, 2), "Lower Square": (20, 20), "Rare Square": (2, 20)}


class TinyCorpus(Corpus):
    """Noise of 32 pixels with a bright square where a finding is present, and a report that says so.

    The last finding is never present in the test split, so its AUC is undefined there.

    Args:
        num_studies: as many patients, one image each.
    """

    name = "tiny"
    findings = tuple(CORNERS)

    def __init__(self, num_studies: int = 60) -> None:
        self.num_studies = num_studies

    def studies(self) -> list[Study]:
        """The studies, in the order of their number."""
        return [self._study(number) for number in range(self.num_studies)]

    def _study(self, number: int) -> Study:
        generator = np.random.default_rng(number)
        patient = f"patient-{number:04d}"
        split = split_of(self.name, patient)
        labels = (generator.random(len(CORNERS)) < 0.5).astype(np.float32)
        labels[-1] *= split != "test"
        pixels = generator.integers(0, 128, (32, 32), dtype=np.uint8)
        for (row, column), present in zip(CORNERS.values(), labels, strict=True):
            pixels[row : row + 10, column : column + 10] += np.uint8(120 * present)
        seen = [name.lower() for name, present in zip(CORNERS, labels, strict=True) if present]
        return Study(
            study_id=f"study-{number:04d}",
            patient_id=patient,
            images=(pixels,),
            views=("frontal",),
            report={
                "report": f"The radiologist sees {' and '.join(seen)}." if seen else "The radiologist sees nothing."
            },
            labels=labels,
            split=split,
        )


def study_data(corpus: Corpus, **options) -> StudyData:
    """`StudyData` from options of `Selection`, `Task` and `Loading`, each given to the one that has it."""
    parts = [
        kind(**{f.name: options.pop(f.name) for f in fields(kind) if f.name in options}) for kind in (Task, Loading)
    ]
    return StudyData(Selection(corpus, **options), *parts)


@pytest.fixture(scope="session")
def bundle_folder(tmp_path_factory) -> Path:
    """A bundle of a network of a few steps, calibrated."""
    from tests.test_predict import DATA, trained
    from vkd_pyro.artifacts.bundle import save_bundle
    from vkd_pyro.training.posthoc import calibrate

    folder, network = tmp_path_factory.mktemp("small") / "bundle", trained(0)
    calibration = calibrate(network, DATA)
    save_bundle(folder, network.model, DATA.findings, DATA.transform, "# Card", {"views": "frontal"}, calibration)
    return folder


@pytest.fixture(scope="session")
def xrays(tmp_path_factory) -> Path:
    """A PNG, a JPEG, a DICOM file, and one of a hand."""
    from PIL import Image

    from tests.test_commands import write_dicom
    from tests.test_predict import DATA

    root, pixels = tmp_path_factory.mktemp("xrays"), [study.images[0] for study in DATA.studies("test")]
    Image.fromarray(pixels[0]).resize((40, 36)).save(root / "a.png")
    Image.fromarray(pixels[1]).save(root / "b.jpg")
    write_dicom(root / "c.dcm", Modality="DX", ViewPosition="PA", PatientName="MUSTERMANN^ERIKA")
    write_dicom(root / "hand.dcm", Modality="DX", BodyPartExamined="HAND")
    return root

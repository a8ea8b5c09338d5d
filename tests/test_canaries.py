"""Two hundred marked words of patients, in a corpus and in requests: none is where others may read.

A run, its checkpoints and tables are for their owner, and may hold them; see the manual's page on what is kept.
"""

import csv
import logging
import re
import warnings
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image

from tests.test_cli import CONFIG, vkd
from tests.test_commands import write_dicom

PER_KIND = 20
KINDS = (
    *("patient", "study", "file", "folder", "word"),  # of the corpus
    *("name", "id", "accession", "institution", "private"),  # of DICOM headers
)
CANARIES = {kind: [f"zq{kind}{n:02d}xk" for n in range(PER_KIND)] for kind in KINDS}
ANY = re.compile(rb"zq(" + "|".join(KINDS).encode() + rb")\d\dxk", re.IGNORECASE)
OWNERS = {"predictions.parquet", "failures.csv"}
"""Files of an evaluation that name studies, as the manual says."""


def seen(*places) -> set[bytes]:
    """Canaries in texts, and in files under folders, and in their names."""
    found = set()
    for place in places:
        if isinstance(place, Path):
            files = [path for path in place.rglob("*") if path.name not in OWNERS]
            parts = [str(path.relative_to(place)).encode() + b" " for path in files]
            parts += [path.read_bytes() for path in files if path.is_file()]
        else:
            parts = [place.encode()]
        found |= {match[0] for part in parts for match in ANY.finditer(part)}
    return found


def dicom(path: Path, n: int) -> Path:
    """An X-ray with canaries in its header."""

    def canary(kind):
        return CANARIES[kind][n % PER_KIND]

    write_dicom(
        path,
        Modality="DX",
        ViewPosition="PA",
        PatientName=f"{canary('name')}^Erika",
        PatientID=canary("id"),
        AccessionNumber=canary("accession"),
        InstitutionName=canary("institution"),
    )
    header = pydicom.dcmread(path)
    header.private_block(0x11, "HOUSE", create=True).add_new(1, "LO", canary("private"))
    header.save_as(path)
    return path


def write_corpus(root: Path) -> Path:
    """Sixty X-rays, a third of them DICOM, with a report each that names a radiologist; the CSV file."""
    rows = []
    draw = np.random.default_rng(0)
    for n in range(3 * PER_KIND):
        patient, study, file, folder, word = (CANARIES[kind][n % PER_KIND] for kind in KINDS[:5])
        image = root / folder / f"{n}-{file}.{'dcm' if n % 3 else 'png'}"
        image.parent.mkdir(exist_ok=True)
        label = int(draw.random() < 0.5)
        if n % 3:
            dicom(image, n)
        else:
            pixels = draw.integers(0, 128, (32, 32), dtype=np.uint8)
            pixels[4:14, 4:14] += np.uint8(120 * label)
            Image.fromarray(pixels).save(image)
        report = f"{CANARIES['name'][0]} and {word} see {'an opacity' if label else 'clear lungs'}."
        split = ("train", "train", "validation", "test")[n % PER_KIND % 4]
        name = image.relative_to(root)
        rows.append([name, f"{patient}{n}", f"{study}-{n}", report, "frontal", split, label, 1 - label])
    with (root / "corpus.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["image", "patient", "study", "report", "view", "split", "Lung Opacity", "No Finding"])
        table.writerows(rows)
    return root / "corpus.csv"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run on the corpus, its evaluation and export; and all that was said and logged meanwhile."""
    root = tmp_path_factory.mktemp("house")
    table = write_corpus(root)
    config = CONFIG.replace("tests.conftest.TinyCorpus", "vkd_pyro.data.corpora.manifest.Manifest")
    config = config.replace("    image_size", f"      init_args: {{path: {table}}}\n    image_size")
    words = "    report_likelihood:\n      class_path: vkd_pyro.distributions.WordPresence\n"
    config = config.replace("    latent_dim: 4\n", f"    latent_dim: 4\n{words}")
    (root / "config.yaml").write_text(config)
    said = []
    handler = logging.Handler(logging.DEBUG)
    handler.emit = lambda record: said.append(f"{record.name} {record.getMessage()} {record.exc_text or ''}")
    level = logging.root.level
    logging.root.addHandler(handler)
    logging.root.setLevel(logging.DEBUG)
    try:
        for command in (
            ("train", "--config", root / "config.yaml", "--run", root / "run"),
            ("evaluate", root / "run", "--num_samples", "5"),
            ("export", root / "run" / "bundle", "--output", root / "export"),
        ):
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                code, out, err = vkd(*command)
            assert code == 0, err
            said += [out, err, *(str(one.message) for one in caught)]
    finally:
        logging.root.removeHandler(handler)
        logging.root.setLevel(level)
    return root, "\n".join(said)


@pytest.mark.slow
def test_they_are_in_what_was_read(trained):
    root, _ = trained
    assert len({name for names in CANARIES.values() for name in names}) == 200
    corpus = seen(root)
    assert all(name.encode() in {one.lower() for one in corpus} for names in CANARIES.values() for name in names)


@pytest.mark.slow
def test_none_is_in_what_a_training_says_or_logs(trained):
    assert seen(trained[1]) == set()


@pytest.mark.slow
def test_none_is_in_a_bundle_or_its_card(trained):
    assert seen(trained[0] / "run" / "bundle") == set()


@pytest.mark.slow
def test_none_is_in_an_export(trained):
    assert seen(trained[0] / "export") == set()


@pytest.mark.slow
def test_none_is_on_the_page_or_in_the_tables_of_an_evaluation(trained):
    (page,) = (trained[0] / "run" / "evaluation").rglob("index.html")
    assert seen(page.parent) == set()


def test_none_is_in_logs_errors_or_metrics_of_a_service(bundle_folder, tmp_path, caplog, capfd):
    pytest.importorskip("fastapi", reason="the serve extra is not installed")
    from starlette.testclient import TestClient

    from vkd_pyro import load_bundle
    from vkd_pyro.prediction.predictive import UncertaintySources
    from vkd_pyro.serving.service import Service

    caplog.set_level(logging.DEBUG)
    errors, metrics = [], ""
    service = Service(load_bundle(bundle_folder), UncertaintySources(num_samples=5))
    with TestClient(service.app, raise_server_exceptions=False) as client:
        for n in range(PER_KIND):
            file, word, patient = (CANARIES[kind][n] for kind in ("file", "word", "patient"))
            whole = dicom(tmp_path / "x.dcm", n).read_bytes()
            hand = dicom(tmp_path / "hand.dcm", n)
            header = pydicom.dcmread(hand)
            header.BodyPartExamined, header.StudyDescription = "HAND", word
            header.save_as(hand)
            bodies = [whole, whole[: len(whole) // 2], hand.read_bytes(), b"\x89PNG" + patient.encode()]
            sent = [("images", (f"{file}-{k}.dcm", body)) for k, body in enumerate(bodies)]
            answer = client.post("/v1/predictions", files=sent).json()
            errors += [one["problem"] for one in answer["problems"] + answer["notes"]]
            errors += [
                client.post("/v1/previews", files=[("image", sent[1][1])]).text,
                client.post("/v1/predictions", files=sent, data={"study": word, "on_mismatch": patient}).text,
                client.post("/v1/predictions", content=whole, headers={"content-type": f"text/{word}"}).text,
                client.get(f"/v1/{word}?{patient}={file}", headers={"user-agent": patient}).text,
            ]
        metrics = client.get("/metrics").text
    assert len(errors) == 7 * PER_KIND
    records = [one for one in caplog.records if not one.name.startswith("httpx")]  # but for the client's own
    logged = "\n".join(f"{one.name} {one.getMessage()} {one.exc_text}" for one in records)
    assert seen(*errors, metrics, logged, *capfd.readouterr()) == set()

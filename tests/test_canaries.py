"""More than 200 marked words in a corpus of DICOM files: none in what is logged, printed, or given to others.

Names, ids, accession numbers, institutions, private tags, dates, file names and words of reports; in training,
evaluation, recalibration, export, prediction, monitoring.
"""

import logging
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.test_cli import vkd
from tests.test_commands import write_dicom
from vkd_pyro.synthetic.corpus import SyntheticCorpus

pydicom = pytest.importorskip("pydicom", reason="the dicom extra is not installed")
pytestmark = pytest.mark.filterwarnings(
    "ignore:never (known|positive|absent) in training", "ignore:Invalid value for VR", "ignore:z is ignored"
)

KINDS = ("name", "id", "accession", "institution", "private", "referring", "file", "study", "report")
STUDIES = 105
FINDINGS = ["Cardiomegaly", "Pleural Effusion", "Lung Opacity"]
CONFIG = """
data:
  selection:
    corpus:
      class_path: vkd_pyro.data.corpora.manifest.Manifest
      init_args: {{path: {path}}}
    image_size: 32
  task: {{findings: [{findings}]}}
  loading: {{batch_size: 16}}
method:
  class_path: vkd_pyro.methods.VKD
  init_args:
    latent_dim: 4
    image_encoder:
      class_path: vkd_pyro.encoders.image.ConvEncoder
      init_args: {{channels: [8, 16]}}
    report_encoder:
      class_path: vkd_pyro.encoders.latent_semantic.LatentSemanticEncoder
      init_args: {{vocabulary_size: 100, width: 8}}
    report_likelihood:
      class_path: vkd_pyro.distributions.WordPresence
      init_args: {{vocabulary_size: 100}}
beta_schedule: {{class_path: vkd_pyro.schedules.Constant}}
training: {{max_epochs: 1, accelerator: cpu, num_samples: 3}}
"""


def canary(kind: str, number: int) -> str:
    """A word that occurs nowhere else, in letters alone, as a name may be."""
    digits = "".join("abcdefghij"[int(d)] for d in f"{number:03d}")
    return f"Zqx{kind}{digits}xqz"


CANARIES = [canary(kind, number).lower() for kind in KINDS for number in range(STUDIES)]


@pytest.fixture(scope="module")
def hospital(tmp_path_factory) -> Path:
    """Every study is of another person; each of its words is marked. The institution stands in every report."""
    root = tmp_path_factory.mktemp("hospital")
    (root / "images").mkdir()
    rows = []
    corpus = SyntheticCorpus(STUDIES, 48)
    for number, study in enumerate(corpus.studies()):
        mark = {kind: canary(kind, number) for kind in KINDS}
        name = f"images/{mark['file']}.dcm"
        pixels = np.asarray(study.images[0]).astype(np.uint16)
        dataset = pydicom.dcmread(
            write_dicom(
                root / name,
                Rows=48,
                Columns=48,
                PixelData=(pixels * 16).tobytes(),
                Modality="DX",
                ViewPosition="PA",
                BodyPartExamined="CHEST",
                PatientName=mark["name"],
                PatientID=mark["id"],
                AccessionNumber=mark["accession"][:16],
                InstitutionName=mark["institution"],
                ReferringPhysicianName=mark["referring"],
            )
        )
        dataset.private_block(0x0099, "ZQX", create=True).add_new(1, "LO", mark["private"])
        dataset.save_as(root / name)
        text = " ".join(study.report.values())
        text += f" {mark['report']} dictated by {mark['referring']} at {canary('institution', 0)}."
        labels = dict(zip(corpus.findings, study.labels, strict=True))
        row = {"image": name, "report": text, "patient": mark["id"], "study": mark["study"], "view": "frontal"}
        rows.append(row | {finding: labels[finding] for finding in FINDINGS} | {"sex": study.sex, "age": study.age})
    pd.DataFrame(rows).to_csv(root / "studies.csv", index=False)
    return root


def found(text: str) -> list[str]:
    """The marked words in a text, whatever their capitals."""
    text = text.lower()
    return [each for each in CANARIES if each in text] if "zqx" in text else []


def found_in(folder: Path) -> dict[str, list[str]]:
    """By file, in its bytes and its name; of any encoding that keeps ASCII, and UTF-16."""
    seen = {}
    for path in sorted(folder.rglob("*")):
        if not path.is_file():
            continue
        content = path.read_bytes()
        texts = (content.decode("latin-1"), content.decode("utf-16-le", "ignore"), path.name)
        if marked := [each for text in texts for each in found(text)]:
            seen[str(path.relative_to(folder))] = marked[:3]
    return seen


@pytest.fixture(scope="module")
def outcome(hospital, tmp_path_factory):
    """Everything a hospital would run; what was printed and what was logged, at any level."""
    root, records = tmp_path_factory.mktemp("given"), []

    class Keep(logging.Handler):
        def emit(self, record):
            records.append(f"{record.name} {record.getMessage()} {record.exc_text or ''}")

    handler, logger = Keep(level=logging.DEBUG), logging.getLogger()
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    config = root / "site.yaml"
    config.write_text(CONFIG.format(path=hospital / "studies.csv", findings=", ".join(FINDINGS)))
    run, copy = root / "run", root / "copy"
    printed = []

    def ran(*arguments, codes=(0,)):
        code, out, err = vkd(*arguments)
        assert code in codes, err
        printed.append(out + err)

    try:
        ran("doctor", hospital / "studies.csv", codes=(0, 1, 2))
        ran("check", "--config", config)
        ran("train", "--config", config, "--run", run)
        ran("evaluate", run, "--num_samples", "5", "--resamples", "20", "--split", "train")
        ran("recalibrate", run / "bundle", "--config", config, "--output", root / "site", "--resamples", "20")
        shutil.copytree(run / "bundle", copy)
        ran("predict", run / "bundle", hospital / "images", "--output", root / "month.csv", "--num_samples", "5")
        ran("monitor", run / "bundle", root / "month.csv", "--output", root / "drift")
        ran("export", run / "bundle", "--output", root / "export")
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)
    return root, "".join(printed), "\n".join(records)


def test_the_corpus_holds_more_than_200(hospital):
    seen = {
        each
        for marked in (found(path.read_bytes().decode("latin-1")) for path in (hospital / "images").iterdir())
        for each in marked
    }
    assert len(seen) >= 5 * STUDIES  # of tags alone; names of files and reports besides


def test_nothing_is_printed_or_logged(outcome):
    _, printed, logged = outcome
    assert found(printed) == []
    assert found(logged) == []


@pytest.mark.parametrize("given", ["copy", "site", "export", "drift"])
def test_nothing_is_in_what_is_given_to_others(outcome, given):
    assert found_in(outcome[0] / given) == {}


def test_nothing_is_in_the_pages_of_an_evaluation(outcome):
    folder = outcome[0] / "run" / "evaluation" / "train"
    assert (folder / "index.html").is_file()
    of_patients = {"predictions.parquet", "failures.csv"}  # tables by study, for the house: docs/runs.md
    assert set(found_in(folder)) <= of_patients


def test_errors_name_no_patient(outcome, hospital, tmp_path):
    root = outcome[0]
    file = hospital / "images" / f"{canary('file', 0)}.dcm"
    wrong = tmp_path / "wrong.dcm"
    dataset = pydicom.dcmread(file)
    dataset.BodyPartExamined = "HAND"
    dataset.save_as(wrong)
    code, out, err = vkd("predict", root / "run" / "bundle", wrong, "--num_samples", "5")
    assert code == 2
    assert found(out + err) == []
    wrong.write_bytes(file.read_bytes()[:-900])
    code, out, err = vkd("predict", root / "run" / "bundle", wrong, "--num_samples", "5")
    assert code == 2
    assert found(out + err) == []


def test_a_service_says_nothing_of_what_it_is_asked(hospital, bundle_folder, caplog, capfd, tmp_path):
    pytest.importorskip("fastapi", reason="the serve extra is not installed")
    from starlette.testclient import TestClient

    from vkd_pyro import load_bundle
    from vkd_pyro.prediction.prediction import UncertaintySources
    from vkd_pyro.serving.http.service import Service

    caplog.set_level(logging.DEBUG)
    said = []
    service = Service(load_bundle(bundle_folder), UncertaintySources(num_samples=5))
    with TestClient(service.app, raise_server_exceptions=False) as client:
        for number, path in enumerate(sorted((hospital / "images").iterdir())[:20]):
            name, word = canary("file", number), canary("report", number)
            header = pydicom.dcmread(path)
            header.BodyPartExamined, header.StudyDescription = "HAND", word
            header.save_as(tmp_path / "hand.dcm")
            whole, hand = path.read_bytes(), (tmp_path / "hand.dcm").read_bytes()
            bodies = [whole, hand, whole[: len(whole) // 2], b"\x89PNG" + word.encode()]
            sent = [("images", (f"{name}-{k}.dcm", body)) for k, body in enumerate(bodies)]
            answer = client.post("/v1/predictions", files=sent).json()
            assert (len(answer["predictions"]), len(answer["problems"])) == (1, 3)  # whose names the client gave
            said += [one["problem"] for one in answer["problems"]]
            said += [
                client.post("/v1/previews", files=[("image", sent[2][1])]).text,
                client.post("/v1/predictions", files=sent, data={"study": word, "on_mismatch": name}).text,
                client.post("/v1/predictions", content=whole, headers={"content-type": f"text/{word}"}).text,
                client.get(f"/v1/{word}?{name}={word}", headers={"user-agent": name}).text,
            ]
        said.append(client.get("/metrics").text)
    records = [one for one in caplog.records if not one.name.startswith("httpx")]  # but for the client's own
    said += [f"{one.name} {one.getMessage()} {one.exc_text}" for one in records]
    assert len(said) > 140
    assert found("\n".join([*said, *capfd.readouterr()])) == []

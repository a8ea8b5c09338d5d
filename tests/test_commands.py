"""The commands around training: synthesize, doctor, prepare, label, download; fine-tuning; DICOM at prediction."""

import gzip
import io
import json
import tarfile
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from PIL import Image

from tests.test_cli import refusal, vkd
from vkd_pyro.artifacts.bundle import load_bundle
from vkd_pyro.data.labels.findings import CHEXPERT_FINDINGS
from vkd_pyro.prediction import find_images
from vkd_pyro.utils.errors import UserError

pydicom = pytest.importorskip("pydicom", reason="the dicom extra is not installed")
pytestmark = pytest.mark.filterwarnings(
    "ignore:never (known|positive|absent) in training"
)  # so small a corpus lacks some finding

ROOT = Path(__file__).parent.parent

CONFIG = """
data:
  selection:
    corpus:
      class_path: vkd_pyro.data.corpora.mimic_cxr.MimicCXR
      init_args: {{root: {root}}}
    image_size: 32
  loading:
    batch_size: 8
method:
  class_path: vkd_pyro.methods.VKD
  init_args:
    latent_dim: 4
    image_encoder:
      class_path: vkd_pyro.encoders.image.ConvEncoder
      init_args: {{channels: [8, 16]}}
    report_encoder:
      class_path: vkd_pyro.encoders.report.WordEncoder
      init_args: {{vocabulary_size: 64, width: 8}}
beta_schedule:
  class_path: vkd_pyro.schedules.Constant
training:
  max_epochs: 1
  accelerator: cpu
  num_samples: 3
"""


def done(*arguments):
    code, out, err = vkd(*arguments)
    assert code == 0, err
    return out


@pytest.fixture(scope="module")
def mimic(tmp_path_factory):
    folder = tmp_path_factory.mktemp("layouts") / "mimic"
    done("synthesize", "--layout", "mimic-cxr", "--output", folder, "--num_studies", "80", "--image_size", "32")
    return folder


@pytest.fixture(scope="module")
def config(mimic):
    path = mimic.parent / "mimic.yaml"
    path.write_text(CONFIG.format(root=mimic))
    return path


@pytest.fixture(scope="module")
def run(config):
    done("train", "--config", config, "--run", config.parent / "run")
    return config.parent / "run"


def test_an_unknown_layout_is_refused_with_those_there_are(tmp_path):
    assert "'mimic-cxr', 'openi'" in refusal("synthesize", "--layout", "mimic", "--output", tmp_path / "m")


def test_a_run_says_what_it_learned_from(run):
    data = json.loads((run / "data.json").read_text())
    train = data["splits"]["train"]
    assert train["studies"] >= train["patients"] > 0
    assert train["with a report"] < train["studies"]
    assert any("lateral view" in reason for reason in data["left_out"])
    assert data["eval_policy"]["init_args"]["uncertain"] == "ignore"


def test_training_prints_what_was_left_out_and_no_patient(config, tmp_path, mimic):
    out = done("train", "--config", config, "--run", tmp_path / "run")
    assert "left out" in out
    assert "lateral view" in out
    patients = {path.name for path in (mimic / "files").glob("p1*/p*")}
    assert not any(patient in out for patient in patients)


def test_a_bundle_keeps_the_label_policy_and_the_views(run):
    data = json.loads((run / "bundle" / "config.json").read_text())["data"]
    assert data["train_policy"]["init_args"] == {
        "uncertain": "ignore",
        "blank": "zeros",
        "soft_range": [0.55, 0.85],
        "uncertain_by_finding": None,
        "blank_by_finding": None,
    }
    assert load_bundle(run / "bundle").views == ("frontal",)


@pytest.mark.slow
def test_label_policies_are_settings(config, tmp_path):
    policy = ["--data.task.train_policy", "vkd_pyro.data.labels.policy.LabelPolicy"]
    soft = [*policy, "--data.task.train_policy.uncertain", "soft", "--data.task.train_policy.soft_range", "[0.6, 0.7]"]
    out = done("train", "--config", config, "--run", tmp_path / "soft", *soft)
    assert "train_policy: uncertain soft" in out
    keep = [*policy, "--data.task.train_policy.uncertain", "keep"]
    error = refusal("train", "--config", config, "--run", tmp_path / "kept", *keep)
    assert "'keep' wants a likelihood with an outcome 'uncertain', found BernoulliLikelihood" in error
    for choice in ("keep", "soft"):
        measured = [
            "--data.task.eval_policy",
            "vkd_pyro.data.labels.policy.LabelPolicy",
            "--data.task.eval_policy.uncertain",
            choice,
        ]
        assert "data.task.eval_policy.uncertain" in refusal(
            "train", "--config", config, "--run", tmp_path / "e", *measured
        )


# -------------------------------------------------------------------------------------- evaluation


@pytest.mark.slow
def test_image_level_has_a_row_an_image_and_study_level_is_its_mean(run):
    both = ["--data.selection.views", "all"]
    done("evaluate", run, *both)
    done("evaluate", run, *both, "--level", "image")
    folder = run / "evaluation"
    (studies,) = folder.glob("mimic-cxr-*-test")
    (images,) = folder.glob("mimic-cxr-*-test-image")
    studies = pd.read_parquet(studies / "predictions.parquet").set_index("study")
    images = pd.read_parquet(images / "predictions.parquet")
    assert len(images) > len(studies)
    assert images.groupby("study")["image"].max().max() > 0
    columns = [f"image:{finding}" for finding in CHEXPERT_FINDINGS]
    means = images.groupby("study", sort=False)[columns].mean()
    assert np.allclose(means, studies[columns], atol=1e-6)


@pytest.mark.slow
@pytest.mark.filterwarnings("default:fusion product")
def test_the_product_of_priors_changes_studies_with_several_images_alone(run):
    both = ["--data.selection.views", "all", "--num_samples", "400"]
    tables = {}
    for fusion in ("mean", "product"):
        done("evaluate", run, *both, "--fusion", fusion)
        written = max((run / "evaluation").glob("*/predictions.parquet"), key=lambda path: path.stat().st_mtime_ns)
        assert written.parent.name.endswith("-product" if fusion == "product" else "-test")
        tables[fusion] = pd.read_parquet(written).set_index("study")
    (images,) = (run / "evaluation").glob("mimic-cxr-*-test-image")
    images = pd.read_parquet(images / "predictions.parquet")["study"].value_counts()
    columns = [f"image:{finding}" for finding in CHEXPERT_FINDINGS]
    change = (tables["product"][columns] - tables["mean"][columns]).abs().max(axis=1)
    several = images[change.index] > 1
    assert change[~several].max() < 1e-6
    assert change[several].min() > 1e-6


@pytest.mark.slow
def test_a_run_is_evaluated_on_another_corpus(run, tmp_path):
    folder = tmp_path / "nih"
    done("synthesize", "--layout", "chestxray14", "--output", folder, "--num_studies", "80", "--image_size", "32")
    finetune = ROOT / "configs" / "chestxray14_finetune.yaml"
    # The config is made for 224 pixels, the model for 32: the model's size holds, as the same data given plainly shows.
    out = done("evaluate", run, "--config", finetune, "--data.selection.corpus.init_args.root", folder)
    assert "chestxray14, test split" in out
    plain = [
        "--data.selection.corpus=ChestXray14",
        "--data.selection.corpus.init_args.root",
        folder,
        "--data.loading.batch_size=32",
    ]
    assert done("evaluate", run, *plain).splitlines()[2:-1] == out.splitlines()[2:-1]
    written, _ = (run / "evaluation").glob("chestxray14-*-test/evaluation.json")
    known = json.loads(written.read_text())["findings"]
    assert {name for name, row in known.items() if row["known"]} == {
        "Cardiomegaly", "Edema", "Consolidation", "Pneumonia", "Atelectasis", "Pneumothorax", "Pleural Effusion",
    }  # fmt: skip


@pytest.mark.slow
def test_a_run_goes_on_learning_on_another_corpus_without_reports(run, tmp_path):
    """The paper's third column: the network and the findings are the run's; config and data are the new ones."""
    folder = tmp_path / "nih"
    done("synthesize", "--layout", "chestxray14", "--output", folder, "--num_studies", "80", "--image_size", "32")
    finetune = ROOT / "configs" / "chestxray14_finetune.yaml"
    options = [
        "--data.selection.corpus.init_args.root",
        folder,
        "--data.selection.image_size=32",
        "--training.max_epochs=1",
    ]
    options += [
        "--data.loading.num_workers=0",
        "--data.loading.batch_size=8",
        "--training.accelerator=cpu",
        "--start_from",
        run,
    ]
    start = {"--training.optimizer.init_args.lr=0": True, "--training.optimizer.init_args.lr=1e-3": False}
    before = load_bundle(run / "bundle").model.state_dict()
    for number, (rate, same) in enumerate(start.items()):
        done("train", "--config", finetune, "--run", tmp_path / f"{number}", *options, rate)
        bundle = load_bundle(tmp_path / f"{number}" / "bundle")
        assert bundle.findings == CHEXPERT_FINDINGS
        weights = [n for n, _ in bundle.model.named_parameters()]
        assert all(torch.equal(before[n], bundle.model.state_dict()[n]) for n in weights) is same
    done("evaluate", tmp_path / "1")


def test_what_is_no_complete_run_cannot_be_started_from(config, tmp_path):
    error = refusal("train", "--config", config, "--run", tmp_path / "run", "--start_from", tmp_path)
    assert f"--start_from: {tmp_path} is not a complete run" in error


def test_findings_in_another_order_are_not_those_of_the_run(config, run, tmp_path):
    options = ["--start_from", run, "--data.task.findings", '["Edema", "Cardiomegaly"]']
    error = refusal("train", "--config", config, "--run", tmp_path / "run", *options)
    assert "has learned the findings No Finding, " in error
    assert "data.task.findings is Edema, Cardiomegaly" in error


@pytest.mark.slow
def test_the_store_and_labels_of_a_run_are_not_those_of_other_data(config, tmp_path):
    """Two hospitals, the second with the opposite labels, their studies named alike: nothing of the first is reused."""
    for name, sign in (("a", 0), ("b", 1)):
        write_hospital(tmp_path / name, sign)
    settings = [
        "--data.selection.corpus=Manifest",
        f"--data.selection.corpus.path={tmp_path}/a/studies.csv",
        "--data.selection.image_size=32",
    ]
    settings += [
        "--data.selection.corpus.name=one",
        "--method=VKD",
        "--method.image_encoder=ConvEncoder",
        "--method.report_encoder=WordEncoder",
    ]
    done("prepare", *settings, "--output", tmp_path / "store")
    settings += [f"--data.loading.store={tmp_path}/store", "--training.max_epochs=1", "--training.accelerator=cpu"]
    done("train", *settings, "--method=ImageOnly", "--data.loading.batch_size=8", "--run", tmp_path / "run")
    done("evaluate", tmp_path / "run")
    done("evaluate", tmp_path / "run", f"--data.selection.corpus.path={tmp_path}/b/studies.csv")
    own, other = (
        pd.read_parquet(path / "predictions.parquet").set_index("study")
        for pattern in ("test", "one-*-test")
        for path in (tmp_path / "run" / "evaluation").glob(pattern)
    )
    assert (own["label:Bright"] == 1 - other.loc[own.index, "label:Bright"]).all()
    (tmp_path / "a" / "studies.csv").write_text((tmp_path / "b" / "studies.csv").read_text())
    error = refusal("train", *settings, "--run", tmp_path / "again")
    assert "made with corpus content" in error


def write_hospital(folder, sign):
    folder.mkdir()
    rows = [(f"{number}.png", f"p{number}", "PA", number % 2 ^ sign) for number in range(80)]
    for name, *_, bright in rows:
        ramp = np.arange(32 * 32).reshape(32, 32) // 16
        Image.fromarray((60 + 120 * bright + ramp).astype(np.uint8)).save(folder / name)
    table = pd.DataFrame(rows, columns=["image", "patient", "view", "Bright"])
    table.to_csv(folder / "studies.csv", index=False)


def test_a_run_of_another_network_cannot_be_started_from(config, run, tmp_path):
    options = ["--start_from", run, "--method.latent_dim", "6"]
    error = refusal("train", "--config", config, "--run", tmp_path / "run", *options)
    assert "best.ckpt: of another network than this method and config describe" in error
    assert not (tmp_path / "run").exists()


# ---------------------------------------------------------------------------- store, labels, doctor


def test_a_store_is_prepared_and_trained_from(config, tmp_path):
    out = done("prepare", "--config", config, "--output", tmp_path / "store")
    assert "left out" in out
    assert f"next: vkd train --store {tmp_path / 'store'} --run RUN" in out
    done("train", "--config", config, "--data.loading.store", tmp_path / "store", "--run", tmp_path / "run")
    error = refusal(
        "train",
        "--config",
        config,
        "--data.loading.store",
        tmp_path / "store",
        "--data.selection.image_size=16",
        "--run",
        tmp_path / "r",
    )
    assert "made with image transform {'size': 32}, found now {'size': 16}" in error
    assert "data.selection.corpus.init_args.root" not in refusal("prepare", "--output", tmp_path / "none")


def test_a_store_is_prepared_by_several_configs_as_a_training_is(config, tmp_path):
    over = {"method": {"init_args": {"report_encoder": {"init_args": {"width": 24}}}}}
    (tmp_path / "over.yaml").write_text(yaml.safe_dump(over))
    done("prepare", "--config", config, "--config", tmp_path / "over.yaml", "--output", tmp_path / "store")
    kept = yaml.safe_load((tmp_path / "store" / "config.yaml").read_text())
    assert kept["method"]["init_args"]["report_encoder"]["init_args"]["width"] == 24


def test_features_of_weights_that_nobody_keeps_are_refused(config, tmp_path):
    frozen = (
        "--method.image_encoder",
        "vkd_pyro.encoders.frozen.FrozenImageEncoder",
        "--method.image_encoder.backbone",
        "ConvEncoder",
    )
    error = refusal("prepare", "--config", config, *frozen, "--features", "1", "--output", tmp_path / "store")
    assert "--features: the first part of the image encoder has weights that are drawn anew each time" in error
    assert not (tmp_path / "store").exists()


def test_a_store_brings_the_options_it_was_prepared_with(config, tmp_path):
    options = ("--data.selection.image_size", "24", "--data.loading.batch_size=6", "--method.latent_dim=3")
    done("prepare", "--config", config, *options, "--output", tmp_path / "made")
    (tmp_path / "made").rename(tmp_path / "store")  # it may be moved
    store = ("train", "--store", tmp_path / "store", "--run", tmp_path / "run")
    done(*store, "--training.max_epochs=1", "--data.loading.batch_size=5")
    kept = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert kept["data"]["selection"]["image_size"] == 24
    assert kept["method"]["init_args"]["latent_dim"] == 3
    assert kept["data"]["loading"]["batch_size"] == 5
    assert kept["data"]["loading"]["store"] == str(tmp_path / "store")
    assert kept["store"] is None
    path = tmp_path / "store" / "config.yaml"
    path.write_text(path.read_text().replace("class_path: vkd_pyro.methods", "class_path: strange_module"))
    assert "strange_module" in refusal(*store)
    path.unlink()
    assert f"--store: {tmp_path / 'store'} has no config.yaml" in refusal(*store)


def test_labels_of_the_labeller_are_trained_with(config, tmp_path):
    out = done("label", "--config", config, "--output", tmp_path / "labels.csv")
    assert "positive" in out
    table = pd.read_csv(tmp_path / "labels.csv", dtype=str, keep_default_na=False)
    assert tuple(table.columns) == ("study_id", *CHEXPERT_FINDINGS)
    assert set(np.unique(table[list(CHEXPERT_FINDINGS)])) == {"1", "0", "-1", ""}
    done("train", "--config", config, "--data.selection.labels", tmp_path / "labels.csv", "--run", tmp_path / "run")


def test_a_file_is_never_labelled_over(config, tmp_path):
    (tmp_path / "mine.csv").write_text("precious")
    assert "mine.csv exists already" in refusal("label", "--config", config, "--output", tmp_path / "mine.csv")
    assert (tmp_path / "mine.csv").read_text() == "precious"


def test_a_corpus_without_reports_has_nothing_to_label_or_to_distil(config, tmp_path):
    without = ["--config", config, "--data.selection.corpus.init_args.reports", "none"]
    assert "nothing to label" in refusal("label", *without, "--output", tmp_path / "labels.csv")
    assert not (tmp_path / "labels.csv").exists()
    assert "no training study has a report, so VKD" in refusal("train", *without, "--run", tmp_path / "vkd")
    done("train", *without, "--method", "NoReport", "--run", tmp_path / "no_report")


def test_a_section_that_is_misspelt_is_refused(config, tmp_path):
    options = ["--data.selection.report.sections", "[impresion]", "--run", tmp_path / "run"]
    error = refusal("train", "--config", config, *options)
    assert "no report has 'impresion' (did you mean impression?); found " in error


def test_what_belongs_to_the_model_is_not_changed_in_evaluation(run):
    assert "--data.selection.image_size: belongs to the model" in refusal(
        "evaluate", run, "--data.selection.image_size=64"
    )
    assert "--data.task.findings: belongs to the model" in refusal("evaluate", run, "--data.task.findings", "[Edema]")


def test_a_mistake_in_a_policy_of_a_config_is_one_line(config, tmp_path):
    policy = "  task: {train_policy: {class_path: LabelPolicy, init_args: {uncertain: soft, soft_range: [0.9, 0.2]}}}\n"
    broken = tmp_path / "broken.yaml"
    broken.write_text(config.read_text().replace("  loading:\n", f"{policy}  loading:\n"))
    assert "soft_range: found [0.9, 0.2]" in refusal("train", "--config", broken, "--run", tmp_path / "run")


def test_the_doctor_finds_a_healthy_corpus_and_a_sick_one(mimic, tmp_path):
    assert "vkd_pyro.data.corpora.mimic_cxr.MimicCXR" in done("doctor", mimic)
    code, out, _ = vkd("doctor", tmp_path)
    assert code == 1
    assert out


def test_archives_are_downloaded_and_unpacked(tmp_path, monkeypatch):
    site = tmp_path / "site"
    site.mkdir()
    for name, member in (("NLMCXR_reports.tgz", "ecgen-radiology/1.xml"), ("NLMCXR_png.tgz", "CXR1_IM-0001-4001.png")):
        with gzip.open(site / name, "wb") as file, tarfile.open(fileobj=file, mode="w") as archive:
            entry = tarfile.TarInfo(member)
            entry.size = 4
            archive.addfile(entry, io.BytesIO(b"data"))
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(SimpleHTTPRequestHandler, "log_message", lambda *_: None)
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(SimpleHTTPRequestHandler, directory=site)) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            url = f"http://127.0.0.1:{server.server_port}"
            out = done("download", "openi", "--output", tmp_path / "openi", "--url", url)
        finally:
            server.shutdown()
            thread.join()
    assert out.count("1 files") == 2
    assert (tmp_path / "openi" / "ecgen-radiology" / "1.xml").read_bytes() == b"data"
    assert (tmp_path / "openi" / "images" / "CXR1_IM-0001-4001.png").read_bytes() == b"data"


# ------------------------------------------------------------------------------------------- DICOM


def write_dicom(path, **tags):
    dataset = pydicom.Dataset()
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = pydicom.uid.generate_uid()
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = pydicom.uid.generate_uid()
    dataset.Rows, dataset.Columns, dataset.SamplesPerPixel = 32, 32, 1
    dataset.BitsAllocated = dataset.BitsStored = 16
    dataset.HighBit, dataset.PixelRepresentation = 15, 0
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.PixelData = np.arange(1024, dtype=np.uint16).tobytes()
    for name, value in tags.items():
        setattr(dataset, name, value)
    dataset.save_as(path, enforce_file_format=True)
    return path


def test_a_dicom_file_is_predicted(run, tmp_path):
    chest = write_dicom(tmp_path / "chest.dcm", Modality="DX", BodyPartExamined="CHEST", ViewPosition="PA")
    (row,) = json.loads(done("predict", run / "bundle", chest, "--format", "json"))
    assert all(0 <= each["probability"] <= 1 for each in row["findings"].values())


@pytest.mark.filterwarnings("default:.*other.dcm")  # to be seen on standard error
@pytest.mark.parametrize(
    "tags",
    [
        {"Modality": "CT", "BodyPartExamined": "CHEST", "ViewPosition": "PA"},
        {"Modality": "DX", "BodyPartExamined": "KNEE", "ViewPosition": "PA"},
        {"Modality": "DX", "BodyPartExamined": "CHEST", "ViewPosition": "LL"},
    ],
)
def test_a_dicom_file_of_another_kind_is_refused_unless_wanted(run, tmp_path, tags):
    other = write_dicom(tmp_path / "other.dcm", **tags)
    error = refusal("predict", run / "bundle", other)
    assert error.startswith(f"vkd: {other}: ")
    assert "--on_mismatch warn" in error
    code, out, err = vkd("predict", run / "bundle", other, "--on_mismatch", "warn")
    assert code == 0
    assert "Cardiomegaly" in out
    assert err.startswith(f"vkd: warning: {other}: ")


def test_a_corpus_without_training_studies_is_one_line(tmp_path):
    write_hospital(tmp_path / "a", 0)
    table = pd.read_csv(tmp_path / "a" / "studies.csv")
    table["split"] = ["validation", "test"] * (len(table) // 2)
    table["report"] = "Bright."
    table.to_csv(tmp_path / "a" / "studies.csv", index=False)
    settings = [
        "--data.selection.corpus=Manifest",
        f"--data.selection.corpus.path={tmp_path}/a/studies.csv",
        "--data.selection.image_size=32",
    ]
    settings += ["--method=VKD", "--method.image_encoder=ConvEncoder", "--method.report_encoder=WordEncoder"]
    assert "the train split is empty" in refusal("train", *settings, "--run", tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ("predict", "bundle", ""),
        ("train", "--run", ""),
        ("train", "--run="),
        ("doctor", ""),
        ("prepare", "--output", ""),
    ],
)
def test_an_empty_argument_is_not_taken_for_the_folder_where_one_is(arguments):
    assert "found an empty argument" in refusal(*arguments)


def test_an_empty_name_is_no_image():
    with pytest.raises(UserError, match="images: found an empty name, expected a file or a folder"):
        find_images(["image.png", ""])

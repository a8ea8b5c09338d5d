"""The `vkd` command: what it prints, what it writes, and one line for every mistake of its user."""

import contextlib
import dataclasses
import io
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

from tests.conftest import TinyCorpus
from vkd_pyro.artifacts.bundle import load_bundle, save_bundle
from vkd_pyro.artifacts.config import parse
from vkd_pyro.cli import main
from vkd_pyro.cli.train import train_parser
from vkd_pyro.data.images.image_transform import ImageTransform
from vkd_pyro.encoders.image import TorchvisionEncoder
from vkd_pyro.model import ImageClassifier
from vkd_pyro.prediction import predict_files
from vkd_pyro.prediction.prediction import UncertaintySources

CONFIG = """
data:
  selection:
    corpus:
      class_path: tests.conftest.TinyCorpus
    image_size: 32
  loading:
    batch_size: 4
method:
  class_path: vkd_pyro.methods.VKD
  init_args:
    latent_dim: 4
    image_encoder:
      class_path: vkd_pyro.encoders.image.ConvEncoder
      init_args: {channels: [8, 16]}
    report_encoder:
      class_path: vkd_pyro.encoders.report.WordEncoder
      init_args: {vocabulary_size: 32, width: 8, max_tokens: 16}
beta_schedule:
  class_path: vkd_pyro.schedules.Cyclical
  init_args: {cycles: 2}
training:
  max_epochs: 2
  accelerator: cpu
  num_samples: 3
"""


class BrokenCorpus(TinyCorpus):
    """Its images are files that are not there."""

    def studies(self):
        return [dataclasses.replace(study, images=(Path("no/where.png"),)) for study in super().studies()]


def vkd(*arguments):
    """Exit code, standard output and standard error of a command that must not raise."""
    stored = arguments[:1] == ("evaluate",) or {"--resume", "--finish", "--start_from"} & set(arguments)
    if stored and "--allow_module" not in arguments and len(arguments) > 1:
        arguments = (*arguments, "--allow_module", "tests")  # of whose corpora the runs of tests are
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as exit:  # of --help
            code = exit.code
    return code, out.getvalue(), err.getvalue()


def refusal(*arguments):
    """The message of a command that the user can mend: exit code 2 and one line on standard error."""
    code, _, err = vkd(*arguments)
    assert code == 2
    assert err.startswith("vkd: ")
    assert err.endswith("\n")
    assert err.count("\n") == 1
    return err


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """The folder of a trained run, and what training printed."""
    folder = tmp_path_factory.mktemp("cli")
    (folder / "tiny.yaml").write_text(CONFIG)
    code, out, err = vkd("train", "--config", folder / "tiny.yaml", "--run", folder / "run")
    assert code == 0, err
    return folder / "run", out, err


@pytest.fixture
def run(trained):
    """A trained run, not to be changed."""
    return trained[0]


@pytest.fixture
def copy(run, tmp_path):
    """A trained run that may be changed."""
    return shutil.copytree(run, tmp_path / "copy")


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "tiny.yaml"
    path.write_text(CONFIG)
    return path


@pytest.fixture
def images(tmp_path):
    generator = np.random.default_rng(0)
    paths = [tmp_path / f"image{n}.png" for n in range(3)]
    for path in paths:
        Image.fromarray(generator.integers(0, 255, (40, 36), dtype=np.uint8)).save(path)
    return paths


# ------------------------------------------------------------------------------------------- train


def test_training_writes_a_run(trained):
    run, out, err = trained
    files = {".lock", "config.yaml", "data.json", "metrics.csv", "checkpoints", "bundle"}
    assert {path.name for path in run.iterdir()} == files
    assert {path.name for path in (run / "checkpoints").iterdir()} == {"best.ckpt", "last.ckpt", "previous.ckpt"}
    assert pd.read_csv(run / "metrics.csv")["epoch"].tolist() == [0, 1]
    assert f"trained: {run}" in out
    assert err == ""
    numbers = r"val/nll \d\.\d{4}, macro AUC [01]\.\d{3}, KL \S+ nats, loss \S+; \d\d:\d\d, \S+ steps/s"
    first, last, then = re.findall(r"^epoch .*|^calibrating .*", out, re.MULTILINE)
    assert re.fullmatch(rf"epoch 1 of 2: {numbers}, at most \d\d:\d\d left", first)
    assert re.fullmatch(rf"epoch 2 of 2: {numbers}, last one", last)
    assert then == "calibrating on the validation split"


def test_the_config_of_a_run_says_everything(run):
    config = yaml.safe_load((run / "config.yaml").read_text())
    assert config["method"]["class_path"] == "vkd_pyro.methods.VKD"
    assert config["data"]["selection"]["corpus"]["class_path"] == "tests.conftest.TinyCorpus"
    method = config["method"]["init_args"]
    assert method["report_encoder"]["init_args"]["dropout"] == 0.1
    assert config["training"]["optimizer"]["class_path"] == "torch.optim.Adam"
    assert method["objective"]["init_args"]["auxiliary_weight"] == 1.0


def test_print_config_prints_yaml_and_trains_nothing(config, tmp_path):
    code, out, err = vkd("train", "--config", config, "--run", tmp_path / "run", "--print_config")
    assert (code, err) == (0, "")
    assert yaml.safe_load(out)["method"]["init_args"]["latent_dim"] == 4
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("command", "options"),
    [
        ((), ["train", "evaluate", "predict"]),
        (
            ("train",),
            ["--config", "--run", "--resume", "--method", "--seed", "--data.loading.batch_size", "--method.help"],
        ),
        (
            ("train",),
            ["vkd_pyro.methods.NoReport", "--beta_schedule", "--training.max_epochs", "--print_config"],
        ),
        (("train", "--method.help", "VKD"), ["--method.latent_dim", "--method.objective"]),
        (("evaluate",), ["run", "--split", "--num_samples"]),
        (("predict",), ["bundle", "images", "--num_samples", "--seed", "--format"]),
    ],
)
def test_help_names_the_options(command, options):
    code, out, err = vkd(*command, "--help")
    assert (code, err) == (0, "")
    assert [option for option in options if option not in out] == []


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        (["--data.batchsize", "3"], "--data.batchsize 3 (did you mean data.loading.batch_size"),
        (["--batch_sise", "3"], "--batch_sise 3 (did you mean data.loading.batch_size"),
        (["--training.learning_rate", "3"], "--training.learning_rate 3 (did you mean training.learning_rate_schedule"),
        (
            ["--data.loading.batch_size", "many"],
            "vkd: data.loading.batch_size: Expected a <class 'int'>. Got value: many",
        ),
        (["--data.loading.batch_size", "0"], "data.loading.batch_size: found 0, expected at least 1"),
        (
            ["--data.loading.batch_size", "1000"],
            "data.loading.batch_size: 1000 is more than the 48 training images; set it lower",
        ),
        (["--method", "vdk"], "method: found vdk, expected a class: its name or its import path (did you mean VKD?)"),
        (["--method", "vkd_pyro.methods.NoRepor"], "import path (did you mean NoReport?)"),
        (["--method", "no.such.Method"], "method: no.such.Method: No module named 'no'"),
        (["--method.latent_dmi", "2"], "method: VKD: Option 'latent_dmi' is not accepted (did you mean latent_dim?)"),
        (["--method.objective.kl_scal", "2"], "method.objective: TraceVKD_ELBO: Option 'kl_scal' is not accepted (did"),
        (["--method.latent_dim", "x"], "vkd: method.latent_dim: Expected a <class 'int'>. Got value: x"),
        (["--method.objective.alpha", "2"], "objective.alpha: found 2.0, expected a probability from 0 to 1"),
        (
            [
                "--data.selection.corpus",
                "vkd_pyro.data.corpora.openi.OpenI",
                "--data.selection.corpus.root",
                "no/where",
            ],
            "no folder at no/where;",
        ),
        (
            ["--method.image_encoder", "vkd_pyro.encoders.image.ConvEncodr"],
            "found vkd_pyro.encoders.image.ConvEncodr, expected a class",
        ),
        (["--config", "no/where.yaml"], "--config: no file no/where.yaml; expected YAML"),
    ],
)
def test_a_mistaken_setting_is_one_line_and_leaves_no_run(changes, found, config, tmp_path):
    assert found in refusal("train", "--config", config, "--run", tmp_path / "run", *changes)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("right", "wrong", "found"),
    [
        (
            "batch_size",
            "batchsize",
            "tiny.yaml: data.loading: Loading: Option 'batchsize' is not accepted (did you mean batch_size?)",
        ),
        ("latent_dim", "latents", "method: VKD: Option 'latents' is not accepted (did you mean latent_dim?)"),
        ("channels", "chanels", "'chanels' is not accepted (did you mean channels?)"),
        ("cycles", "cycle", "'cycle' is not accepted (did you mean cycles?)"),
        ("training:", "trainin:", "tiny.yaml: Option 'trainin' is not accepted (did you mean training?)"),
        ("[8, 16]", "[8, 16", "tiny.yaml, line 15, column 35: not a readable YAML file ("),
    ],
)
def test_a_mistaken_config_is_one_line_and_leaves_no_run(right, wrong, found, config, tmp_path):
    config.write_text(CONFIG.replace(right, wrong))
    assert found in refusal("train", "--config", config, "--run", tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        (["--beta_schedule.init_args.cycles", "100"], "100 cycles in an epoch of 12 steps would keep beta at 0"),
        (["--training.accelerator", "gpuu"], "gpuu"),
        (["--training.max_epochs", "0"], "max_epochs"),
    ],
)
def test_a_setting_that_training_refuses_leaves_no_run(changes, found, config, tmp_path):
    assert found in refusal("train", "--config", config, "--run", tmp_path / "run", *changes)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("workers", [0, 1])
def test_an_image_that_is_not_there_is_one_line_in_any_process(workers, config, tmp_path):
    changes = ("--data.selection.corpus", "tests.test_cli.BrokenCorpus", "--data.loading.num_workers", workers)
    message = refusal("train", "--config", config, "--run", tmp_path / "run", *changes)
    assert message == "vkd: no/where.png: no such image file\n"


def test_a_run_needs_a_name(config):
    assert "--run: not given; name a folder for the run" in refusal("train", "--config", config)


def test_settings_that_are_needed_are_named():
    assert "required: data.selection.corpus, method; name a config that has them by --config" in refusal("train")
    data = ("--data.selection.corpus", "tests.conftest.TinyCorpus")
    assert "method: ImageOnly wants image_encoder; give --method" in refusal("train", *data, "--method", "ImageOnly")
    found = refusal("train", *data, "--method.latent_dim", "4")
    assert "method: none given that has latent_dim; name one before it, e.g. --method VKD" in found
    assert "--config: no file synthetik (did you mean synthetic?); " in refusal("train", "--config", "synthetik")


def test_a_folder_in_use_is_left_as_it_is(config, copy):
    before = {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()}
    assert f"{copy}: holds another run; choose another --run" in refusal("train", "--config", config, "--run", copy)
    assert {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()} == before


def test_a_file_is_no_folder_for_a_run(config, tmp_path):
    assert str(config) in refusal("train", "--config", config, "--run", config)
    assert "Not a directory" in refusal("train", "--config", config, "--run", config / "run")
    assert config.read_text() == CONFIG


def test_a_complete_run_is_not_resumed(run):
    assert f"{run}: this run is complete; there is nothing to resume" in refusal("train", "--resume", run)


def test_a_run_is_resumed_with_its_own_config_for_the_epochs_that_are_left(copy):
    shutil.rmtree(copy / "bundle")
    text = (copy / "config.yaml").read_text()
    (copy / "config.yaml").write_text(text.replace("max_epochs: 2", "max_epochs: 3"))
    first = pd.read_csv(copy / "metrics.csv")
    code, _, err = vkd("train", "--resume", copy)
    assert code == 0, err
    table = pd.read_csv(copy / "metrics.csv")
    assert table["epoch"].tolist() == [0, 1, 2]
    assert table["step"].tolist() == [12, 24, 36]
    pd.testing.assert_frame_equal(table[:2], first)
    assert load_bundle(copy / "bundle").findings == TinyCorpus.findings


def test_a_run_that_lacks_only_its_bundle_is_completed(copy, run):
    shutil.rmtree(copy / "bundle")
    code, _, err = vkd("train", "--resume", copy)
    assert code == 0, err
    assert load_bundle(copy / "bundle").weights_hash == load_bundle(run / "bundle").weights_hash
    assert (copy / "metrics.csv").read_text() == (run / "metrics.csv").read_text()


def test_a_resumed_run_may_be_made_longer_and_nothing_else(copy):
    shutil.rmtree(copy / "bundle")
    message = refusal("train", "--resume", copy, "--training.optimizer.lr", "0.5")
    assert "last.ckpt: training.optimizer.lr: found 0.5, but this run was trained with 0.0" in message
    assert "--resume: a run goes on with its own settings; leave out --config" in refusal(
        "train", "--resume", copy, "--config", copy / "config.yaml"
    )
    code, _, err = vkd("train", "--resume", copy, "--training.max_epochs", "3", "--training.patience", "8")
    assert code == 0, err
    assert pd.read_csv(copy / "metrics.csv")["epoch"].tolist() == [0, 1, 2]
    settings = yaml.safe_load((copy / "config.yaml").read_text())
    assert (settings["training"]["max_epochs"], settings["training"]["patience"]) == (3, 8)
    assert settings["resume"] is None


def test_an_interrupted_run_is_finished_as_it_is(copy, run):
    shutil.rmtree(copy / "bundle")
    code, out, err = vkd("train", "--finish", copy)
    assert code == 0, err
    assert f"finished: {copy} (bundle/, of its best epoch so far)" in out
    assert load_bundle(copy / "bundle").weights_hash == load_bundle(run / "bundle").weights_hash
    assert f"{copy}: this run is complete" in refusal("train", "--finish", copy)


@pytest.mark.parametrize("command", [("train", "--resume"), ("evaluate",)])
def test_a_folder_that_is_no_run_is_refused(command, tmp_path):
    assert f"{tmp_path}: not a run; expected a folder with config.yaml" in refusal(*command, tmp_path)
    assert f"{tmp_path / 'x'}: not a run" in refusal(*command, tmp_path / "x")
    assert list(tmp_path.iterdir()) == []


def test_a_run_without_its_checkpoint_is_refused(copy):
    shutil.rmtree(copy / "bundle")
    shutil.rmtree(copy / "checkpoints")
    assert "no checkpoints/last.ckpt to resume from" in refusal("train", "--resume", copy)
    assert "best.ckpt: not found; expected a run that vkd train has written" in refusal("evaluate", copy)
    assert not (copy / "evaluation").exists()


# ---------------------------------------------------------------------------------------- evaluate


@pytest.fixture(scope="session")
def evaluated(trained, tmp_path_factory):
    """The folder of an evaluation, and what it printed."""
    run = shutil.copytree(trained[0], tmp_path_factory.mktemp("evaluated") / "run")
    code, out, err = vkd("evaluate", run)
    assert code == 0, err
    return run / "evaluation" / "test", out, err


def test_evaluation_prints_every_finding_and_every_average(evaluated):
    _, out, err = evaluated
    lines = {line.split("  ")[0].strip(): line for line in out.splitlines()}
    assert "9 studies, 9 patients" in out
    for name in (*TinyCorpus.findings, "macro", "macro30", "micro", "weighted (by positives)"):
        assert len(lines[name].split()) >= 3
    assert "mean of 2 findings" in lines["macro"]
    assert err == ""


def test_the_area_of_a_finding_of_one_class_is_undefined(evaluated):
    folder, out, _ = evaluated
    assert next(line for line in out.splitlines() if line.startswith("Rare")).split()[-2:] == ["undefined"] * 2
    assert json.loads((folder / "evaluation.json").read_text())["findings"]["Rare Square"]["image AUC"] is None


def test_evaluation_json_has_no_bare_nan_and_says_what_was_printed(evaluated):
    folder, out, _ = evaluated

    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    summary = json.loads((folder / "evaluation.json").read_text(), parse_constant=refuse)
    assert (summary["studies"], summary["patients"], summary["defined_findings"]) == (9, 9, 2)
    for finding in ("Upper Square", "Lower Square"):
        printed = next(line for line in out.splitlines() if line.startswith(finding)).split()
        assert printed[-2:] == [f"{summary['findings'][finding][path]:.3f}" for path in ("image AUC", "report AUC")]
    assert f"{summary['auc']['image']['micro']:.3f}" in out


def test_predictions_of_an_evaluation_are_those_of_the_corpus(evaluated):
    table = pd.read_parquet(evaluated[0] / "predictions.parquet")
    studies = [study for study in TinyCorpus().studies() if study.split == "test"]
    assert table["study"].tolist() == [study.study_id for study in studies]
    labels = table[[f"label:{finding}" for finding in TinyCorpus.findings]].to_numpy()
    assert np.array_equal(labels, [study.labels for study in studies])
    assert table.filter(like="image:").to_numpy().min() >= 0


@pytest.mark.slow
def test_evaluating_again_gives_the_same_files(evaluated):
    folder, out, _ = evaluated
    before = {path.name: path.read_bytes() for path in folder.rglob("*.*")}
    assert vkd("evaluate", folder.parents[1])[1] == out
    assert {path.name: path.read_bytes() for path in folder.rglob("*.*")} == before


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        (["--split", "valid"], "Expected a typing.Literal['train', 'validation', 'test']. Got value: valid"),
        (["--num_samples", "0"], "vkd: num_samples: Not of type PositiveInt"),
        (["--num-samples", "3"], "unrecognized arguments: --num-samples 3"),
        (["--num_sample", "3"], "--num_sample 3 (did you mean num_samples"),
    ],
)
def test_a_mistaken_evaluation_is_one_line_and_writes_nothing(changes, found, copy):
    assert found in refusal("evaluate", copy, *changes)
    assert not (copy / "evaluation").exists()


def test_no_report_and_no_name_of_a_patient_is_printed(trained, evaluated):
    printed = "".join([*trained[1:], *evaluated[1:]])
    for study in TinyCorpus().studies():
        assert study.report["report"] not in printed
        assert study.patient_id not in printed
        assert study.study_id not in printed
    assert "radiologist" not in printed


# ----------------------------------------------------------------------------------------- predict


def predict(run, images, form):
    code, out, err = vkd("predict", run / "bundle", *images, "--num_samples", "5", "--format", form)
    assert (code, err) == (0, "")
    return out


def parsed_table(out):
    """Of each image, the raw probability of each finding."""
    rows, row = {}, {}
    for line in out.split("\n\n")[0].splitlines()[1:]:
        if line.startswith("  unlike"):
            continue
        if line.startswith("  "):
            row[line[2:16].strip()] = float(line[16:].split()[2])
        else:
            row = rows[line] = {}
    return rows


def test_table_csv_and_json_agree_with_the_library(run, images):
    names = [str(image) for image in images]
    said = predict_files(load_bundle(run / "bundle"), images, UncertaintySources(num_samples=5))
    exact = np.stack([each.probabilities for each in said])
    objects = json.loads(predict(run, images, "json"))
    assert [each["image"] for each in objects] == names
    found = [[finding["probability"] for finding in each["findings"].values()] for each in objects]
    assert np.allclose(found, exact, rtol=1e-5)
    assert list(objects[0]["findings"]) == list(TinyCorpus.findings)

    rows = pd.read_csv(io.StringIO(predict(run, images, "csv")))
    assert rows["image"].unique().tolist() == names
    assert rows["finding"].tolist() == list(TinyCorpus.findings) * len(names)
    assert np.allclose(rows["probability"], exact.ravel(), rtol=1e-5)

    table = parsed_table(predict(run, images, "table"))
    assert list(table) == names
    assert np.allclose([[table[name][f] for f in TinyCorpus.findings] for name in names], exact, atol=5.1e-4)


def cut(path):
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def test_one_bad_image_is_one_line_and_the_others_are_predicted(run, images):
    good, truncated, text = images
    cut(truncated)
    text.write_text("not an image")
    for bad, found in (
        (truncated, "unreadable or truncated image"),
        (text, "(not a PNG or JPEG); expected a whole PNG, JPEG or DICOM file"),
        (good.with_name("absent.png"), "no such image file"),
    ):
        code, out, err = vkd("predict", run / "bundle", good, bad)
        assert (code, list(parsed_table(out))) == (2, [str(good)])
        assert err.startswith(f"vkd: {bad}: ")
        assert found in err
        assert err.count("\n") == 1


def test_a_bundle_of_another_version_is_refused(copy, images):
    path = copy / "bundle" / "config.json"
    path.write_text(path.read_text().replace('"format_version": 5', '"format_version": 2'))
    message = refusal("predict", copy / "bundle", *images)
    assert f"{path}: format_version is 2, this version of vkd_pyro reads 5" in message


def test_a_run_is_no_bundle(run, images):
    assert f"{run}: not a bundle" in refusal("predict", run, *images)


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        (["--num_samples", "0"], "vkd: num_samples: Not of type PositiveInt"),
        (["--format", "xml"], "Expected a typing.Literal['table', 'csv', 'json']. Got value: xml"),
        (["--fromat", "csv"], "--fromat csv (did you mean format?)"),
    ],
)
def test_a_mistaken_prediction_is_one_line(changes, found, run, images):
    assert found in refusal("predict", run / "bundle", *images, *changes)


def test_an_image_is_needed(run):
    assert "required: images" in refusal("predict", run / "bundle")


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        ((), "no command given; expected one of train, tune, evaluate"),
        (("fit",), "no command fit; expected one of train"),
    ],
)
def test_a_command_is_needed(arguments, found):
    assert found in refusal(*arguments)


# ---------------------------------------------------------------------------------------- start-up

SLOW_TO_IMPORT = [
    "lightning",
    "transformers",
    "sklearn",
    "pandas",
    "pyarrow",
    "matplotlib",
    "captum",
    "scipy.stats",
    "torch._dynamo",
    "sympy",
]
"""What no prediction needs; and the best part of a second each, or more."""

STARTED = """
import sys
from vkd_pyro.cli import main
code = main(sys.argv[2:])
print(*(name for name in sys.argv[1].split() if name in sys.modules), file=sys.stderr)
sys.exit(code)
"""


def imported(names, *arguments):
    """Which of these modules a command imports, in a process of its own."""
    command = [sys.executable, "-c", STARTED, " ".join(names), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stderr.splitlines()[-1].split()


def test_help_imports_no_library():
    assert imported(["torch", "numpy", "jsonargparse", "yaml"], "--help") == []


def test_a_prediction_imports_what_it_needs(run, images):
    slow = [*SLOW_TO_IMPORT, "torchvision", "openvino", "pydicom"]
    assert imported(slow, "predict", run / "bundle", images[0]) == []


@pytest.mark.slow
def test_a_network_of_torchvision_brings_no_more_than_torchvision(tmp_path, images):
    model = ImageClassifier(TorchvisionEncoder("shufflenet_v2_x0_5"), 2)
    save_bundle(tmp_path / "bundle", model, ("Edema", "Fracture"), ImageTransform(32), "")
    assert imported([*SLOW_TO_IMPORT, "torchvision"], "predict", tmp_path / "bundle", images[0]) == ["torchvision"]


def test_an_export_is_predicted_without_pytorch(run, tmp_path, images):
    pytest.importorskip("openvino")
    code, _, err = vkd("export", run / "bundle", "--output", tmp_path / "export")
    assert code == 0, err
    slow = [*SLOW_TO_IMPORT, "torch", "pyro", "torchvision", "openvino"]
    assert imported(slow, "predict", tmp_path / "export", images[0]) == ["openvino"]
    asked = ("--output", tmp_path / "said.csv", "--query", "Upper Square & ~Lower Square", "--group", "none")
    assert imported(slow, "predict", tmp_path / "export", images[0], *asked) == ["openvino"]


@pytest.mark.parametrize("said", [("{}=null",), ("{}", "null")], ids=["joined", "apart"])
@pytest.mark.parametrize("option", ["--method.image_encoder.weights", "--method.image_encoder.init_args.weights"])
def test_null_is_null_in_a_part_within_a_part(said, option):
    settings = parse(train_parser(), ["--config", "openi_paper", *(word.format(option) for word in said)])
    assert settings.method.init_args.image_encoder.init_args.weights is None

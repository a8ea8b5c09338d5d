"""Loggers of Lightning by config: what they get, that a resumed run goes on in them, and what they must not get."""

import shutil
import sys

import pandas as pd
import pytest
import yaml
from lightning.pytorch.loggers import Logger

from tests.conftest import TinyCorpus, study_data
from tests.test_cli import CONFIG, refusal, vkd
from vkd_pyro import evaluate, fit
from vkd_pyro.encoders.image import ConvEncoder
from vkd_pyro.methods import ImageOnly
from vkd_pyro.training import loggers
from vkd_pyro.training.loggers import MLflow, RunLogger, TensorBoard, WandB
from vkd_pyro.training.settings import Training
from vkd_pyro.training.tracking import hyperparameters, log_evaluation, opened
from vkd_pyro.utils.errors import UserError

pytestmark = [
    pytest.mark.filterwarnings("default"),  # of the libraries
    pytest.mark.filterwarnings("ignore:(z is|reports are) ignored"),
]
ALL = ["TensorBoard", "MLflow", "WandB"]
CONNECTED: list = []


def note_connections(event, arguments):
    if event == "socket.connect":
        CONNECTED.append(arguments[1])


sys.addaudithook(note_connections)


def scalars(run):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(run / "tracking" / "tensorboard"))
    found.Reload()
    return found


def mlflow_runs(run):
    from mlflow.tracking import MlflowClient

    client = MlflowClient(f"sqlite:///{run / 'tracking' / 'mlflow.db'}")
    (experiment,) = client.search_experiments(filter_string="name = 'vkd'")
    return client, client.search_runs([experiment.experiment_id])


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Trained for an epoch, gone on with for another, evaluated."""
    folder = tmp_path_factory.mktemp("loggers")
    config = yaml.safe_load(CONFIG)
    kinds = [{"class_path": f"vkd_pyro.training.loggers.{kind}"} for kind in ALL]
    config["training"] |= {"max_epochs": 1, "loggers": kinds}
    (folder / "tiny.yaml").write_text(yaml.safe_dump(config))
    CONNECTED.clear()
    assert vkd("train", "--config", folder / "tiny.yaml", "--run", folder / "run")[0] == 0
    shutil.rmtree(folder / "run" / "bundle")
    code, out, _ = vkd("train", "--resume", folder / "run", "--training.max_epochs", 2)
    assert code == 0
    assert "are sent to" not in out
    code, out, _ = vkd("evaluate", folder / "run", "--resamples", 20, "--loggers")
    assert code == 0
    assert "sent to TensorBoard, MLflow, WandB: numbers, findings, figures, as test" in out
    return folder / "run"


@pytest.mark.slow
def test_each_has_the_metrics_of_every_epoch_in_one_run(run):
    table = pd.read_csv(run / "metrics.csv")
    found = scalars(run)
    events = found.Scalars("val/nll")
    assert [event.value for event in events] == pytest.approx(table["val/nll"].tolist())
    client, (only,) = mlflow_runs(run)
    history = client.get_metric_history(only.info.run_id, "val/nll")
    assert [each.value for each in history] == pytest.approx(table["val/nll"].tolist())
    assert only.data.params["method.init_args.latent_dim"] == "4"
    ids = {path.name.rpartition("-")[2] for path in (run / "tracking" / "wandb").glob("offline-run-*")}
    assert len(ids) == 1
    assert len(list((run / "tracking" / "wandb").glob("offline-run-*"))) == 3


@pytest.mark.slow
def test_an_evaluation_is_numbers_figures_and_a_table(run):
    found = scalars(run)
    assert found.Scalars("test/nll")[0].value > 0
    assert any(tag.startswith("test/") for tag in found.Tags()["images"])
    client, (only,) = mlflow_runs(run)
    names = {file.path for file in client.list_artifacts(only.info.run_id, "test")}
    assert "test/findings.csv" in names
    assert any(name.endswith(".png") for name in names)


@pytest.mark.slow
def test_they_get_nothing_of_a_patient_and_nothing_leaves_the_machine(run):
    written = [path for path in (run / "tracking").rglob("*") if path.is_file()]
    assert len(written) > 5
    for path in written:
        content = path.read_bytes()
        assert b"patient-0" not in content, path
        assert b"study-0" not in content, path
        assert b"radiologist sees" not in content, path
    strange = [place for place in CONNECTED if isinstance(place, tuple) and place[0] not in ("127.0.0.1", "::1")]
    assert strange == []


def test_a_logger_of_a_missing_package_names_it(monkeypatch):
    monkeypatch.setattr(loggers, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"^training\.loggers: WandB needs wandb: pip install 'vkd-pyro\[trackers\]'$"):
        WandB()


def test_what_is_sent_is_said_and_no_password_is_kept():
    assert [TensorBoard().sends_to, WandB().sends_to, MLflow().sends_to, MLflow("sqlite:///a.db").sends_to] == [
        None
    ] * 4
    assert WandB(mode="online").sends_to == "Weights & Biases"
    assert MLflow("http://host:5000").sends_to == "http://host:5000"
    with pytest.raises(UserError, match="tracking_uri names a user or password"):
        MLflow("https://me:word@host")
    with pytest.raises(UserError, match="TensorBoard is given twice"):
        Training(loggers=[TensorBoard(), TensorBoard()])


def test_hyperparameters_are_flat_and_hold_no_secret():
    config = (
        "run: runs/a\nseed: 1\ntraining: {max_epochs: 2, loggers: [x]}\nmethod: {api_key: a, max_tokens: 4, b: [1]}\n"
    )
    found = hyperparameters(config)
    assert found == {"seed": 1, "training.max_epochs": 2, "method.max_tokens": 4, "method.b": "[1]"}


def test_a_logger_that_is_none_is_refused(tmp_path):
    (tmp_path / "tiny.yaml").write_text(CONFIG)
    given = ("train", "--config", tmp_path / "tiny.yaml", "--run", tmp_path / "run")
    assert "training.loggers" in refusal(*given, "--training.loggers+=TensorBord")


def test_a_run_that_fails_early_leaves_no_tracking(tmp_path):
    (tmp_path / "tiny.yaml").write_text(CONFIG)
    given = ("train", "--config", tmp_path / "tiny.yaml", "--run", tmp_path / "run", "--training.loggers+=TensorBoard")
    assert "diverged" in refusal(*given, "--training.optimizer=SGD", "--training.optimizer.lr=1e30")
    assert not (tmp_path / "run").exists()


class Unreachable(Logger):
    """Of a server that answers so many times."""

    name, version = "unreachable", "0"

    def __init__(self, answers: int) -> None:
        self.answers, self.calls = answers, 0

    def log_hyperparams(self, params) -> None: ...

    def log_metrics(self, metrics, step=None) -> None:
        self.calls += 1
        if self.calls > self.answers:
            raise ConnectionError("no answer")

    def finalize(self, status) -> None:
        raise ConnectionError("no answer")


class ToUnreachable(RunLogger):
    package = "json"

    def __init__(self, answers: int) -> None:
        self.logger = Unreachable(answers)

    def begin(self, run, key):
        return self.logger, "key"

    def close(self, logger) -> None: ...

    def add(self, logger, name, figures, table) -> None: ...


def test_a_training_outlives_its_tracker_and_an_evaluation_says_that_it_was_not_taken(tmp_path):
    maker = ToUnreachable(answers=1)
    training = Training(max_epochs=3, loggers=(maker,))
    data = study_data(TinyCorpus(), batch_size=8)
    method = ImageOnly(data.findings, ConvEncoder((4, 8)))
    with pytest.warns(UserWarning, match=r"loggers: ToUnreachable has failed \(no answer\); training goes on") as told:
        fit(method, data, tmp_path / "run", training=training, progress=False)
    assert len([one for one in told if "has failed" in str(one.message)]) == 1
    assert maker.logger.calls == 2
    assert len(pd.read_csv(tmp_path / "run" / "metrics.csv")) == 3
    (tmp_path / "run" / "config.yaml").write_text("training: {}\n")
    evaluation, folder = evaluate(method, data, "validation"), tmp_path / "run" / "evaluation" / "validation"
    with pytest.raises(
        UserError, match=r"ToUnreachable did not take the evaluation: no answer; it is whole in .*again"
    ):
        log_evaluation([ToUnreachable(answers=0)], tmp_path / "run", evaluation, folder)


@pytest.mark.slow
def test_a_server_that_does_not_answer_is_one_line_before_training(tmp_path):
    logger = MLflow(tracking_uri="http://127.0.0.1:9")
    with (
        pytest.raises(UserError, match=r"^training.loggers: MLflow cannot be opened: .*127\.0\.0\.1"),
        opened([logger], tmp_path, {}),
    ):
        pass

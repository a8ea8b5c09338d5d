"""In a notebook: two fits in one process, the stop button, bars, and what is shown of an object."""

import re
import signal
import sys
import types
from dataclasses import replace

import numpy as np
import pyro
import pytest
import torch

from tests.test_training import SETTINGS, make_data, make_image_only, make_vkd
from vkd_pyro.artifacts.run import load_checkpoint
from vkd_pyro.evaluation.evaluate import evaluate
from vkd_pyro.prediction.prediction import SHOWN, Prediction
from vkd_pyro.schedules import Constant
from vkd_pyro.training import callbacks
from vkd_pyro.training.fitting import finish, fit
from vkd_pyro.training.module import MethodTraining
from vkd_pyro.training.settings import Training
from vkd_pyro.utils.errors import UserError

TWO = Training(2, SETTINGS.optimizer, accelerator="cpu", num_samples=5)


def train(run, method, data, **options):
    return fit(method, data, run, Constant(), TWO, progress=False, **options)


def seeded_vkd():
    torch.manual_seed(3)
    return make_vkd()


def weights_of(method):
    return {name: value.clone() for name, value in method.state_dict().items()}


def test_a_second_fit_neither_changes_the_first_nor_is_changed_by_it(tmp_path):
    alone = weights_of(train(tmp_path / "alone", seeded_vkd(), make_data()))
    pyro.clear_param_store()
    data = make_data()
    first = train(tmp_path / "first", make_image_only(), data)
    before = weights_of(first)
    second = train(tmp_path / "second", seeded_vkd(), data)
    assert all(torch.equal(value, before[name]) for name, value in first.state_dict().items())
    assert all(torch.equal(value, alone[name]) for name, value in second.state_dict().items())


def stop_in_epoch(monkeypatch, epoch):
    step = MethodTraining.training_step

    def stopping(self, batch, batch_idx):
        if self.current_epoch == epoch:
            raise KeyboardInterrupt
        return step(self, batch, batch_idx)

    monkeypatch.setattr(MethodTraining, "training_step", stopping)


def test_the_stop_button_leaves_the_best_epoch_and_can_be_pressed_again(tmp_path, monkeypatch):
    method, data = seeded_vkd(), make_data()
    handler = signal.getsignal(signal.SIGINT)
    with monkeypatch.context() as patch:
        stop_in_epoch(patch, epoch=1)
        with pytest.raises(KeyboardInterrupt, match=r"best epoch so far, of which finish\(\) writes the bundle"):
            train(tmp_path / "run", method, data)
    assert signal.getsignal(signal.SIGINT) is handler  # Lightning leaves it ignored
    assert not any(module.training for module in method.modules())
    stopped = weights_of(method)
    evaluation = evaluate(method, data, split="validation", num_samples=5)
    assert np.isfinite(evaluation.probabilities).all()
    finish(method, data, tmp_path / "run", TWO)
    assert (tmp_path / "run" / "bundle").is_dir()
    assert all(torch.equal(value, stopped[name]) for name, value in method.state_dict().items())
    other = seeded_vkd()
    load_checkpoint(other, tmp_path / "run")
    assert all(torch.equal(value, stopped[name]) for name, value in other.state_dict().items())


def test_a_stopped_fit_goes_on_to_where_an_unstopped_one_comes(tmp_path, monkeypatch):
    whole = weights_of(train(tmp_path / "whole", seeded_vkd(), make_data()))
    method, data = seeded_vkd(), make_data()
    with monkeypatch.context() as patch:
        stop_in_epoch(patch, epoch=1)
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path / "run", method, data)
    train(tmp_path / "run", method, data, resume=True)
    assert all(torch.equal(value, whole[name]) for name, value in method.state_dict().items())


def test_stopped_before_an_epoch_ends_the_method_is_in_eval_mode(tmp_path, monkeypatch):
    method = seeded_vkd()
    stop_in_epoch(monkeypatch, epoch=0)
    with pytest.raises(
        KeyboardInterrupt, match="the weights of its last step; nothing was saved yet, so another fit begins anew"
    ):
        train(tmp_path / "run", method, make_data())
    assert not any(module.training for module in method.modules())


def test_stopped_within_an_epoch_it_says_lines_when_it_goes_on(tmp_path, monkeypatch, capsys):
    """With a checkpoint within the first epoch: none of it is the best yet, and it has no start again."""
    settings = replace(TWO, checkpoint_steps=1)
    step = MethodTraining.training_step

    def stopping(self, batch, batch_idx):
        if batch_idx == 2:
            raise KeyboardInterrupt
        return step(self, batch, batch_idx)

    method, data = seeded_vkd(), make_data()
    with monkeypatch.context() as patch:
        patch.setattr(MethodTraining, "training_step", stopping)
        with pytest.raises(KeyboardInterrupt, match="the weights of its last step; resume=True goes on"):
            fit(method, data, tmp_path / "run", Constant(), settings)
    with pytest.raises(UserError, match=r"run: no epoch of it has ended yet, .* go on by vkd train --resume"):
        finish(method, data, tmp_path / "run", settings)
    fit(seeded_vkd(), data, tmp_path / "run", Constant(), settings, resume=True)
    assert re.findall(r"^epoch \d of 2: val/nll", capsys.readouterr().out, re.M) == [
        "epoch 1 of 2: val/nll",
        "epoch 2 of 2: val/nll",
    ]


@pytest.mark.parametrize(("widgets", "expected"), [(None, "tqdm.std"), (object(), "tqdm.notebook")])
def test_a_kernel_shows_bars_where_standard_error_is_no_terminal(widgets, expected, monkeypatch):
    assert not callbacks.in_notebook()
    shell = types.SimpleNamespace(kernel=object())
    monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace(get_ipython=lambda: shell))
    monkeypatch.setattr(callbacks, "find_spec", lambda name: widgets)
    assert callbacks.in_notebook()
    assert callbacks.bar_class().__module__ == expected


def test_a_terminal_of_ipython_is_no_notebook(monkeypatch):
    monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace(get_ipython=lambda: types.SimpleNamespace()))
    assert not callbacks.in_notebook()


# ------------------------------------------------------------------- what is shown


def test_a_method_shows_its_parts_and_their_sizes():
    vkd = make_vkd()
    shown = vkd._repr_html_()
    trained = sum(p.numel() for p in vkd.model.image_encoder.parameters())
    assert "image_encoder" in shown
    assert "ConvEncoder" in shown
    assert f"<td>{trained:,}</td>" in shown
    assert "objective: TraceVKD_ELBO" in shown
    assert "report_encoder" not in make_image_only()._repr_html_()


def test_an_evaluation_shows_its_tables_and_nobody(tmp_path):
    data = make_data()
    evaluation = evaluate(make_vkd().eval(), data, split="validation", num_samples=5)
    shown = evaluation._repr_html_()
    for finding in evaluation.findings:
        assert f"<td>{finding}</td>" in shown
    assert f"{evaluation.averages()['image']['macro']:.3f}" in shown
    assert not any(name in shown for name in (*evaluation.study_ids, *evaluation.patient_ids) if len(name) > 2)


def test_a_prediction_shows_its_first_images_and_how_many_more():
    samples = np.linspace(0, 1, 2 * 5 * 9 * 2, dtype=np.float32).reshape(2, 5, 9, 2)
    prediction = Prediction(samples, ("Edema", "<b>"), ("z", "ensemble"))
    assert repr(prediction) == "Prediction(9 images, 2 findings, 2 x 5 samples that differ in z and ensemble)"
    shown = prediction._repr_html_()
    assert "&lt;b&gt;" in shown
    assert "<td><b></td>" not in shown
    assert f"image {SHOWN - 1}" in shown
    assert f"image {SHOWN}<" not in shown
    assert "and 3 more images" in shown
    low, high = prediction.interval()
    assert f"{prediction.probabilities[0, 0]:.3f} [{low[0, 0]:.3f}, {high[0, 0]:.3f}]" in shown
    assert "[" not in Prediction(samples, ("a", "b"), ())._repr_html_()

"""What training says while it goes on: lines, a bar where there is a terminal, never one in the other."""

import io
import math
import sys
from types import SimpleNamespace

import pytest

from vkd_pyro.training.callbacks import Progress, said_of

METRICS = {"val/nll": 0.25, "val/macro_auc": 0.75, "val/kl": 3.14159, "train/loss": 12.3456}


class Terminal(io.StringIO):
    """One that says no size."""

    def isatty(self):
        return True


def an_epoch(progress):
    """Two of three batches, then the epoch's end."""
    loop = SimpleNamespace(epoch_loop=SimpleNamespace(batch_progress=SimpleNamespace(current=SimpleNamespace(ready=0))))
    trainer = SimpleNamespace(
        is_global_zero=True,
        num_training_batches=3,
        current_epoch=1,
        max_epochs=4,
        should_stop=False,
        callback_metrics=METRICS,
        fit_loop=loop,
    )
    module = SimpleNamespace(epoch_so_far=SimpleNamespace(mean_loss=5.5))
    progress.on_train_epoch_start(trainer, module)
    for number in range(2):
        progress.on_train_batch_end(trainer, module, None, None, number)
    progress.on_validation_start(trainer, module)
    progress.on_train_epoch_end(trainer, module)


def test_without_a_terminal_there_are_lines(capsys):
    an_epoch(Progress(every=0.0))
    out, err = capsys.readouterr()
    assert err == ""
    *steps, epoch = out.splitlines()
    assert [step.split("; ")[0] for step in steps] == [f"epoch 2 of 4: step {n} of 3" for n in (1, 2)]
    assert steps[0].split("; ")[1].startswith("loss 5.5, ")
    assert steps[0].endswith(" steps/s, 00:00 left of it")
    assert epoch.startswith("epoch 2 of 4: val/nll 0.2500, macro AUC 0.750, KL 3.14 nats, loss 12.35; 00:00, ")
    assert epoch.endswith(" steps/s, at most 00:00 left")


def test_a_terminal_that_says_no_size_has_a_bar_which_no_line_is_glued_to(monkeypatch, capsys):
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    monkeypatch.setenv("COLUMNS", "0")
    an_epoch(Progress())
    assert "epoch 2 of 4" in terminal.getvalue()
    assert "0/3 [00:00<?, ?step/s]" in terminal.getvalue()
    assert terminal.getvalue().split("\r")[-1] == ""  # it has been wiped
    assert capsys.readouterr().out.count("\n") == 1


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"val/kl": math.nan}, "val/nll 0.2500, macro AUC 0.750, loss 12.35"),
        ({"val/macro_auc": math.nan}, "val/nll 0.2500, macro AUC undefined, KL 3.14 nats, loss 12.35"),
    ],
)
def test_what_is_undefined_is_not_a_number(changed, said):
    assert said_of(METRICS | changed) == said

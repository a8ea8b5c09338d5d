"""A trial of several folds: who is held out, what its value is, and when it is ended."""

import pytest

from tests.conftest import study_data
from tests.test_tuning import SPACE, Sealed, begin, refused
from vkd_pyro.tuning.results import table
from vkd_pyro.tuning.study import Goal, MedianOfFolds, pruner_of, search
from vkd_pyro.tuning.trial import train_trial
from vkd_pyro.utils.errors import UserError


def test_folds_within_training_and_validation_hold_each_patient_out_once_and_no_test_study():
    data = study_data(Sealed(), image_size=32, batch_size=8)
    folds = data.inner_folds(3)
    everyone = {study.patient_id for split in ("train", "validation") for study in data.studies(split)}
    held_out = [{study.patient_id for study in fold.studies("validation")} for fold in folds]
    assert sorted(name for names in held_out for name in names) == sorted(everyone)
    for fold, names in zip(folds, held_out, strict=True):
        assert {study.patient_id for study in fold.studies("train")} == everyone - names
        assert not fold.has("test")
    with pytest.raises(UserError, match=r"too few patients for 1000 folds; take fewer"):
        data.inner_folds(1000)


class Replayed:
    """A training of a fold that gives the values it is told, without training."""

    def __init__(self, monkeypatch, values):
        self.values, self.runs = iter(values), []
        monkeypatch.setattr("vkd_pyro.tuning.trial.fit", self)

    def __call__(self, data, run, progress, callbacks, **made):
        (report,) = callbacks
        assert report.trial is None  # a fold's epochs are not steps of the trial
        self.runs.append((data, run.name, made))
        report.value = next(self.values)


class Fold:
    def has(self, split):
        return split != "test"


def test_a_trial_of_several_folds_has_their_mean_and_is_pruned_between_them(tmp_path, monkeypatch):
    values = [[1.0, 3.0, 5.0]] * 5 + [[2.0, 2.5, 1.0], [1.0, 2.0, 9.0]]
    replayed = Replayed(monkeypatch, [value for row in values for value in row[: 2 if row[0] == 2.0 else 3]])
    folds = [Fold(), Fold(), Fold()]
    assert isinstance(pruner_of("median", 20, 3), MedianOfFolds)
    study = begin(tmp_path / "study", pruner=pruner_of("median", 20, 3))
    search(study, SPACE, lambda trial, _: train_trial(trial, Goal(), folds, dict, tmp_path / str(trial.number)),
           refused, 7)  # fmt: skip
    rows = table(study)
    assert rows["state"].tolist() == ["complete"] * 5 + ["pruned", "complete"]  # 2.25 after two folds is above 2
    assert rows["value"].tolist() == [3.0] * 5 + [2.25, 4.0]
    assert [name for _, name, _ in replayed.runs[:3]] == ["fold0", "fold1", "fold2"]
    assert [data for data, _, _ in replayed.runs[:3]] == folds

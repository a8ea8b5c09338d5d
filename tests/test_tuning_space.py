"""The space of a search: what a file may say, and what a config has of it."""

import pytest
import yaml

from tests.test_tuning import KL, LR, SPACE
from vkd_pyro.tuning.space import Choice, Number, Space, read_space
from vkd_pyro.utils.errors import UserError

SPAN = "{type: float, low: 0.1, high: 1}"
WRONG = {
    "run: {type: int, low: 1, high: 2}": "run: expected an option of data, method, beta_schedule, training, by",
    f"{LR}: {{type: float, low: 1.0, high: 0.1}}": f"{LR}: low is 1 and high is 0.1; expected low below high",
    f"{LR}: {{type: float, low: 0, high: 1, log: true}}": "low: found 0, and with log it must be above 0",
    f"{LR}: {{type: real, low: 0, high: 1}}": "expected a distribution with type: float, int, categorical",
    f"{LR}: {{type: float, low: 0, hihg: 1}}": "found hihg, and float takes high, log, low, step",
    f"{LR}: {{type: float, low: 0}}": "high: found None, expected a number",
    f"{LR}: {{type: float, low: 0, high: 1, step: 2}}": "step: found 2, expected above 0, at most high - low",
    "method.latent_dim: {type: int, low: 1.5, high: 2}": "low: found 1.5, expected a whole number",
    "seed: {type: categorical, choices: [1]}": r"choices: found \[1\], expected a list of at least 2",
    "seed: {type: categorical, choices: [1, 1]}": "choices: the same twice",
    "data.task.folds: {type: categorical, choices: [1, 2]}": "data.task.folds changes what is judged",
    "data.task: {type: categorical, choices: [{a: 1}, {a: 2}]}": "data.task.eval_policy changes what is judged",
    "data.selection.unknown_views: {type: categorical, choices: [keep, drop]}": "unknown_views changes what is judged",
    "seed: {type: categorical, choices: [2020-01-01, 2020-02-02]}": "choices: expected numbers, words or parts",
    "a: {}": "a: expected an option of data, method",
    "method.d: {type: categorical, choices: [{class_path: a.B, init_args: [1]}, 2]}": "choices: expected numbers",
    f"seed: {{type: int, low: 1, high: 1{'0' * 31}}}": "high: found 10000000000000000000000000000000, expected a whole",
    f"{LR}: {SPAN}\ntraining.optimizer.init_args.lr: {SPAN}": "training.optimizer.init_args.lr and .*lr are one option",
    "{}": "found no option to search",
}


@pytest.mark.parametrize(("text", "message"), WRONG.items())
def test_a_space_that_is_none_is_refused_by_file_and_option(tmp_path, text, message):
    (tmp_path / "space.yaml").write_text(text)
    with pytest.raises(UserError, match=rf"space\.yaml: .*{message}"):
        read_space([tmp_path / "space.yaml"])


def test_a_later_space_goes_over_an_earlier_and_parts_of_configs_have_short_names(tmp_path):
    (tmp_path / "a.yaml").write_text(f"{LR}: {{type: float, low: 1e-4, high: 1}}\nseed: {{type: int, low: 0, high: 9}}")
    divergence = {"type": "categorical", "choices": [KL, None]}
    (tmp_path / "b.yaml").write_text(
        yaml.safe_dump({"seed": {"type": "int", "low": 1, "high": 3}, "method.d": divergence})
    )
    space = read_space([tmp_path / "a.yaml", tmp_path / "b.yaml"])
    assert space.parts[LR] == Number(False, 1e-4, 1)
    assert space.parts["seed"] == Number(True, 1, 3)
    assert list(space.parts["method.d"].choices) == ["BalancedKL(posterior_weight=0.1, prior_weight=0.3)", None]
    options = space.options({LR: 0.5, "seed": 2, "method.d": None})
    assert options == [f"--{LR}=0.5", "--seed=2", "--method.d=null"]
    (tmp_path / "c.yaml").write_text(
        f"training.optimizer.init_args.lr: {SPAN}\nmethod.n: {{type: int, low: 1e1, high: 20}}"
    )
    space = read_space([tmp_path / "a.yaml", tmp_path / "c.yaml"])
    assert list(space.parts) == [
        "seed",
        "training.optimizer.init_args.lr",
        "method.n",
    ]  # one option, spelled in two ways
    assert space.parts["method.n"] == Number(True, 10, 20)


def test_a_space_knows_what_a_config_has():
    divergence = Choice({"a": KL, "b": {"class_path": "other"}, None: None})
    space = Space(dict(SPACE.parts) | {"method.objective.divergence": divergence})
    kl = KL | {"init_args": KL["init_args"] | {"more": 1}}
    method = {"class_path": "VKD", "init_args": {"latent_dim": 6, "objective": {"init_args": {"divergence": kl}}}}
    settings = {"training": {"optimizer": {"class_path": "Adam", "init_args": {"lr": 0.01}}}, "method": method}
    expected = {LR: 0.01, "method.latent_dim": 6, "method.objective.divergence": "a"}
    assert space.params(settings) == expected
    method["init_args"]["objective"] = None
    assert space.params(settings) == expected | {"method.objective.divergence": None}
    method["init_args"]["latent_dim"] = 7
    with pytest.raises(ValueError, match=r"^method.latent_dim: 7 is not a step of 2 from 2$"):
        space.params(settings)
    method["init_args"]["latent_dim"] = 10
    with pytest.raises(ValueError, match=r"^method.latent_dim: 10 is not in 2 to 8$"):
        space.params(settings)
    method["init_args"].update(latent_dim=6, objective={"init_args": {"divergence": {"class_path": "third"}}})
    with pytest.raises(ValueError, match=r"^method.objective.divergence: .*third.* is not among the choices$"):
        space.params(settings)

"""Configs that would hold too much are refused before they are read."""

import pytest

from tests.test_cli import CONFIG, refusal, vkd
from vkd_pyro.utils.errors import UserError
from vkd_pyro.utils.yaml_limits import check_yaml

LAUGHS = "a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]\n" for i in range(1, 30))
MERGED = "a0: &a0 {x: 1, y: 2}\n" + "".join(
    f"a{i}: &a{i} {{b: {{<<: *a{i - 1}}}, c: *a{i - 1}}}\n" for i in range(1, 30)
)
TOO_MUCH = {
    "aliases of aliases": (LAUGHS, "more than 10,000 values or 50 levels"),
    "merged mappings": (MERGED, "more than 10,000 values or 50 levels"),
    "many values": ("a: [" + "1, " * 11_000 + "1]\n", "more than 10,000 values or 50 levels"),
    "deep lists": ("a: " + "[" * 60 + "]" * 60 + "\n", "more than 10,000 values or 50 levels"),
    "very deep lists": ("a: " + "[" * 20_000 + "\n", "not a readable YAML file"),
    "a long text": ("a: " + "x" * 70_000 + "\n", "70,004 characters, expected a config of at most 65,536"),
    "an alias of what it is in": ("a: &a [*a]\n", r"the alias \*a stands for what it is in, or for nothing"),
    "an alias of nothing": ("a: *b\n", r"the alias \*b stands for what it is in, or for nothing"),
    "no YAML": ("a: [\n", "not a readable YAML file"),
}


@pytest.mark.parametrize(("text", "message"), TOO_MUCH.values(), ids=TOO_MUCH)
def test_what_would_hold_too_much_is_refused(text, message):
    with pytest.raises(UserError, match=f"name.*: {message}") as error:
        check_yaml(text, "name")
    assert "\n" not in str(error.value)


def test_aliases_of_a_config_are_read():
    check_yaml(CONFIG + "\nshared: &s {a: 1}\nother: [*s, *s, {<<: *s}]\n", "name")


@pytest.mark.parametrize(
    "command",
    [("train", "--run", "run", "--config"), ("prepare", "--output", "store", "--config"), ("check", "--config")],
)
def test_every_command_refuses_a_config_that_would_hold_too_much(command, tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(LAUGHS)
    assert f"{path}: more than 10,000 values" in refusal(*command, path)


def test_a_config_in_the_command_is_judged_too():
    assert "--config: more than 10,000 values" in refusal("check", "--config", LAUGHS)


@pytest.mark.parametrize("command", [("train", "--resume"), ("evaluate",)])
def test_the_config_of_a_run_is_judged_too(command, tmp_path):
    (tmp_path / "config.yaml").write_text(LAUGHS)
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "last.ckpt").touch()
    assert "config.yaml: more than 10,000 values" in refusal(*command, tmp_path)


def test_a_config_is_a_plain_file(tmp_path):
    (tmp_path / "config.yaml").mkdir()
    code, _, err = vkd("train", "--run", tmp_path / "run", "--config", tmp_path / "config.yaml")
    assert code == 2
    assert "config.yaml: a folder, a pipe or a device, expected a plain file" in err

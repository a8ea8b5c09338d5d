"""The hub of language models: not asked where a folder will do, and not waited for."""

import socket

import pytest

from tests.test_encoders import write_bert
from vkd_pyro.encoders import hub, language_model
from vkd_pyro.encoders.image import TorchvisionEncoder
from vkd_pyro.encoders.report import LanguageModelEncoder
from vkd_pyro.utils.errors import UserError


@pytest.fixture
def silent_hub(monkeypatch):
    """A server that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", f"http://127.0.0.1:{server.getsockname()[1]}")
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        monkeypatch.setattr(hub, "TIMEOUT", 0.2)
        monkeypatch.setenv("HF_HUB_OFFLINE", "0")
        yield server


def test_a_hub_that_is_silent_is_not_waited_for(silent_hub):
    with pytest.raises(UserError, match="nobody/nothing is neither a local folder nor in reach") as error:
        LanguageModelEncoder("nobody/nothing")
    assert "\n" not in str(error.value)


def test_a_hub_is_asked_only_if_one_wants_it(monkeypatch):
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr(language_model, "has_model", lambda name: pytest.fail("the hub is asked"))
    monkeypatch.setattr(language_model, "_from_pretrained", lambda *_, **__: pytest.fail("transformers is imported"))
    option = "--method.report_encoder.language_model"
    expected = f"^{option}: nobody/nothing is neither .* give {option} FOLDER; or, to download it, put HF_HUB_OFFLINE=0"
    with pytest.raises(UserError, match=expected):
        LanguageModelEncoder("nobody/nothing")
    monkeypatch.setattr("torch.hub.load_state_dict_from_url", lambda *_, **__: pytest.fail("a host is asked"))
    monkeypatch.setattr("torch.hub.get_dir", lambda: "no/where")
    expected = r"resnet18-\w+\.pth is not at no/where/.*; fetch https://.* give --method.image_encoder.weights FILE; or"
    with pytest.raises(UserError, match=expected):
        TorchvisionEncoder("resnet18", weights="imagenet")


def test_a_folder_is_not_looked_for_in_the_hub(monkeypatch, tmp_path):
    monkeypatch.setattr(language_model, "has_model", lambda name: pytest.fail("the hub is asked"))
    LanguageModelEncoder(str(write_bert(tmp_path / "bert", seed=0)), max_tokens=8)
    with pytest.raises(UserError, match="is a folder without a whole model"):
        LanguageModelEncoder(str(tmp_path))


@pytest.mark.parametrize("name", ["", "a/b/c", "no name", "x" * 300])
def test_what_is_no_name_of_the_hub_is_one_line(name):
    with pytest.raises(UserError, match=r"is neither a local folder nor in reach|is a folder without") as error:
        LanguageModelEncoder(name)
    assert "\n" not in str(error.value)

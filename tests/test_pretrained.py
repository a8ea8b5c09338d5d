"""Pretrained weights that are not what they are said to be are refused: random numbers, frozen, say nothing."""

import json
import shutil

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from torchvision.models import get_model

from tests.test_encoders import VOCABULARY, write_bert
from vkd_pyro.encoders.image import TorchvisionEncoder
from vkd_pyro.encoders.report import LanguageModelEncoder
from vkd_pyro.utils.errors import UserError

TOKENS = torch.tensor([[2, 6, 7, 3]])


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    return write_bert(tmp_path_factory.mktemp("bert"), seed=0)


def changed(bert, folder, weights=lambda state: state, **config):
    """A copy of a language model with other weights and another config."""
    shutil.copytree(bert, folder)
    state = {key: value.contiguous() for key, value in weights(load_file(folder / "model.safetensors")).items()}
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    settings = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(settings | config))
    return folder


def embedded(folder, **arguments):
    encoder = LanguageModelEncoder(str(folder), **({"max_tokens": 20} | arguments))
    return encoder.embed(TOKENS, torch.ones_like(TOKENS, dtype=torch.bool))


def without_layer(state):
    return {key: value for key, value in state.items() if "layer.1." not in key}


@pytest.mark.parametrize(
    ("weights", "config", "found"),
    [
        (lambda state: {f"encoder.{key}": value for key, value in state.items()}, {}, "37 of 39 missing"),
        (without_layer, {}, "16 of 39 missing"),
        (lambda state: {k: v for k, v in state.items() if "word_embeddings" not in k}, {}, "1 of 39 missing"),
        (lambda state: state, {"num_hidden_layers": 3}, "16 of 55 missing"),
        (lambda state: state, {"num_hidden_layers": 1}, "16 too many"),
        (lambda state: state, {"intermediate_size": 48}, "of another shape"),
        (lambda state: {key: value * torch.nan for key, value in state.items()}, {}, "weights that are not finite"),
    ],
    ids=["prefix", "layer missing", "embedding missing", "config of more", "config of fewer", "shape", "NaN"],
)
def test_weights_that_are_not_those_of_the_config_are_refused(weights, config, found, bert, tmp_path):
    folder = changed(bert, tmp_path / "model", weights, **config)
    with pytest.raises(UserError, match=f"report_encoder.language_model: .*{found}") as error:
        embedded(folder)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "weights",
    [
        lambda state: {key: value for key, value in state.items() if "pooler" not in key},
        lambda state: {f"bert.{key}": value for key, value in state.items()},  # of a task's model
        lambda state: state | {"cls.predictions.bias": torch.zeros(12)},
    ],
    ids=["no pooler", "of a task", "a task's head"],
)
def test_what_a_task_adds_or_leaves_out_changes_nothing(weights, bert, tmp_path):
    assert torch.equal(embedded(changed(bert, tmp_path / "model", weights)), embedded(bert))


def test_half_precision_is_computed_in_single(bert, tmp_path):
    folder = changed(bert, tmp_path / "half", lambda s: {k: v.half() for k, v in s.items()}, dtype="float16")
    found = embedded(folder)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, embedded(bert), rtol=0, atol=2e-3)


def test_a_tokenizer_with_more_words_than_rows_is_refused(bert, tmp_path):
    folder = changed(bert, tmp_path / "model")
    (folder / "vocab.txt").write_text("\n".join([*VOCABULARY, "new", "words"]) + "\n")
    with pytest.raises(UserError, match=r"has ids up to 13, its weights 12 rows; fetch both from the same place"):
        embedded(folder)


@pytest.mark.parametrize("max_tokens", [-1, 0, 1, 2])
def test_a_report_needs_room_for_a_word(max_tokens, bert):
    match = f"max_tokens: found {max_tokens}, of which 2 are taken by .CLS. and .SEP.; expected at least 3"
    with pytest.raises(UserError, match=match):
        embedded(bert, max_tokens=max_tokens)


def test_a_cased_vocabulary_that_is_lower_cased_is_warned_of(bert, tmp_path):
    folder = changed(bert, tmp_path / "model")
    words = [word.capitalize() if index > 6 else word for index, word in enumerate(VOCABULARY)]
    (folder / "vocab.txt").write_text("\n".join(words) + "\n")
    (folder / "tokenizer_config.json").unlink()  # BERT's own default is to lower-case
    with pytest.warns(UserWarning, match=r"has a cased vocabulary \(4 of 7 words .*\"do_lower_case\": false"):
        embedded(folder)
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "BertTokenizer", "do_lower_case": false}')
    assert embedded(folder).shape == (1, 4, 16)  # warnings are errors


SIZE = {"vocab_size": 12, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
WIDE = {"intermediate_size": 24, "max_position_embeddings": 20}


def written(folder, kind, **config):
    """A small language model of another family, with BERT's words."""
    torch.manual_seed(0)
    model = getattr(transformers, f"{kind}Model")
    model(getattr(transformers, f"{kind}Config")(**config)).save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(VOCABULARY) + "\n")
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "BertTokenizer", "do_lower_case": true}')
    return folder


ALIKE = {
    "DistilBert": {
        "vocab_size": 12, "dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 24, "max_position_embeddings": 20,
    },
    "Roberta": SIZE | WIDE | {"max_position_embeddings": 22},
    "Electra": SIZE | WIDE | {"embedding_size": 8},
    "MPNet": SIZE | WIDE | {"max_position_embeddings": 22},
}  # fmt: skip


@pytest.mark.parametrize("kind", ALIKE)
def test_families_alike_bert_are_read(kind, tmp_path):
    assert embedded(written(tmp_path, kind, **ALIKE[kind])).shape == (1, 4, 16)


def test_roberta_has_two_positions_fewer_than_its_config_says(tmp_path):
    folder = written(tmp_path, "Roberta", **ALIKE["Roberta"])
    with pytest.raises(UserError, match=r"max_tokens: 21 is more than the 20 positions of"):
        embedded(folder, max_tokens=21)


@pytest.mark.parametrize(
    ("kind", "config", "found"),
    [
        ("GPT2", {"vocab_size": 12, "n_embd": 16, "n_layer": 2, "n_head": 2}, "first token does not see those after"),
        (
            "T5",
            {"vocab_size": 12, "d_model": 16, "d_kv": 8, "d_ff": 24, "num_layers": 1, "num_heads": 2},
            "does not begin a text with .CLS.",
        ),
    ],
)
def test_a_family_that_cannot_be_read_at_its_first_token_is_refused(kind, config, found, tmp_path):
    with pytest.raises(UserError, match=f"is a {kind}Model, .*{found}.*; expected an encoder that reads both ways"):
        embedded(written(tmp_path, kind, **config))


def test_code_of_a_folder_is_not_run(bert, tmp_path):
    folder = changed(bert, tmp_path / "model", auto_map={"AutoModel": "evil.Evil"}, model_type="evil")
    (folder / "evil.py").write_text("raise SystemExit('was run')")
    with pytest.raises(UserError, match="is a folder without a whole model"):
        embedded(folder)


# ---------------------------------------------------------------------------------------- image networks


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda state: {f"module.{key}": value for key, value in state.items()}, "not weights of resnet18"),
        (lambda state: {k: v for k, v in state.items() if "layer4" not in k}, "25 parameters missing"),
        (lambda state: {k: v for k, v in state.items() if "running_mean" not in k}, "20 parameters missing"),
        (lambda state: state | {"bn1.weight": torch.full((64,), torch.nan)}, "bn1.weight has values that are not"),
        (lambda state: state | {"epoch": 3}, "epoch is a int; expected a state dict"),
    ],
    ids=["prefix", "a stage missing", "statistics missing", "NaN", "a number"],
)
def test_image_weights_that_are_not_whole_are_refused(change, found, tmp_path):
    torch.save(change(get_model("resnet18", weights=None).state_dict()), tmp_path / "weights.pth")
    with pytest.raises(UserError, match=found) as error:
        TorchvisionEncoder("resnet18", str(tmp_path / "weights.pth"))
    assert "\n" not in str(error.value)

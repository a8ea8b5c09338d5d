"""Language models from files, checked: one that is not what its config says would be random numbers, frozen."""

import logging
import os
import warnings
from typing import Any

import torch
from torch import Tensor, nn

from vkd_pyro.encoders.hub import ASK, has_model, is_cached, may_be_asked
from vkd_pyro.encoders.pretrained import NOT_WHOLE, check_weights, quiet
from vkd_pyro.utils.errors import UserError

OPTION = "--method.report_encoder.language_model"
"""Where the folder of one is given."""

EXPECTED = "an encoder that reads both ways and begins with [CLS], such as BERT, DistilBERT, RoBERTa or MPNet"


def load_language_model(name: str, max_tokens: int) -> tuple[Any, nn.Module]:
    """Tokenizer and model, in float32 and eval mode, from a local folder or the hub's cache; from the hub if allowed.

    Args: folder or name; tokens that a report may have, which the model is tried with.

    Raises:
        UserError: what is there is not a whole language model, or not one that can be read here.
    """
    tokenizer, model, loaded = _read(name)
    check_weights(OPTION, name, model, loaded)
    _check_tokens(name, tokenizer, model, max_tokens)
    _check_reading(name, tokenizer, model, max_tokens)
    _warn_of_case(name, tokenizer)
    return tokenizer, model


def _read(name: str) -> tuple[Any, Any, dict[str, Any]]:
    """From a local folder or the hub's cache; else, where that is allowed, from the hub, if it answers in time."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # else a warning once loader workers fork
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # else a line for each attempt without a network
    try:
        here = os.path.isdir(name) or is_cached(name)
        if not here and not may_be_asked():  # before `transformers` takes its seconds
            raise OSError(f"{name} is not on this machine")
        with quiet():
            try:
                return _from_pretrained(name, local_files_only=True)
            except NOT_WHOLE:
                if os.path.isdir(name) or not may_be_asked() or not has_model(name):
                    raise
                return _from_pretrained(name, local_files_only=False)
    except NOT_WHOLE as error:
        where = "is a folder without a whole model" if os.path.isdir(name) else "is neither a local folder nor in reach"
        again = "" if may_be_asked() or os.path.isdir(name) else f"; or, to download it, put {ASK} before the command"
        raise UserError(
            f"{OPTION}: {name} {where}; fetch config.json, the tokenizer's files (vocab.txt or tokenizer.json) and "
            f"model.safetensors of {name} into a folder and give {OPTION} FOLDER{again}"
        ) from error


def _from_pretrained(name: str, local_files_only: bool) -> tuple[Any, Any, dict[str, Any]]:
    import transformers  # seconds to import, and not needed by the word encoder

    transformers.utils.logging.disable_progress_bar()
    options = {"trust_remote_code": False, "local_files_only": local_files_only}
    tokenizer = transformers.AutoTokenizer.from_pretrained(name, **options)
    if set(tokenizer.get_vocab()) <= set(tokenizer.all_special_tokens):  # no error in transformers 5
        raise ValueError("the tokenizer has no words")
    model, loaded = transformers.AutoModel.from_pretrained(
        name, **options, dtype=torch.float32, output_loading_info=True, ignore_mismatched_sizes=True
    )  # sizes that do not match are in `loaded`
    return tokenizer, model.eval(), loaded


def _check_tokens(name: str, tokenizer: Any, model: Any, max_tokens: int) -> None:
    """Ids have a row each, and a report's tokens a position."""
    rows = model.get_input_embeddings().num_embeddings
    largest = max(tokenizer.get_vocab().values())
    if largest >= rows:
        raise UserError(
            f"{OPTION}: the tokenizer of {name} has ids up to {largest}, its weights {rows} rows; "
            "fetch both from the same place"
        )
    special = tokenizer.num_special_tokens_to_add()
    if max_tokens <= special:
        raise UserError(
            f"report_encoder.max_tokens: found {max_tokens}, of which {special} are taken by [CLS] and [SEP]; expected "
            f"at least {special + 1}, e.g. 256"
        )
    positions = _positions(model)
    if positions is not None and max_tokens > positions:
        raise UserError(
            f"report_encoder.max_tokens: {max_tokens} is more than the {positions} positions of {name}; set it lower"
        )


def _positions(model: nn.Module) -> int | None:
    """Tokens that have a position; None where positions are relative. RoBERTa leaves out the first rows."""
    for key, module in model.named_modules():
        if isinstance(module, nn.Embedding) and key.split(".")[-1] in ("position_embeddings", "wpe", "embed_positions"):
            return module.num_embeddings - (0 if module.padding_idx is None else module.padding_idx + 1)
    return None


@torch.no_grad()
def _check_reading(name: str, tokenizer: Any, model: Any, max_tokens: int) -> None:
    """It is tried: a report as long as allowed is read, and its first token, [CLS], knows of the last."""
    found = f"{OPTION}: {name} is a {type(model).__name__}"
    ids = tokenizer("heart lungs")["input_ids"]
    if model.config.is_encoder_decoder or tokenizer.cls_token_id is None or ids[0] != tokenizer.cls_token_id:
        raise UserError(f"{found}, which does not begin a text with [CLS]; expected {EXPECTED}")
    word = next(number for number in ids if number not in tokenizer.all_special_ids or number == tokenizer.unk_token_id)
    last = ids[-1]
    length = min(max_tokens, 16)
    texts = torch.full((2, length), word)
    texts[:, 0], texts[1, -1] = ids[0], last
    try:
        first, other = _embed(model, texts)[:, 0]
        _embed(model, torch.full((1, max_tokens), word))
    except (IndexError, RuntimeError, TypeError, ValueError) as error:
        raise UserError(f"{found}, which cannot read {max_tokens} tokens ({error}); expected {EXPECTED}") from error
    if torch.equal(first, other):
        raise UserError(f"{found}, whose first token does not see those after it; expected {EXPECTED}")


def _embed(model: Any, tokens: Tensor) -> Tensor:
    return model(input_ids=tokens, attention_mask=torch.ones_like(tokens)).last_hidden_state


def _warn_of_case(name: str, tokenizer: Any) -> None:
    """A tokenizer that lower-cases never meets the words of its vocabulary that are capitalised."""
    words = {word: number for word, number in tokenizer.get_vocab().items() if word not in tokenizer.all_special_tokens}
    capitalised = [word for word in words if word != word.lower() and not word.startswith("[unused")]
    whole = [word for word in capitalised if word.isalpha()][:100]
    met = sum(words[word] in tokenizer(word)["input_ids"] for word in whole)
    if len(capitalised) > len(words) / 100 and met < len(whole) / 2:
        warnings.warn(
            f"{OPTION}: {name} has a cased vocabulary ({len(capitalised):,} of {len(words):,} "
            'words have capitals), but its tokenizer lower-cases; put a tokenizer_config.json with "do_lower_case": '
            "false there",
            stacklevel=2,
        )

"""Which words of a report count for its own classifier q(y | z)."""

import re
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vkd_pyro.encoders.report import LanguageModelEncoder, ReportEncoder, TransformerBlock, WordEncoder
from vkd_pyro.explanations import library, log_odds
from vkd_pyro.guide import Guide
from vkd_pyro.utils.errors import UserError

ROWS_AT_ONCE = 8
"""Points of the path that go through the language model together: what bounds the memory."""


@dataclass(frozen=True, repr=False, eq=False)
class WordImportance:
    """Words of one report and how much each counts. A report is patient data: `repr` does not show it.

    Attributes:
        words: those that were read, in their order; punctuation counts as words.
        values: float [W].
    """

    words: tuple[str, ...]
    values: NDArray[np.float64]

    def __repr__(self) -> str:
        return f"WordImportance({len(self.words)} words)"


@torch.no_grad()
def attention(encoder: ReportEncoder, report: str) -> WordImportance:
    """How much the trainable block's first token ([CLS]) attends to each word, the mean over its heads.

    Attention is not importance: it says where the block looks, not what follows from it, and the language model has
    mixed the tokens before (Jain & Wallace 2019, "Attention is not explanation"). See `integrated_gradients`.

    Args:
        encoder: in eval mode.
        report: the text, as it was prepared for training.

    Returns: values in [0, 1]; what they lack to a sum of 1 is attended to in special tokens.

    Raises:
        UserError: an encoder without attention.
    """
    block = encoder.block if isinstance(encoder, LanguageModelEncoder) else None
    if not isinstance(encoder, LanguageModelEncoder) or not isinstance(block, TransformerBlock):
        found = type(encoder).__name__ + (" with pooling 'mean'" if block is not None else "")
        raise UserError(
            f"attention: {found} has none, expected a LanguageModelEncoder with pooling 'block'; "
            "take integrated_gradients"
        )
    reading = _read_pieces(encoder, report)
    tokens = reading.tokens[None].to(block.output_norm.weight.device)
    embeddings = encoder.embed(tokens, torch.ones_like(tokens, dtype=torch.bool))
    _, weights = block.attention(embeddings[:, :1], embeddings, embeddings, need_weights=True)
    return reading.importance(weights[0, 0])


def integrated_gradients(guide: Guide, report: str, finding: int, num_steps: int = 50) -> WordImportance:
    r"""Integrated gradients (Sundararajan et al. 2017, arXiv 1703.01365) of the log-odds of a finding by the report.

        value of a token = sum over e of (x_e - b_e) int_0^1 d l(b + a (x - b)) / d x_e  da
        l = log-odds of q(y_k = 1 | z),   z the mean of q(z | x_T)

    where x are the embeddings of its tokens, those that the language model begins with, and b the same with padding for
    each token that is not special; for `WordEncoder` the rows of its table, and b the row that begins every report, so
    that l(b) is that of a blank report. Values of all words together are l(x) - l(b). Word pieces are summed to words;
    the two words of a pair share its value.

    Args:
        guide: in eval mode.
        report: the text, as it was prepared for training.
        finding: its number.
        num_steps: points of the integral; the more, the nearer the values of all words come to l(x) - l(b).

    Returns: values in nats; above 0 speaks for the finding, below 0 against it.

    Raises:
        UserError: captum is not installed, or a report encoder of another kind.
    """
    captum = library("captum.attr", "integrated gradients")
    encoder = guide.report_encoder
    if not isinstance(encoder, LanguageModelEncoder | WordEncoder):
        raise UserError(
            f"integrated_gradients: the words of {type(encoder).__name__} are not known, expected a "
            "LanguageModelEncoder or a WordEncoder"
        )
    reading = _read_words(encoder, report) if isinstance(encoder, WordEncoder) else _read_pieces(encoder, report)

    def reports_log_odds(tokens: Tensor) -> Tensor:
        z = guide.posterior(_features(encoder, tokens)).mean
        return log_odds(guide.auxiliary.probabilities(z))

    table = _embeddings(encoder)
    tokens, baseline = (ids[None].to(table.weight.device) for ids in (reading.tokens, reading.baseline))
    explained = captum.LayerIntegratedGradients(reports_log_odds, table)
    values = explained.attribute(tokens, baseline, finding, n_steps=num_steps, internal_batch_size=ROWS_AT_ONCE)
    return reading.importance(values[0].sum(-1).detach())


def _embeddings(encoder: LanguageModelEncoder | WordEncoder) -> nn.Embedding:
    """The table that tokens are looked up in."""
    if isinstance(encoder, WordEncoder):
        return encoder.embeddings
    model: Any = encoder._frozen[0]
    return model.get_input_embeddings()


def _features(encoder: LanguageModelEncoder | WordEncoder, tokens: Tensor) -> Tensor:
    """What the encoder makes of whole reports, with gradients through the frozen language model as well.

    Args: int64 [B, T]. Returns: float [B, F].
    """
    mask = torch.ones_like(tokens, dtype=torch.bool)
    if isinstance(encoder, WordEncoder):
        return encoder(tokens, mask)
    model = encoder._frozen[0]  # `embed` gives no gradient
    return encoder.block(model(input_ids=tokens, attention_mask=mask.long()).last_hidden_state, mask)


# ----------------------------------------------------------------------------------- tokens to words


@dataclass(frozen=True, repr=False, eq=False)
class _Reading:
    """How an encoder reads a report.

    Attributes:
        tokens: int64 [T].
        baseline: the same without a word, int64 [T].
        words: W of them.
        shares: what of each token's importance is each word's, float [T, W]; special tokens are no one's.
    """

    tokens: Tensor
    baseline: Tensor
    words: tuple[str, ...]
    shares: NDArray[np.float64]

    def importance(self, of_tokens: Tensor) -> WordImportance:
        """Args: float [T]."""
        return WordImportance(self.words, of_tokens.double().cpu().numpy() @ self.shares)


def _read_pieces(encoder: LanguageModelEncoder, report: str) -> _Reading:
    """The tokens of a language model; its tokenizer knows of which word each is a piece, and where that stands."""
    tokenizer = encoder._tokenizer
    if not tokenizer.is_fast:
        raise UserError(
            f"report_encoder.language_model: the tokenizer of {encoder.language_model} does not say where words stand; "
            "expected a fast one (tokenizer.json)"
        )
    read = tokenizer(report, truncation=True, max_length=encoder.max_tokens, return_offsets_mapping=True)
    tokens, numbers = torch.tensor(read["input_ids"], dtype=torch.long), read.word_ids()
    spans: dict[int, tuple[int, int]] = {}
    for number, (start, end) in zip(numbers, read["offset_mapping"], strict=True):
        if number is not None:
            spans[number] = spans.get(number, (start, end))[0], end
    special = torch.tensor([number is None for number in numbers])
    return _Reading(
        tokens=tokens,
        baseline=torch.where(special, tokens, tokenizer.pad_token_id),
        words=tuple(report[start:end] for start, end in spans.values()),
        shares=np.array([[number == word for word in spans] for number in numbers], float),
    )


def _read_words(encoder: WordEncoder, report: str) -> _Reading:
    """The rows of a word encoder: that which begins every report, the words, the pairs of neighbours."""
    (tokens,) = encoder.prepare([report])
    words = re.findall(r"[a-z0-9]+|\.", report.lower())[: encoder.max_tokens]  # as `WordEncoder` takes them apart
    one = np.eye(len(words))
    pairs = [(left + right) / 2 for left, right in pairwise(one)]
    return _Reading(
        tokens=tokens,
        baseline=torch.zeros_like(tokens),
        words=tuple(words),
        shares=np.array([np.zeros(len(words)), *one, *pairs]),
    )

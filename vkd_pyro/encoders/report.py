"""Report encoders: a radiologist's text to a feature vector."""

import abc
import hashlib
import math
import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from itertools import pairwise
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from vkd_pyro.encoders.language_model import load_language_model
from vkd_pyro.utils.errors import UserError
from vkd_pyro.utils.precision import full_precision
from vkd_pyro.utils.serialization import describe, hash_of_weights


class ReportEncoder(nn.Module, abc.ABC):
    """Reports to features, in two steps: `prepare`, which is done once, and `forward`, which is trained.

    A subclass sets `features_dim` and keeps its constructor's arguments as attributes.
    """

    features_dim: int

    @abc.abstractmethod
    def prepare(self, reports: Sequence[str]) -> list[Tensor]:
        """What of each report can be computed before training.

        Returns: for each report, token ids, int64 [T], or token embeddings, float16 [T, E]; T >= 1, also of "".
        """

    @property
    def preparation(self) -> dict[str, Any]:
        """What `prepare` depends on, for JSON: a prepared store serves encoders with the same only."""
        return describe(self)

    def observe_reports(self, reports: Iterable[Tensor]) -> None:
        """Called once before training with what was prepared of the training reports.

        What it takes from them it keeps in buffers, so that checkpoints bring it back. Most take nothing, and then
        read none of them.
        """

    @abc.abstractmethod
    def forward(self, report: Tensor, mask: Tensor) -> Tensor:
        """Args: what `prepare` gave, padded, [B, T] or [B, T, E]; bool [B, T]. Returns: float [B, features_dim]."""

    def check_reads(self, likelihood: Any) -> None:
        """Raises `UserError` unless what a report likelihood observes of a report is all that this encoder reads.

        Then `read_observed` can be given what that draws: reports that were never written. Most encoders read more.
        """
        raise UserError(
            f"sbc: {type(self).__name__} reads more of a report than {type(likelihood).__name__} draws, so its guide "
            "cannot be given a simulated report; LatentSemanticEncoder (fact_weight 0) can read WordPresence of the "
            "same vocabulary (no stop_words), LanguageModelEncoder (pooling mean) ReportEmbedding of the same reader; "
            "any other pair from Python, by vkd_pyro.evaluation.simulation.simulation_based_calibration"
        )

    def read_observed(self, observed: Tensor, likelihood: Any) -> tuple[Tensor, Tensor]:
        """Reports as `forward` takes them, of what a report likelihood has observed or drawn of them.

        Args: [B, T] or [B, T, E], padded by -1; the likelihood. Returns: a report and its mask, as `forward` takes.

        Raises:
            UserError: as `check_reads`.
        """
        self.check_reads(likelihood)
        return observed.clamp(min=0), (observed >= 0)


class TransformerBlock(nn.Module):
    """One trainable Transformer encoder block, read at its first token ([CLS]).

    Only the first token's output is wanted, so only its query and its feed-forward are computed. Nor are keys and
    values: their matrices are applied to the query before, and to the mean of the tokens after. The same function as a
    whole block followed by `[:, 0]`, at a fraction of the cost.

    Args:
        width: of the embeddings, and of the features.
        heads: number of attention heads.
        feed_forward: width of the hidden layer.
        dropout: probability, on attention and on both sub-layers.
    """

    def __init__(self, width: int, heads: int, feed_forward: int, dropout: float) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(width, heads, dropout, batch_first=True)
        self.feed_forward = nn.Sequential(
            nn.Linear(width, feed_forward), nn.GELU(), nn.Dropout(dropout), nn.Linear(feed_forward, width)
        )
        self.dropout = nn.Dropout(dropout)
        self.attention_norm, self.output_norm = nn.LayerNorm(width), nn.LayerNorm(width)

    def forward(self, embeddings: Tensor, mask: Tensor) -> Tensor:
        """Args: float [B, T, width]; bool [B, T], False for padding. Returns: float32 [B, width]."""
        first = embeddings[:, :1]
        hidden = self.attention_norm(first + self.dropout(self._attend(embeddings, mask)))
        return full_precision(self.output_norm(hidden + self.dropout(self.feed_forward(hidden)))[:, 0])

    def _attend(self, embeddings: Tensor, mask: Tensor) -> Tensor:
        """What the first token attends to: as `self.attention` with it as the query; float [B, 1, width]."""
        heads, size = self.attention.num_heads, self.attention.head_dim
        to_query, to_key, to_value = self.attention.in_proj_weight.unflatten(0, (3, heads, size))
        query_bias, _, value_bias = self.attention.in_proj_bias.view(3, heads, size)  # that of keys cancels
        query = torch.einsum("bw,hdw->bhd", embeddings[:, 0], to_query) + query_bias
        query = torch.einsum("bhd,hdw->bhw", query, to_key) / math.sqrt(size)
        scores = full_precision(query.to(embeddings.dtype) @ embeddings.mT).masked_fill(~mask[:, None], -torch.inf)
        weights = nn.functional.dropout(scores.softmax(-1), self.attention.dropout, self.training)
        mean = weights @ full_precision(embeddings)
        value = torch.einsum("bhw,hdw->bhd", mean, to_value) + weights.sum(-1, keepdim=True) * value_bias
        return self.attention.out_proj(value.flatten(1)).unsqueeze(1)


class MeanPooling(nn.Module):
    """The mean of the token embeddings, normalised: hardly a parameter, so it learns from few labels.

    Args:
        width: of the embeddings, and of the features.
        dropout: probability, on the features.
    """

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.output = nn.Sequential(nn.LayerNorm(width), nn.Dropout(dropout))

    def forward(self, embeddings: Tensor, mask: Tensor) -> Tensor:
        """Args: float [B, T, width]; bool [B, T], False for padding. Returns: float32 [B, width]."""
        counted = mask.unsqueeze(-1).float()
        return full_precision(self.output((full_precision(embeddings) * counted).sum(1) / counted.sum(1)))


class LanguageModelEncoder(ReportEncoder):
    """A frozen language model, its token embeddings through one trainable Transformer encoder block, or their mean.

    The language model is no child of this module: it has no gradient, is always in eval mode, is not saved,
    and moves between devices with the rest. Its fingerprint is saved and checked when weights are loaded.

    Args:
        language_model: a `transformers` encoder that begins with [CLS] (BERT, DistilBERT, RoBERTa and their kin): a
            local folder, or a name of the hub. No code of it is run.
        max_tokens: WordPiece tokens kept of a report, [CLS] and [SEP] among them.
        dropout: of the trainable part.
        pooling: "block", the Transformer block read at [CLS] (the paper); or "mean", the mean of the embeddings.
        cache: compute the frozen embeddings of every report once, before training (float16, in memory);
            False computes them in every step, for corpora that do not fit.
    """

    def __init__(
        self,
        language_model: str,
        max_tokens: int = 256,
        dropout: float = 0.5,
        pooling: Literal["block", "mean"] = "block",
        cache: bool = True,
    ) -> None:
        super().__init__()
        if pooling not in ("block", "mean"):
            raise UserError(f"report_encoder.pooling: found {pooling!r}, expected 'block' or 'mean'")
        self.language_model, self.max_tokens, self.dropout = language_model, max_tokens, dropout
        self.pooling, self.cache = pooling, cache
        self._tokenizer, model = load_language_model(language_model, max_tokens)
        # In a list, so that torch does not take it for a child.
        self._frozen = [model.requires_grad_(False)]
        config: Any = model.config
        width = self.features_dim = config.hidden_size
        self.block: TransformerBlock | MeanPooling = (
            TransformerBlock(width, config.num_attention_heads, _feed_forward(config), dropout)
            if pooling == "block"
            else MeanPooling(width, dropout)
        )

    def prepare(self, reports: Sequence[str]) -> list[Tensor]:
        """Token ids, int64 [T]; with `cache`, the frozen token embeddings, float16 [T, E]."""
        tokens = self._tokenizer(list(reports), truncation=True, max_length=self.max_tokens)["input_ids"]
        ids = [torch.tensor(row, dtype=torch.long) for row in tokens]
        return self._embed_all(ids) if self.cache else ids

    @property
    def preparation(self) -> dict[str, Any]:
        """Tokens kept, and what makes embeddings of them."""
        vocabulary = hashlib.sha256(repr(sorted(self._tokenizer.get_vocab().items())).encode()).hexdigest()
        return {
            "language_model": self.fingerprint,
            "vocabulary": vocabulary,
            "max_tokens": self.max_tokens,
            "cache": self.cache,
        }

    def forward(self, report: Tensor, mask: Tensor) -> Tensor:
        """Args: ids, int64 [B, T], or embeddings, float [B, T, E]; bool [B, T]. Returns: float32 [B, features_dim]."""
        embeddings = report if report.is_floating_point() else self.embed(report, mask)
        return self.block(embeddings, mask)

    def check_reads(self, likelihood: Any) -> None:
        """Raises `UserError` but for the mean of the embeddings that this encoder reads, pooled to their mean."""
        observed = {name: value for name, value in likelihood.preparation.items() if name != "observed"}
        if self.pooling != "mean" or observed != self.preparation:
            super().check_reads(likelihood)

    def read_observed(self, observed: Tensor, likelihood: Any) -> tuple[Tensor, Tensor]:
        """A report of one token, which is its own mean; args as of `ReportEncoder.read_observed`."""
        self.check_reads(likelihood)
        return observed, torch.ones(observed.shape[:2], dtype=torch.bool, device=observed.device)

    @torch.no_grad()
    def embed(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """The frozen token embeddings. Args: int64 [B, T]; bool [B, T]. Returns: float [B, T, E]."""
        return self._frozen[0](input_ids=tokens, attention_mask=mask.long()).last_hidden_state

    def _embed_all(self, ids: list[Tensor], batch_size: int = 64) -> list[Tensor]:
        """Shortest first, so that little is padded; the result in the order of `ids`."""
        device = next(self._frozen[0].parameters()).device
        order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
        embeddings: dict[int, Tensor] = {}
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            tokens = pad_sequence([ids[i] for i in rows], batch_first=True)
            mask = torch.arange(tokens.shape[1]) < torch.tensor([[len(ids[i])] for i in rows])
            embedded = self.embed(tokens.to(device), mask.to(device)).half().cpu()
            embeddings |= {i: embedded[row, : len(ids[i])].clone() for row, i in enumerate(rows)}
        return [embeddings[i] for i in range(len(ids))]

    @cached_property
    def fingerprint(self) -> str:
        """sha256 over the frozen model's weights, in the order of their names; not of the pooler, which is not used."""
        state = self._frozen[0].state_dict().items()
        return hash_of_weights({name: value.float() for name, value in state if not name.startswith("pooler.")})

    def get_extra_state(self) -> dict[str, str]:
        return {"language_model": self.language_model, "fingerprint": self.fingerprint}

    def set_extra_state(self, state: dict[str, str]) -> None:
        if state["fingerprint"] != self.fingerprint:
            raise UserError(
                f"report_encoder.language_model: {self.language_model} has other weights than the "
                f"{state['language_model']} this report encoder was trained with; point it at those"
            )

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "LanguageModelEncoder":
        self._frozen[0]._apply(fn)
        return super()._apply(fn, recurse)


def _feed_forward(config: Any) -> int:
    """Width of the language model's feed-forward layers, by the names that it goes by."""
    names = ("intermediate_size", "hidden_dim", "ffn_dim")
    return next((getattr(config, name) for name in names if hasattr(config, name)), 4 * config.hidden_size)


class WordEncoder(ReportEncoder):
    """A report encoder that needs no download: words and pairs of words, hashed to trainable embeddings, averaged.

    Pairs tell "no pneumothorax" from "pneumothorax". Learns from few labels (fastText: Joulin et al. 2017).

    Args:
        vocabulary_size: rows of the embedding table; words and pairs share rows by sha256.
        width: of embeddings and features.
        max_tokens: words kept of a report.
        dropout: on the features.
    """

    def __init__(
        self, vocabulary_size: int = 16384, width: int = 128, max_tokens: int = 256, dropout: float = 0.1
    ) -> None:
        super().__init__()
        self.vocabulary_size, self.width, self.max_tokens, self.dropout = vocabulary_size, width, max_tokens, dropout
        self.features_dim = width
        self.embeddings = nn.Embedding(vocabulary_size, width)
        self.output = nn.Sequential(nn.LayerNorm(width), nn.Dropout(dropout))

    def prepare(self, reports: Sequence[str]) -> list[Tensor]:
        """Row numbers, int64 [T]: 0 begins every report; its lower-cased words and full stops follow, then pairs."""
        return [self._tokenize(report) for report in reports]

    @property
    def preparation(self) -> dict[str, Any]:
        """Words kept, and the number of rows they are hashed to."""
        return {"encoder": "words", "vocabulary_size": self.vocabulary_size, "max_tokens": self.max_tokens}

    def forward(self, report: Tensor, mask: Tensor) -> Tensor:
        """Args: int64 [B, T]; bool [B, T]. Returns: float32 [B, width]."""
        counted = mask.unsqueeze(-1).float()
        return full_precision(self.output((self.embeddings(report) * counted).sum(1) / counted.sum(1)))

    def _tokenize(self, report: str) -> Tensor:
        words = re.findall(r"[^\W_]+|\.", unicodedata.normalize("NFC", report).lower())[: self.max_tokens]
        pairs = (f"{one} {other}" for one, other in pairwise(words))
        return torch.tensor([0, *(1 + _stable_hash(term) % (self.vocabulary_size - 1) for term in (*words, *pairs))])


def _stable_hash(word: str) -> int:
    return int.from_bytes(hashlib.sha256(word.encode()).digest()[:8], "big")

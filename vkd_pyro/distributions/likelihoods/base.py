"""The interface of a likelihood of labels, and the network in front of all of them."""

import abc
from typing import ClassVar

import torch
from torch import Tensor, nn

from vkd_pyro.distributions.base import Distribution, full_precision


class Likelihood(nn.Module, abc.ABC):
    """A distribution over the K labels given z, and the image's features or not.

    A subclass keeps its constructor's arguments as attributes.

    Attributes:
        takes_uncertain: whether a label of -1, "uncertain", is one of its outcomes (policy "keep").
        takes_soft: whether a label may lie between 0 and 1 (policy "soft").
    """

    takes_uncertain: ClassVar[bool] = False
    takes_soft: ClassVar[bool] = False

    @abc.abstractmethod
    def forward(self, z: Tensor, features: Tensor | None = None, known: Tensor | None = None) -> Distribution:
        """A distribution over labels, in whose log-probability unknown labels take no part.

        Args:
            z: float [..., B, latent_dim].
            features: float [B, features_dim], or None.
            known: bool [B, K]; None is all known.
        Returns: batch shape [..., B], event shape [K].
        """

    @abc.abstractmethod
    def probabilities(self, z: Tensor, features: Tensor | None = None) -> Tensor:
        """p(y_k = 1 | z, features), float [..., B, K] in [0, 1]."""

    def check_labels(self, labels: Tensor) -> None:
        """Called before training with labels of each split it sees, float [N, K], NaN unknown.

        Raises:
            UserError: labels that are none of its outcomes.
        """

    def observe_labels(self, labels: Tensor) -> None:
        """Called once before training with the training labels, float [N, K], NaN unknown.

        What it takes from them it keeps in buffers, so that checkpoints and bundles bring it back.
        """


class NetworkLikelihood(Likelihood):
    """A likelihood whose parameters f([features, z]) are read off a network of at most one hidden layer.

    Args:
        latent_dim: D.
        num_findings: K.
        features_dim: width of the image features that f sees beside z; 0 is z alone.
        hidden_dim: width of the hidden layer of f (dropout, Linear, ReLU, dropout, Linear); 0 is a linear f
            (dropout, Linear).
        dropout: probability.

    Attributes:
        outputs_per_finding: how many numbers f says of each finding.
    """

    outputs_per_finding: ClassVar[int] = 1

    def __init__(
        self, latent_dim: int, num_findings: int, features_dim: int = 0, hidden_dim: int = 512, dropout: float = 0.5
    ) -> None:
        super().__init__()
        self.latent_dim, self.num_findings, self.features_dim = latent_dim, num_findings, features_dim
        self.hidden_dim, self.dropout = hidden_dim, dropout
        outputs = num_findings * self.outputs_per_finding
        self.network = head(features_dim + latent_dim, outputs, hidden_dim, dropout)

    def outputs(self, z: Tensor, features: Tensor | None = None) -> Tensor:
        """f: float [..., B, latent_dim]; float [B, features_dim] -> float [..., B, K * outputs_per_finding]."""
        if self.features_dim and features is not None:
            z = torch.cat([features.expand(*z.shape[:-1], -1), z], dim=-1)
        return full_precision(self.network(z))


def head(in_features: int, out_features: int, hidden_dim: int, dropout: float) -> nn.Sequential:
    """Dropout, Linear, ReLU, dropout, Linear; without a hidden layer dropout, Linear."""
    if not hidden_dim:
        return nn.Sequential(nn.Dropout(dropout), nn.Linear(in_features, out_features))
    hidden = nn.Dropout(dropout), nn.Linear(in_features, hidden_dim), nn.ReLU()
    return nn.Sequential(*hidden, nn.Dropout(dropout), nn.Linear(hidden_dim, out_features))


def independent(labels: Distribution, known: Tensor | None) -> Distribution:
    """Labels [..., B, K] that are independent of each other, the unknown ones masked: batch [..., B], event [K]."""
    return (labels if known is None else labels.mask(known)).to_event(1)

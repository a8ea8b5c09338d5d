"""The interface of a likelihood of labels, and the network in front of all of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from vkd_pyro.distributions.base import Distribution, full_precision
from vkd_pyro.utils.errors import UserError, check_probability


@dataclass(frozen=True)
class Head:
    """The network of a likelihood: dropout, Linear, ReLU, dropout, Linear; without a hidden layer dropout, Linear.

    Args:
        hidden_dim: width of the hidden layer; 0 is a linear network.
        dropout: probability.
        residual: the image's features h, where they are seen, join by a linear map beside the network of z, f(z) + W h,
            instead of entering it, f([h, z]).

    Raises:
        UserError: a width or probability that is none.
    """

    hidden_dim: int = 512
    dropout: float = 0.5
    residual: bool = False

    def __post_init__(self) -> None:
        if type(self.hidden_dim) is not int or self.hidden_dim < 0:
            raise UserError(f"Head.hidden_dim: found {self.hidden_dim!r}, expected a width, or 0 for a linear network")
        check_probability("Head.dropout", self.dropout)

    def build(self, in_features: int, out_features: int) -> nn.Sequential:
        """New layers with new weights; [..., in_features] -> [..., out_features]."""
        if not self.hidden_dim:
            return nn.Sequential(nn.Dropout(self.dropout), nn.Linear(in_features, out_features))
        hidden = nn.Dropout(self.dropout), nn.Linear(in_features, self.hidden_dim), nn.ReLU()
        return nn.Sequential(*hidden, nn.Dropout(self.dropout), nn.Linear(self.hidden_dim, out_features))


class Likelihood(nn.Module):
    """A distribution over the K labels given z, and the image's features or not.

    A subclass keeps its constructor's arguments as attributes.

    Attributes:
        takes_uncertain: whether a label of -1, "uncertain", is one of its outcomes (policy "keep").
        takes_soft: whether a label may lie between 0 and 1 (policy "soft").
        independent_given_z: whether labels are, so that `probabilities` says all of them.
    """

    takes_uncertain: ClassVar[bool] = False
    takes_soft: ClassVar[bool] = False
    independent_given_z: ClassVar[bool] = True

    def forward(self, z: Tensor, features: Tensor | None = None, known: Tensor | None = None) -> Distribution:
        """A distribution over labels, in whose log-probability unknown labels take no part.

        Args:
            z: float [..., B, latent_dim].
            features: float [B, features_dim], or None.
            known: bool [B, K]; None is all known.
        Returns: batch shape [..., B], event shape [K].
        """
        raise NotImplementedError

    def probabilities(self, z: Tensor, features: Tensor | None = None) -> Tensor:
        """p(y_k = 1 | z, features), float [..., B, K] in [0, 1]."""
        raise NotImplementedError

    def none_probability(self, z: Tensor, findings: Sequence[int], features: Tensor | None = None) -> Tensor:
        """p(none of these findings | z, features), float [..., B] in [0, 1]; numbers of findings."""
        return (1 - self.probabilities(z, features)[..., list(findings)]).prod(-1)

    def takes_part(self, known: Tensor) -> Tensor:
        """Whether a study whose labels are known so far has a log-probability, bool [..., B]; bool [..., B, K]."""
        return known.any(-1)

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
    """A likelihood whose parameters are the outputs of a network f([features, z]), or f(z) + W features (`Head`).

    Args:
        latent_dim: D.
        num_findings: K.
        features_dim: width of the image features that are seen beside z; 0 is z alone.
        head: settings of f.

    Attributes:
        outputs_per_finding: how many numbers f says of each finding.
    """

    outputs_per_finding: ClassVar[int] = 1

    def __init__(self, latent_dim: int, num_findings: int, features_dim: int = 0, head: Head = Head()) -> None:
        super().__init__()
        self.latent_dim, self.num_findings, self.features_dim, self.head = latent_dim, num_findings, features_dim, head
        num_outputs = num_findings * self.outputs_per_finding
        joined = 0 if head.residual else features_dim
        self.network = head.build(joined + latent_dim, num_outputs)
        if head.residual and features_dim:
            self.residual = nn.Sequential(nn.Dropout(head.dropout), nn.Linear(features_dim, num_outputs, bias=False))

    def outputs(self, z: Tensor, features: Tensor | None = None) -> Tensor:
        """f: float [..., B, latent_dim]; float [B, features_dim] -> float [..., B, K * outputs_per_finding]."""
        if not self.features_dim or features is None:
            return full_precision(self.network(z))
        if self.head.residual:
            return full_precision(self.network(z) + self.residual(features))
        return full_precision(self.network(torch.cat([features.expand(*z.shape[:-1], -1), z], dim=-1)))

    @property
    def reads_z_alone(self) -> bool:
        """Whether it can be asked without the image's features."""
        return not self.features_dim or self.head.residual


def independent(labels: Distribution, known: Tensor | None) -> Distribution:
    """Labels [..., B, K] that are independent of each other, the unknown ones masked: batch [..., B], event [K]."""
    return (labels if known is None else labels.mask(known)).to_event(1)

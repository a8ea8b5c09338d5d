"""Labels that are right already count less."""

from torch import Tensor
from torch.nn.functional import logsigmoid, softplus

from vkd_pyro.distributions.base import Distribution
from vkd_pyro.distributions.likelihoods.base import Head, NetworkLikelihood, independent
from vkd_pyro.distributions.likelihoods.scored_bernoulli import ScoredBernoulli
from vkd_pyro.utils.errors import check_number


class FocalBernoulliLikelihood(NetworkLikelihood):
    """A Bernoulli that looks away from what is right already.

        score = y (1 - s)^gamma log s + (1 - y) s^gamma log(1 - s),   s = sigmoid(a),   a = f([features, z])_k

    (Lin et al. 2017, "Focal loss for dense object detection".) No log-probability, so no ELBO. Where its expectation
    is largest, s is nearer to 1/2 than p = p(y = 1) is; its derivative by s is zero there, which gives p
    (Charoenphakdee et al. 2021, "On focal loss for class-posterior probability estimation"):

        p = h(s) / (h(s) + h(1 - s)),   h(s) = s / ((1 - s)^gamma - gamma (1 - s)^(gamma - 1) s log s)

    Args:
        latent_dim: D.
        num_findings: K.
        features_dim: width of the image features that f sees beside z; 0 is z alone.
        head: settings of f.
        gamma: how far it looks away; 0 is the Bernoulli's log-probability.

    Raises:
        UserError: a gamma below 0.
    """

    takes_soft = True

    def __init__(
        self,
        latent_dim: int,
        num_findings: int,
        features_dim: int = 0,
        head: Head = Head(),
        gamma: float = 2.0,
    ) -> None:
        super().__init__(latent_dim, num_findings, features_dim, head)
        check_number("FocalBernoulliLikelihood.gamma", gamma)
        self.gamma = gamma

    def forward(self, z: Tensor, features: Tensor | None = None, known: Tensor | None = None) -> Distribution:
        """Labels given z: batch shape [..., B], event shape [K]."""
        a = self.outputs(z, features)
        # the powers by exp and log: no 0^gamma to differentiate
        present = (self.gamma * logsigmoid(-a)).exp() * logsigmoid(a)
        absent = (self.gamma * logsigmoid(a)).exp() * logsigmoid(-a)
        return independent(ScoredBernoulli(self._logits(a), present, absent), known)

    def probabilities(self, z: Tensor, features: Tensor | None = None) -> Tensor:
        """p(y_k = 1 | z, features) at the optimum, float [..., B, K] in [0, 1]."""
        return self._logits(self.outputs(z, features)).sigmoid()

    def _logits(self, a: Tensor) -> Tensor:
        """log h(s) - log h(1 - s) = (1 + gamma) a + log(1 + gamma r(-a)) - log(1 + gamma r(a)), float [..., B, K].

        where r(a) = -s log s / (1 - s) = exp(a) log(1 + exp(-a)), which goes from 0 to 1.
        """
        b = a.clamp(-80, 80)  # beyond, r is 0 or 1, and exp overflows
        r, r_absent = b.exp() * softplus(-b), (-b).exp() * softplus(b)
        return (1 + self.gamma) * a + (self.gamma * r_absent).log1p() - (self.gamma * r).log1p()

"""What a user would try in place of VKD: other ways to learn from reports, on the same encoders, data and training."""

from vkd_pyro.elbo import Terms
from vkd_pyro.rivals.base import ReportClassifier, Rival, log_likelihood
from vkd_pyro.rivals.contrastive import Contrastive
from vkd_pyro.rivals.distillation import LogitDistillation
from vkd_pyro.rivals.regression import FeatureRegression

__all__ = [
    "Contrastive",
    "FeatureRegression",
    "LogitDistillation",
    "ReportClassifier",
    "Rival",
    "Terms",
    "log_likelihood",
]

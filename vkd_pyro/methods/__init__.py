"""What a user would try in place of VKD: other ways to learn from reports, on the same encoders, data and training."""

from vkd_pyro.elbo import Terms
from vkd_pyro.methods.base import ReportClassifier, Rival, log_likelihood
from vkd_pyro.methods.contrastive import Contrastive
from vkd_pyro.methods.feature_regression import FeatureRegression
from vkd_pyro.methods.logit_distillation import LogitDistillation

__all__ = [
    "Contrastive",
    "FeatureRegression",
    "LogitDistillation",
    "ReportClassifier",
    "Rival",
    "Terms",
    "log_likelihood",
]

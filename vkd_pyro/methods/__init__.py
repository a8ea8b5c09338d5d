"""Ways of learning to read X-rays, a file each. All train by the same `fit`, and leave an image-only model.

`VKD`                 the report's posterior teaches the image's prior through a KL
`NoReport`            the same network without reports
`ImageOnly`           image encoder and a linear head
`MultiTask`           the image's features predict findings and report, without z
`LogitDistillation`   the image learns what a teacher that reads the report makes of each study
`FeatureRegression`   the image's features learn to predict the report's
`Contrastive`         an image and its own report are closer than it and those of others, as `UnitVectors` or as
                      `GaussianEmbeddings`

`Method` (`base.py`) says what a method is.
"""

from vkd_pyro.methods.base import Method, ReportClassifier, log_likelihood
from vkd_pyro.methods.contrastive import Contrastive, Embeddings, UnitVectors
from vkd_pyro.methods.feature_regression import FeatureRegression
from vkd_pyro.methods.gaussian_embeddings import GaussianEmbeddings
from vkd_pyro.methods.image_only import ImageOnly
from vkd_pyro.methods.logit_distillation import LogitDistillation
from vkd_pyro.methods.multitask import MultiTask
from vkd_pyro.methods.no_report import NoReport
from vkd_pyro.methods.vkd import VKD

__all__ = [
    "VKD",
    "Contrastive",
    "Embeddings",
    "FeatureRegression",
    "GaussianEmbeddings",
    "ImageOnly",
    "LogitDistillation",
    "Method",
    "MultiTask",
    "NoReport",
    "ReportClassifier",
    "UnitVectors",
    "log_likelihood",
]

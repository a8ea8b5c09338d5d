"""Numbers of methods, objectives, families and schedules are checked once, where they are set."""

import math
from functools import partial

import pytest
import torch

from tests.conftest import TinyCorpus
from vkd_pyro.data.task import Task
from vkd_pyro.distributions import (
    MMD,
    BalancedKL,
    DiagonalNormal,
    Flow,
    FocalBernoulliLikelihood,
    FreeBits,
    LowRankNormal,
    LowRankProbitLikelihood,
    NormalMixture,
    SplineFlow,
    StudentT,
    VampPrior,
    WordPresence,
)
from vkd_pyro.elbo import Site, TraceVKD_ELBO
from vkd_pyro.encoders.image import ConvEncoder
from vkd_pyro.encoders.latent_semantic import LatentSemanticEncoder
from vkd_pyro.encoders.report import WordEncoder
from vkd_pyro.methods import VKD, Contrastive, FeatureRegression, ImageOnly, LogitDistillation, MultiTask, NoReport
from vkd_pyro.methods.contrastive import UnitVectors
from vkd_pyro.schedules import Constant, Cyclical, Monotonic, Switch
from vkd_pyro.utils.errors import UserError

NAN, INF = math.nan, math.inf


def method(kind, findings=TinyCorpus.findings, **options):
    torch.manual_seed(0)
    parts = [ConvEncoder((4,))] + ([] if kind in (ImageOnly, NoReport, MultiTask) else [WordEncoder(16, 4)])
    return kind(findings, *parts, **options)


CASES = {
    "auxiliary_weight": (lambda n: TraceVKD_ELBO(auxiliary_weight=n), (-1.0, NAN, INF)),
    "kl_scale": (lambda n: TraceVKD_ELBO(kl_scale=n), (-1.0, NAN, INF)),
    "num_particles": (lambda n: TraceVKD_ELBO(num_particles=n), (0, -1, 1.5)),
    "num_auxiliary_particles": (lambda n: TraceVKD_ELBO(num_auxiliary_particles=n), (0, True)),
    "alpha": (lambda n: TraceVKD_ELBO(alpha=n), (-0.1, 1.1, NAN)),
    "weight": (lambda n: Site(weight=n), (-1.0, NAN, INF)),
    "prior_weight": (lambda n: BalancedKL(n, 0.1), (-1.0, NAN)),
    "posterior_weight": (lambda n: BalancedKL(0.1, n), (-1.0, INF)),
    "free_bits": (FreeBits, (-1.0, NAN)),
    "bandwidth": (lambda n: MMD(bandwidth=n), (0.0, NAN)),
    "min_scale": (lambda n: DiagonalNormal(3, 2, min_scale=n), (0.0, -1.0, NAN, INF)),
    "rank": (lambda n: LowRankNormal(3, 2, rank=n), (0, 1.5)),
    "num_couplings": (lambda n: Flow(3, 2, num_couplings=n), (0,)),
    "coupling_width": (lambda n: Flow(3, 2, coupling_width=n), (0,)),
    "num_bins": (lambda n: SplineFlow(3, 2, num_bins=n), (1,)),
    "num_components": (lambda n: NormalMixture(3, 2, num_components=n), (0,)),
    "VampPrior.num_components": (lambda n: VampPrior(3, 2, num_components=n), (0,)),
    "df": (lambda n: StudentT(3, 2, df=n), (4.0, NAN, INF)),
    "gamma": (lambda n: FocalBernoulliLikelihood(2, 3, gamma=n), (-1.0, NAN, INF)),
    "num_nodes": (lambda n: LowRankProbitLikelihood(2, 3, num_nodes=n), (1,)),
    "vocabulary_size": (lambda n: WordPresence(2, vocabulary_size=n), (0, -1)),
    "min_count": (lambda n: WordPresence(2, min_count=n), (0,)),
    "width": (lambda n: LatentSemanticEncoder(width=n), (0,)),
    "fact_weight": (lambda n: LatentSemanticEncoder(fact_weight=n), (-1.0, NAN)),
    "latent_dim": (lambda n: method(VKD, latent_dim=n), (0, -1, 2.5)),
    "NoReport latent_dim": (lambda n: method(NoReport, latent_dim=n), (0,)),
    "FeatureRegression weight": (lambda n: method(FeatureRegression, weight=n), (-1.0, NAN)),
    "Contrastive weight": (lambda n: method(Contrastive, weight=n), (-1.0, NAN)),
    "temperature": (lambda n: method(Contrastive, embeddings=partial(UnitVectors, temperature=n)), (0.0, NAN)),
    "share": (lambda n: method(LogitDistillation, share=n), (-0.1, 1.1, NAN)),
    "LogitDistillation temperature": (lambda n: method(LogitDistillation, temperature=n), (0.0, INF)),
    "dropout": (lambda n: method(LogitDistillation, dropout=n), (-0.1, 1.5, NAN)),
    "report_weight": (lambda n: method(MultiTask, report_likelihood=WordPresence, report_weight=n), (-1.0, NAN)),
    "value": (Constant, (-1.0, NAN, INF)),
    "epochs": (Monotonic, (0.0, -1.0, NAN)),
    "before": (lambda n: Switch(before=n), (-1.0, NAN)),
    "after": (lambda n: Switch(after=n), (-1.0, INF)),
    "cycles": (Cyclical, (0, 1.5)),
    "rising": (lambda n: Cyclical(rising=n), (0.0, 1.5, NAN)),
    "label_draw": (lambda n: Task(label_draw=n), (-1,)),
    "max_train_studies": (lambda n: Task(max_train_studies=n), (0, -5)),
}


@pytest.mark.parametrize(
    ("name", "make", "number"), [(name, make, number) for name, (make, numbers) in CASES.items() for number in numbers]
)
def test_a_number_out_of_range_is_named_with_its_argument(name, make, number):
    with pytest.raises(UserError, match=rf"{name.split()[-1].split('.')[-1]}: found {number}, expected"):
        make(number)


@pytest.mark.parametrize(
    ("findings", "message"),
    [
        (("Edema", "Fracture", "Edema"), "findings: found 'Edema' 2 times, expected it once"),
        ((), r"findings: found \(\), expected names of labels"),
        (("Edema", ""), "findings: found .* expected names of labels"),
        ("Edema", "findings: found 'Edema', expected names of labels"),
    ],
)
def test_findings_are_different_names(findings, message):
    if findings:  # of none, torch warns before a method can
        with pytest.raises(UserError, match=f"^{message}"):
            method(ImageOnly, findings)
    with pytest.raises(UserError, match=rf"^data\.task\.{message}"):
        Task(findings=findings)

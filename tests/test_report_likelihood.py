"""The report as an observed site: likelihoods of reports, their terms in the objective, and one head for p and q."""

import math
from contextlib import nullcontext
from dataclasses import replace

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import SVI
from pyro.optim import Adam
from torch import Tensor
from torch.distributions import kl_divergence
from torch.nn.functional import binary_cross_entropy_with_logits

from tests.conftest import TinyCorpus, study_data
from tests.test_elbo import D, K, LinearGaussian, make_batch, make_vkd
from vkd_pyro import Training, fit, load_bundle
from vkd_pyro.data.batch import Batch
from vkd_pyro.distributions import (
    MLP,
    BernoulliLikelihood,
    DiagonalNormal,
    Head,
    ReportEmbedding,
    ReportFacts,
    ReportLikelihood,
    WordCounts,
    WordPresence,
)
from vkd_pyro.distributions.reports import Facts, TermCounts, TermPresence
from vkd_pyro.elbo import Site, TraceVKD_ELBO
from vkd_pyro.encoders.image import ConvEncoder
from vkd_pyro.encoders.report import ReportEncoder, WordEncoder
from vkd_pyro.methods import VKD, MultiTask, log_likelihood
from vkd_pyro.schedules import Constant
from vkd_pyro.utils.errors import UserError
from vkd_pyro.utils.terms import Vocabulary, term, terms_of

REPORTS = [
    "The heart is enlarged. No effusion.",
    "Small left effusion; the heart is normal.",
    "Heart and lungs are normal. No effusion.",
]

# ---------------------------------------------------------------------------------------------- terms


def test_terms_are_words_and_pairs_within_a_clause():
    expected = ["heart", "enlarged", "no", "effusion", "heart enlarged", "no effusion"]
    assert terms_of("Heart ENLARGED. No effusion", ()).tolist() == [term(text) for text in expected]


def test_a_stop_word_parts_its_neighbours():
    assert terms_of("size of the heart", ("of", "the")).tolist() == [term("size"), term("heart")]


def test_words_of_any_script_are_terms_however_their_accents_are_written():
    composed, parted = "Épanchement pleural", "E\u0301panchement pleural"
    expected = [term(text) for text in ("épanchement", "pleural", "épanchement pleural")]
    assert terms_of(composed).tolist() == terms_of(parted).tolist() == expected
    assert terms_of("плевральный выпот").tolist()[:2] == [term("плевральный"), term("выпот")]


def test_a_vocabulary_without_a_word_is_refused():
    with pytest.raises(UserError, match=r"min_count: found no word in at least 3 of the 2 .*most frequent is in 2\)"):
        Vocabulary(4, 3).learn([torch.tensor([5, 7]), torch.tensor([7])])
    with pytest.raises(UserError, match=r"of the 1 training reports \(none has a word\), expected a vocabulary"):
        Vocabulary(4, 1).learn([torch.tensor([], dtype=torch.int64)])


def test_a_vocabulary_that_was_never_learned_is_not_taken_for_empty_reports():
    with pytest.raises(UserError, match=r"vocabulary: found none, .*observe_training\(method, data\) before"):
        Vocabulary(4, 1)(torch.tensor([1]))


def test_a_vocabulary_is_the_most_frequent_terms_of_several_reports():
    vocabulary = Vocabulary(3, min_count=2)
    counts = vocabulary.learn(
        [torch.tensor([5, 7, 7]), torch.tensor([7, 9]), torch.tensor([9, 7, 5]), torch.tensor([8])]
    )
    assert vocabulary.terms[: len(vocabulary)].tolist() == [5, 7, 9]
    assert counts.tolist() == [2, 3, 2]
    assert vocabulary(torch.tensor([[7, 8, -1], [9, 5, 6]])).tolist() == [[1, -1, -1], [2, 0, -1]]


def test_a_vocabulary_comes_back_with_the_weights():
    one, other = Vocabulary(4, 1), Vocabulary(4, 1)
    one.learn([torch.tensor([3, 1])])
    other.load_state_dict(one.state_dict())
    assert other(torch.tensor([1, 2, 3])).tolist() == [0, -1, 1]


# --------------------------------------------------------------------------------------- distributions


def test_presence_of_terms_is_a_product_of_bernoullis():
    logits = torch.randn(2, 3, 5)
    columns = torch.tensor([[0, 3, -1], [-1, -1, -1], [4, 1, 2]])
    present = torch.zeros(3, 5)
    for row, listed in enumerate(columns):
        present[row, listed[listed >= 0]] = 1
    expected = dist.Bernoulli(logits=logits).to_event(1).log_prob(present)
    torch.testing.assert_close(TermPresence(logits).log_prob(columns), expected)


def test_counts_of_terms_are_a_multinomial_without_its_coefficient():
    logits = torch.randn(3, 5)
    columns = torch.tensor([[0, 3, 3], [1, -1, -1], [4, 4, 4]])
    counts = torch.stack([torch.bincount(row[row >= 0], minlength=5) for row in columns]).float()
    for row in range(3):
        multinomial = torch.distributions.Multinomial(int(counts[row].sum()), logits=logits[row])
        coefficient = torch.lgamma(counts[row].sum() + 1) - torch.lgamma(counts[row] + 1).sum()
        expected = multinomial.log_prob(counts[row]) - coefficient
        torch.testing.assert_close(TermCounts(logits).log_prob(columns)[row], expected)


def test_facts_are_categorical_and_what_is_not_said_is_none():
    logits = torch.randn(2, 6, 4)
    codes = torch.tensor([[3, 1, 0, 1, 0, 0], [0, 0, 0, 2, 3, 2]])  # presence, side, severity of two findings
    log_probs, said = logits.log_softmax(-1), logits[..., 1:].log_softmax(-1)  # of a side that is said, 1 to 3
    first = log_probs[0, 0, 3] + said[0, 1, 0] + log_probs[0, 3, 1]
    second = log_probs[1, 0, 0] + log_probs[1, 3, 2] + said[1, 4, 2] + said[1, 5, 1]
    torch.testing.assert_close(Facts(logits).log_prob(codes), torch.stack([first, second]))


def test_the_density_of_facts_is_that_of_what_they_draw():
    one = Facts(torch.randn(3, 4))  # presence, side and severity of one finding
    codes = torch.cartesian_prod(torch.arange(4), torch.arange(1, 4), torch.arange(1, 4))
    p = torch.stack([one.log_prob(code).exp() for code in codes])
    torch.testing.assert_close(p.sum(), torch.tensor(1.0))
    torch.manual_seed(0)
    drawn = one.sample((40_000,))
    often = torch.stack([(drawn == code).all(-1).float().mean() for code in codes])
    torch.testing.assert_close(often, p, atol=0.01, rtol=0)


@pytest.mark.parametrize("kind", [TermPresence, TermCounts])
def test_draws_of_terms_are_as_frequent_as_they_are_likely(kind):
    torch.manual_seed(0)
    logits = torch.tensor([[1.0, -1.0, 0.0]])
    drawn = kind(logits).sample((4000,))
    share = torch.stack([(drawn == column).float().sum(-1) for column in range(3)], -1).mean(0)
    expected = logits.sigmoid() if kind is TermPresence else 64 * logits.softmax(-1)
    torch.testing.assert_close(share, expected, rtol=0.05, atol=0.02)


# ------------------------------------------------------------------------------------------ likelihoods


class Letters(ReportEncoder):
    """A stand-in for a language model: two token embeddings a report, of its length."""

    features_dim = 3

    def prepare(self, reports):
        return [torch.tensor([[len(r), 1.0, 0.0], [len(r), 3.0, 1.0]]).half() for r in reports]

    def forward(self, report, mask):
        raise NotImplementedError


def observing(likelihood: ReportLikelihood) -> Tensor:
    """The reports as it observes them, padded; it has learned from them."""
    prepared = likelihood.prepare(REPORTS)
    likelihood.observe_reports(iter(prepared))
    return torch.nn.utils.rnn.pad_sequence(list(prepared), batch_first=True, padding_value=-1)


LIKELIHOODS = {
    "presence": lambda f: WordPresence(D, f, vocabulary_size=20, min_count=1),
    "counts": lambda f: WordCounts(D, f, vocabulary_size=20, min_count=1),
    "embedding": lambda f: ReportEmbedding(D, f, reader=Letters()),
    "facts": lambda f: ReportFacts(D, f),
}


@pytest.mark.parametrize("features_dim", [0, 5])
@pytest.mark.parametrize("name", LIKELIHOODS)
def test_every_report_likelihood_keeps_the_contract(name, features_dim):
    torch.manual_seed(0)
    likelihood = LIKELIHOODS[name](features_dim)
    observed = observing(likelihood)
    z, features = torch.randn(4, 3, D, requires_grad=True), torch.randn(3, 5)
    given = likelihood(z, features if features_dim else None)
    log_prob = given.log_prob(observed)
    assert log_prob.shape == given.batch_shape == (4, 3)
    assert log_prob.isfinite().all()
    log_prob.sum().backward()
    assert z.grad.abs().sum() > 0
    for parameter in likelihood.parameters():
        assert parameter.grad.abs().sum() > 0
    again = LIKELIHOODS[name](features_dim)
    again.load_state_dict(likelihood.state_dict())
    torch.testing.assert_close(again(z, features if features_dim else None).log_prob(observed), log_prob)


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_draws_of_a_report_likelihood_are_reports_it_could_observe(name):
    likelihood = LIKELIHOODS[name](0)
    observing(likelihood)
    drawn = likelihood(torch.randn(3, D)).sample()
    assert likelihood(torch.randn(3, D)).log_prob(drawn).isfinite().all()


def test_presence_begins_with_the_frequency_of_each_word():
    likelihood = WordPresence(D, vocabulary_size=50, min_count=1)
    observed = observing(likelihood)
    probabilities = likelihood(torch.zeros(3, D)).logits.sigmoid()[0]
    column = likelihood.vocabulary(torch.tensor([term("heart"), term("small")]))
    assert (observed == term("heart")).any(1).all()
    assert probabilities[column[:2]].tolist() == pytest.approx([3.5 / 4, 1.5 / 4])


def test_words_of_finding_phrases_can_be_left_out_or_all_there_is():
    names = {"kept": True, "left_out": False, "only": True}
    for choice, there in names.items():
        likelihood = WordPresence(D, vocabulary_size=50, min_count=1, finding_phrases=choice)
        observing(likelihood)
        found = likelihood.vocabulary(torch.tensor([term("effusion"), term("normal")])) >= 0
        assert found.tolist() == [there, choice != "only"], choice


def test_left_out_finding_words_are_in_no_pair_and_only_they_are_with_what_denies_them():
    report = "Small left effusion. No pneumothorax, normal hilum"
    prepared = {}
    for choice in ("left_out", "only"):
        prepared[choice] = set(WordPresence(D, finding_phrases=choice).prepare([report])[0].tolist())
    assert prepared["left_out"] == {term(t) for t in ("small", "no", "normal", "hilum", "normal hilum")}
    assert prepared["only"] == {
        term(t) for t in ("left", "effusion", "left effusion", "no", "pneumothorax", "no pneumothorax")
    }
    preparations = [WordPresence(D, finding_phrases=choice).preparation for choice in ("kept", "left_out", "only")]
    assert len({str(preparation) for preparation in preparations}) == 3  # a store of one does not serve another


def test_the_embedding_is_the_mean_of_token_embeddings_standardised():
    likelihood = ReportEmbedding(D, reader=Letters())
    prepared = likelihood.prepare(REPORTS)
    assert prepared[0].tolist() == [[len(REPORTS[0]), 2.0, 0.5]]
    likelihood.observe_reports(prepared)
    torch.testing.assert_close(likelihood.mean, torch.cat(prepared).mean(0))
    assert likelihood(torch.zeros(1, D)).event_shape == (1, 3)


def test_an_embedding_of_token_numbers_is_refused():
    with pytest.raises(UserError, match=r"reader: found WordEncoder, which gives token numbers.*with cache true$"):
        ReportEmbedding(D, reader=WordEncoder(vocabulary_size=50))


# ------------------------------------------------------------------------------- terms of the objective


class LinearReport(ReportLikelihood):
    """x_T ~ Normal(B z, noise): its expectations under normal z are known."""

    def __init__(self, noise: float = 0.7) -> None:
        super().__init__(2, 0)
        self.weight = torch.nn.Parameter(torch.randn(3, 2, generator=torch.Generator().manual_seed(9)))
        self.noise = noise

    def prepare(self, reports):
        raise NotImplementedError

    def observe_reports(self, reports):
        raise NotImplementedError

    def forward(self, z: Tensor, features: Tensor | None = None) -> dist.TorchDistribution:
        return dist.Normal(z @ self.weight.T, self.noise).to_event(1)

    def expected(self, x: Tensor, loc: Tensor, scale: float) -> Tensor:
        squares = (x - loc @ self.weight.T).square() + scale**2 * self.weight.square().sum(1)
        return (-squares / (2 * self.noise**2) - math.log(self.noise * math.sqrt(2 * math.pi))).sum(1)


@pytest.fixture
def observed() -> LinearGaussian:
    found = LinearGaussian()
    found.model.report_likelihood = LinearReport()
    found.batch = replace(found.batch, observed=torch.randn(6, 3, generator=torch.Generator().manual_seed(5)))
    return found


@pytest.mark.parametrize("labels_from", ["prior", "posterior"])
@pytest.mark.parametrize("report_from", ["prior", "posterior", "mixture"])
def test_a_report_term_is_its_closed_form(observed, labels_from, report_from):
    torch.manual_seed(0)
    pyro.set_rng_seed(0)
    sites = {"report": Site(weight=0.2, samples=report_from)}
    elbo = TraceVKD_ELBO(40_000, likelihood_samples=labels_from, alpha=0.25, sites=sites)
    with torch.no_grad():
        terms = elbo.terms(observed.model, observed.guide, observed.batch)
    report, share = observed.model.report_likelihood, {"prior": 0.0, "posterior": 1.0, "mixture": 0.25}
    under = [
        report.expected(observed.batch.observed, loc, family.scale)
        for loc, family in ((observed.p_loc, observed.p), (observed.q_loc, observed.q))
    ]
    expected = (1 - share[report_from]) * under[0] + share[report_from] * under[1]
    torch.testing.assert_close(terms.others["report"], expected.detach(), atol=0.15, rtol=0.02)
    loc, family = (observed.p_loc, observed.p) if labels_from == "prior" else (observed.q_loc, observed.q)
    labels = observed.likelihood.expected(observed.batch.labels, loc, family.scale)
    torch.testing.assert_close(terms.log_likelihood, labels.detach(), atol=0.15, rtol=0.02)
    loss = terms.alignment - terms.log_likelihood - terms.auxiliary - 0.2 * terms.others["report"]
    torch.testing.assert_close(terms.loss, loss.mean())


def test_at_weight_one_the_bound_of_labels_and_report_is_below_their_joint_evidence(observed):
    joint = joint_evidence(observed)
    for elbo in (
        TraceVKD_ELBO(20_000, likelihood_samples="posterior", auxiliary_weight=0.0),
        TraceVKD_ELBO(20_000, likelihood_samples="posterior", auxiliary_weight=0.0, log_mean_exp=True),
    ):
        torch.manual_seed(0)
        with torch.no_grad():
            bound = -elbo.terms(observed.model, observed.guide, observed.batch).loss
        assert bound <= joint.mean() + 0.05
    # The importance-weighted bound holds both sites, so with many draws it is the joint evidence.
    torch.testing.assert_close(bound, joint.mean(), atol=0.05, rtol=0)


def joint_evidence(observed: LinearGaussian) -> Tensor:
    """log p(y, x_T | x_I) with z integrated out."""
    weight = torch.cat([observed.likelihood.weight, observed.model.report_likelihood.weight])
    noise = torch.cat([torch.full((K,), 0.9**2), torch.full((3,), 0.7**2)])
    covariance = observed.p.scale**2 * weight @ weight.T + torch.diag(noise)
    normal = dist.MultivariateNormal(observed.p_loc @ weight.T, covariance)
    return normal.log_prob(torch.cat([observed.batch.labels, observed.batch.observed], 1)).detach()


@pytest.mark.parametrize("joint", [True, False])
def test_logs_of_means_are_joint_where_asked(observed, joint):
    torch.manual_seed(0)
    elbo = TraceVKD_ELBO(30_000, auxiliary_weight=0.0, log_mean_exp=True, joint=joint)
    with torch.no_grad():
        terms = elbo.terms(observed.model, observed.guide, observed.batch, kl_weight=0.0)
    if joint:
        expected = joint_evidence(observed)
    else:
        report = observed.model.report_likelihood
        covariance = observed.p.scale**2 * report.weight @ report.weight.T + 0.7**2 * torch.eye(3)
        alone = dist.MultivariateNormal(observed.p_loc @ report.weight.T, covariance).log_prob(observed.batch.observed)
        expected = alone + observed.likelihood.evidence(observed.batch.labels, observed.p_loc, observed.p.scale)
    torch.testing.assert_close(-terms.loss, expected.mean().detach(), atol=0.06, rtol=0)


def test_a_study_without_a_report_has_no_report_term(observed):
    batch = replace(observed.batch, has_report=torch.tensor([True, False, True, True, False, True]))
    terms = TraceVKD_ELBO().terms(observed.model, observed.guide, batch)
    assert (terms.others["report"][~batch.has_report] == 0).all()
    assert (terms.others["report"][batch.has_report] != 0).all()
    assert "report" not in TraceVKD_ELBO().terms(observed.model, observed.guide, make_batch()).others


def test_the_parts_of_the_loss_have_names(observed):
    means = TraceVKD_ELBO().terms(observed.model, observed.guide, observed.batch).means()
    assert {"loss", "log_likelihood", "auxiliary", "kl", "report"} == set(means)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"weight": -1.0}, "objective.sites: weight: found -1.0, expected a number of at least 0"),
        ({"samples": "report"}, "objective.sites: samples: found 'report', expected prior, posterior or mixture"),
    ],
)
def test_a_site_that_is_none_is_refused(arguments, message):
    with pytest.raises(UserError, match=message):
        Site(**arguments)


def test_a_site_that_the_model_lacks_is_refused():
    with pytest.raises(UserError, match=r"sites: found 'report', but the model observes y; 'report' wants"):
        make_vkd(objective=TraceVKD_ELBO(sites={"report": Site()}))


def test_two_importance_weighted_bounds_are_refused():
    sites = {"report": Site(samples="mixture")}
    with pytest.raises(UserError, match=r"sites under the posterior share one importance-weighted bound"):
        TraceVKD_ELBO(2, likelihood_samples="posterior", log_mean_exp=True, sites=sites)


# ------------------------------------------------------------------------------------------- one head


def tied_vkd(**options) -> VKD:
    return make_vkd(tied=True, likelihood_inputs="z", **options)


@pytest.mark.parametrize("likelihood_inputs", ["z", "image+z"])
def test_a_tied_head_is_one_parameter_that_takes_one_step(likelihood_inputs):
    head = Head(hidden_dim=0, dropout=0.0, residual=True)
    vkd = make_vkd(
        tied=True,
        likelihood_inputs=likelihood_inputs,
        likelihood=lambda d, k, f: BernoulliLikelihood(d, k, f, head),
        objective=TraceVKD_ELBO(),
    )
    assert vkd.guide.auxiliary is vkd.model.likelihood
    names = [name for name, _ in vkd.named_parameters() if "likelihood" in name or "auxiliary" in name]
    assert all(name.startswith("model.likelihood.") for name in names)
    assert not [name for name in vkd.state_dict() if "auxiliary" in name]
    batch, weight = make_batch(), vkd.model.likelihood.network[1].weight
    before = weight.detach().clone()
    pyro.clear_param_store()
    torch.manual_seed(0)
    SVI(vkd.model, vkd.guide, Adam({"lr": 0.01}), vkd.objective).step(batch)
    by_svi = weight.detach() - before
    assert by_svi.abs().max() == pytest.approx(0.01, rel=1e-3)  # one step of Adam, not two
    with torch.no_grad():
        weight.copy_(before)
    for parameter in vkd.parameters():
        parameter.grad = None
    optimizer = torch.optim.Adam([weight], lr=0.01)
    torch.manual_seed(0)
    vkd.objective.terms(vkd.model, vkd.guide, batch).loss.backward()
    optimizer.step()
    assert (weight.detach() - before).abs().max() == pytest.approx(0.01, rel=1e-3)
    pyro.clear_param_store()


def test_the_gradient_of_a_tied_head_is_that_of_both_terms():
    vkd, batch = tied_vkd(), make_batch()
    weight = vkd.model.likelihood.network[-1].weight
    torch.manual_seed(0)
    terms = TraceVKD_ELBO().terms(vkd.model, vkd.guide, batch)
    both, one, other = (
        torch.autograd.grad(term.mean(), weight, retain_graph=True)[0]
        for term in (terms.log_likelihood + terms.auxiliary, terms.log_likelihood, terms.auxiliary)
    )
    torch.testing.assert_close(both, one + other)
    assert one.abs().sum() > 0 < other.abs().sum()


def test_with_one_head_the_kl_of_z_bounds_that_of_the_answers():
    """KL(q(y | x_T) || p(y | x_I)) <= KL(q(z | x_T) || p(z | x_I)): data processing, over all 2^K answers."""
    answers = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * K)
    for seed in range(5):
        torch.manual_seed(seed)
        likelihood = BernoulliLikelihood(D, K, 0, Head(8, 0.0)).eval()
        with torch.no_grad():
            for parameter in likelihood.parameters():
                parameter.mul_(4)
        p = dist.Normal(torch.randn(D), 0.5 + torch.rand(D)).to_event(1)
        q = dist.Normal(torch.randn(D), 0.2 + torch.rand(D)).to_event(1)

        def answer(z: dist.TorchDistribution, given: BernoulliLikelihood = likelihood) -> Tensor:
            logits = given.logits(z.sample((200_000,)))
            log_probs = -binary_cross_entropy_with_logits(
                logits[:, None].expand(-1, len(answers), -1), answers.expand(len(logits), -1, -1), reduction="none"
            )
            return log_probs.sum(-1).exp().mean(0)

        with torch.no_grad():
            of_q, of_p = answer(q), answer(p)
        of_answers = (of_q * (of_q / of_p).log()).sum()
        assert 0.001 < of_answers < kl_divergence(q.base_dist, p.base_dist).sum()


def test_a_head_that_needs_the_image_cannot_be_tied():
    with pytest.raises(UserError, match=r"method.tied: one head .* set method.likelihood_inputs to z, or"):
        make_vkd(tied=True)


def test_a_residual_joins_the_features_beside_z():
    torch.manual_seed(0)
    likelihood = BernoulliLikelihood(D, K, 5, Head(0, 0.0, residual=True)).eval()
    z, features = torch.randn(2, 3, D), torch.randn(3, 5)
    expected = likelihood.network(z) + features @ likelihood.residual[1].weight.T
    torch.testing.assert_close(likelihood.logits(z, features), expected)
    torch.testing.assert_close(likelihood.logits(z), likelihood.network(z))


# ------------------------------------------------------------------------------------------ training


def small_vkd(findings, **options) -> VKD:
    torch.manual_seed(0)
    return VKD(
        findings,
        ConvEncoder((4, 8)),
        WordEncoder(64, 8),
        latent_dim=4,
        prior=lambda f, d: DiagonalNormal(f, d, MLP((8,), 0.0)),
        posterior=lambda f, d: DiagonalNormal(f, d, MLP((), 0.0), min_scale=0.05),
        likelihood_inputs="z",
        tied=True,
        report_likelihood=lambda d, f: WordPresence(d, f, vocabulary_size=30, min_count=2),
        objective=TraceVKD_ELBO(2, log_mean_exp=True, sites={"report": Site(weight=0.1)}),
        **options,
    )


@pytest.mark.parametrize("keep", [False, True])
def test_a_training_observes_reports_and_its_bundle_does_not(tmp_path, keep):
    data = study_data(TinyCorpus(), batch_size=8)
    vkd = small_vkd(data.findings, keep_report_likelihood=keep)
    before = {name: value.clone() for name, value in vkd.named_parameters()}
    with pytest.warns(UserWarning, match="hashes that a list of names would tell") if keep else nullcontext():
        fit(vkd, data, tmp_path / "run", Constant(), training=Training(max_epochs=2), progress=False)
    assert all((value != before[name]).any() for name, value in vkd.named_parameters() if "embeddings" not in name)
    assert len(vkd.model.report_likelihood.vocabulary) > 5
    bundle = load_bundle(tmp_path / "run" / "bundle")
    assert (bundle.model.report_likelihood is not None) == keep
    assert [name for name in bundle.model.state_dict() if "report" in name] == [
        name for name in vkd.model.state_dict() if "report" in name and keep
    ]
    features = torch.randn(3, 8)
    torch.testing.assert_close(
        bundle.model.posterior_predictive(features, 5).samples, vkd.model.posterior_predictive(features, 5).samples
    )


def test_a_resumed_training_has_the_vocabulary_it_began_with(tmp_path):
    data = study_data(TinyCorpus(), batch_size=8)
    whole, parts = small_vkd(data.findings), small_vkd(data.findings)
    settings = Training(max_epochs=2, learning_rate_schedule="constant")
    fit(whole, data, tmp_path / "whole", Constant(), training=settings, progress=False)
    fit(parts, data, tmp_path / "parts", Constant(), training=replace(settings, max_epochs=1), progress=False)
    (tmp_path / "parts" / "bundle").rename(tmp_path / "first")
    again = small_vkd(data.findings)
    fit(again, data, tmp_path / "parts", Constant(), training=settings, progress=False, resume=True)
    for name, value in whole.state_dict().items():
        torch.testing.assert_close(again.state_dict()[name], value, rtol=0, atol=0)


def test_multitask_is_cross_entropy_and_words_from_features():
    torch.manual_seed(0)
    method = MultiTask(tuple("abc"), ConvEncoder((4, 8)), lambda d, f: WordPresence(d, f, 20, 1), report_weight=0.3)
    method.eval()
    observed = observing(method.report_likelihood).repeat(2, 1)
    batch: Batch = replace(make_batch(), observed=observed, has_report=torch.tensor([True] * 5 + [False]))
    features = method.model.image_encoder(batch.images)
    terms = method.terms(batch)
    labels = log_likelihood(method.model.head(features), batch.labels, batch.known)
    words = method.report_likelihood(features).log_prob(observed) * batch.has_report
    torch.testing.assert_close(terms.loss, -(labels + 0.3 * words).mean())
    assert method.image_model is method.model
    assert "observed" not in dict(method.model.named_children())


def test_multitask_takes_unknown_labels_from_a_teacher_that_is_not_taught():
    torch.manual_seed(0)
    method = MultiTask(tuple("abc"), ConvEncoder((4, 8)), lambda d, f: WordPresence(d, f, 20, 1), WordEncoder(50, 8))
    method.eval()
    known = torch.ones(6, 3, dtype=torch.bool)
    known[2:4] = False
    batch = make_batch(known=known, has_report=torch.tensor([True] * 3 + [False] * 3))
    terms = method.terms(batch)
    _, teacher = method.guide.teacher(batch)
    logits = method.model.head(method.model.image_encoder(batch.images))
    expected = -binary_cross_entropy_with_logits(logits[2], teacher[2].sigmoid(), reduction="sum")
    torch.testing.assert_close(terms.log_likelihood[2], expected)
    assert terms.log_likelihood[3] == 0
    taught = torch.autograd.grad(terms.log_likelihood.sum(), list(method.guide.parameters()), allow_unused=True)
    assert all(gradient is None for gradient in taught)

"""What learns from few reports: facts of the labeller, and the projection of words and facts."""

import numpy as np
import pytest
import torch
from sklearn.decomposition import TruncatedSVD
from torch.nn.utils.rnn import pad_sequence

from vkd_pyro.data.labels.facts import ATTRIBUTES, facts_of
from vkd_pyro.data.labels.findings import CHEXPERT_FINDINGS
from vkd_pyro.encoders.latent_semantic import FACT, SCALE, LatentSemanticEncoder
from vkd_pyro.synthetic.corpus import SyntheticCorpus
from vkd_pyro.utils.terms import term


@pytest.mark.parametrize(
    ("report", "finding", "expected"),
    [
        ("Small left pleural effusion.", "Pleural Effusion", ("present", "left", "mild")),
        ("Large right and small left pleural effusions.", "Pleural Effusion", ("present", "both", "severe")),
        ("Bilateral effusions, moderate.", "Pleural Effusion", ("present", "both", "moderate")),
        ("Left effusion. Heart enlarged.", "Cardiomegaly", ("present", "not said", "not said")),
        ("There may be mild edema.", "Edema", ("uncertain", "not said", "mild")),
        ("No large effusion.", "Pleural Effusion", ("absent", "not said", "not said")),
        ("The lungs are clear.", "Pneumothorax", ("not mentioned", "not said", "not said")),
        ("Effusion on the left. Effusion on the right.", "Pleural Effusion", ("present", "both", "not said")),
        ("Mod LLL consolidation.", "Consolidation", ("present", "left", "moderate")),
        ("Small Rt effusion.", "Pleural Effusion", ("present", "right", "mild")),
        ("Lt. basilar atelectasis.", "Atelectasis", ("present", "left", "not said")),
        ("Small left effusion and large right pneumothorax.", "Pleural Effusion", ("present", "left", "mild")),
        ("Small left effusion and large right pneumothorax.", "Pneumothorax", ("present", "right", "severe")),
        ("Mild cardiomegaly with a large left effusion.", "Cardiomegaly", ("present", "not said", "mild")),
        ("Small right effusion, left lung clear.", "Pleural Effusion", ("present", "right", "mild")),
        ("Small right effusion without left effusion.", "Pleural Effusion", ("present", "right", "mild")),
        ("Right IJ catheter, small left effusion.", "Pleural Effusion", ("present", "left", "mild")),
        ("Effusion on the left and right pneumothorax.", "Pleural Effusion", ("present", "left", "not said")),
        ("Grossly unchanged left effusion.", "Pleural Effusion", ("present", "left", "not said")),
        ("B/L effusions.", "Pleural Effusion", ("present", "both", "not said")),
    ],
)
def test_facts_say_presence_side_and_severity(report, finding, expected):
    codes = facts_of([report])[0, CHEXPERT_FINDINGS.index(finding)]
    assert tuple(values[code] for values, code in zip(ATTRIBUTES.values(), codes, strict=True)) == expected


@pytest.fixture(scope="module")
def reports() -> list[str]:
    texts = (study.report.get("report") for study in SyntheticCorpus(150).studies())
    return [text for text in texts if text]


def features_of(encoder: LatentSemanticEncoder, prepared: list[torch.Tensor]) -> torch.Tensor:
    lengths = torch.tensor([len(report) for report in prepared])
    mask = torch.arange(int(lengths.max())) < lengths[:, None]
    return encoder.eval()(pad_sequence(prepared, batch_first=True), mask)


def test_features_are_a_rotated_truncated_svd_of_tf_idf(reports):
    encoder = LatentSemanticEncoder(width=20, vocabulary_size=300, fact_weight=0.0)
    prepared = encoder.prepare(reports)
    encoder.observe_reports(iter(prepared))
    terms = encoder.vocabulary.terms[: len(encoder.vocabulary)].tolist()
    present = np.array([[float(term in set(report.tolist())) for term in terms] for report in prepared])
    weighted = present * (np.log((1 + len(reports)) / (1 + present.sum(0))) + 1)
    weighted /= np.linalg.norm(weighted, axis=1, keepdims=True)
    expected = SCALE * TruncatedSVD(20, random_state=0).fit(weighted).transform(weighted)
    found = features_of(encoder, prepared).numpy()
    # Whatever the rotation, lengths and angles are the same.
    np.testing.assert_allclose(found @ found.T, expected @ expected.T, rtol=1e-3, atol=1e-2)


def test_no_direction_is_smaller_than_others_for_an_optimiser(reports):
    encoder = LatentSemanticEncoder(width=20, vocabulary_size=300, fact_weight=0.0)
    prepared = encoder.prepare(reports)
    encoder.observe_reports(prepared)
    found = features_of(encoder, prepared)
    centred = found - found.mean(0)
    sizes, rotated = torch.linalg.svdvals(centred), centred.norm(dim=0)
    assert rotated.max() / rotated.min() < 0.7 * sizes[0] / sizes[-1]  # than in the basis of the directions


def test_facts_are_features_too(reports):
    encoder = LatentSemanticEncoder(width=30, vocabulary_size=300)
    prepared = encoder.prepare(reports)
    assert any((report >= FACT).any() for report in prepared)
    encoder.observe_reports(prepared)
    # Words that are not known, and a side: what tells these two apart is a fact alone.
    left, right = encoder.prepare(["Xyz effusion on the left.", "Xyz effusion on the right."])
    known = [term("left"), term("right"), term("the left"), term("the right")]
    pair = [report[~torch.isin(report, torch.tensor(known))] for report in (left, right)]
    one, other = features_of(encoder, pair)
    assert (one - other).norm() > 0.1


def test_an_empty_report_and_one_alone_have_features(reports):
    encoder = LatentSemanticEncoder(width=16, vocabulary_size=100)
    encoder.observe_reports(encoder.prepare(reports))
    prepared = encoder.prepare(["", reports[0]])
    together, alone = features_of(encoder, prepared), features_of(encoder, prepared[1:])
    assert together.isfinite().all()
    torch.testing.assert_close(together[1], alone[0])


def test_fewer_reports_than_directions_leave_the_rest_empty(reports):
    encoder = LatentSemanticEncoder(width=64, vocabulary_size=100)
    prepared = encoder.prepare(reports[:10])
    encoder.observe_reports(prepared)
    assert np.linalg.matrix_rank(features_of(encoder, prepared).numpy()) <= 9


def test_what_it_has_learned_comes_back_with_its_weights(reports):
    encoder, other = (LatentSemanticEncoder(width=16, vocabulary_size=100) for _ in range(2))
    prepared = encoder.prepare(reports)
    encoder.observe_reports(prepared)
    other.load_state_dict(encoder.state_dict())
    torch.testing.assert_close(features_of(other, prepared), features_of(encoder, prepared))


def test_terms_are_numbers_below_facts():
    assert 0 < term("effusion") < FACT

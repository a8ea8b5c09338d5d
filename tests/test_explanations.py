"""Explanations: Grad-CAM, word importance, z in the plane, reports that disagree with their picture."""

import importlib
import math
import warnings

import numpy as np
import pyro.distributions as dist
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from scipy.special import logit
from sklearn.neighbors import NearestNeighbors
from torch import Tensor, nn
from torch.distributions import kl_divergence

from tests.conftest import CORNERS, TinyCorpus
from tests.test_elbo import Pixels, make_batch, make_vkd
from tests.test_encoders import VOCABULARY, language_encoder, padded, write_bert
from vkd_pyro.distributions import (
    MLP,
    BernoulliLikelihood,
    DiagonalNormal,
    Distribution,
    Family,
    Flow,
    Head,
    NormalMixture,
)
from vkd_pyro.encoders.image import ConvEncoder, SmallResNetEncoder, TorchvisionEncoder
from vkd_pyro.encoders.report import ReportEncoder, WordEncoder
from vkd_pyro.explanations.images import cells, grad_cam, labelled_overlay, last_convolution, overlay
from vkd_pyro.explanations.latent import embed
from vkd_pyro.explanations.mismatch import Mismatch, mismatch, mismatch_auroc
from vkd_pyro.explanations.reports import WordImportance, attention, integrated_gradients
from vkd_pyro.guide import Guide
from vkd_pyro.model import ImageClassifier, Model
from vkd_pyro.utils.errors import UserError

NAN = float("nan")

# ------------------------------------------------------------------------------------------ Grad-CAM


class Bits(Family):
    """z ~ Bernoulli(sigmoid(features)), which has no `rsample`."""

    def forward(self, features: Tensor) -> Distribution:
        return dist.Bernoulli(logits=features[:, :2]).to_event(1)


def make_model(prior: Family | None = None, sees_features: bool = True) -> Model:
    torch.manual_seed(0)
    encoder = ConvEncoder((4, 8))
    prior = prior or DiagonalNormal(8, 2, MLP((7,), dropout=0.0))
    return Model(encoder, prior, BernoulliLikelihood(2, 3, 8 if sees_features else 0, Head(6))).eval()


@pytest.fixture(scope="module")
def pictures():
    return torch.rand(5, 1, 16, 16, generator=torch.Generator().manual_seed(0))


def as_map(cam: Tensor, size: int = 16) -> Tensor:
    """What is done with a map of a layer: float [B, rows, columns] -> [B, size, size]."""
    cam = nn.functional.interpolate(cam.relu()[:, None], (size, size), mode="bilinear")[:, 0]
    return cam / cam.amax((1, 2), keepdim=True)


def test_it_is_the_class_activation_map_of_a_linear_head_on_a_mean(pictures):
    torch.manual_seed(1)
    classifier = ImageClassifier(ConvEncoder((4, 8)), 3).eval()
    channels = classifier.image_encoder.network[:-2]((pictures - 0.5) / 0.25)
    closed_form = torch.einsum("c,bchw->bhw", classifier.head.weight[1], channels)
    assert (closed_form.relu().amax((1, 2)) > 0).all()
    torch.testing.assert_close(grad_cam(classifier, pictures, 1), as_map(closed_form), atol=1e-4, rtol=1e-3)


def test_the_gradient_goes_through_z(pictures):
    model, picture = make_model(), pictures[:1]
    channels = model.image_encoder.network[:-2]((picture - 0.5) / 0.25).detach().requires_grad_()
    features = channels.mean((2, 3))
    torch.manual_seed(3)
    z = model.prior(features).expand((6, 1)).rsample()
    log_odds = model.likelihood.logits(z, features).mean(0)[:, 2]
    (gradient,) = torch.autograd.grad(log_odds.sum(), channels)
    expected = as_map((gradient.mean((2, 3), keepdim=True) * channels).sum(1).detach())
    found = grad_cam(model, picture, 2, num_samples=6, seed=3)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-3)
    features_alone = model.likelihood.logits(z.detach(), features).mean(0)[:, 2]
    (gradient,) = torch.autograd.grad(features_alone.sum(), channels)
    fixed = as_map((gradient.mean((2, 3), keepdim=True) * channels).sum(1).detach())
    assert not torch.allclose(found, fixed, atol=1e-2)


@pytest.mark.parametrize("prior", [DiagonalNormal, Flow, NormalMixture], ids=lambda family: family.__name__)
def test_the_map_of_an_image_does_not_depend_on_the_others(prior, pictures):
    model = make_model(prior(8, 2, MLP((7,))))
    together = grad_cam(model, pictures, (2, 0))
    assert together.shape == (5, 2, 16, 16)
    torch.testing.assert_close(grad_cam(model, pictures[3:], 2), together[3:, 0], atol=1e-4, rtol=1e-3)
    assert not torch.equal(grad_cam(model, pictures, 2, num_samples=1, seed=1), together[:, 0])
    assert (together >= 0).all()
    largest = together.amax((2, 3))
    assert ((largest == 0) | (largest == 1)).all()
    assert (largest == 1).any()


def test_nothing_to_see_is_a_map_of_zeros(pictures):
    assert grad_cam(make_model(Bits(), sees_features=False), pictures, 0).count_nonzero() == 0
    assert grad_cam(make_model(Bits()), pictures, (0, 1, 2)).count_nonzero() > 0
    sure = make_model()
    nn.init.constant_(sure.likelihood.network[-1].bias, 50.0)  # p is 1 in every digit
    assert grad_cam(sure, pictures, 0).count_nonzero() == 0


def test_the_model_and_the_generator_are_left_as_they_were(pictures):
    model = make_model()
    state = torch.get_rng_state()
    with torch.no_grad():
        grad_cam(model, pictures, 0)
        assert not torch.is_grad_enabled()
    assert torch.equal(torch.get_rng_state(), state)
    assert all(parameter.grad is None and parameter.requires_grad for parameter in model.parameters())
    assert not any(module.training or module._forward_hooks for module in model.modules())
    assert not pictures.requires_grad


def test_frozen_encoders_and_layers_of_choice_are_explained(pictures):
    model = make_model()
    expected = grad_cam(model, pictures, 0)
    torch.testing.assert_close(grad_cam(model, pictures, 0, layer=model.image_encoder.network[5]), expected)
    assert not torch.equal(grad_cam(model, pictures, 0, layer=model.image_encoder.network[2]), expected)
    torch.testing.assert_close(grad_cam(model.requires_grad_(False), pictures, 0), expected)


@pytest.mark.parametrize(
    ("make", "layer"),
    [
        (lambda: ConvEncoder((4, 8)), "network.5"),
        (lambda: SmallResNetEncoder((4, 8), blocks=2), "network.7"),
        (lambda: TorchvisionEncoder("densenet121"), "network.features"),
        (lambda: TorchvisionEncoder("resnet18"), "network.layer4"),
        (lambda: TorchvisionEncoder("efficientnet_b0"), "network.features"),
        (lambda: TorchvisionEncoder("convnext_tiny"), "network.features"),
    ],
    ids=["conv", "small_resnet", "densenet121", "resnet18", "efficientnet_b0", "convnext_tiny"],
)
def test_the_last_convolution_is_found_and_explained(make, layer):
    encoder = make().eval()
    picture = torch.rand(1, 1, 64, 64)
    assert last_convolution(encoder, picture) is encoder.get_submodule(layer)
    assert not any(module._forward_hooks for module in encoder.modules())
    cam = grad_cam(ImageClassifier(encoder, 2).eval(), picture, (0, 1))
    assert cam.shape == (1, 2, 64, 64)
    assert cam.max() == 1


def test_without_an_image_224_pixels_are_taken_for_granted():
    encoder = TorchvisionEncoder("resnet18").eval()
    assert last_convolution(encoder) is encoder.network.layer4
    assert last_convolution(encoder, torch.zeros(1, 1, 32, 32)) is encoder.network.layer3  # layer4 has a single place


def test_an_encoder_without_places_is_refused():
    with torch.device("meta"):
        transformer = TorchvisionEncoder("vit_b_16").eval()
    with pytest.raises(UserError, match=r"vit_b_16 has no convolutional layer before its features, .* densenet121"):
        last_convolution(transformer)
    with pytest.raises(UserError, match="image_encoder: Pixels has no convolutional layer"):
        last_convolution(Pixels().eval(), torch.zeros(1, 1, 16, 16))


def test_a_trained_model_looks_at_the_square():
    studies = TinyCorpus(300).studies()
    images = torch.tensor(np.stack([study.images[0] for study in studies])).unsqueeze(1) / 255
    labels = torch.tensor(np.stack([study.labels for study in studies]))
    torch.manual_seed(0)
    model = Model(
        ConvEncoder((16, 32)), DiagonalNormal(32, 4, MLP((16,), 0.0)), BernoulliLikelihood(4, 3, 32, Head(32, 0.0))
    )
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(40):
        features = model.image_encoder(images)
        loss = -model.likelihood(model.prior(features).rsample(), features).log_prob(labels).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    cams = grad_cam(model.eval(), images[:100], (0, 1, 2))
    for finding, (row, column) in enumerate(CORNERS.values()):
        cam = cams[labels[:100, finding] == 1, finding]
        inside = cam[:, row : row + 10, column : column + 10].sum() / cam.sum()
        assert inside > 3 * (10 / 32) ** 2, "three times what a map that is the same everywhere has"


def test_the_overlay_colours_what_the_map_says_and_nothing_else():
    image = np.full((4, 6), 100, np.uint8)
    cam = np.zeros((4, 6))
    cam[1, 2], cam[2, 2] = 0.5, 1.0
    shown = overlay(image, cam)
    assert (shown.shape, shown.dtype) == ((4, 6, 3), np.uint8)
    assert (shown[cam == 0] == 100).all()
    end_of_inferno = np.array([252, 255, 164])
    assert shown[2, 2] == pytest.approx(0.4 * 100 + 0.6 * end_of_inferno, abs=1)
    assert shown[1, 2, 0] > 100 > shown[1, 2, 2]
    assert (overlay(image / 255, cam) == shown).all()
    with pytest.raises(UserError, match=r"overlay: found an image \(4, 6\) and a map \(2, 2\)"):
        overlay(image, cam[:2, :2])


def texts(figure):
    return [text.get_text() for text in figure.findobj(lambda artist: hasattr(artist, "get_text")) if text.get_text()]


def drawn(figure):
    """Its pixels, uint8 [height, width, 3], on white."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3]


def test_a_labelled_overlay_says_what_it_shows_and_shows_it():
    image, cam = np.full((600, 400), 100, np.uint8), np.zeros((600, 400))
    cam[200:300, 100:200] = np.linspace(0, 1, 100)
    figure = labelled_overlay(image, cam, "Cost in $x$ and $y$", "p = 0.416: yes (threshold 0.12)", "7 x 7 cells")
    said = ["Cost in $x$ and $y$", "p = 0.416: yes (threshold 0.12)", "Grad-CAM of 7 x 7 cells", "0", "0.5", "1"]
    assert set(said) <= set(texts(figure))
    picture, bar = figure.axes
    left, bottom, right, top = np.rint(picture.get_window_extent().extents).astype(int)
    pixels = drawn(figure)
    height = len(pixels)
    np.testing.assert_array_equal(pixels[height - top : height - bottom, left:right], overlay(image, cam))
    colours = bar.images[0].get_array()
    assert (colours[0] == 128).all()  # no colour at 0
    np.testing.assert_array_equal(colours[-1], overlay(np.full((1, 1), 0.5), np.ones((1, 1)))[0])


def test_an_empty_map_says_that_nothing_speaks_for_it():
    figure = labelled_overlay(
        np.full((36, 40), 7, np.uint8), np.zeros((36, 40)), "Mass", "p = 0.016: no", "4 x 4 cells"
    )
    assert "Grad-CAM of 4 x 4 cells: nothing speaks for it" in texts(figure)
    columns, rows = np.rint(figure.axes[0].get_window_extent().size)
    assert (columns, rows) == (40 * 13, 36 * 13)  # enlarged to 512 pixels at least


@pytest.mark.parametrize(("size", "expected"), [(32, (8, 8)), (64, (16, 16))])
def test_cells_are_the_places_of_the_last_convolution(size, expected):
    encoder = ConvEncoder((4, 8)).eval()
    assert cells(encoder, torch.zeros(2, 1, size, size)) == expected
    assert not any(module._forward_hooks for module in encoder.modules())


# ----------------------------------------------------------------------------------- words of reports

REPORT = "No Pneumothorax,\n large heart"


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    return write_bert(tmp_path_factory.mktemp("bert"), seed=0)


def make_guide(encoder: ReportEncoder, posterior: type[DiagonalNormal] | type[Flow] = DiagonalNormal) -> Guide:
    torch.manual_seed(0)
    width = encoder.features_dim
    return Guide(encoder, posterior(width, 4, MLP((16,))), BernoulliLikelihood(4, 3, head=Head(16))).eval()


def log_odds_of(guide: Guide, tokens: Tensor, mask: Tensor) -> list[float]:
    with torch.no_grad():
        z = guide.posterior(guide.report_encoder(tokens, mask)).mean
        return logit(guide.auxiliary.probabilities(z)[0].double().numpy()).tolist()


def test_attention_is_that_of_the_first_token(bert):
    encoder = language_encoder(bert, cache=False)
    nn.init.normal_(encoder.block.attention.in_proj_weight, std=0.5)
    nn.init.normal_(encoder.block.attention.in_proj_bias, std=0.5)
    found = attention(encoder, REPORT)
    ids, mask = padded(encoder.prepare([REPORT]))
    embeddings, layer = encoder.embed(ids, mask)[0], encoder.block.attention
    query, key, _ = (embeddings @ layer.in_proj_weight.T + layer.in_proj_bias).unflatten(-1, (3, 2, 8)).unbind(1)
    weights = (torch.einsum("hd,thd->ht", query[0], key) / 8**0.5).softmax(-1).mean(0).detach().numpy()
    assert found.words == ("No", "Pneumothorax", ",", "large", "heart")
    pieces = weights[1:-1]  # without [CLS] and [SEP]: no, pneumo, ##thorax, the comma, large, heart
    assert found.values == pytest.approx([pieces[0], pieces[1] + pieces[2], *pieces[3:]], rel=1e-4)
    assert 0 < found.values.sum() < 1


def test_attention_is_what_the_block_computes_with(bert):
    encoder = language_encoder(bert, cache=False)
    embeddings, mask = torch.randn(1, 7, 16), torch.ones(1, 7, dtype=torch.bool)
    theirs, _ = encoder.block.attention(embeddings[:, :1], embeddings, embeddings, need_weights=True)
    torch.testing.assert_close(encoder.block._attend(embeddings, mask), theirs)


@pytest.mark.parametrize("posterior", [DiagonalNormal, Flow])
@pytest.mark.parametrize("pooling", ["block", "mean"])
@pytest.mark.parametrize("cache", [True, False])
def test_gradients_of_a_language_model_add_up(cache, pooling, posterior, bert):
    guide = make_guide(language_encoder(bert, cache=cache, pooling=pooling), posterior)
    found = integrated_gradients(guide, REPORT, 1)
    assert found.words == ("No", "Pneumothorax", ",", "large", "heart")
    tokens = torch.tensor([[2, 5, 10, 11, 1, 9, 8, 3], [2, 0, 0, 0, 0, 0, 0, 3]])
    assert [VOCABULARY[token] for token in tokens[0, 1:4]] == ["no", "pneumo", "##thorax"]
    whole, blank = (log_odds_of(guide, row[None], row[None] >= 0)[1] for row in tokens)
    assert abs(whole - blank) > 1e-3
    assert found.values.sum() == pytest.approx(whole - blank, rel=1e-2)


def test_gradients_of_words_add_up_to_what_the_report_says_beyond_a_blank_one():
    torch.manual_seed(0)
    guide = make_guide(WordEncoder(50, 8))
    found = integrated_gradients(guide, "No EFFUSION. Clear lungs", 2, num_steps=500)
    assert found.words == ("no", "effusion", ".", "clear", "lungs")
    whole, blank = (
        log_odds_of(guide, *padded(guide.report_encoder.prepare([report])))[2] for report in (" ".join(found.words), "")
    )
    assert abs(whole - blank) > 1e-3
    assert found.values.sum() == pytest.approx(whole - blank, rel=1e-2)


def test_the_words_are_those_that_the_word_encoder_reads():
    encoder = WordEncoder(2**20, 8, max_tokens=5)
    words = integrated_gradients(make_guide(encoder), "Heart-size: 3.5 cm, UNCHANGED.", 0).words
    assert words == ("heart", "size", "3", ".", "5")
    rows = encoder.prepare(["Heart-size: 3.5 cm, UNCHANGED."])[0].tolist()
    assert rows[1:6] == [encoder.prepare([word])[0][1].item() for word in words]


def test_a_pair_is_shared_by_its_words():
    encoder = WordEncoder(2**20, 8).eval()
    guide = make_guide(encoder)
    row, *rows = encoder.prepare(["no effusion"])[0].tolist()
    with torch.no_grad():
        # the words say nothing, the pair does
        encoder.embeddings.weight[rows[:2]] = encoder.embeddings.weight[row].clone()
    found = integrated_gradients(guide, "no effusion", 0).values
    assert found[0] == pytest.approx(found[1])
    assert abs(found[0]) > 1e-4


def test_blank_and_long_reports(bert):
    short = language_encoder(bert, max_tokens=5, cache=False)
    assert attention(short, REPORT).words == ("No", "Pneumothorax")
    assert integrated_gradients(make_guide(short), REPORT, 0).words == ("No", "Pneumothorax")
    for encoder in (short, WordEncoder(50, 8)):
        blank = integrated_gradients(make_guide(encoder), " \n", 0)
        assert (blank.words, blank.values.shape) == ((), (0,))


def test_the_guide_and_the_generator_are_left_as_they_were(bert):
    guide = make_guide(language_encoder(bert))
    state = torch.get_rng_state()
    integrated_gradients(guide, REPORT, 0)
    attention(guide.report_encoder, REPORT)
    assert torch.equal(torch.get_rng_state(), state)
    modules = [*guide.modules(), *guide.report_encoder._frozen[0].modules()]
    assert not any(module.training or module._forward_hooks or module._forward_pre_hooks for module in modules)
    assert all(parameter.grad is None for module in modules for parameter in module.parameters())


def test_words_are_not_shown_by_accident():
    assert repr(WordImportance(("large", "heart"), np.zeros(2))) == "WordImportance(2 words)"


def test_encoders_without_attention_are_refused(bert):
    with pytest.raises(UserError, match="attention: WordEncoder has none, expected a LanguageModelEncoder"):
        attention(WordEncoder(50, 8), REPORT)
    with pytest.raises(UserError, match="LanguageModelEncoder with pooling 'mean' has none"):
        attention(language_encoder(bert, pooling="mean"), REPORT)


def test_encoders_of_unknown_words_are_refused():
    class Other(ReportEncoder):
        features_dim = 8

        def prepare(self, reports):
            raise NotImplementedError

        def forward(self, report, mask):
            raise NotImplementedError

    with pytest.raises(UserError, match="the words of Other are not known, expected a LanguageModelEncoder or a Word"):
        integrated_gradients(make_guide(Other()), REPORT, 0)


# --------------------------------------------------------------------------------------- the plane of z


def groups(size: int, dim: int) -> tuple[np.ndarray, np.ndarray]:
    """Three groups far apart, and which is whose."""
    generator = np.random.default_rng(0)
    group = np.arange(size) % 3
    return generator.normal(size=(size, dim)) + 20 * generator.normal(size=(3, dim))[group], group


@pytest.mark.parametrize("dim", [2, 80])
def test_groups_in_z_are_groups_in_the_plane(dim):
    locs, group = groups(90, dim)
    locs[[4, 7]] = NAN
    places = embed(locs, perplexity=10)
    assert places.shape == (90, 2)
    known = ~np.isnan(places).any(axis=1)
    assert np.flatnonzero(~known).tolist() == [4, 7]
    neighbours = NearestNeighbors(n_neighbors=5).fit(places[known]).kneighbors(return_distance=False)
    assert (group[known][neighbours] == group[known][:, None]).mean() == 1
    assert np.array_equal(embed(locs, perplexity=10), places, equal_nan=True)


def test_few_studies_have_fewer_neighbours_and_are_told_so():
    locs, _ = groups(10, 3)
    with pytest.warns(UserWarning, match="perplexity 3 in place of 30: 10 studies"):
        assert np.isfinite(embed(locs)).all()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.isfinite(embed(locs[:, :1], perplexity=3)).all()
    with pytest.raises(UserError, match="found 3 studies with z, expected at least 4"):
        embed(locs[:3])


# ------------------------------------------------------------------------------------------- mismatch


def toy_kl(num_studies: int, latent_dim: int, noise: float) -> tuple[np.ndarray, np.ndarray]:
    """s ~ Normal(0, I) is seen twice with the same noise, as picture and report; KL of own and of shuffled reports.

    Prior and posterior are the exact p(s | x) = Normal(x / (1 + noise), noise / (1 + noise)).
    """
    generator = torch.Generator().manual_seed(0)
    s, e, f = torch.randn(3, num_studies, latent_dim, generator=generator, dtype=torch.float64)
    image, report = s + noise**0.5 * e, s + noise**0.5 * f

    def seen(x: Tensor) -> Distribution:
        return dist.Normal(x / (1 + noise), (noise / (1 + noise)) ** 0.5).to_event(1)

    own, shuffled = (kl_divergence(seen(text), seen(image)).numpy() for text in (report, report.roll(1, 0)))
    return own, shuffled


def test_shuffled_reports_are_told_from_true_ones_as_well_as_can_be():
    # The KL grows with the squared distance of the means, normal with variance 2 noise, or 2 + 2 noise when shuffled;
    # of two normals of mean 0 that with the larger scale is the larger with probability 2 / pi arctan(their ratio).
    own, shuffled = toy_kl(20000, 1, noise=0.1)
    assert mismatch_auroc(own, shuffled) == pytest.approx(2 / math.pi * math.atan(11**0.5), abs=0.01)
    assert mismatch_auroc(*toy_kl(500, 8, noise=0.1)) > 0.99
    assert mismatch_auroc(own, own) == pytest.approx(0.5)


def test_studies_without_a_report_have_no_mismatch():
    assert mismatch_auroc([1.0, NAN, 2.0], [NAN, 3.0, 1.5]) == 0.75
    assert math.isnan(mismatch_auroc([NAN], [1.0]))


def test_the_score_finds_an_own_image_that_the_kl_alone_does_not():
    # Two kinds of report: common ones near every picture, rare ones far from all, but nearest to their own.
    common = Mismatch(("a", "b"), np.array([1.0, 9.0]), np.array([[1.5, 1.6], [11.0, 11.2]]))
    assert common.score.tolist() == pytest.approx([-0.55, -2.1])
    assert common.order.tolist() == [0, 1]
    assert common.auroc("own") == pytest.approx(0.75)  # 6 of 8 pairs
    assert common.auroc() == 1.0
    assert math.isnan(Mismatch(("a",), np.ones(1), np.empty((1, 0))).auroc())


def test_mismatch_is_the_kl_of_every_report_with_its_own_and_with_others_pictures():
    vkd, batch = make_vkd(), make_batch()
    found = mismatch(vkd, [batch[:4], batch[4:]], num_others=3, seed=1)
    prior = vkd.model.prior(vkd.model.image_encoder(batch.images))
    posterior = vkd.guide.posterior(vkd.guide.report_encoder(batch.report, batch.report_mask))
    expected = kl_divergence(posterior, prior).detach().numpy()[batch.has_report.numpy()]
    assert found.study_ids == tuple(
        name for name, there in zip(batch.study_ids, batch.has_report, strict=True) if there
    )
    np.testing.assert_allclose(found.own, expected, rtol=1e-4)
    assert found.others.shape == (len(expected), 3)
    pairs = (
        kl_divergence(
            posterior.expand((len(batch), len(batch))),
            prior.expand((len(batch), len(batch))).__class__(
                type(prior.base_dist)(prior.base_dist.loc[:, None], prior.base_dist.scale[:, None]), 1
            ),
        )
        .detach()
        .numpy()
    )  # [picture, report]
    for report, row in enumerate(found.others):
        assert all(np.isclose(pairs[:, report], value, rtol=1e-4).any() for value in row)


# ---------------------------------------------------------------------------------------------- extras


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: grad_cam(make_model(), torch.rand(1, 1, 16, 16), 0), "Grad-CAM needs captum"),
        (lambda: integrated_gradients(make_guide(WordEncoder(50, 8)), "", 0), "integrated gradients needs captum"),
        (lambda: embed(np.zeros((9, 2))), "t-SNE needs scikit-learn"),
    ],
    ids=["grad_cam", "integrated_gradients", "embed"],
)
def test_what_is_not_installed_is_named(call, message, monkeypatch):
    def missing(name: str) -> None:
        raise ImportError(name=name)

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(UserError, match=rf"{message}: pip install 'vkd-pyro\[explain\]'"):
        call()

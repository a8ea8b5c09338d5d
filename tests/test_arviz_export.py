"""Samples for ArviZ: the same numbers in memory and from a file, in both of its interfaces."""

import stat
import warnings

import h5netcdf
import matplotlib.pyplot
import numpy as np
import pytest
import torch
import xarray

from tests.conftest import TinyCorpus
from vkd_pyro import VKD, StudyData
from vkd_pyro.data.loading import Loading
from vkd_pyro.data.selection import Selection
from vkd_pyro.encoders.image import ConvEncoder
from vkd_pyro.encoders.report import WordEncoder
from vkd_pyro.evaluation.arviz_export import SampleWriter
from vkd_pyro.prediction.prediction import Prediction
from vkd_pyro.prediction.predictive import predict
from vkd_pyro.reporting.write import save_samples
from vkd_pyro.utils.errors import UserError

with warnings.catch_warnings():
    warnings.simplefilter("ignore", FutureWarning)  # 0.2x announces 1.x whenever it is imported
    import arviz

FINDINGS = ("Edema", "Pleural Effusion", "No Finding")
RANDOM = np.random.default_rng(0)
SAMPLES = RANDOM.random((2, 5, 7, 3), dtype=np.float32)
Z = RANDOM.standard_normal((2, 5, 7, 4), dtype=np.float32)
LABELS = np.array([[1, 0, np.nan]] * 7)
STUDY_IDS = [f"study-é-{number}" for number in range(7)]


def write(path, labels=LABELS, sizes=(3, 1, 0, 3)):
    starts = np.cumsum((0, *sizes))
    with SampleWriter(path, FINDINGS, 2, 5) as writer:
        for rows in map(slice, starts[:-1], starts[1:]):
            writer.append(SAMPLES[:, :, rows], STUDY_IDS[rows], None if labels is None else labels[rows], Z[:, :, rows])


def dataset(data, group="posterior_predictive"):
    """Of a group, in either interface."""
    found = data[group]
    return (found.to_dataset() if isinstance(found, xarray.DataTree) else found).load()


def prediction():
    return Prediction(SAMPLES, FINDINGS, ("z", "ensemble"), Z)


GROUPS = ("posterior", "posterior_predictive", "observed_data", "log_likelihood")


def test_without_labels_there_is_nothing_observed(tmp_path):
    write(tmp_path / "samples.nc", labels=None)
    with xarray.open_datatree(tmp_path / "samples.nc") as tree:
        assert list(tree.children) == ["posterior", "posterior_predictive"]


@pytest.mark.skipif(not arviz.__version__.startswith("0."), reason="of ArviZ 0.2x")
def test_equal_to_what_arviz_makes():
    ours = prediction().to_inference_data(LABELS, STUDY_IDS)
    dims = {"probability": ["study", "finding"], "z": ["study", "latent"], "y": ["study", "finding"]}
    theirs = arviz.from_dict(
        **{group: {name: array.values for name, array in dataset(ours, group).items()} for group in GROUPS},
        coords={"study": STUDY_IDS, "finding": list(FINDINGS)},
        dims=dims,
    )
    assert isinstance(ours, arviz.InferenceData)
    for group in GROUPS:
        xarray.testing.assert_equal(dataset(ours, group), dataset(theirs, group))


def test_the_groups_hold_what_they_say():
    data = prediction().to_inference_data(LABELS, STUDY_IDS)
    np.testing.assert_array_equal(dataset(data, "posterior")["probability"], SAMPLES)
    np.testing.assert_array_equal(dataset(data, "posterior")["z"], Z)
    assert dataset(data, "posterior")["z"].dims == ("chain", "draw", "study", "latent")
    np.testing.assert_array_equal(dataset(data, "observed_data")["y"], LABELS)
    drawn, log_p = (dataset(data, group)["y"] for group in ("posterior_predictive", "log_likelihood"))
    assert drawn.dims == log_p.dims == ("chain", "draw", "study", "finding")
    np.testing.assert_allclose(log_p[..., 0], np.log(SAMPLES[..., 0]), rtol=1e-5)  # all present
    np.testing.assert_allclose(log_p[..., 1], np.log1p(-SAMPLES[..., 1]), rtol=1e-5)  # all absent
    assert (log_p[..., 2] == 0).all()  # all unknown
    certain = Prediction(np.stack([np.zeros((9, 4, 1)), np.ones((9, 4, 1))]).astype(np.float32), ("a",))
    assert dataset(certain.to_inference_data())["y"].mean(["draw", "study", "finding"]).values.tolist() == [0, 1]
    surprised = dataset(certain.to_inference_data(np.ones((4, 1))), "log_likelihood")["y"]
    np.testing.assert_allclose(surprised[0], np.log(2.0**-23), rtol=1e-6)  # what float32 can tell from 0


def test_labels_are_drawn_as_often_as_their_probability_says_and_each_study_on_its_own():
    p = np.float32(0.3)
    drawn = dataset(Prediction(np.full((1, 2000, 2, 1), p), ("a",)).to_inference_data())["y"].values[0, :, :, 0]
    assert drawn.mean(0) == pytest.approx([0.3, 0.3], abs=4 * np.sqrt(0.21 / 2000))
    assert abs(np.corrcoef(drawn.T)[0, 1]) < 4 / np.sqrt(2000)


def test_without_z_there_is_none_and_wrong_shapes_are_refused():
    without = Prediction(SAMPLES, FINDINGS)
    assert list(dataset(without.to_inference_data(), "posterior")) == ["probability"]
    with pytest.raises(UserError, match=r"labels: found shape \[3, 7\], expected \[7, 3\]: images, findings"):
        without.to_inference_data(LABELS.T)
    with pytest.raises(UserError, match="studies: found 2 names, expected 7"):
        without.to_inference_data(studies=STUDY_IDS[:2])


@pytest.mark.parametrize("sizes", [(7,), (3, 1, 0, 3), (0, 7)])
def test_a_file_gives_what_memory_gives(tmp_path, sizes):
    path = tmp_path / "samples.nc"
    write(path, sizes=sizes)
    stored, memory = arviz.from_netcdf(path), prediction().to_inference_data(LABELS, STUDY_IDS)
    with xarray.open_datatree(path) as tree:
        assert tuple(tree.children) == GROUPS
        for group in GROUPS:
            xarray.testing.assert_equal(dataset(stored, group), dataset(memory, group))
            xarray.testing.assert_equal(dataset(tree, group), dataset(memory, group))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_is_written_as_samples_come(tmp_path):
    with SampleWriter(tmp_path / "samples.nc", FINDINGS, 2, 5) as writer:
        for start in (0, 3):
            writer.append(SAMPLES[:, :, start : start + 3], STUDY_IDS[start : start + 3])
        assert writer.num_studies == 6
        assert not (tmp_path / "samples.nc").exists()
    with h5netcdf.File(tmp_path / "samples.nc") as file:
        assert file["posterior"].dimensions["study"].isunlimited()


def test_an_error_leaves_no_file(tmp_path):
    with (
        pytest.raises(UserError, match="found shape"),
        SampleWriter(tmp_path / "samples.nc", FINDINGS, 2, 5) as writer,
    ):
        writer.append(SAMPLES[0], STUDY_IDS)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("samples", "labels", "match"),
    [
        (SAMPLES[0], None, r"samples: found shape \[5, 7, 3\], expected \[2, 5, 7, 3\]"),
        (SAMPLES[..., :2], None, r"samples: found shape \[2, 5, 7, 2\], expected \[2, 5, 7, 3\]"),
        (SAMPLES[:, :, 1:], None, r"expected \[2, 5, 7, 3\]: networks, draws, studies, findings"),
        (SAMPLES, LABELS.T, r"labels: found shape \[3, 7\], expected \[7, 3\]"),
    ],
)
def test_shapes_are_checked(samples, labels, match, tmp_path):
    with SampleWriter(tmp_path / "samples.nc", FINDINGS, 2, 5) as writer, pytest.raises(UserError, match=match):
        writer.append(samples, STUDY_IDS, labels)


def test_shapes_of_a_batch_are_checked(tmp_path):
    with SampleWriter(tmp_path / "samples.nc", FINDINGS, 3, 5) as writer:
        with pytest.raises(UserError, match=r"found shape \[2, 5, 7, 3\], expected \[3, 5, 7, 3\]"):
            writer.append(SAMPLES, STUDY_IDS)
        assert writer.num_studies == 0


@pytest.mark.parametrize("first", [None, LABELS])
def test_labels_for_every_batch_or_for_none(tmp_path, first):
    found = "some after batches with none" if first is None else "none after batches with some"
    with SampleWriter(tmp_path / "samples.nc", FINDINGS, 2, 5) as writer:
        writer.append(SAMPLES, STUDY_IDS, first)
        with pytest.raises(UserError, match=f"labels: found {found}"):
            writer.append(SAMPLES, STUDY_IDS, LABELS if first is None else None)


@pytest.mark.parametrize("given", [None, Z])
def test_z_for_every_batch_or_for_none(tmp_path, given):
    found = "some after batches with none" if given is None else "none after batches with some"
    with SampleWriter(tmp_path / "samples.nc", FINDINGS, 2, 5) as writer:
        with pytest.raises(UserError, match=r"z: found shape \[2, 5, 6, 4\], expected \[2, 5, 7, D\]"):
            writer.append(SAMPLES, STUDY_IDS, z=Z[:, :, 1:])
        writer.append(SAMPLES, STUDY_IDS, z=given)
        with pytest.raises(UserError, match=f"z: found {found}"):
            writer.append(SAMPLES, STUDY_IDS, z=Z if given is None else None)


@pytest.mark.skipif(not arviz.__version__.startswith("0."), reason="of ArviZ 0.2x")
# ArviZ 0.23 passes its aliases as matplotlib 3.11 no longer likes.
@pytest.mark.filterwarnings("ignore:Passing a dict or None as alias_mapping:matplotlib.MatplotlibDeprecationWarning")
@pytest.mark.parametrize("kind", ["kde", "cumulative", "scatter"])
def test_plot_ppc_draws_a_file(tmp_path, kind):
    matplotlib.use("Agg")
    write(tmp_path / "samples.nc")
    axes = arviz.plot_ppc(arviz.from_netcdf(tmp_path / "samples.nc"), kind=kind, random_seed=0)
    assert axes.get_xlabel() == "y"
    assert len(axes.lines) + len(axes.collections) > 2
    matplotlib.pyplot.close("all")


@pytest.mark.skipif(not arviz.__version__.startswith("0."), reason="of ArviZ 0.2x")
# Five or fifty independent draws are few for a Pareto fit, and ArviZ says so.
@pytest.mark.filterwarnings("ignore:Estimated shape parameter of Pareto:UserWarning")
def test_loo_reads_a_file_and_memory_alike_and_unknown_labels_add_nothing(tmp_path):
    write(tmp_path / "samples.nc")
    of_file, of_memory = (
        arviz.loo(data, pointwise=True)
        for data in (arviz.from_netcdf(tmp_path / "samples.nc"), prediction().to_inference_data(LABELS, STUDY_IDS))
    )
    assert of_file.elpd_loo == of_memory.elpd_loo
    assert of_file.loo_i.dims == ("study", "finding")
    assert of_file.loo_i.sel(finding="No Finding").values == pytest.approx(np.zeros(7), abs=1e-6)


def test_loo_of_draws_that_are_alike_is_the_log_likelihood():
    """elpd = sum of log p(y): 6 log 0.8 of the present and 6 log 0.4 of the absent, whatever the weights."""
    p = np.broadcast_to(np.float32([0.8, 0.6]), (1, 100, 6, 2))
    p = p + np.linspace(-1e-5, 1e-5, 100, dtype=np.float32)[None, :, None, None]  # draws all alike have no tail
    found = arviz.loo(Prediction(p, ("a", "b")).to_inference_data([[1, 0]] * 6))
    assert found.elpd_loo == pytest.approx(6 * np.log(0.8) + 6 * np.log(0.4), abs=1e-3)


@pytest.mark.skipif(not arviz.__version__.startswith("0."), reason="of ArviZ 0.2x")
def test_arviz_draws_it(tmp_path):
    matplotlib.use("Agg")
    write(tmp_path / "samples.nc")
    stored = dataset(arviz.from_netcdf(tmp_path / "samples.nc"), "posterior")
    few = stored[["probability"]].sel(study=STUDY_IDS[:2], finding=["Edema"])
    (axes,) = arviz.plot_forest(few, combined=True)
    shown = [label.get_text() for label in axes.get_yticklabels()]
    assert [label[label.index("[") :] for label in shown] == ["[study-é-1]", "[study-é-0]"]
    matplotlib.pyplot.close("all")


def test_a_split_is_written_as_its_network_predicts_it(tmp_path):
    data = StudyData(Selection(TinyCorpus(60), image_size=32), loading=Loading(batch_size=4))
    torch.manual_seed(0)
    method = VKD(data.findings, ConvEncoder((4, 8)), WordEncoder(32, 8, 16), latent_dim=4).eval()
    number = save_samples(method, data, "test", tmp_path / "samples.nc", 6, seed=3)
    studies = data.studies("test")
    images = torch.tensor(np.stack([study.images[0] for study in studies]))[:, None].float() / 255
    labels = np.stack([study.labels for study in studies])
    names = [str(study.study_id) for study in studies]
    said = predict(method.model, images, data.findings, 6, seed=3).to_inference_data(labels, names, seed=3)
    assert number == len(studies) > 4  # several batches
    stored = arviz.from_netcdf(tmp_path / "samples.nc")
    for group in ("posterior", "observed_data", "log_likelihood"):
        given = dataset(stored, group).reindex(study=names)
        xarray.testing.assert_allclose(given, dataset(said, group), atol=1e-5)


@pytest.mark.parametrize("label", [-1, 2, 0.5])
def test_labels_that_are_none_are_refused(label):
    with pytest.raises(UserError, match=f"labels: found {label:g}, expected 1, 0, or NaN where unknown"):
        Prediction(np.full((1, 2, 1, 1), 0.5), ("a",)).to_inference_data([[label]])

"""Samples for ArviZ: the same numbers in memory and from a file, in both of its interfaces."""

import stat
import warnings

import h5netcdf
import matplotlib.pyplot
import numpy as np
import pytest
import xarray

from vkd_pyro.evaluation.arviz_export import SampleWriter
from vkd_pyro.utils.errors import UserError

with warnings.catch_warnings():
    warnings.simplefilter("ignore", FutureWarning)  # 0.2x announces 1.x whenever it is imported
    import arviz

FINDINGS = ("Edema", "Pleural Effusion", "No Finding")
RANDOM = np.random.default_rng(0)
SAMPLES = RANDOM.random((2, 5, 7, 3), dtype=np.float32)
LABELS = np.array([[1, 0, np.nan]] * 7)
STUDY_IDS = [f"study-é-{number}" for number in range(7)]


def write(path, labels=LABELS, sizes=(3, 1, 0, 3)):
    starts = np.cumsum((0, *sizes))
    with SampleWriter(path, FINDINGS, 2, 5) as writer:
        for rows in map(slice, starts[:-1], starts[1:]):
            writer.append(SAMPLES[:, :, rows], STUDY_IDS[rows], None if labels is None else labels[rows])


def dataset(data, group="posterior_predictive"):
    """Of a group, in either interface."""
    found = data[group]
    return (found.to_dataset() if isinstance(found, xarray.DataTree) else found).load()


def in_memory(group):
    """What a file of all samples holds."""
    named = {"study": STUDY_IDS, "finding": list(FINDINGS)}
    if group == "observed_data":
        return xarray.Dataset({"label": (("study", "finding"), LABELS.astype(np.float32))}, named)
    numbers = {"chain": np.arange(2), "draw": np.arange(5)}
    return xarray.Dataset({"probability": (("chain", "draw", "study", "finding"), SAMPLES)}, numbers | named)


def test_without_labels_there_is_nothing_observed(tmp_path):
    write(tmp_path / "samples.nc", labels=None)
    with xarray.open_datatree(tmp_path / "samples.nc") as tree:
        assert list(tree.children) == ["posterior_predictive"]


@pytest.mark.skipif(not arviz.__version__.startswith("0."), reason="of ArviZ 0.2x")
def test_equal_to_what_arviz_makes():
    theirs = arviz.from_dict(
        posterior_predictive={"probability": SAMPLES},
        observed_data={"label": LABELS.astype(np.float32)},
        coords={"study": STUDY_IDS, "finding": list(FINDINGS)},
        dims={"probability": ["study", "finding"], "label": ["study", "finding"]},
    )
    for group in ("posterior_predictive", "observed_data"):
        xarray.testing.assert_equal(in_memory(group), dataset(theirs, group))


@pytest.mark.parametrize("sizes", [(7,), (3, 1, 0, 3), (0, 7)])
def test_a_file_gives_what_memory_gives(tmp_path, sizes):
    path = tmp_path / "samples.nc"
    write(path, sizes=sizes)
    stored = arviz.from_netcdf(path)
    with xarray.open_datatree(path) as tree:
        for group in ("posterior_predictive", "observed_data"):
            xarray.testing.assert_equal(dataset(stored, group), in_memory(group))
            xarray.testing.assert_equal(dataset(tree, group), in_memory(group))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_is_written_as_samples_come(tmp_path):
    with SampleWriter(tmp_path / "samples.nc", FINDINGS, 2, 5) as writer:
        for start in (0, 3):
            writer.append(SAMPLES[:, :, start : start + 3], STUDY_IDS[start : start + 3])
        assert writer.num_studies == 6
        assert not (tmp_path / "samples.nc").exists()
    with h5netcdf.File(tmp_path / "samples.nc") as file:
        assert file["posterior_predictive"].dimensions["study"].isunlimited()


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


@pytest.mark.skipif(not arviz.__version__.startswith("0."), reason="of ArviZ 0.2x")
def test_arviz_draws_it(tmp_path):
    matplotlib.use("Agg")
    write(tmp_path / "samples.nc")
    few = dataset(arviz.from_netcdf(tmp_path / "samples.nc")).sel(study=STUDY_IDS[:2], finding=["Edema"])
    (axes,) = arviz.plot_forest(few, combined=True)
    shown = [label.get_text() for label in axes.get_yticklabels()]
    assert [label[label.index("[") :] for label in shown] == ["[study-é-1]", "[study-é-0]"]
    matplotlib.pyplot.close("all")

"""Image files as a hospital has them: DICOM of all kinds, odd PNG and JPEG, and damaged files."""

import io
import logging
import struct
import sys
import warnings
import zipfile
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from vkd_pyro.data.images import raster
from vkd_pyro.data.images.dicom import pixels as dicom_pixels
from vkd_pyro.data.images.dicom.header import DicomHeader, is_dicom, mismatches, read_header
from vkd_pyro.data.images.dicom.pixels import read_dicom
from vkd_pyro.data.images.image_transform import MAX_PIXELS, ImageTransform, read_gray
from vkd_pyro.utils.errors import UserError

pydicom = pytest.importorskip("pydicom", minversion="3")
from pydicom import Dataset, Sequence  # noqa: E402  (once it is known to be there)
from pydicom.dataset import FileMetaDataset  # noqa: E402  (once it is known to be there)
from pydicom.encaps import encapsulate  # noqa: E402  (once it is known to be there)
from pydicom.uid import (  # noqa: E402  (once it is known to be there)
    MPEG2MPML,
    DeflatedExplicitVRLittleEndian,
    DigitalXRayImageStorageForPresentation,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    RLELossless,
)

PATIENT = "Doe^Jane"
RAMP = np.arange(16, dtype=np.uint16).reshape(2, 8)
GRAY = np.random.default_rng(0).integers(0, 256, (24, 20), dtype=np.uint8)


def dataset(pixels, syntax=ExplicitVRLittleEndian, stored=None, **tags):
    """A digital X-ray with the given pixels; a tag given as None is left out."""
    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = syntax
    made.SOPClassUID, made.SOPInstanceUID = DigitalXRayImageStorageForPresentation, "1.2.3"
    made.Modality, made.BodyPartExamined, made.ViewPosition = "DX", "CHEST", "PA"
    made.PatientName, made.PatientID = PATIENT, "4711"
    made.SamplesPerPixel, made.PhotometricInterpretation = 1, "MONOCHROME2"
    made.Rows, made.Columns = pixels.shape[:2]
    made.BitsAllocated = 8 * pixels.itemsize
    made.BitsStored = stored or made.BitsAllocated
    made.HighBit = made.BitsStored - 1
    made.PixelRepresentation = int(pixels.dtype.kind == "i")
    order = ">" if syntax == ExplicitVRBigEndian else "<"
    made.PixelData = pixels.astype(pixels.dtype.newbyteorder(order)).tobytes()
    made["PixelData"].VR = "OB" if pixels.itemsize == 1 else "OW"
    with warnings.catch_warnings(action="ignore"):  # pydicom warns of the wrong values written on purpose
        for tag, value in tags.items():
            if value is None:
                delattr(made, tag)
            else:
                setattr(made, tag, value)
    return made


def written(made, path):
    with warnings.catch_warnings(action="ignore"):
        made.save_as(path, enforce_file_format=True)
    return path


def write(path, pixels, **tags):
    return written(dataset(pixels, **tags), path)


def table(entries, first=0, bits=16, data=None):
    """A lookup table; entries as 16-bit numbers unless bytes are given."""
    made = Dataset()
    made.LUTDescriptor = [len(entries) % 65536, first, bits]
    made["LUTDescriptor"].VR = "SS" if first < 0 else "US"
    made.LUTData = np.asarray(entries, "<u2").tobytes() if data is None else data
    made["LUTData"].VR = "OW"
    return Sequence([made])


def read(path):
    return read_dicom(path, MAX_PIXELS)


def stretched(pixels):
    """From least to greatest as 0 to 255."""
    values = pixels.astype(float)
    return ((values - values.min()) / (values.max() - values.min()) * 255).round().astype(np.uint8)


# ------------------------------------------------------------------------------- DICOM: gray values


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian])
@pytest.mark.parametrize(
    ("pixels", "stored"),
    [(RAMP.astype(np.uint8), 8), (RAMP * 273, 12), (RAMP * 4369, 16), (RAMP.astype(np.int16) * 200 - 1000, 16)],
    ids=["8bit", "12bit", "16bit", "signed"],
)
def test_without_a_window_the_range_is_stretched(pixels, stored, syntax, tmp_path):
    gray = read(write(tmp_path / "a.dcm", pixels, stored=stored, syntax=syntax))
    assert (gray.dtype, gray.shape) == (np.uint8, pixels.shape)
    assert gray.tolist() == stretched(pixels).tolist() == (RAMP * 17).tolist()


def test_the_sign_of_twelve_stored_bits_is_extended(tmp_path):
    pixels = RAMP.astype(np.int16) * 200 - 1500
    path = write(tmp_path / "a.dcm", pixels & 0x0FFF, stored=12)
    assert read(path).tolist() == (RAMP * 17).tolist()


def test_monochrome1_is_inverted(tmp_path):
    path = write(tmp_path / "a.dcm", RAMP, PhotometricInterpretation="MONOCHROME1")
    assert read(path).tolist() == (255 - RAMP * 17).tolist()


@pytest.mark.parametrize("interpretation", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("tags", [{}, {"WindowCenter": 50, "WindowWidth": 100}])
def test_a_constant_image_stays_constant(interpretation, tags, tmp_path):
    pixels = np.full((3, 4), 70, np.uint16)
    gray = read(write(tmp_path / "a.dcm", pixels, PhotometricInterpretation=interpretation, **tags))
    assert len(np.unique(gray)) == 1


def test_a_negative_slope_inverts(tmp_path):
    path = write(tmp_path / "a.dcm", RAMP, RescaleSlope="-2.5", RescaleIntercept="10")
    assert read(path).tolist() == (255 - RAMP * 17).tolist()


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        # By the formulas of PS3.3 C.11.2.1, of the values 0, 2, ... 30.
        (None, lambda x: np.clip((x - 9.5) / 9 + 0.5, 0, 1)),
        ("LINEAR", lambda x: np.clip((x - 9.5) / 9 + 0.5, 0, 1)),
        ("LINEAR_EXACT", lambda x: np.clip((x - 10) / 10 + 0.5, 0, 1)),
        ("SIGMOID", lambda x: 1 / (1 + np.exp(-4 * (x - 10) / 10))),
    ],
)
def test_a_window_is_applied_after_the_rescale(function, expected, tmp_path):
    tags = {"VOILUTFunction": function} if function else {}
    path = write(tmp_path / "a.dcm", RAMP, RescaleSlope=2, RescaleIntercept=0, WindowCenter=10, WindowWidth=10, **tags)
    assert read(path).tolist() == (expected(RAMP * 2.0) * 255).round().tolist()


def test_a_window_agrees_with_pydicom(tmp_path):
    pixels = np.random.default_rng(1).integers(0, 4096, (30, 30), dtype=np.uint16)
    made = dataset(pixels, stored=12, WindowCenter=2000, WindowWidth=1500)
    theirs = pydicom.pixels.apply_windowing(pixels, made) / 4095 * 255
    assert np.abs(read(written(made, tmp_path / "a.dcm")) - theirs).max() <= 0.5 + 1e-9


def test_the_first_of_several_windows_is_used(tmp_path):
    one = write(tmp_path / "one.dcm", RAMP, WindowCenter=5, WindowWidth=8)
    two = write(tmp_path / "two.dcm", RAMP, WindowCenter=[5, 12], WindowWidth=[8, 3])
    assert read(one).tolist() == read(two).tolist()


def test_the_step_of_a_window_is_dark_up_to_its_middle(tmp_path):
    tags = {"RescaleSlope": "0.5", "RescaleIntercept": 0, "WindowCenter": 4, "WindowWidth": 2}
    path = write(tmp_path / "a.dcm", RAMP, **tags)  # of the values 0, 0.5, ... 7.5 those up to 3 are black
    assert read(path).ravel().tolist() == [0] * 7 + [128] + [255] * 8


def test_a_blank_window_is_none(tmp_path):
    path = write(tmp_path / "a.dcm", RAMP, WindowCenter="", WindowWidth="", RescaleSlope="", RescaleIntercept="")
    assert read(path).tolist() == (RAMP * 17).tolist()


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
def test_a_voi_table_goes_before_a_window(syntax, tmp_path):
    tags = {"WindowCenter": 3, "WindowWidth": 4, "syntax": syntax}
    path = write(tmp_path / "a.dcm", RAMP, VOILUTSequence=table(range(0, 65536, 4369)), **tags)
    assert read(path).tolist() == (RAMP * 17).tolist()


def test_values_beyond_a_table_get_its_ends(tmp_path):
    path = write(tmp_path / "a.dcm", RAMP, VOILUTSequence=table([0, 100, 255], first=4, bits=8))
    assert read(path).ravel().tolist() == [0] * 5 + [100] + [255] * 10


def test_a_table_may_begin_below_zero_and_hold_bytes(tmp_path):
    pixels = RAMP.astype(np.int16) - 8
    entries = bytes(range(0, 256, 17))
    path = write(tmp_path / "a.dcm", pixels, VOILUTSequence=table(entries, first=-8, bits=8, data=entries))
    assert read(path).tolist() == (RAMP * 17).tolist()


@pytest.mark.parametrize("packed", [False, True])
def test_a_table_of_eight_bits_may_have_many_entries(packed, tmp_path):
    entries = np.arange(4096) // 16
    made = table(entries, bits=8, data=entries.astype(np.uint8).tobytes() if packed else None)
    path = write(tmp_path / "a.dcm", RAMP * 273, stored=12, VOILUTSequence=made)
    assert read(path).tolist() == (RAMP * 17).tolist()


@pytest.mark.parametrize("bits", [8, 10, 12, 16])
def test_a_modality_table_has_entries_of_any_bits(bits, tmp_path):
    entries = np.arange(16) * ((2**bits - 1) // 15)
    path = write(tmp_path / "a.dcm", RAMP, ModalityLUTSequence=table(entries, bits=bits))
    assert read(path).tolist() == (RAMP * 17).tolist()


def test_a_voi_table_follows_a_rescale(tmp_path):
    tags = {"RescaleSlope": "0.5", "RescaleIntercept": "0.25", "VOILUTSequence": table(range(0, 256, 17), bits=8)}
    path = write(tmp_path / "a.dcm", RAMP, **tags)  # between two entries the lower one
    assert read(path).tolist() == (RAMP // 2 * 17).tolist()


def test_the_modality_table_goes_first(tmp_path):
    squares = table(np.arange(16) ** 2)
    path = write(tmp_path / "a.dcm", RAMP, ModalityLUTSequence=squares, WindowCenter=113, WindowWidth=226)
    assert read(path).tolist() == (np.clip((RAMP.astype(float) ** 2 - 112.5) / 225 + 0.5, 0, 1) * 255).round().tolist()


# ------------------------------------------------------------------------------ DICOM: compression


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.int16])
@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless])
def test_lossless_compression_changes_nothing(syntax, kind, tmp_path):
    pixels = np.tile(GRAY, (2, 3)).astype(kind) - (kind == np.int16) * kind(100)
    if syntax == JPEG2000Lossless:
        pytest.importorskip("openjpeg")
    made = dataset(pixels)
    made.compress(syntax)
    assert read(written(made, tmp_path / "a.dcm")).tolist() == stretched(pixels).tolist()


def lossless_jpeg(pixels):
    """A lossless JPEG of 16-bit pixels: differences to the left neighbour, each a 5-bit category and its bits."""
    values = pixels.astype(int)
    before = np.empty_like(values)
    before[:, 1:], before[1:, 0], before[0, 0] = values[:, :-1], values[:-1, 0], 1 << 15
    bits = ""
    for difference in (values - before).ravel():
        size = int(abs(difference)).bit_length()
        bits += f"{size:05b}"
        if size:
            bits += f"{difference if difference > 0 else difference + (1 << size) - 1:0{size}b}"
    bits += "1" * (-len(bits) % 8)
    scan = int(bits, 2).to_bytes(len(bits) // 8, "big").replace(b"\xff", b"\xff\x00")
    size = struct.pack(">BHHB", 16, *pixels.shape, 1) + b"\1\x11\0"
    codes = b"\0" + bytes([0, 0, 0, 0, 17]) + bytes(11) + bytes(range(17))
    parts = ((b"\xff\xc3", size), (b"\xff\xc4", codes), (b"\xff\xda", b"\1\1\0\1\0\0"))
    return b"\xff\xd8" + b"".join(m + struct.pack(">H", len(c) + 2) + c for m, c in parts) + scan + b"\xff\xd9"


def test_lossless_jpeg_is_read_as_it_was(tmp_path):
    pytest.importorskip("libjpeg")
    pixels = GRAY.astype(np.uint16) * 100 + 5
    made = dataset(pixels, syntax=JPEGLosslessSV1, PixelData=encapsulate([lossless_jpeg(pixels)]))
    assert read(written(made, tmp_path / "a.dcm")).tolist() == stretched(pixels).tolist()


def jpeg_dicom(frame, **tags):
    made = dataset(GRAY, WindowCenter=128, WindowWidth=256, **tags)
    made.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    made.PixelData = encapsulate([frame])
    made["PixelData"].is_undefined_length = True
    return made


def test_jpeg_compression_is_read(tmp_path):
    frame = encoded(Image.fromarray(GRAY), "JPEG", quality=100)
    gray = read(written(jpeg_dicom(frame), tmp_path / "a.dcm"))
    assert np.abs(gray.astype(int) - GRAY).max() <= 3


def test_a_compressed_image_larger_than_its_header_is_refused_before_decoding(tmp_path):
    frame = bytearray(encoded(Image.fromarray(GRAY), "JPEG"))
    size = frame.index(b"\xff\xc0") + 5
    frame[size : size + 4] = struct.pack(">HH", 65000, 65000)
    with pytest.raises(UserError, match=r"a.dcm: compressed image 65000 x 65000 pixels; expected 20 x 24 pixels"):
        read(written(jpeg_dicom(bytes(frame)), tmp_path / "a.dcm"))


@pytest.mark.parametrize(
    ("syntax", "package"), [(JPEG2000Lossless, "pylibjpeg-openjpeg"), (JPEGLosslessSV1, "pylibjpeg-libjpeg")]
)
def test_the_package_of_an_absent_decoder_is_named(syntax, package, tmp_path, monkeypatch):
    made = jpeg_dicom(b"\xff\xd8")
    made.file_meta.TransferSyntaxUID = syntax
    monkeypatch.setattr(pydicom.pixels.decoders.base.Decoder, "is_available", False)
    with pytest.raises(UserError, match=rf"a.dcm: compressed as JPEG .* pip install pylibjpeg {package}$"):
        read(written(made, tmp_path / "a.dcm"))


@pytest.mark.parametrize(
    ("syntax", "reason"), [(MPEG2MPML, "is not of a still image"), (DeflatedExplicitVRLittleEndian, "deflated")]
)
def test_transfer_syntaxes_of_no_use_are_refused(syntax, reason, tmp_path):
    made = jpeg_dicom(b"\xff\xd8") if syntax == MPEG2MPML else dataset(GRAY, syntax=syntax)
    made.file_meta.TransferSyntaxUID = syntax
    with pytest.raises(UserError, match=rf"a.dcm: .*{reason}"):
        read(written(made, tmp_path / "a.dcm"))


# ---------------------------------------------------------------------------------- DICOM: refused


@pytest.mark.parametrize(
    ("tags", "reason"),
    [
        ({"NumberOfFrames": 2}, "2 frames"),
        ({"PhotometricInterpretation": "RGB", "SamplesPerPixel": 3}, "RGB, no gray image"),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, "PALETTE COLOR, no gray image"),
        ({"Rows": 60000, "Columns": 60000}, "60000 x 60000 pixels, more than the limit of 40,000,000"),
        ({"Rows": 0}, "8 x 0 pixels"),
        ({"Rows": None}, "no DICOM tag Rows"),
        ({"BitsStored": None, "PixelRepresentation": None}, "no DICOM tag BitsStored, PixelRepresentation"),
        ({"PixelData": None}, "no DICOM tag PixelData"),
        ({"BitsStored": 17}, "BitsAllocated 16, BitsStored 17"),
        ({"BitsStored": 0}, "BitsAllocated 16, BitsStored 0"),
        ({"BitsAllocated": 32}, "BitsAllocated 32"),
        ({"BitsStored": 3}, "pixel values up to 15, more than BitsStored 3 can hold"),
        ({"PixelRepresentation": 2}, "PixelRepresentation 2"),
        ({"PixelData": RAMP.tobytes()[:-4]}, "less than expected"),
        ({"Rows": 3}, "less than expected"),
        ({"WindowCenter": 3, "WindowWidth": 0}, "window of width 0"),
        ({"WindowCenter": 3, "WindowWidth": 5, "VOILUTFunction": "CUBIC"}, "function CUBIC; expected LINEAR"),
        ({"WindowCenter": "1e308", "WindowWidth": "1e-308", "VOILUTFunction": "LINEAR_EXACT"}, None),
        ({"RescaleSlope": "1e308", "RescaleIntercept": "1e308"}, "without finite values"),
        ({"RescaleSlope": "1e308", "RescaleIntercept": 0, "VOILUTSequence": table(range(16))}, "without finite values"),
        ({"VOILUTSequence": table(range(16), data=b"\0\0")}, "table that says 16 entries of 16 bits, and has 2"),
        ({"VOILUTSequence": table(range(16), bits=40)}, "table that says 16 entries of 40 bits, and has 16"),
        ({"VOILUTSequence": Sequence([Dataset()])}, "damaged lookup table"),
    ],
)
def test_what_is_wrong_is_said_with_the_file_and_without_the_patient(tags, reason, tmp_path):
    path = write(tmp_path / "a.dcm", RAMP, **tags)
    if reason is None:
        assert read(path).shape == RAMP.shape
        return
    with pytest.raises(UserError, match=rf"a\.dcm: .*{reason}") as error:
        read(path)
    assert "\n" not in str(error.value)
    assert "Doe" not in str(error.value)
    assert "4711" not in str(error.value)


def test_an_image_is_refused_by_its_header_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(dicom_pixels, "_decode", lambda path, dataset: pytest.fail("decoded"))
    with pytest.raises(UserError, match="8 x 2 pixels, more than the limit of 15"):
        read_dicom(write(tmp_path / "a.dcm", RAMP), 15)


def test_without_pydicom_the_extra_is_named(tmp_path, monkeypatch):
    path = write(tmp_path / "a.dcm", RAMP)
    (tmp_path / "bare.dcm").write_bytes(path.read_bytes()[132:])
    monkeypatch.setitem(sys.modules, "pydicom.pixels", None)
    for name in ("a.dcm", "bare.dcm"):
        with pytest.raises(UserError, match=rf"{name}: .*pip install 'vkd-pyro\[dicom\]'"):
            ImageTransform(4)(tmp_path / name)
    with pytest.raises(UserError, match=r"pip install 'vkd-pyro\[dicom\]'"):
        read_header(path)


def test_a_missing_file_is_a_user_error(tmp_path):
    for reader in (read, read_header):
        with pytest.raises(UserError, match=r"absent\.dcm: no such image file"):
            reader(tmp_path / "absent.dcm")


def test_pydicom_warns_and_logs_nothing(tmp_path, caplog):
    made = dataset(RAMP)
    made.PixelData += b"\0" * 6  # of which pydicom warns
    path = written(made, tmp_path / "a.dcm")
    with caplog.at_level(logging.DEBUG):
        assert read(path).tolist() == (RAMP * 17).tolist()
    assert caplog.records == []


# --------------------------------------------------------------------------------- DICOM: what it is


def test_dicom_is_known_by_its_magic(tmp_path):
    write(tmp_path / "a.png", GRAY)
    Image.fromarray(GRAY).save(tmp_path / "b.png")
    (tmp_path / "c.dcm").write_bytes((tmp_path / "b.png").read_bytes())
    names = ("a.png", "b.png", "c.dcm", "absent.dcm", ".")
    assert [is_dicom(tmp_path / name) for name in names] == [True, False, False, False, False]
    assert ImageTransform(8)(tmp_path / "c.dcm").equal(ImageTransform(8)(GRAY))


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
@pytest.mark.parametrize("suffix", [".dcm", ".DCM"])
def test_a_dcm_file_without_preamble_is_read_if_it_has_the_tags(syntax, suffix, tmp_path):
    for name, tags in {"whole": {}, "rowless": {"Rows": None}}.items():
        path = write(tmp_path / (name + suffix), RAMP, syntax=syntax, **tags)
        content = path.read_bytes()
        path.write_bytes(content[content.index(b"\x08\x00\x16\x00") :])  # the first tag after those on the file itself
    assert is_dicom(tmp_path / f"whole{suffix}")
    assert not is_dicom(tmp_path / f"rowless{suffix}")
    assert np.asarray(read_gray(tmp_path / f"whole{suffix}")).tolist() == (RAMP * 17).tolist()


def test_a_dicom_file_becomes_a_square_of_bytes(tmp_path):
    path = write(tmp_path / "a", GRAY, WindowCenter=128, WindowWidth=256)
    assert torch.equal(ImageTransform(16)(path), ImageTransform(16)(GRAY))


def test_the_header_says_what_it_is(tmp_path):
    assert read_header(write(tmp_path / "a.dcm", RAMP)) == DicomHeader("DX", "CHEST", "PA")
    blank = write(tmp_path / "b.dcm", RAMP, Modality=None, BodyPartExamined="", ViewPosition=" ll ")
    assert read_header(blank) == DicomHeader("", "", "LL")


def test_a_header_is_no_way_into_a_terminal(tmp_path):
    header = read_header(
        write(tmp_path / "a.dcm", RAMP, Modality="\x1b[31mCT\n" + "x" * 90, BodyPartExamined="DOE^JANE")
    )
    assert mismatches(header) == [
        "modality that is no code is not an X-ray (CR, DX, RG)",
        "body part that is no code is not the chest",
    ]


def test_the_first_of_several_codes_counts(tmp_path):
    assert read_header(write(tmp_path / "a.dcm", RAMP, BodyPartExamined=["Chest", "ARM"])).body_part == "CHEST"


@pytest.mark.parametrize(
    ("header", "views", "reasons"),
    [
        (("DX", "CHEST", "PA"), ("frontal",), []),
        (("CR", "THORAX PA", "AP"), ("frontal",), []),
        (("RG", "", ""), ("frontal",), []),
        (("", "", ""), ("lateral",), []),
        (("CR", "CHEST", "LL"), ("frontal", "lateral"), []),
        (("CR", "CHEST", "LATERAL"), ("frontal",), ["view position LATERAL is lateral, not frontal"]),
        (("CR", "CHEST", "AP"), ("lateral",), ["view position AP is frontal, not lateral"]),
        (("CR", "CHEST", "LAO"), ("frontal",), ["view position LAO is neither frontal nor lateral, not frontal"]),
        (
            ("PX", "JAW", ""),
            ("frontal",),
            ["modality PX is not an X-ray (CR, DX, RG)", "body part JAW is not the chest"],
        ),
        (("CT", "TSPINE", "RL"), ("frontal",), None),
    ],
)
def test_mismatches_are_said_in_plain_words(header, views, reasons):
    found = mismatches(DicomHeader(*header), views)
    assert found == reasons if reasons is not None else len(found) == 3


# ------------------------------------------------------------------------------------ PNG and JPEG


def encoded(image, form="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def through(content, path, size=16):
    path.write_bytes(content)
    return ImageTransform(size)(path)


def test_one_bit_is_black_and_white(tmp_path):
    bits = Image.fromarray(GRAY > 127)
    assert bits.mode == "1"
    expected = ImageTransform(16)(np.uint8(GRAY > 127) * np.uint8(255))
    assert torch.equal(through(encoded(bits), tmp_path / "a.png"), expected)


@pytest.mark.parametrize(
    ("least", "expected"), [(None, (1000, 800)), (401, (1000, 800)), (400, (500, 400)), (90, (125, 100))]
)
def test_a_jpeg_is_decoded_at_the_smallest_size_that_is_large_enough(tmp_path, least, expected):
    x, y = np.meshgrid(np.linspace(0, 6, 1000), np.linspace(0, 5, 800))
    pixels = (120 + 100 * np.sin(x) * np.cos(y)).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "xray.jpg", quality=95)
    found = raster.read_raster(tmp_path / "xray.jpg", 800_000, least)
    assert found.size == expected
    close = np.asarray(Image.fromarray(pixels).resize(expected, Image.Resampling.BOX), int)
    assert abs(np.asarray(found, int) - close).max() <= 3
    with pytest.raises(UserError, match="1000 x 800 pixels, more than the limit of 799,999"):
        raster.read_raster(tmp_path / "xray.jpg", 799_999, least)


def test_a_scaled_jpeg_is_nearly_the_whole_one_and_a_png_is_the_same(tmp_path):
    pixels = np.random.default_rng(0).normal(size=(30, 40)).repeat(20, 0).repeat(20, 1) * 30 + 120
    gray = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
    gray.save(tmp_path / "xray.jpg", quality=95)
    gray.save(tmp_path / "xray.png")
    whole, scaled = ImageTransform(64), ImageTransform(64, scaled_jpeg=True)
    differences = (whole(tmp_path / "xray.jpg").int() - scaled(tmp_path / "xray.jpg").int()).abs()
    assert 0 < differences.max() <= 6
    assert torch.equal(whole(tmp_path / "xray.png"), scaled(tmp_path / "xray.png"))


def test_a_cmyk_jpeg_is_the_gray_it_was(tmp_path):
    ramp = Image.fromarray(np.linspace(0, 255, 32 * 32).reshape(32, 32).astype(np.uint8))
    cmyk = through(encoded(ramp.convert("RGB").convert("CMYK"), "JPEG", quality=100), tmp_path / "a.jpg")
    assert (cmyk.int() - ImageTransform(16)(np.asarray(ramp)).int()).abs().max() <= 4


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_a_transparent_colour_changes_nothing(mode, tmp_path):
    image = Image.fromarray(GRAY).convert(mode)
    content = encoded(image, transparency=7 if mode == "L" else (7, 7, 7))
    assert torch.equal(through(content, tmp_path / "a.png"), ImageTransform(16)(GRAY))


@pytest.mark.parametrize("form", ["PNG", "JPEG"])
@pytest.mark.parametrize("turn", [None, *raster.TURNS])
def test_an_image_on_its_side_is_set_upright(turn, form, tmp_path):
    exif = Image.Exif()
    if turn:
        exif[0x0112] = turn
    (tmp_path / "a").write_bytes(encoded(Image.fromarray(GRAY), form, exif=exif))
    with Image.open(tmp_path / "a") as stored:
        pixels = np.asarray(stored)
    corners = {None: (0, 0), 2: (0, -1), 3: (-1, -1), 4: (-1, 0), 5: (0, 0), 6: (-1, 0), 7: (-1, -1), 8: (0, -1)}
    gray = np.asarray(read_gray(tmp_path / "a"))
    assert gray.shape == ((20, 24) if turn and turn > 4 else (24, 20))
    assert gray[0, 0] == pixels[corners[turn]]  # what comes to lie at the upper left
    assert sorted(gray.ravel()) == sorted(pixels.ravel())


@pytest.mark.parametrize(
    "exif", [b"Exif\0\0rubbish", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0", b"Exif\0\0MM\0*\0\0\0\x08\0\x09"]
)
def test_exif_that_cannot_be_read_changes_nothing(exif, tmp_path):
    content = encoded(Image.fromarray(GRAY), exif=exif)
    assert torch.equal(through(content, tmp_path / "a.png"), ImageTransform(16)(GRAY))


def test_one_pixel_fills_the_square(tmp_path):
    content = encoded(Image.fromarray(np.full((1, 1), 9, np.uint8)))
    assert through(content, tmp_path / "a.png").unique().tolist() == [9]


def test_bytes_of_the_right_size_are_copied():
    square = GRAY[:16, :16]
    pixels = ImageTransform(16)(square)
    pixels += 1
    assert np.array_equal(square, GRAY[:16, :16])
    assert np.array_equal(pixels[0].numpy(), square + np.uint8(1))


@pytest.mark.parametrize("array", [GRAY.astype(float), np.stack([GRAY] * 3, -1), GRAY[:0], GRAY > 3])
def test_an_array_that_is_not_gray_bytes_is_refused(array):
    with pytest.raises(UserError, match=r"expected uint8 \[height, width\]"):
        ImageTransform(16)(array)


# ------------------------------------------------------------------------------------------- fuzz


def chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(width, height, *chunks, depth=8, color=0):
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + chunk(b"IEND", b"")


def whole_files(folder):
    """One sound file of each kind, to be damaged."""
    noise = np.random.default_rng(2).integers(0, 256, (40, 40), dtype=np.uint8)
    image = Image.fromarray(noise)
    exif = Image.Exif()
    exif[0x0112] = 6
    files = {
        "gray.png": encoded(image),
        "palette.png": encoded(image.convert("P"), transparency=3),
        "rgb.png": encoded(image.convert("RGB"), exif=exif, transparency=(1, 2, 3)),
        "deep.png": encoded(Image.fromarray(noise.astype(np.uint16) * 257)),
        "gray.jpg": encoded(image, "JPEG", exif=exif),
        "cmyk.jpg": encoded(image.convert("CMYK"), "JPEG"),
    }
    tables = {"VOILUTSequence": table(range(0, 65536, 257)), "ModalityLUTSequence": table(range(256))}
    datasets = {
        "explicit.dcm": dataset(noise.astype(np.uint16), WindowCenter=[9, 8], WindowWidth=[100, 8], RescaleSlope=2),
        "implicit.dcm": dataset(noise.astype(np.int16), syntax=ImplicitVRLittleEndian, **tables),
        "rle.dcm": dataset(noise),
        "jpeg.dcm": jpeg_dicom(encoded(image, "JPEG"), Rows=40, Columns=40),
        "jpeg2000.dcm": dataset(noise),
    }
    datasets["rle.dcm"].compress(RLELossless)
    if pydicom.pixels.get_encoder(JPEG2000Lossless).is_available:
        datasets["jpeg2000.dcm"].compress(JPEG2000Lossless)
    return files | {name: written(made, folder / name).read_bytes() for name, made in datasets.items()}


def damaged(whole, generator):
    """Cut, flipped in places, with a hole, doubled in part, or with a huge number in it."""
    content = bytearray(whole)
    place = int(generator.integers(len(content)))
    match int(generator.integers(5)):
        case 0:
            return bytes(content[:place])
        case 1:
            for _ in range(int(generator.integers(1, 20))):
                content[int(generator.integers(len(content)))] = int(generator.integers(256))
        case 2:  # in the first bytes, where the headers are
            for _ in range(int(generator.integers(1, 4))):
                content[int(generator.integers(min(len(content), 900)))] = int(generator.integers(256))
        case 3:
            content[place : place + 40] = content[:20]
        case 4:
            content[place : place + 4] = b"\xff\xff\xff\x7f"
    return bytes(content)


def strange_files(whole):
    image = Image.fromarray(GRAY)
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as opened:
        opened.writestr("gray.png", whole["gray.png"])
    jpeg = bytearray(whole["gray.jpg"])
    size = jpeg.index(b"\xff\xc0") + 5
    jpeg[size : size + 4] = struct.pack(">HH", 65500, 65500)
    compressed = zlib.compress(bytes(30_000_000), 9)
    explicit = whole["explicit.dcm"]
    rows = explicit.index(b"\x28\x00\x10\x00US\x02\x00")
    return {
        **{f"{kind}.png": encoded(image, kind) for kind in ("GIF", "TIFF", "BMP", "ICO", "PPM", "WEBP")},
        "svg.png": b'<svg xmlns="http://www.w3.org/2000/svg" width="1" height="1"/>',
        "psd.png": b"8BPS\0\x01" + bytes(6) + struct.pack(">HIIHH", 1, 9, 9, 8, 1) + bytes(100),
        "eps.png": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
        "empty.png": b"",
        "empty.dcm": b"",
        "zero.png": bytes(5000),
        "zero.dcm": bytes(5000),
        "text.png": b"no image\n" * 50,
        "text.dcm": b"no image\n" * 50,
        "zip.png": archive.getvalue(),
        "zip.dcm": archive.getvalue(),
        "bomb.png": png(100_000, 100_000, chunk(b"IDAT", zlib.compress(bytes(1000)))),
        "bomb.jpg": bytes(jpeg),
        "long_row.png": png(30_000_000, 1, chunk(b"IDAT", compressed), depth=16),
        "text_chunk.png": png(9, 9, chunk(b"iTXt", b"a\0\1\0\0\0" + compressed), chunk(b"IDAT", b"")),
        "ztxt_chunk.png": png(9, 9, chunk(b"zTXt", b"a\0\0" + compressed), chunk(b"IDAT", b"")),
        "icc_chunk.png": png(9, 9, chunk(b"iCCP", b"a\0\0" + compressed), chunk(b"IDAT", zlib.compress(bytes(90)))),
        "more_than_said.png": png(9, 9, chunk(b"IDAT", compressed)),
        "no_width.png": png(0, 9, chunk(b"IDAT", zlib.compress(b""))),
        "no_data.png": png(9, 9),
        "odd_depth.png": png(9, 9, depth=7),
        "animated.png": png(9, 9, chunk(b"acTL", struct.pack(">II", 2**31, 0)), chunk(b"IDAT", b"")),
        "magic.dcm": bytes(128) + b"DICM",
        "magic_and_rubbish.dcm": bytes(128) + b"DICM" + bytes(range(256)) * 9,
        "absurd_rows.dcm": explicit[: rows + 8] + b"\xff\xff" + explicit[rows + 10 :],
        "vr.dcm": explicit[: rows + 4] + b"??" + explicit[rows + 6 :],
        "length.dcm": explicit[: rows + 6] + b"\xff\xff" + explicit[rows + 8 :],
        "nested.dcm": explicit[:rows]
        + b"\x28\x00\x10\x30SQ\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff" * 3000,
    }


def fuzz_files(folder, seed, rounds):
    generator = np.random.default_rng(seed)
    whole = whole_files(folder)
    yield from strange_files(whole).items()
    for number in range(rounds):
        for name, content in whole.items():
            yield f"{number}_{name}", damaged(content, generator)


def test_a_damaged_file_is_read_or_refused_in_one_line(tmp_path, caplog):
    files = dict(fuzz_files(tmp_path, seed=0, rounds=40))
    assert len(files) > 400
    messages = []
    caplog.clear()
    for name, content in files.items():
        path = tmp_path / name
        try:
            pixels = through(content, path)
        except UserError as error:
            messages.append((str(path), str(error)))
        else:
            assert (pixels.shape, pixels.dtype) == ((1, 16, 16), torch.uint8), name
    assert [line for path, line in messages if not line.startswith(f"{path}: ") or "\n" in line] == []
    assert len(files) / 4 < len(messages) < len(files)  # the damage is neither harmless nor always fatal
    assert [record.getMessage() for record in caplog.records] == []

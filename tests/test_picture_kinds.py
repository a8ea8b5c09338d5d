"""Pictures that say of themselves what they are not, by kind: read right all the same, or refused in a line."""

import contextlib
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from tests.test_images import (
    RAMP,
    chunk,
    dataset,
    encapsulate,
    encoded,
    jpeg_dicom,
    lossless_jpeg,
    png,
    read,
    stretched,
    table,
    written,
)
from vkd_pyro.data.images.dicom.header import is_dicom, mismatches, read_header
from vkd_pyro.data.images.files import MAX_BYTES
from vkd_pyro.data.images.image_transform import ImageTransform, read_gray
from vkd_pyro.data.images.levels import gray_levels, is_flat
from vkd_pyro.data.images.raster import read_raster
from vkd_pyro.data.images.sizes import size_of
from vkd_pyro.utils.errors import UserError

pydicom = pytest.importorskip("pydicom", minversion="3")
from pydicom.uid import (  # noqa: E402  (once it is known to be there)
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

ROWS, COLUMNS = np.mgrid[:32, :32]
CHEST = (2103 + 1904 * np.sin(ROWS / 9) * np.cos(COLUMNS / 7)).round().astype(np.uint16)
"""A smooth picture of 12 bits."""
NOISE = np.random.default_rng(0).integers(0, 16, CHEST.shape)
SHOWN = (CHEST / 4095 * 255).round().astype(np.uint8)
"""By all of the 12 bits."""
RANGE = stretched(CHEST)
"""From its least to its greatest value."""


NEEDS = {JPEG2000Lossless: "openjpeg", JPEGLSLossless: "jpeg_ls"}
"""Packages of the encoders that may not be there."""


def dicom(tmp_path, pixels=CHEST, stored=12, compress=None, after=None, **tags):
    """A file with these tags, compressed if wanted, and then with those of `after`."""
    made = dataset(pixels, stored=stored, **tags)
    if compress is not None:
        if compress in NEEDS:
            pytest.importorskip(NEEDS[compress])
        made.compress(compress)
    for tag, value in (after or {}).items():
        setattr(made, tag, value)
    return written(made, tmp_path / "a.dcm")


def close(gray, expected):
    assert gray.shape == expected.shape
    assert np.abs(gray.astype(int) - expected.astype(int)).max() <= 1


# --------------------------------------------------------------------------------------- lookup tables


def ramp(bits, count=4096):
    return np.arange(count) * (2**bits - 1) // (count - 1)


@pytest.mark.parametrize("interpretation", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize(
    ("entries", "said"), [(12, 16), (10, 16), (8, 16), (14, 16), (9, 16), (16, 12), (16, 8), (12, 10), (12, 12), (8, 8)]
)
def test_a_voi_table_with_other_bits_than_it_says_is_scaled_by_its_greatest_entry(
    entries, said, interpretation, tmp_path
):
    voi = table(ramp(entries), bits=said)
    path = dicom(tmp_path, VOILUTSequence=voi, PhotometricInterpretation=interpretation)
    close(read(path), SHOWN if interpretation == "MONOCHROME2" else 255 - SHOWN)


def test_a_voi_table_that_has_the_bits_it_says_is_not_stretched(tmp_path):
    voi = table(ramp(16) * 60000 // 65535, bits=16)
    close(read(dicom(tmp_path, VOILUTSequence=voi)), (SHOWN * (60000 / 65535)).round())


def test_a_short_voi_table_begins_where_it_says(tmp_path):
    voi = table(ramp(12, 2065), first=736, bits=16)
    close(read(dicom(tmp_path, VOILUTSequence=voi)), ((CHEST.astype(int) - 736).clip(0, 2064) / 2064 * 255).round())


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian])
def test_bytes_packed_two_to_a_word_are_a_table_in_any_byte_order(syntax, tmp_path):
    packed = np.frombuffer(ramp(8).astype(np.uint8).tobytes(), "<u2")
    order = ">u2" if syntax == ExplicitVRBigEndian else "<u2"
    voi = table(ramp(8), bits=8, data=packed.astype(order).tobytes())
    close(read(dicom(tmp_path, VOILUTSequence=voi, syntax=syntax)), SHOWN)


def test_no_entries_are_65536(tmp_path):
    voi = table(np.arange(65536), bits=16)
    assert voi[0].LUTDescriptor[0] == 0
    pixels = CHEST * 16
    close(read(dicom(tmp_path, pixels, stored=16, VOILUTSequence=voi)), (pixels / 65535 * 255).round())


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
@pytest.mark.parametrize(
    ("first", "vr", "pixels", "tags"),
    [
        (63488, "US", CHEST, {"RescaleSlope": 1, "RescaleIntercept": -2048}),
        (-2048, "SS", CHEST, {"RescaleSlope": 1, "RescaleIntercept": -2048}),
        (63488, "US", CHEST.astype(np.int16) - 2048, {}),
        (-2048, "SS", CHEST.astype(np.int16) - 2048, {}),
        (-25536, "SS", CHEST + 40000, {"stored": 16}),
        (40000, "US", CHEST + 40000, {"stored": 16}),
        (-25536, "SS", CHEST.astype(np.int16), {"stored": 13, "RescaleSlope": 1, "RescaleIntercept": 40000}),
    ],
)
def test_the_first_value_of_a_table_has_the_sign_that_values_have(first, vr, pixels, tags, syntax, tmp_path):
    voi = table(ramp(12), bits=12)
    voi[0].add_new("LUTDescriptor", vr, [4096, first, 12])
    made = dataset(pixels, **({"stored": 12} | tags), syntax=syntax, VOILUTSequence=voi)
    close(read(written(made, tmp_path / "a.dcm")), SHOWN)


def test_the_first_value_of_a_modality_table_has_the_sign_of_stored_values(tmp_path):
    modality = table(ramp(12), bits=12)
    modality[0].add_new("LUTDescriptor", "US", [4096, 63488, 12])
    pixels = CHEST.astype(np.int16) - 2048
    tags = {"WindowCenter": 2048, "WindowWidth": 4096}
    close(read(dicom(tmp_path, pixels, ModalityLUTSequence=modality, **tags)), SHOWN)


@pytest.mark.parametrize("entries", [np.zeros(4096), np.full(4096, 4095)])
def test_a_table_that_shows_nothing_is_passed_over(entries, tmp_path):
    window = {"WindowCenter": 2048, "WindowWidth": 4096}
    voi = table(entries, bits=12)
    close(read(dicom(tmp_path, VOILUTSequence=voi)), RANGE)
    close(read(dicom(tmp_path, VOILUTSequence=voi, **window)), SHOWN)


# --------------------------------------------------------------------------- bits that are not stored


@pytest.mark.parametrize("compress", [None, RLELossless, JPEG2000Lossless])
@pytest.mark.parametrize("kind", [np.uint16, np.int16])
@pytest.mark.parametrize("bits", [[12], [15], [13, 14], [12, 13, 14, 15]])
def test_overlays_above_the_stored_bits_are_no_part_of_the_picture(bits, kind, compress, tmp_path):
    pixels = CHEST if kind == np.uint16 else (CHEST.astype(np.int16) - 2048) & 0x0FFF
    for place, bit in enumerate(bits):
        pixels = pixels | (((ROWS + place) % 5 == 0) & (COLUMNS > 9)).astype(np.uint16) << np.uint16(bit)
    after = {"BitsStored": 12, "HighBit": 11, "PixelRepresentation": int(kind == np.int16)}
    close(read(dicom(tmp_path, pixels.astype(np.uint16), stored=16, compress=compress, after=after)), RANGE)


def test_overlays_in_a_lossless_jpeg_are_no_part_of_the_picture(tmp_path):
    pytest.importorskip("libjpeg")
    frame = encapsulate([lossless_jpeg(CHEST | ((ROWS % 5 == 0) << 14).astype(np.uint16))])
    close(read(dicom(tmp_path, syntax=JPEGLosslessSV1, PixelData=frame)), RANGE)


def test_pixels_may_lie_in_the_high_bits(tmp_path):
    close(read(dicom(tmp_path, CHEST << 4, HighBit=15, WindowCenter=2048, WindowWidth=4096)), SHOWN)


def test_pixels_that_are_not_where_the_high_bit_says_are_left_where_they_are(tmp_path):
    close(read(dicom(tmp_path, CHEST, HighBit=15, WindowCenter=2048, WindowWidth=4096)), SHOWN)


@pytest.mark.parametrize("kind", [np.uint16, np.int16])
@pytest.mark.parametrize("junk", [ROWS % 5 == 0, (ROWS % 5 == 0) * 15, NOISE], ids=["bit", "overlay", "noise"])
def test_what_lies_below_pixels_in_the_high_bits_is_no_part_of_them(junk, kind, tmp_path):
    pixels = (CHEST.astype(kind) - (2048 if kind == np.int16 else 0)) << 4 | junk.astype(kind)
    close(read(dicom(tmp_path, pixels, HighBit=15)), RANGE)


def test_nor_is_what_lies_above_them(tmp_path):
    pixels = CHEST << 2 | (ROWS % 5 == 0) * np.uint16(3) | (COLUMNS % 5 == 0) * np.uint16(1 << 15)
    close(read(dicom(tmp_path, pixels, HighBit=13)), RANGE)


def test_more_bits_than_are_stored_that_are_no_overlay_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"pixel values up to \d+, more than BitsStored 10 can hold"):
        read(dicom(tmp_path, CHEST, stored=10))


# ------------------------------------------------------------------- headers that contradict the codestream


@pytest.mark.parametrize(
    ("pixels", "stored", "after"),
    [
        (CHEST, 12, {"BitsStored": 10, "HighBit": 9}),
        (CHEST, 12, {"BitsStored": 16, "HighBit": 15}),
        (CHEST.astype(np.int16) - 2048, 12, {"PixelRepresentation": 0}),
        (CHEST.astype(np.int16) - 2048, 16, {"PixelRepresentation": 0}),
        (CHEST.astype(np.int16) - 2048, 12, {}),
        ((CHEST.astype(np.int16) - 2048).view(np.uint16) & 0x0FFF, 12, {"PixelRepresentation": 1}),
        ((CHEST.astype(np.int16) - 2048).view(np.uint16) & 0x1FFF, 13, {"PixelRepresentation": 1}),
        (CHEST, 12, {"PixelRepresentation": 1}),
        ((CHEST.astype(np.int16) << 4) >> 4, 12, {"PixelRepresentation": 0}),
    ],
    ids=["fewer", "more", "signed", "signed16", "both", "unsigned", "unsigned13", "no_sign", "no_sign_coded"],
)
def test_of_a_jpeg2000_the_codestream_says_bits_and_sign(pixels, stored, after, tmp_path):
    close(read(dicom(tmp_path, pixels, stored=stored, compress=JPEG2000Lossless, after=after)), RANGE)


SIGNED = CHEST.astype(np.int16) - 2048


@pytest.mark.parametrize("compress", [None, RLELossless, JPEGLSLossless])
@pytest.mark.parametrize(
    ("pixels", "stored", "sign"),
    [
        (SIGNED, 16, 0),
        (SIGNED, 12, 0),
        (SIGNED.view(np.uint16) & 0x0FFF, 12, 0),
        (CHEST << 4, 16, 1),
        (SHOWN, 8, 1),
    ],
    ids=["int16", "int12", "masked12", "uint16", "uint8"],
)
def test_a_picture_that_its_sign_tears_has_the_other(pixels, stored, sign, compress, tmp_path):
    gray = read(dicom(tmp_path, pixels, stored=stored, compress=compress, after={"PixelRepresentation": sign}))
    close(gray, stretched(pixels) if pixels is SHOWN else RANGE)


def test_a_window_is_of_values_of_the_right_sign(tmp_path):
    after = {"PixelRepresentation": 0, "WindowCenter": 0, "WindowWidth": 4096}
    close(read(dicom(tmp_path, SIGNED, stored=16, after=after)), SHOWN)


LETTERS = (ROWS > 20) & (COLUMNS % 4 < 2)
BLURRED = LETTERS * np.random.default_rng(0).integers(3900, 4096, CHEST.shape)


@pytest.mark.parametrize("sign", [0, 1])
@pytest.mark.parametrize(
    "pixels",
    [
        np.where(LETTERS, 4095, CHEST // 2),
        np.where(LETTERS, 4095, CHEST // 20),
        np.where(LETTERS, BLURRED, CHEST),
        np.where(COLUMNS % 2, CHEST, 4095 * (ROWS > 15)),
        np.random.default_rng(0).integers(0, 4096, CHEST.shape),
    ],
    ids=["letters", "letters on black", "blurred letters", "masks", "noise"],
)
def test_black_beside_white_is_no_tear(pixels, sign, tmp_path):
    pixels = pixels.astype(np.int16) - 2048 if sign else pixels.astype(np.uint16)
    close(read(dicom(tmp_path, pixels)), stretched(pixels))


def test_a_sign_that_the_pixels_do_not_have_is_refused(tmp_path):
    with pytest.raises(UserError, match="pixel values up to 4007, more than BitsStored 12 can hold with a sign"):
        read(dicom(tmp_path, CHEST.astype(np.int16)))


def test_a_jpeg_of_eight_bits_is_read_whatever_the_header_allocates(tmp_path):
    made = jpeg_dicom(encoded(Image.fromarray(SHOWN), "JPEG", quality=100))
    made.BitsAllocated, made.BitsStored, made.HighBit = 16, 12, 11
    (made.Rows, made.Columns), made.WindowCenter, made.WindowWidth = SHOWN.shape, None, None
    gray = read(written(made, tmp_path / "a.dcm"))
    assert np.abs(gray.astype(int) - RANGE).max() <= 4


def test_a_colour_codestream_is_no_gray_image(tmp_path):
    made = jpeg_dicom(encoded(Image.fromarray(SHOWN).convert("RGB"), "JPEG"))
    made.Rows, made.Columns = SHOWN.shape
    with pytest.raises(UserError, match="of 3 samples a pixel and 8 bits; expected a gray image"):
        read(written(made, tmp_path / "a.dcm"))


# ------------------------------------------------------------------------------------------- padding

FRAME = (ROWS < 3) | (COLUMNS > 27)


@pytest.mark.parametrize("interpretation", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("compress", [None, RLELossless, JPEG2000Lossless])
@pytest.mark.parametrize(
    ("shift", "stored", "kind", "value", "tags"),
    [
        (0, 16, np.uint16, 65535, {"PixelPaddingValue": 65535}),
        (0, 12, np.uint16, 0, {"PixelPaddingValue": 0}),
        (0, 16, np.uint16, 60123, {"PixelPaddingValue": 60000, "PixelPaddingRangeLimit": 60500}),
        (0, 16, np.uint16, 60123, {"PixelPaddingValue": 60500, "PixelPaddingRangeLimit": 60000}),
        (-2048, 16, np.int16, -32768, {"PixelPaddingValue": -32768}),
        (-2048, 16, np.int16, -9000, {"PixelPaddingValue": -10000, "PixelPaddingRangeLimit": -8000}),
        (-2048, 12, np.int16, -2048, {"PixelPaddingValue": -2048}),
    ],
)
def test_padding_is_black_and_of_no_weight(shift, stored, kind, value, tags, compress, interpretation, tmp_path):
    pixels = CHEST.astype(kind) + kind(shift)
    pixels[FRAME] = value
    expected = np.zeros(CHEST.shape, np.uint8)
    expected[~FRAME] = stretched(CHEST[~FRAME])
    if interpretation == "MONOCHROME1":
        expected[~FRAME] = 255 - expected[~FRAME]
    tags = tags | {"PhotometricInterpretation": interpretation}
    close(read(dicom(tmp_path, pixels, stored=stored, compress=compress, after=tags)), expected)


def test_padding_above_the_stored_bits_is_not_the_greatest_value(tmp_path):
    pixels = CHEST.copy()
    pixels[FRAME] = 65535
    pixels[9, 9] = 4095
    gray = read(dicom(tmp_path, pixels, PixelPaddingValue=65535, WindowCenter=2048, WindowWidth=4096))
    assert (gray[FRAME].max(), gray[9, 9]) == (0, 255)
    close(gray[~FRAME], (pixels[~FRAME] / 4095 * 255).round())


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
@pytest.mark.parametrize("value", [63488, -2048])
def test_a_padding_value_is_known_with_and_without_its_sign(value, syntax, tmp_path):
    pixels = CHEST.astype(np.int16) - 2048
    pixels[FRAME] = -2048
    made = dataset(pixels, stored=16, syntax=syntax)
    made.add_new("PixelPaddingValue", "US" if value > 0 else "SS", value)
    gray = read(written(made, tmp_path / "a.dcm"))
    close(gray[~FRAME], stretched(CHEST[~FRAME]))


def test_where_all_is_padding_nothing_is(tmp_path):
    path = dicom(tmp_path, PixelPaddingValue=0, PixelPaddingRangeLimit=4095)
    close(read(path), RANGE)


# ------------------------------------------------------------------------------------------- windows


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID", None])
@pytest.mark.parametrize(("center", "width"), [(20000, 200), (-5000, 100), (0, 1), (2100, 1)])
def test_a_window_that_shows_nothing_is_none(center, width, function, tmp_path):
    tags = {"VOILUTFunction": function} if function else {}
    close(read(dicom(tmp_path, WindowCenter=center, WindowWidth=width, **tags)), RANGE)


def test_the_first_window_that_shows_something_is_taken(tmp_path):
    close(read(dicom(tmp_path, WindowCenter=[20000, 2048, 9], WindowWidth=[200, 4096, 9])), SHOWN)


def test_a_window_that_misses_rescaled_values_is_none(tmp_path):
    tags = {"RescaleSlope": 1, "RescaleIntercept": -1024, "WindowCenter": 500, "WindowWidth": 2000}
    close(read(dicom(tmp_path, SHOWN, stored=8, **tags)), stretched(SHOWN))


@pytest.mark.parametrize(("center", "width"), [(32768, 65535), (128, 256), (1023, 2047)])
def test_a_window_that_shows_something_is_as_the_standard_says(center, width, tmp_path):
    expected = np.clip((CHEST - (center - 0.5)) / (width - 1) + 0.5, 0, 1) * 255
    close(read(dicom(tmp_path, WindowCenter=center, WindowWidth=width)), expected.round())


@pytest.mark.parametrize("text", ["[02048, 02048]", "2047,5", "2048/1000", "NORMAL", "nan", "inf", "2048\\WIDE"])
@pytest.mark.parametrize(
    ("tag", "part"), [("WindowCenter", "window"), ("WindowWidth", "window"), ("RescaleSlope", "rescale")]
)
def test_what_is_no_number_is_said_and_not_repeated(tag, part, text, tmp_path):
    made = dataset(CHEST, stored=12, **({"WindowCenter": 2048, "WindowWidth": 4096} | {tag: 1}))
    path = written(made, tmp_path / "a.dcm")
    content = path.read_bytes()
    place = content.index(struct.pack("<HH", *divmod(int(made[tag].tag), 65536)) + b"DS")
    length = struct.unpack_from("<H", content, place + 6)[0]
    value = text.encode() + b" " * (len(text) % 2)
    path.write_bytes(content[: place + 6] + struct.pack("<H", len(value)) + value + content[place + 8 + length :])
    with pytest.raises(UserError, match=rf"a\.dcm: {part} is no (finite )?number \(DICOM tag {tag}\)") as error:
        read(path)
    assert text not in str(error.value)


def test_numbers_may_be_padded_and_have_exponents(tmp_path):
    made = dataset(CHEST, stored=12, WindowCenter=" 2.048e3 ", WindowWidth="4.096E3")
    close(read(written(made, tmp_path / "a.dcm")), SHOWN)


def test_a_slope_of_zero_is_refused(tmp_path):
    with pytest.raises(UserError, match="a rescale slope of 0 makes one value of all"):
        read(dicom(tmp_path, RescaleSlope=0, RescaleIntercept=5))


@pytest.mark.parametrize("width", [0, -1])
def test_a_window_of_no_width_is_passed_over_where_there_is_another(width, tmp_path):
    close(read(dicom(tmp_path, WindowCenter=[1, 2048], WindowWidth=[width, 4096])), SHOWN)


def test_a_center_without_a_width_is_no_window(tmp_path):
    close(read(dicom(tmp_path, WindowCenter=100)), RANGE)


# ------------------------------------------------------------------------------------ PNG of 16 bits


def deep_png(channels, color, *further):
    """A PNG of 16 bits; channels uint16 [height, width, C]."""
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in channels)
    return png(
        channels.shape[1], channels.shape[0], *further, chunk(b"IDAT", zlib.compress(rows)), depth=16, color=color
    )


def gray_of(content, tmp_path):
    (tmp_path / "a.png").write_bytes(content)
    return np.asarray(read_gray(tmp_path / "a.png"))


@pytest.mark.parametrize("bits", range(8, 17))
@pytest.mark.parametrize("color", [0, 2, 4, 6])
@pytest.mark.parametrize("said", [False, True])
def test_values_of_fewer_bits_in_16_are_scaled_by_their_bits(bits, color, said, tmp_path):
    values = CHEST >> (12 - bits) if bits < 12 else CHEST << (bits - 12)
    gray, alpha = [values[..., None]] * (3 if color & 2 else 1), [np.full((32, 32, 1), 65535)] * (color >= 4)
    channels = np.concatenate([*gray, *alpha], -1)
    further = [chunk(b"sBIT", bytes([bits] * channels.shape[-1]))] if said else []
    close(gray_of(deep_png(channels, color, *further), tmp_path), (values / (2**bits - 1) * 255).round())


def test_values_that_were_scaled_to_16_bits_have_them_whatever_sbit_says(tmp_path):
    content = deep_png((CHEST << 4)[..., None], 0, chunk(b"sBIT", b"\x0c"))
    close(gray_of(content, tmp_path), SHOWN)


@pytest.mark.parametrize("said", [17, 32, 255])
@pytest.mark.parametrize("color", [0, 2])
def test_sbit_of_more_bits_than_a_sample_has_says_nothing(said, color, tmp_path):
    channels = 3 if color == 2 else 1
    content = deep_png(np.repeat(CHEST[..., None], channels, -1), color, chunk(b"sBIT", bytes([said] * channels)))
    close(gray_of(content, tmp_path), SHOWN)


def test_sbit_tells_the_bits_of_a_dark_picture(tmp_path):
    dark = CHEST // 5
    close(gray_of(deep_png(dark[..., None], 0, chunk(b"sBIT", b"\x0c")), tmp_path), (dark / 4095 * 255).round())


@pytest.mark.parametrize("colors", [(0, 2), (2, 0), (4, 2), (6, 0), (0, 6)])
def test_a_second_header_is_read_or_refused(colors, tmp_path):
    second = chunk(b"IHDR", struct.pack(">IIBBBBB", 9, 9, 16, colors[1], 0, 0, 0))
    content = png(9, 9, second, chunk(b"IDAT", zlib.compress(bytes(9 * 73))), depth=16, color=colors[0])
    with contextlib.suppress(UserError):
        assert gray_of(content, tmp_path).shape == (9, 9)


def test_colours_of_16_bits_are_weighted_as_those_of_8(tmp_path):
    colours = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    colours[0, 0] = 255
    expected = np.asarray(Image.fromarray(colours).convert("L"))
    close(gray_of(deep_png(colours.astype(np.uint16) * 257, 2), tmp_path), expected)


@pytest.mark.parametrize("mode", ["LA", "RGBA", "P", "deep LA", "deep RGBA"])
@pytest.mark.parametrize("colour", [0, 255])
def test_a_picture_in_transparency_alone_is_refused(mode, colour, tmp_path):
    if mode == "P":
        image = Image.frombytes("P", (32, 32), SHOWN.tobytes())
        image.putpalette([colour] * 768)
        content = encoded(image, transparency=bytes(range(256)))
    elif mode.startswith("deep"):
        channels = [np.full((32, 32), colour * 257)] * (1 if mode.endswith("LA") else 3)
        content = deep_png(np.stack([*channels, CHEST << 4], -1), 4 if mode.endswith("LA") else 6)
    else:
        image = Image.new("L", (32, 32), colour).convert(mode)
        image.putalpha(Image.fromarray(SHOWN))
        content = encoded(image)
    with pytest.raises(UserError, match=r"a\.png: one colour, and the picture in its transparency alone"):
        gray_of(content, tmp_path)


# ----------------------------------------------------------------------- files that end before they should


def framed(frame, syntax):
    """A file whose compressed image is well packed, whatever it is."""
    made = dataset(CHEST, stored=12, syntax=syntax, PixelData=encapsulate([frame]))
    made["PixelData"].is_undefined_length = True
    return made


def frame_of(tmp_path, syntax):
    """A whole compressed image."""
    if syntax == JPEGLosslessSV1:
        return lossless_jpeg(CHEST)
    if syntax == JPEGBaseline8Bit:
        return encoded(Image.fromarray(SHOWN), "JPEG", quality=100)
    made = pydicom.dcmread(dicom(tmp_path, compress=syntax))
    return pydicom.encaps.get_frame(made.PixelData, 0, number_of_frames=1)


@pytest.mark.parametrize("syntax", [JPEGBaseline8Bit, JPEGLosslessSV1, JPEGLSLossless, JPEG2000Lossless, RLELossless])
@pytest.mark.parametrize("share", [0.5, 0.9])
def test_a_compressed_image_that_is_cut_is_refused(share, syntax, tmp_path):
    if syntax in (JPEGBaseline8Bit, JPEGLosslessSV1):
        pytest.importorskip("libjpeg")
    frame = frame_of(tmp_path, syntax)
    assert read(written(framed(frame, syntax), tmp_path / "whole.dcm")).shape == CHEST.shape
    path = written(framed(frame[: int(share * len(frame))], syntax), tmp_path / "cut.dcm")
    with pytest.raises(
        UserError, match=r"cut\.dcm: (truncated image \(a JPEG without an end\)|damaged DICOM pixel data)"
    ):
        read(path)


def test_a_file_that_is_cut_in_its_compressed_image_is_called_truncated(tmp_path):
    path = dicom(tmp_path, compress=RLELossless)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(UserError, match=r"a\.dcm: no DICOM tag PixelData, or a truncated one"):
        read(path)


BRIGHT = np.random.default_rng(0).integers(129, 256, (64, 64), dtype=np.uint8)
"""Noise: no block of it is middle gray."""


@pytest.mark.parametrize("least_side", [None, 32])
@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize("end", [b"", b"\xff\xd9"], ids=["cut", "ended"])
def test_a_jpeg_that_is_cut_is_refused_even_if_it_was_given_an_end(end, mode, least_side, tmp_path):
    whole, path = encoded(Image.fromarray(BRIGHT).convert(mode), "JPEG", quality=95), tmp_path / "a.jpg"
    path.write_bytes(whole)
    assert np.asarray(read_raster(path, 4096, least_side)).min() > 100
    start = whole.index(b"\xff\xda") + 20
    for place in np.linspace(start, start + 0.7 * (len(whole) - start), 5).astype(int):
        path.write_bytes(whole[:place] + end)
        with pytest.raises(
            UserError, match=r"a\.jpg: truncated image \(a JPEG (without an end|whose data end early)\)"
        ):
            read_raster(path, 4096, least_side)


@pytest.mark.parametrize("end", [b"", b"\xff\xd9"], ids=["cut", "ended"])
def test_a_cut_jpeg_before_another_is_refused(end, tmp_path):
    whole, path = encoded(Image.fromarray(BRIGHT), "JPEG", quality=95), tmp_path / "a.jpg"
    path.write_bytes(whole + whole)
    assert np.asarray(read_raster(path, 4096)).min() > 100
    path.write_bytes(whole[: len(whole) // 2] + end + whole)
    with pytest.raises(UserError, match=r"a\.jpg: truncated image \(a JPEG (without an end|whose data end early)\)"):
        read_raster(path, 4096)


@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_that_ends_in_middle_gray_is_whole(progressive, tmp_path):
    pixels = np.where(np.arange(64)[:, None] < 32, BRIGHT, np.uint8(128))
    content = encoded(Image.fromarray(pixels), "JPEG", quality=95, progressive=progressive)
    (tmp_path / "a.jpg").write_bytes(content)
    assert (np.asarray(read_gray(tmp_path / "a.jpg"))[32:] == 128).all()


@pytest.mark.parametrize(("color", "depth"), [(0, 1), (0, 8), (0, 16), (2, 8), (2, 16), (3, 8), (4, 16), (6, 8)])
@pytest.mark.parametrize("interlaced", [False, True])
def test_a_png_of_fewer_rows_than_it_says_is_refused(interlaced, color, depth, tmp_path):
    bits = depth * {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[color]
    steps = [(8, 8), (8, 8), (4, 8), (4, 4), (2, 4), (2, 2), (1, 2)] if interlaced else [(1, 1)]
    whole = [b"\0" + b"\x7f" * -(-(32 // right) * bits // 8) for right, down in steps for _ in range(32 // down)]
    palette = [chunk(b"PLTE", bytes(range(256)) * 3)] if color == 3 else []
    path = tmp_path / "a.png"

    def write(rows):
        content = png(32, 32, *palette, chunk(b"IDAT", zlib.compress(b"".join(rows))), depth=depth, color=color)
        header = content[12:28] + bytes([interlaced])
        path.write_bytes(content[:12] + header + struct.pack(">I", zlib.crc32(header)) + content[33:])

    write(whole)
    assert np.asarray(read_gray(path)).shape == (32, 32)
    for count in (1, 20, len(whole) - 1):
        write(whole[:count])
        with pytest.raises(UserError, match=r"a\.png: truncated image \(a PNG whose rows end early\)"):
            read_gray(path)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "RGB", "RGBA", "P", "I;16"])
def test_a_png_whose_last_row_is_black_is_whole(mode, tmp_path):
    image = Image.fromarray(np.where(ROWS < 20, SHOWN, 0).astype(np.uint8))
    image = Image.fromarray(np.asarray(image).astype(np.uint16) << 8) if mode == "I;16" else image.convert(mode)
    image.save(tmp_path / "a.png")
    assert not np.asarray(read_gray(tmp_path / "a.png"))[20:].any()


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (png(9, 9, chunk(b"IDAT", zlib.compress(bytes(90))), color=3), "AssertionError"),
        (png(9, 9, chunk(b"IDAT", zlib.compress(bytes(90))), chunk(b"iCCP", b"")), "IndexError"),
    ],
    ids=["palette", "profile"],
)
def test_whatever_a_decoder_trips_over_is_said_in_one_line(content, found, tmp_path):
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(
        UserError, match=rf"a\.png: unreadable or truncated image \({found}: [^\n]*\); expected a whole"
    ):
        read_gray(tmp_path / "a.png")


def test_whatever_a_header_trips_a_decoder_over_is_said_in_one_line(tmp_path, monkeypatch):
    (tmp_path / "a.png").write_bytes(encoded(Image.fromarray(SHOWN)))
    monkeypatch.setattr(Image, "open", lambda *arguments, **options: {}["no such chunk"])
    with pytest.raises(UserError, match=r"a\.png: unreadable image; expected a whole PNG"):
        size_of(tmp_path / "a.png")


# ------------------------------------------------------------------- more pixel data than the header says


@pytest.mark.parametrize(
    ("pixels", "columns", "after"),
    [
        (CHEST, 32, {"BitsAllocated": 8, "BitsStored": 8, "HighBit": 7}),
        (np.repeat(SHOWN, 3, -1), 32, {}),
        (np.repeat(CHEST, 3, -1), 32, {}),
        (np.repeat(SHOWN[:, :31], 3, -1)[:31], 31, {}),
    ],
    ids=["16 bits as 8", "colours", "colours of 16 bits", "odd colours"],
)
def test_pixel_data_of_more_bits_or_samples_are_refused(pixels, columns, after, tmp_path):
    path = dicom(tmp_path, pixels, stored=8 * pixels.itemsize, after={"Columns": columns, **after})
    with pytest.raises(UserError, match=r"a\.dcm: [\d,]+ bytes of pixel data, too many for [\d,]+ expected"):
        read(path)


@pytest.mark.parametrize("further", [1, 6, CHEST.size, 2 * CHEST.size])
def test_a_second_frame_or_bytes_behind_the_pixels_change_nothing(further, tmp_path):
    made = dataset(CHEST, stored=12)
    made.PixelData += bytes(further)
    close(read(written(made, tmp_path / "a.dcm")), RANGE)


@pytest.mark.parametrize("size", [1, 3])
def test_an_odd_number_of_bytes_has_another(size, tmp_path):
    pixels = RAMP.astype(np.uint8)[:1, :size]
    made = dataset(pixels)
    made.PixelData += b"\0"
    assert read(written(made, tmp_path / "a.dcm")).tolist() == (stretched(pixels) if size > 1 else pixels * 0).tolist()


# -------------------------------------------------------------- what would take too long is not begun


def progressive(scans, extra=b""):
    whole = encoded(Image.fromarray(SHOWN), "JPEG", progressive=True)
    last = whole[whole.rindex(b"\xff\xda") : -2]
    return whole[:2] + extra + whole[2:-2] + last * (scans - whole.count(b"\xff\xda")) + b"\xff\xd9"


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (progressive(12000), "a JPEG of 12,000 scans, more than the limit of 100"),
        (progressive(6, b"\xff" * 5_000_000), "a JPEG with more than 65,536 bytes of padding"),
        (progressive(6, b"\x11" * 100_000), "a JPEG with more than 65,536 bytes of padding"),
        (progressive(6, b"\xff\xfe\0\2" * 20_000), "a JPEG of more than 10,000 segments"),
        (progressive(6) + bytes(5_000_000), "bytes for 1,024 pixels, more than the limit of 4,202,496"),
        (png(9, 9, *[chunk(b"teSt", b"")] * 100_001), "a PNG of more than 100,000 chunks"),
        (png(9, 9, chunk(b"teSt", bytes(5_000_000)), chunk(b"IDAT", zlib.compress(bytes(90)))), "for 81 pixels"),
    ],
    ids=["scans", "fill", "junk", "segments", "tail", "chunks", "chunk"],
)
@pytest.mark.parametrize("within", ["file", "dicom"])
def test_padding_and_scans_without_end_are_refused(content, found, within, tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(content)
    if within == "dicom" and content.startswith(b"\xff\xd8"):
        made = jpeg_dicom(content)
        made.Rows, made.Columns = SHOWN.shape
        path = written(made, tmp_path / "a.dcm")
        found = found if "4,202,496" not in found and "padding" not in found else "(bytes of padding|for 1,024 pixels)"
    with pytest.raises(UserError, match=rf"{path.name}: .*{found}"):
        ImageTransform(8)(path)


def test_ordinary_progressive_images_are_read(tmp_path):
    (tmp_path / "a.jpg").write_bytes(progressive(100))
    close(np.asarray(read_gray(tmp_path / "a.jpg")), np.asarray(Image.open(tmp_path / "a.jpg")))


def test_a_file_larger_than_any_image_is_not_read(tmp_path):
    with (tmp_path / "a.png").open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    with pytest.raises(UserError, match=r"a\.png: a file of 536,870,913 bytes, more than the limit"):
        ImageTransform(8)(tmp_path / "a.png")


def element(number, content=b"", vr=b"LO"):
    return struct.pack("<HH2sH", 0x0019, number % 65536, vr, len(content)) + content


@pytest.mark.parametrize("deep", ["tags", "sequence", "items"])
def test_a_header_of_tags_without_end_is_refused(deep, tmp_path):
    content = dicom(tmp_path).read_bytes()
    place = content.index(b"\x28\0\x02\0US")
    many = b"".join(map(element, range(101_000)))
    item, end = b"\xfe\xff\0\xe0", struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
    if deep == "sequence":
        many = item + b"\xff" * 4 + many + struct.pack("<HHI", 0xFFFE, 0xE00D, 0)
    elif deep == "items":
        many = (item + bytes(4)) * 101_000
    if deep != "tags":
        many = struct.pack("<HH2sHI", 0x0019, 0x1010, b"SQ", 0, 0xFFFFFFFF) + many + end
    path = tmp_path / "b.dcm"
    path.write_bytes(content[:place] + many + content[place:])
    with pytest.raises(UserError, match=r"b\.dcm: more tags than a DICOM image has"):
        read(path)


def test_a_long_private_tag_is_passed_over(tmp_path):
    content = dicom(tmp_path).read_bytes()
    place = content.index(b"\x28\0\x02\0US")
    long = struct.pack("<HH2sHI", 0x0019, 0x1010, b"OB", 0, 20_000_000) + bytes(20_000_000)
    (tmp_path / "b.dcm").write_bytes(content[:place] + long + content[place:])
    close(read(tmp_path / "b.dcm"), RANGE)


def test_a_compressed_image_in_fragments_without_end_is_refused(tmp_path):
    made = jpeg_dicom(b"\xff\xd8")
    item = b"\xfe\xff\0\xe0"
    made.PixelData = item + bytes(4) + (item + b"\2\0\0\0\xff\xd8") * 11_000
    with pytest.raises(UserError, match="a compressed image in more than 10,000 fragments"):
        read(written(made, tmp_path / "a.dcm"))


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda b, s: b[: s + 24] + struct.pack(">II", 1, 1) + b[s + 32 :], "image of 1,024 tiles"),
        (lambda b, s: b.replace(b"\xff\x52", b"\xff\x52", 1), None),
    ],
)
def test_tiles_of_a_jpeg2000_are_counted(change, found, tmp_path, monkeypatch):
    pytest.importorskip("openjpeg")
    monkeypatch.setattr("vkd_pyro.data.images.codestream.MAX_TILES", 1000)
    path = dicom(tmp_path, compress=JPEG2000Lossless)
    content = path.read_bytes()
    path.write_bytes(change(content, content.index(b"\xff\x4f\xff\x51")))
    if found is None:
        close(read(path), RANGE)
        return
    with pytest.raises(UserError, match=found):
        read(path)


def test_layers_and_precincts_of_a_jpeg2000_are_limited(tmp_path):
    pytest.importorskip("openjpeg")
    path = dicom(tmp_path, compress=JPEG2000Lossless)
    content = bytearray(path.read_bytes())
    style = content.index(b"\xff\x52", content.index(b"\xff\x4f\xff\x51"))
    content[style + 6 : style + 8] = b"\xff\xff"
    path.write_bytes(content)
    with pytest.raises(UserError, match="image of 65,535 layers"):
        read(path)


# ----------------------------------------------------------------------------------- what it is said to be


def test_a_file_without_the_magic_is_known_by_its_tags_whatever_its_name(tmp_path):
    content = dicom(tmp_path).read_bytes()
    for name in ("a.ima", "b", "c.dicom"):
        (tmp_path / name).write_bytes(content[content.index(b"\x08\0\x16\0") :])
        assert is_dicom(tmp_path / name)
        close(np.asarray(read_gray(tmp_path / name)), RANGE)


def test_errors_of_damaged_files_hold_nothing_of_the_patient(tmp_path):
    patient = {"PatientName": "ZEBEDEE^QUIRK", "PatientID": "QWXYZ99871", "StudyDescription": "KRYPTONITE"}
    plain = dicom(tmp_path, WindowCenter=1, WindowWidth=9, **patient).read_bytes()
    packed = dicom(tmp_path, compress=RLELossless, **patient).read_bytes()
    fragments = {text[i : i + 4] for text in patient.values() for i in range(len(text) - 3)}
    generator, said = np.random.default_rng(0), []
    for number in range(300):
        content = bytearray((plain, packed)[number % 2])
        one, other = generator.integers(130, 900, 2)
        if number % 3:
            length = int(generator.integers(4, 40))
            content[one : one + length] = content[other : other + length]
        else:
            content[one] = generator.integers(256)
        path = tmp_path / "a.dcm"
        path.write_bytes(content)
        try:
            said += mismatches(read_header(path))
            read(path)
        except UserError as error:
            said.append(str(error))
    assert len(said) > 50
    assert [text for text in said if any(part in text for part in fragments) or not text.isprintable()] == []


@pytest.mark.parametrize("word", ["UNKNOWN", "none", "N/A", "Other", "-", "."])
def test_a_word_for_nothing_is_as_blank(word, tmp_path):
    assert mismatches(read_header(dicom(tmp_path, BodyPartExamined=word, ViewPosition=word)), ("frontal",)) == []


def coded(value, meaning):
    item = pydicom.Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, "SCT", meaning
    return [item]


CT, DX_RAW, CR = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.1.1.1", "1.2.840.10008.5.1.4.1.1.1"


@pytest.mark.parametrize(
    ("tags", "reason"),
    [
        ({"ViewCodeSequence": coded("399173006", "seitlich")}, "view position LATERAL is lateral, not frontal"),
        ({"ViewCodeSequence": coded("399348003", "antero-posterior")}, None),
        ({"ViewCodeSequence": coded("1", "postero-anterior")}, None),
        ({"ViewPosition": "PA", "ViewCodeSequence": coded("399173006", "left lateral")}, None),
        ({"AnatomicRegionSequence": coded("72696002", "Knee")}, "body part KNEE is not the chest"),
        ({"AnatomicRegionSequence": coded("51185008", "Brustkorb")}, None),
        ({"AnatomicRegionSequence": []}, None),
        ({"SOPClassUID": CT}, "CT Image Storage, no radiograph for presentation"),
        ({"SOPClassUID": CR}, None),
        ({"SOPClassUID": "1.2.3.4"}, None),
        ({"SOPClassUID": DX_RAW}, "an image for processing, no radiograph for presentation"),
        ({"PresentationIntentType": "FOR PROCESSING"}, "an image for processing, no radiograph for presentation"),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, "a localizer, no radiograph for presentation"),
        ({"ImageType": ["DERIVED", "PRIMARY"], "PresentationIntentType": "FOR PRESENTATION"}, None),
    ],
)
def test_what_a_header_says_elsewhere_counts_where_its_tag_is_blank(tags, reason, tmp_path):
    blank = {"Modality": "", "BodyPartExamined": "", "ViewPosition": ""}
    path = dicom(tmp_path, **blank)
    made = pydicom.dcmread(path)
    for name, value in tags.items():
        setattr(made, name, value)
    made.save_as(path)
    assert mismatches(read_header(path), ("frontal",)) == ([reason] if reason else [])


@pytest.mark.parametrize("interpretation", ["monochrome1", "Monochrome1", "MONOCHROME1\\MONOCHROME1"])
def test_an_interpretation_may_be_in_any_case_or_said_twice(interpretation, tmp_path):
    close(read(dicom(tmp_path, PhotometricInterpretation=interpretation)), 255 - RANGE)


# ----------------------------------------------------------------------------- hardly any gray levels


@pytest.mark.parametrize("size", [16, 32, 224])
def test_pictures_with_hardly_any_gray_levels_are_flat(size):
    image = ImageTransform(size)(SHOWN).numpy()
    labelled = np.zeros_like(image)
    labelled[0, 0, : size // 8] = 255
    flat = [image // 16, np.zeros_like(image), np.full_like(image, 200), labelled, image // 128 * 255]
    assert [is_flat(one) for one in flat] == [True] * 5
    assert [is_flat(one) for one in (image, 255 - image, image // 4)] == [False] * 3


def test_gray_levels_are_those_of_nearly_all_pixels():
    pixels = np.repeat(np.arange(10, dtype=np.uint8), 100)
    pixels[:5] = 200
    assert gray_levels(pixels) == 10
    assert gray_levels(np.zeros(7, np.uint8)) == 1


def test_an_image_of_few_pixels_is_not_flat_for_that():
    assert not is_flat(np.arange(9, dtype=np.uint8).reshape(3, 3))
    assert not is_flat(np.zeros((1, 1), np.uint8))

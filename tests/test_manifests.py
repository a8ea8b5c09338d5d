"""A corpus of one's own: names, views, people, paths and encodings as spreadsheets and people leave them."""

import math
import os
import warnings

import numpy as np
import pytest
from PIL import Image

from vkd_pyro.data.corpora.common.patients import age_of, says_age, says_sex, sex_of
from vkd_pyro.data.corpora.common.views import view_of
from vkd_pyro.data.corpora.manifest import Manifest
from vkd_pyro.data.doctor import examine
from vkd_pyro.data.ids import crowded, names_nobody, rounded, spelling
from vkd_pyro.data.selection import Selection
from vkd_pyro.data.splits import Folds
from vkd_pyro.data.task import Task
from vkd_pyro.utils.errors import UserError

NUM_ROWS = 24


@pytest.fixture
def manifest(tmp_path):
    """Writes a manifest of 24 rows in which these columns are as they are given, and reads it."""

    def write(encoding="utf-8", separator=",", **columns):
        (tmp_path / "images").mkdir(exist_ok=True)
        for number in range(NUM_ROWS):
            Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "images" / f"{number:03d}.png")
        table = {"image": [f"images/{number:03d}.png" for number in range(NUM_ROWS)]}
        table |= {"patient": [f"p{number}" for number in range(NUM_ROWS)], "view": ["PA"] * NUM_ROWS}
        table |= {"Edema": ["1", "0"] * (NUM_ROWS // 2)} | columns
        lines = [separator.join(table), *(separator.join(row) for row in zip(*table.values(), strict=True))]
        (tmp_path / "manifest.csv").write_bytes("\n".join([*lines, ""]).encode(encoding))
        return Manifest(tmp_path / "manifest.csv")

    return write


def doubts_of(corpus):
    """What training warns of."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        Selection(corpus, 8).read()
    return [str(warning.message) for warning in caught]


# Names ----------------------------------------------------------------------------------------------------------------

HALVES = {
    "leading zeros": lambda n: (f"{n}", f"{n:06d}"),
    "leading zeros after a letter": lambda n: (f"P{n}", f"P{n:03d}"),
    "case": lambda n: (f"p{n}", f"P{n}"),
    "case of words": lambda n: (f"smith{n}-x", f"Smith{n}-X"),
    "floats": lambda n: (f"{n}", f"{n}.0"),
    "separators": lambda n: (f"p-{n}", f"p_{n}"),
    "a space": lambda n: (f"p{n}", f"p {n}"),
    "an apostrophe": lambda n: (f"{n}", f"'{n}"),
    "another dash": lambda n: (f"site-a-{n}", f"site\u2013a\u2013{n}"),
    "wide digits": lambda n: (f"{n}", "".join(chr(0xFF10 + int(digit)) for digit in str(n))),
    "a mark of no width": lambda n: (f"{n}", f"{n}\u200b"),
    "a float after a letter": lambda n: (f"p{n}", f"p{n}.0"),
    "leading zeros before a letter": lambda n: (f"P{n}A", f"P{n:03d}A"),
    "leading zeros after a year": lambda n: (f"2019-{n}", f"2019-{n:03d}"),
    "leading zeros after a site": lambda n: (f"site1-{n}", f"site1-{n:03d}"),
    "leading zeros before a dash": lambda n: (f"{n}-A", f"{n:03d}-A"),
    "a thousands separator": lambda n: (f"{5000 + n}", f"{5000 + n:,}".replace(",", " ")),
}


@pytest.mark.parametrize("spell", HALVES.values(), ids=HALVES)
def test_a_person_spelled_in_two_ways_is_in_one_split_or_refused(manifest, spell):
    names = [name for number in range(NUM_ROWS // 2) for name in spell(number)]
    with pytest.raises(UserError, match=r"manifest\.csv: 12 patients are spelled in several ways .* be in two splits"):
        manifest(patient=names).studies()
    diagnosis = examine(manifest(patient=names).path, 1)
    assert not diagnosis.can_train
    # Where the splits keep the two together, it is told, and folds, which do not, are refused.
    corpus = manifest(patient=names, split=["train"] * 16 + ["validation"] * 4 + ["test"] * 4)
    (doubt,) = doubts_of(corpus)
    assert "12 patients are spelled in several ways" in doubt
    assert "(rows 2 and 3), and count as 24; write each patient in one way" in doubt
    assert [check.verdict for check in examine(corpus.path, 1).checks if check.name == "cells"] == ["warning"]
    studies = corpus.studies()
    assert len(Task().splits(corpus, studies)["train"]) == 16
    with pytest.raises(UserError, match=r"patients are in both .*, spelled in two ways"):
        Task(folds=Folds(0)).splits(corpus, studies)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "nan",
        "NaN",
        "#N/A",
        "None",
        "NULL",
        "<NA>",
        "n/a",
        "-",
        "#REF!",
        "########",
        "?",
        "unk",
        "N/D",
        "Not known",
        "XXXX",
    ],
)
def test_a_patient_who_has_no_name_is_refused(manifest, name):
    with pytest.raises(UserError, match=r"row 3: its 'patient' is blank, or a word for none .* as in 2 of 24 rows"):
        manifest(patient=["p0", name, name, *(f"p{n}" for n in range(3, NUM_ROWS))]).studies()
    with pytest.raises(UserError, match="row 2: its 'study' is blank, or a word for none"):
        manifest(study=[name, *(f"s{n}" for n in range(1, NUM_ROWS))]).studies()


@pytest.mark.parametrize(
    "patients",
    [
        ["5.00123E+11", "5.00124E+11", "5.00125E+11"] * 8,
        ["5.00123e+11"] * 24,
        ["5.00123E11", "5.00124E11"] * 12,
        ['"5,00123E+11"', *(f"{number}" for number in range(23))],
        [f"{1234567890123450 + 10 * number}" for number in range(24)],
    ],
    ids=["few", "one", "without a plus", "a decimal comma", "16 digits"],
)
@pytest.mark.parametrize("column", ["patient", "study"])
def test_names_that_a_spreadsheet_rounded_are_refused(manifest, patients, column):
    with pytest.raises(UserError, match=rf"column '{column}' has numbers .*save the column as text"):
        manifest(**{column: patients}).studies()


def test_names_that_look_like_rounded_ones_are_read(manifest):
    patients = ["1E5", "3e12", "12345678901234567", *(f"{n}E+" for n in range(21))]
    assert [study.patient_id for study in manifest(patient=patients).studies()] == patients


def test_a_name_that_many_rows_share_is_told(manifest):
    (doubt,) = doubts_of(manifest(patient=["0"] * 12 + [f"p{number}" for number in range(12)]))
    assert "one patient has 12 of the 24 rows" in doubt
    assert doubts_of(manifest(patient=[f"{number // 4}" for number in range(NUM_ROWS)])) == []


def test_names_that_became_dates_are_told(manifest):
    (doubt,) = doubts_of(manifest(patient=["04-Mar", "2024-03-05", *(f"{number}-99" for number in range(22))]))
    assert "2 patients have dates for names" in doubt


def test_formulas_of_a_spreadsheet_are_names(manifest):
    corpus = manifest(patient=[f'"=""{number:05d}"""' for number in range(NUM_ROWS)])
    assert len({study.patient_id for study in corpus.studies()}) == NUM_ROWS
    assert doubts_of(corpus) == []


def test_a_study_spelled_in_two_ways_is_told(manifest):
    (doubt,) = doubts_of(manifest(study=["s1", "S1", *(f"s{number}" for number in range(2, NUM_ROWS))]))
    assert "1 studies are spelled in several ways" in doubt


@pytest.mark.parametrize(
    ("one", "other"),
    [
        *(
            ("p3", "p31"),
            ("1-23", "12-3"),
            ("a0f3", "af3"),
            ("a03f3", "a3f03"),
            ("3", "30"),
            ("1.5", "1.50"),
            ("É", "E"),
        ),
        *(
            ("1.1", "1.10"),
            ("1.2.840.3", "1.2.840.3.0"),
            ("1.2.840.3", "1.2.840.03"),
            ("p1.5", "p1.50"),
            ("a-10", "a-1"),
        ),
    ],
)
def test_names_of_different_people_stay_different(one, other):
    assert spelling(one) != spelling(other)


def test_a_name_of_zeros_is_read_to_its_end():
    assert spelling(100_000 * "0" + ".x") == 100_000 * "0" + ".x"


def test_words_for_nobody_are_few():
    assert not any(map(names_nobody, ("0", "Nan Li", "A", "#12", "none1", "x")))
    assert rounded(["1", "1.5", "1234567890123450"]) == ""
    assert crowded(["a"] * 7 + list("bcdefgh")) == 0


# One file -------------------------------------------------------------------------------------------------------------


def images(**changes):
    return [changes.get(f"row{number}", f"images/{number:03d}.png") for number in range(NUM_ROWS)]


@pytest.mark.parametrize("name", ["./images/000.png", "images//000.png", "images/../images/000.png", "images\\000.png"])
def test_one_file_in_two_rows_is_refused(manifest, name):
    with pytest.raises(UserError, match="row 6: its image is in an earlier row too, row 2"):
        manifest(image=images(row4=name)).studies()


@pytest.mark.parametrize("link", [os.symlink, os.link])
def test_one_file_of_two_patients_by_a_link_is_refused(tmp_path, manifest, link):
    manifest()
    link(tmp_path / "images" / "000.png", tmp_path / "copy.png")
    with pytest.raises(UserError, match="row 6: its image is the file of row 2, by a link, of another patient"):
        manifest(image=images(row4="copy.png")).studies()
    same = [f"p{number if number != 4 else 0}" for number in range(NUM_ROWS)]
    assert len(manifest(image=images(row4="copy.png"), patient=same).studies()) == NUM_ROWS


def test_a_copy_of_a_file_as_another_patient_is_told_by_the_doctor(tmp_path, manifest):
    path = manifest().path
    for number in range(NUM_ROWS):
        image = np.random.default_rng(number).integers(256, size=(16, 16)).astype(np.uint8)
        Image.fromarray(image).save(tmp_path / "images" / f"{number:03d}.png")
    (copies,) = [check for check in examine(path, 1).checks if check.name == "copies"]
    assert copies.verdict == "ok"
    (tmp_path / "images" / "007.png").write_bytes((tmp_path / "images" / "003.png").read_bytes())
    (copies,) = [check for check in examine(path, 1).checks if check.name == "copies"]
    assert copies.verdict == "warning"
    assert "2 images of several patients are 1, as " in copies.found
    assert copies.found.endswith("003.png and " + str(tmp_path / "images" / "007.png"))


# Views ----------------------------------------------------------------------------------------------------------------

VIEWS = {
    "frontal": [
        *("AP", "PA", "pa", "FRONTAL", "Frontal", "F", "AP_horizontal", "POSTEROANTERIOR", "antero-posterior", "P.A."),
        *("PA erect", "AP portable", "ap_supine", "AP/PA", "P-A", "postero anterior", "Chest PA", "frontal view"),
        *("AP SEMI-ERECT", "PaView", "AP 1"),
    ],
    "lateral": [
        *("L", "l", "LL", "RL", "LAT", "Lat.", "LATERAL", "Left lateral", "lateral (left)", "LEFT_LATERAL", "R LAT"),
        *("LLAT", "lateral view", "XTABLE LATERAL", "LATERAL ERECT", "Lateral\u00a0view", "PROFILE"),
    ],
    "unknown": [
        *("", " ", "LLD", "RLD", "left lateral decubitus", "AP LLD", "RAO", "LPO", "oblique", "AP AXIAL", "lordotic"),
        *(
            "SWIMMERS",
            "COSTAL",
            "EXCLUDE",
            "PA and lateral",
            "PA/LAT",
            "nan",
            "None",
            "0",
            "1",
            "R",
            "left",
            "portable",
        ),
        *("supine", "not frontal", "UNK", "x" * 5000),
    ],
}


@pytest.mark.parametrize(("name", "view"), [(name, view) for view, names in VIEWS.items() for name in names])
def test_a_view_by_any_of_its_names(name, view):
    assert view_of(name) == view


def test_laterals_of_padchest_are_left_out_of_a_manifest(manifest):
    corpus = manifest(view=["PA", "L"] * 12)
    selected = Selection(corpus, 8).read()
    assert len(selected.studies) == 12
    assert selected.left_out == {"images of lateral view": 12, "studies without a chosen view": 12}


def test_views_that_are_not_known_are_left_out_counted_and_can_be_kept(manifest):
    corpus = manifest(view=["PA"] * 20 + ["LLD", "LLD", "", "nan"])
    with pytest.warns(UserWarning, match="'view': 2 cells are not understood, as in row 22, and counted as unknown"):
        selected = Selection(corpus, 8).read()
    assert len(selected.studies) == 20
    assert selected.left_out["images of unknown view"] == 4
    with pytest.warns(UserWarning, match="2 cells are not understood"):
        assert len(Selection(corpus, 8, unknown_views="keep").read().studies) == NUM_ROWS
    (views,) = [check for check in examine(corpus.path, 1).checks if check.name == "views"]
    assert "left out: 4 images of unknown view" in views.found
    with pytest.raises(UserError, match=r"24 images of unknown view.*unknown_views keep"):
        Selection(manifest(view=[""] * NUM_ROWS), 8).read()


# Sex and age ----------------------------------------------------------------------------------------------------------

AGES = {
    58: ["58", "058Y", "58Y", "58y", "58 years", "58 yrs", "58.0", "58,0", "58 Year", "58yo", "58 y/o", "58 years old"],
    90: ["90+", ">89", "> 89", "≥90", ">=90", "090Y", "90 and over", "90 or older", "over 89", "90Y+", ">89 years"],
    0.5: ["006M", "6 months", "6mo", "0.5"],
    None: ["", "nan", "unknown", "U", "30-39", "<1", "old", "411", "999", "-1", "1950-01-02", "nine", "58 59", "5e1"],
}


@pytest.mark.parametrize(("cell", "age"), [(cell, age) for age, cells in AGES.items() for cell in cells])
def test_an_age_as_people_write_it(cell, age):
    assert age_of(cell) == pytest.approx(math.nan if age is None else age, nan_ok=True)


@pytest.mark.parametrize("cell", ["O", "U", "other", "X", "nan", "unknown", "d", "", "Not stated", "?"])
def test_a_sex_that_is_another_or_not_known_is_understood(cell):
    assert sex_of(cell) == "unknown"
    assert says_sex(cell)


def test_sexes_and_ages_that_are_not_understood_are_unknown_and_told(manifest):
    sexes, ages = ["F", "O", "U", "", "1", "woman"], ["90+", ">89", "34Y", "", "old", "999"]
    corpus = manifest(sex=sexes * 4, age=ages * 4)
    studies = corpus.studies()[:6]
    assert [study.sex for study in studies] == ["female", *["unknown"] * 5]
    assert [None if math.isnan(study.age) else study.age for study in studies] == [90, 90, 34, None, None, None]
    assert not says_age("old")
    sex, age = doubts_of(corpus)
    assert "column 'sex': 8 cells are not understood, as in row 6, and counted as unknown; expected F, M" in sex
    assert "column 'age': 8 cells are not understood, as in row 6, and counted as unknown; expected years" in age


# Paths and encodings --------------------------------------------------------------------------------------------------

TEXT = "Kleiner Erguss é."


def test_backslashes_name_files(tmp_path, manifest):
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.txt").write_text("Large.")
    rows = [rf"images\{number:03d}.png" for number in range(NUM_ROWS)]
    studies = manifest(image=rows, report=[r"notes\a.txt"] * NUM_ROWS).studies()
    assert len(studies) == NUM_ROWS
    assert studies[0].report == {"report": "Large."}


def test_a_file_may_have_a_backslash_in_its_name(tmp_path, manifest):
    manifest()
    (tmp_path / "images" / "000.png").rename(tmp_path / r"images\000.png")
    assert len(manifest(image=images(row0=r"images\000.png")).studies()) == NUM_ROWS


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_text_files_in_any_unicode(tmp_path, manifest, encoding):
    (tmp_path / "a.txt").write_bytes(TEXT.encode(encoding))
    studies = manifest(report=["a.txt"] * NUM_ROWS).studies()
    assert studies[0].report == {"report": TEXT}


def test_text_files_in_no_unicode_are_refused(tmp_path, manifest):
    (tmp_path / "a.txt").write_bytes(TEXT.encode("cp1252"))
    with pytest.raises(UserError, match=r"row 2: its report .*a\.txt is not a readable text file"):
        manifest(report=["a.txt"] * NUM_ROWS).studies()


def test_a_pipe_is_no_text_file_and_what_may_be_a_report_is_not_shown(tmp_path, manifest):
    os.mkfifo(tmp_path / "a.txt")
    with pytest.raises(UserError, match=r"its report .*a\.txt is not a readable text file"):
        manifest(report=["a.txt"] * NUM_ROWS).studies()
    with pytest.raises(UserError, match="its report is not a readable text file"):
        manifest(report=["Large effusion in scan.txt"] * NUM_ROWS).studies()


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_tables_in_any_unicode_and_with_any_separator(manifest, encoding, separator):
    corpus = manifest(encoding, separator, report=[TEXT] * NUM_ROWS)
    assert corpus.findings == ("Edema",)
    assert corpus.studies()[0].report == {"report": TEXT}
    assert examine(corpus.path.parent, 1).corpus == "manifest"


def test_the_line_that_tells_excel_the_separator_and_decimal_commas(tmp_path, manifest):
    path = manifest(separator=";", Edema=["1,0", "-1,0"] * 12).path
    lines = [f"{line};;" for line in path.read_text().splitlines()]  # and blank columns, as spreadsheets leave them
    path.write_text("\n".join(["sep=;", *lines, ";;;;;", ""]))
    assert [study.labels.tolist() for study in Manifest(path).studies()[:2]] == [[1], [-1]]


@pytest.mark.parametrize(
    ("cell", "how"),
    [
        ("'images/000.png'", "without its quotes"),
        ("images%2F000.png", "with what is written as %20 decoded"),
        ("images/000.PNG", "in other capitals"),
        ("Images/000.png", "in other capitals"),
        ("IMAGES\\000.PNG", "in other capitals"),
        ("C:\\xrays\\images\\000.png", "without the first of its folders"),
        ("/mnt/d/images/000.png", "without the first of its folders"),
        ("images/000", "with the suffix .png"),
        ("images/000.jpg", "with the suffix .png"),
        ("C:/Users/me/000.png", None),
        ("..", None),
        ("a\0b", None),
    ],
)
def test_images_that_are_not_found_are_named_by_what_is_wrong(manifest, cell, how):
    corpus = manifest(image=images(row0=cell))
    doubts = doubts_of(corpus)
    assert corpus.left_out["images listed, but no file"] == 1
    assert [f"1 images are not found; that of row 2 would be {how}; correct" in doubt for doubt in doubts] == [
        True
    ] * bool(how)


@pytest.mark.parametrize(
    ("column", "known"),
    [
        *(("Report", "report"), ("VIEW", "view"), ("Sex", "sex"), ("Gender", "sex"), ("patient_id", "patient")),
        *(("image path", "image"), ("fold", "split"), ("Study ID", "study"), ("ViewPosition", "view"), ("Age", "age")),
    ],
)
def test_columns_by_other_names_are_no_findings(manifest, column, known):
    with pytest.raises(UserError, match=rf"column '{column}' would be a finding \(did you mean '{known}'\?\)"):
        manifest(**{column: ["1", "0"] * 12}).studies()


def test_columns_that_are_alike_are_refused(manifest):
    with pytest.raises(UserError, match="columns 'Edema' and 'edema' are alike"):
        manifest(edema=["1"] * NUM_ROWS).studies()
    assert manifest(**{" Pleural Effusion ": ["1"] * NUM_ROWS}).findings == ("Edema", "Pleural Effusion")


# Quotes ---------------------------------------------------------------------------------------------------------------

HEADER = "image,report,patient,view,Edema\n"
QUOTES = {
    "to the end": ('a,"Clear,p1,PA,1\nb,Clear,p2,PA,0\n', 2),
    "to the next quote": ('a,x,p0,PA,1\nb,"Clear,p1,PA,1\nc,"Large, very",p2,PA,0\n', 3),
    "to another stray one": ('images/0.png,"Clear,p1,PA,1\nimages/1.png,Clear",p2,PA,0\nimages/2.png,x,p3,PA,1\n', 2),
    "over whole rows": (
        'images/0.png,x,p1,PA,1\nimages/1.png,"No,p2,PA,0\nimages/2.png,x,p3,PA,1\nimages/3.png,No",p4,PA,1\n',
        3,
    ),
    "a quoted word first": ('a,"Clear" lungs,p1,PA,1\n', 2),
    "quotes with backslashes": ('a,"He said \\"no\\" once",p1,PA,1\n', 2),
}


@pytest.mark.parametrize(("rows", "line"), QUOTES.values(), ids=QUOTES)
def test_a_quote_that_swallows_rows_is_named(tmp_path, rows, line):
    (tmp_path / "manifest.csv").write_text(HEADER + rows)
    with pytest.raises(UserError, match=rf"manifest\.csv: line {line}: a quote .*mend the quotes"):
        Manifest(tmp_path / "manifest.csv").studies()


def test_quotes_and_lines_in_reports_swallow_nothing(tmp_path, manifest):
    reports = [
        *('"FINDINGS: 1. Clear, no effusion,\n2. Heart, large, 1\n\nIMPRESSION: x, y, PA, 1"', '5"" tube', '5" tube'),
        *('"He said ""no"", twice"', '"a\n""b""\n"', '"images, two,\nedema, effusion"'),
    ]
    corpus = manifest(report=reports * 4)
    assert len(corpus.studies()) == NUM_ROWS
    (tmp_path / "manifest.csv").write_text('report,image,patient,view,Edema\n"a,b\nc",images/000.png,p1,PA,1\n')
    assert len(Manifest(tmp_path / "manifest.csv").studies()) == 1


def test_a_workbook_is_named(tmp_path):
    (tmp_path / "manifest.csv").write_bytes(b"PK\x03\x04" + bytes(100))
    with pytest.raises(UserError, match="a workbook of a spreadsheet, and no CSV file"):
        Manifest(tmp_path / "manifest.csv").studies()


# Whatever else --------------------------------------------------------------------------------------------------------

SECRETS = ("Verysecret", "zeromsecret")
NASTY = [
    *("", "nan", "#N/A", "5E+11", "\0", "\x1b[2J", '"', '""', "'", ",", ";", "\n", "\r", "\u2028", "\ufeff", "=1+1"),
    *(
        "-1",
        "1e999",
        "9" * 400,
        "x" * 200_000,
        "../" * 50,
        "/dev/zero",
        "/",
        ".",
        "~",
        "a.txt",
        "a.txt\0",
        "%s%n",
        "{}",
    ),
    *("images/000.png", "train", "PA", "\ud83d\ude00", "\u202egnp", "C:\\x.png", "http://x/y.png", "True", "1,0"),
]


def mutated(content, rng):
    """The bytes of a manifest, damaged in one to three ways."""
    for _ in range(rng.integers(1, 4)):
        lines = content.split(b"\n")
        at, row = int(rng.integers(len(content) + 1)), int(rng.integers(len(lines)))
        nasty = NASTY[rng.integers(len(NASTY))].encode("utf-8", "surrogatepass")
        cells = lines[row].split(b",")
        cells[rng.integers(len(cells))] = nasty
        content = [
            content[:at] + rng.bytes(3) + content[at + 3 :],
            content[:at],
            content[:at] + nasty + content[at:],
            b"\n".join([*lines[:row], b",".join(cells), *lines[row + 1 :]]),
            b"\n".join([*lines[:row], b",".join(cells), *lines[row + 1 :]]),
            b"\n".join([*lines[:row], *lines[row:][::-1]]),
            b"\n".join([*lines, lines[row]]),
            b"\n".join(lines[:row] + lines[row + 1 :]),
            content.replace(b",", b";"),
            content.decode("utf-8", "replace").encode("utf-16"),
            b"\n".join(line.rpartition(b",")[0] for line in lines),
            content.replace(b"\n", b"\r"),
        ][rng.integers(12)]
    return content


@pytest.mark.parametrize("seeds", [range(20), pytest.param(range(20, 320), marks=pytest.mark.slow)], ids=["20", "300"])
def test_a_damaged_manifest_is_read_or_refused_in_a_line(tmp_path, manifest, seeds):
    (tmp_path / "a.txt").write_text("Verysecret finding.")
    path = manifest(
        report=["a.txt", '"FINDINGS: Verysecret,\nlarge."', "Verysecret."] * 8,
        patient=[f"zeromsecret{number}" for number in range(NUM_ROWS)],
        split=["train"] * 16 + ["validation"] * 4 + ["test"] * 4,
        sex=["F", "M"] * 12,
        age=["90+", "34Y"] * 12,
    ).path
    whole = path.read_bytes()
    refused = 0
    for seed in seeds:
        path.write_bytes(mutated(whole, np.random.default_rng(seed)))
        lines = []
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                corpus = Manifest(path)
                Task().splits(corpus, Selection(corpus, 8).read().studies)
            except UserError as error:
                lines, refused = [str(error)], refused + 1
        lines += [str(warning.message) for warning in caught]
        assert all(line.isprintable() and len(line) < 1000 for line in lines), seed
        assert not any(secret in line for line in lines for secret in SECRETS), seed
    assert 0 < refused < len(seeds)

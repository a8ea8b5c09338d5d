"""Reports as they come: lines, headings, addenda, and cells that hold none."""

import numpy as np
import pytest
from PIL import Image

from vkd_pyro.data.corpora.manifest import Manifest
from vkd_pyro.data.labels.findings import ABSENT, CHEXPERT_FINDINGS, PRESENT, UNCERTAIN, UNMENTIONED
from vkd_pyro.data.labels.labeller import Labeller
from vkd_pyro.data.labels.spelling import spelled_out
from vkd_pyro.data.lines import unwrapped
from vkd_pyro.data.reports import ReportText, read_report, says_nothing, split_sections
from vkd_pyro.utils.errors import UserError

LABELLER = Labeller()


def labels(text: str | None) -> dict[str, float]:
    if text is None:
        return {}
    row = LABELLER.label([text])[0].tolist()
    return {name: value for name, value in zip(CHEXPERT_FINDINGS, row, strict=True) if value != UNMENTIONED}


@pytest.fixture
def report_of(tmp_path):
    """A cell of a manifest -> what is read of it."""

    def read(cell: str, **files: str) -> str | None:
        Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "a.png")
        for name, text in files.items():
            (tmp_path / f"{name}.txt").write_text(text)
        quoted = cell.replace('"', '""')
        (tmp_path / "m.csv").write_text(f'image,patient,report,Edema\na.png,p1,"{quoted}",0\n')
        return ReportText()([study.report for study in Manifest(tmp_path / "m.csv").studies()])[0]

    return read


REPORTS = {
    "line by line": (
        "FINDINGS:\n\nNo pneumothorax\n\nSmall left effusion\n\nHeart enlarged\n",
        {"Pneumothorax": ABSENT, "Pleural Effusion": PRESENT, "Cardiomegaly": PRESENT},
    ),
    "line by line, single": ("No pneumothorax\nHeart enlarged", {"Pneumothorax": ABSENT, "Cardiomegaly": PRESENT}),
    "line by line, small letters": (
        "no effusion\nheart enlarged",
        {"Pleural Effusion": ABSENT, "Cardiomegaly": PRESENT},
    ),
    "dashes": (
        "- No pneumothorax\n- Small left effusion\n- Right PICC",
        {"Pneumothorax": ABSENT, "Pleural Effusion": PRESENT, "Support Devices": PRESENT},
    ),
    "numbered": (
        "IMPRESSION:\n1. No acute fracture\n2. Small right pleural effusion",
        {"Fracture": ABSENT, "Pleural Effusion": PRESENT},
    ),
    "numbered with brackets": ("1) No fracture\n2) Small effusion", {"Fracture": ABSENT, "Pleural Effusion": PRESENT}),
    "paragraphs": (
        "IMPRESSION:\n\nNo pneumothorax\n\nModerate cardiomegaly",
        {"Pneumothorax": ABSENT, "Cardiomegaly": PRESENT},
    ),
    "wrapped": ("There is no\npleural effusion.", {"Pleural Effusion": ABSENT, "No Finding": PRESENT}),
    "headings in a line": (
        "INDICATION: Rule out pneumothorax. COMPARISON: None. FINDINGS: Lungs clear. IMPRESSION: Normal.",
        {"Lung Opacity": ABSENT, "No Finding": PRESENT},
    ),
    "headings": (
        " FINAL REPORT\n EXAMINATION:  CHEST (PA AND LAT)\n\n INDICATION:  Man with cough.  Evaluate for pneumonia or\n"
        " pneumothorax. History of CHF and right pleural effusion.\n\n COMPARISON:  Radiograph of ___, which showed a\n"
        " large left pneumothorax.\n\n FINDINGS:\n\n The lungs are clear.  Heart size is normal.\n\n IMPRESSION:\n\n"
        " No acute cardiopulmonary process.\n",
        {"Cardiomegaly": ABSENT, "Lung Opacity": ABSENT, "No Finding": PRESENT},
    ),
    "no heading of what is seen": (
        "INDICATION: pneumonia\n\nSmall effusion.",
        {"Pleural Effusion": PRESENT},
    ),
    "only an indication": ("INDICATION: Rule out pneumonia.", {}),
    "what was imaged": (
        "INDICATION: Pneumonia.\nCHEST, 2 VIEWS: Small effusion.",
        {"Pleural Effusion": PRESENT},
    ),
    "text above the headings": ("Small effusion. IMPRESSION: Effusion.", {"Pleural Effusion": PRESENT}),
    "an addendum": (
        "FINDINGS: No effusion.\nIMPRESSION: Normal.\n\nADDENDUM: There is a small pneumothorax.",
        {"Pleural Effusion": ABSENT, "Pneumothorax": PRESENT},
    ),
    "one line without full stops": (
        "INDICATION: ___F with cough // ?pneumothorax  COMPARISON: ___  FINDINGS: Small effusion IMPRESSION: No edema",
        {"Pleural Effusion": PRESENT, "Edema": ABSENT},
    ),
    "one line in small letters": (
        "indication: cough. findings: small effusion. impression: no edema.",
        {"Pleural Effusion": PRESENT, "Edema": ABSENT},
    ),
    "a word that also heads a section": (
        "FINDINGS: Normal heart. In comparison: new effusion. On today's examination: there is a pneumothorax.",
        {"Cardiomegaly": ABSENT, "Pleural Effusion": PRESENT, "Pneumothorax": PRESENT},
    ),
    "an indication at the end": ("FINDINGS: Small effusion INDICATION: pneumothorax", {"Pleural Effusion": PRESENT}),
    "a comparison in what is seen": (
        "FINDINGS: Comparison: none. Small effusion. Views: two. No edema. IMPRESSION: Cardiomegaly.",
        {"Pleural Effusion": PRESENT, "Edema": ABSENT, "Cardiomegaly": PRESENT},
    ),
    "a comparison and no other heading": (
        "Comparison: 2010. The heart is enlarged. Small effusion.",
        {"Cardiomegaly": PRESENT, "Pleural Effusion": PRESENT},
    ),
    "recommendations": (
        "IMPRESSION: Small effusion.\n\nRECOMMENDATION(S): CT to exclude a nodule.",
        {"Pleural Effusion": PRESENT},
    ),
    "an addendum that takes back": (
        "IMPRESSION: Small pneumothorax.\n\nADDENDUM: The pneumothorax is a skin fold.",
        {"Pneumothorax": UNCERTAIN},
    ),
}


@pytest.mark.parametrize(("text", "right"), REPORTS.values(), ids=REPORTS)
def test_a_report_in_a_cell_or_a_file_is_labelled_the_same(report_of, text, right):
    found = labels(report_of(text))
    assert labels(report_of("a.txt", a=text)) == found
    assert found == right
    assert labels(text) == right, "the labeller alone"


LINES = "INDICATION: Rule out pneumothorax.", "FINDINGS: Heart enlarged", "No edema", "Small left effusion"


@pytest.mark.parametrize(
    "between",
    ["\n", "\r\n", "\r", "\\n", "\\r\\n", "<br>", "<br />", "</p><p>", "\v", "\f", "\x85", "\u2028", "|", " | ",
     "\\.br\\", "&#10;", "_x000D_"],
)  # fmt: skip
def test_lines_are_lines_however_a_table_keeps_them(between):
    text = between.join(LINES)
    right = {"Cardiomegaly": PRESENT, "Edema": ABSENT, "Pleural Effusion": PRESENT}
    assert labels(text) == right
    assert labels(ReportText()([read_report(text)])[0]) == right


@pytest.mark.parametrize(
    "text",
    ["There isn\u2019t an effusion", "No&nbsp;effusion", "<b>FINDINGS:</b> No effusion", "No e\ufb00usion",
     "FINDINGS\uff1a No effusion"],
)  # fmt: skip
def test_characters_and_markup_of_elsewhere_are_read(text):
    assert labels(text)["Pleural Effusion"] == ABSENT


@pytest.mark.parametrize(
    "text", ["<" + 200_000 * " ", "\n " + 100_000 * "A", 300_000 * " ", 50_000 * "<b ", 100_000 * "|"]
)
def test_long_texts_without_sense_are_read_to_their_end(text):
    assert labels(text).keys() <= {"No Finding"}
    assert split_sections(text).keys() <= {"last_paragraph"}
    read_report(text)


def test_what_a_report_is_masked_in_keeps_its_places():
    assert Labeller().mask(["No&nbsp;effusion<br>Heart enlarged"]) == ["No&nbsp;___<br>___"]


def test_other_sections_may_be_asked_for():
    report = read_report("INDICATION: Cough. FINDINGS: Clear. IMPRESSION: Normal.")
    assert report == {"indication": "Cough.", "findings": "Clear.", "impression": "Normal."}
    assert ReportText(("indication",))([report]) == ["Cough."]


def test_mimic_has_numbers_in_headers_and_addenda_below():
    text = " CHEST, 2 VIEWS:  Small effusion\n\n IMPRESSION:  Normal.\n\n ADDENDUM:  A nodule.\n"
    sections = split_sections(text)
    assert sections == {"findings": "Small effusion", "impression": "Normal.", "addendum": "A nodule."}
    assert ReportText()([sections]) == ["Small effusion\n\nNormal. ADDENDUM: A nodule."]


@pytest.mark.parametrize(
    "cell",
    ["nan", "NaN", "None", "N/A", "n/a", "NA", "null", "0", "0.0", "-", "--", ".", "#N/A", "Report to follow", "___",
     "Report to follow.", "pending", "No report available", "not available", "See separate report", "unknown"],
)  # fmt: skip
def test_a_cell_that_says_there_is_no_report_is_none(report_of, cell):
    assert says_nothing(cell)
    assert report_of(cell) is None


def test_such_cells_are_counted(tmp_path):
    for name in "ab":
        Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / f"{name}.png")
    (tmp_path / "m.csv").write_text("image,patient,report,Edema\na.png,p1,nan,0\nb.png,p2,Clear.,0\n")
    corpus = Manifest(tmp_path / "m.csv")
    assert [study.report for study in corpus.studies()] == [{}, {"report": "Clear."}]
    assert corpus.left_out["reports that say there is none (nan, none, a number, to follow)"] == 1


@pytest.mark.parametrize(
    "cell", ["Normal.", "No change.", "Negative chest", "Unremarkable", "No acute disease", "Clear"]
)
def test_a_short_report_is_one(report_of, cell):
    assert report_of(cell) == cell


def test_a_file_may_be_named_in_capitals(report_of, tmp_path):
    (tmp_path / "b.TXT").write_text("Small effusion.")
    assert report_of("b.TXT") == "Small effusion."
    with pytest.raises(UserError, match=r"row 2: its report .*0\.TXT is not a readable text file"):
        report_of("notes/0.TXT")


@pytest.mark.parametrize("cell", ["notes/0.pdf", "r.docx", "report.HTML"])
def test_the_name_of_another_file_is_refused(report_of, cell):
    with pytest.raises(UserError, match=r"row 2, column 'report': the name of a \w+ file; expected the text itself"):
        report_of(cell)


def test_a_report_without_any_end_is_read_in_pieces():
    assert labels("no chest " * 20_000 + ". Effusion.") == {"Pleural Effusion": PRESENT}


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("There is no\n pleural effusion.", "There is no pleural effusion."),
        ("No pneumothorax\nSmall effusion", "No pneumothorax\n\nSmall effusion"),
        ("Clear.\n\nNormal.", "Clear. Normal."),
        ("No pneumothorax,\nNo effusion", "No pneumothorax, No effusion"),
        ("Effusion:\nnone\nEdema: no\nNodule: yes", "Effusion: none\n\nEdema: no\n\nNodule: yes"),
        ("NO PLEURAL\nEFFUSION\nNO EDEMA", "NO PLEURAL EFFUSION\n\nNO EDEMA"),
        ("Right\r\nPICC line\r\nNo effusion", "Right PICC line\n\nNo effusion"),
        ("", ""),
    ],
)
def test_lines_are_joined_where_they_wrap(text, lines):
    assert unwrapped(text) == lines
    assert unwrapped(lines) == lines


@pytest.mark.parametrize(
    ("word", "means"),
    [
        ("pnemonia", "pneumonia"),
        ("cardiomegally", "cardiomegaly"),
        ("effusoin", "effusion"),
        ("exclued", "excluded"),
        ("pna", "pneumonia"),
    ],
)
def test_misspellings_are_mended(word, means):
    assert spelled_out(word) == (means,)


@pytest.mark.parametrize(
    "word",
    [
        *("infusion", "diffusion", "perfusion", "emphysema", "fissure", "fraction", "module", "hemithorax", "tracheal"),
        *("portable", "table", "legion", "lungs", "bronchiectasis", "ectasia", "granuloma", "scoliosis", "effusive"),
        *("pneumatocele", "pneumoperitoneum", "pneumomediastinum", "induction", "infarction", "suspension", "reserved"),
        *("collar", "cartilage", "kyphosis", "osteophyte", "hernia", "elevation", "eventration", "consolidating"),
    ],
)
def test_right_words_are_left(word):
    assert spelled_out(word) == (word,)

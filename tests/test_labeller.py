"""The labeller against hand-written sentences: each group is one thing that reports do."""

import numpy as np
import pytest

from vkd_pyro.data.labels.findings import ABSENT, CHEXPERT_FINDINGS, PRESENT, UNCERTAIN, UNMENTIONED
from vkd_pyro.data.labels.labeller import Labeller

VALUES = {"+": PRESENT, "-": ABSENT, "?": UNCERTAIN}

SENTENCES: dict[str, list[tuple[str, str]]] = {
    "a finding is named": [
        ("There is cardiomegaly.", "+Cardiomegaly"),
        ("Moderate cardiac enlargement.", "+Cardiomegaly"),
        ("Patchy opacity in the right lower lobe.", "+Lung Opacity"),
        ("Bibasilar airspace opacities.", "+Lung Opacity"),
        ("Left basilar air-space disease.", "+Lung Opacity"),
        ("Right upper lobe infiltrate.", "+Lung Opacity"),
        ("Increased interstitial markings throughout both lungs.", "+Lung Opacity"),
        ("Ground-glass opacification of the left lung.", "+Lung Opacity"),
        ("There is a 7 mm nodule in the left upper lobe.", "+Lung Lesion"),
        ("Large right hilar mass.", "+Lung Lesion"),
        ("Cavitary lesion in the right apex.", "+Lung Lesion"),
        ("Multiple pulmonary metastases.", "+Lung Lesion"),
        ("Mild interstitial edema.", "+Edema"),
        ("Pulmonary vascular congestion.", "+Edema"),
        ("Findings of mild fluid overload.", "+Edema"),
        ("Dense consolidation of the lingula.", "+Consolidation"),
        ("The right middle lobe is consolidated.", "+Consolidation"),
        ("Right lower lobe pneumonia.", "+Pneumonia"),
        ("Findings consistent with infection.", "+Pneumonia"),
        ("Bibasilar atelectasis.", "+Atelectasis"),
        ("Streaky atelectatic changes at the left base.", "+Atelectasis"),
        ("Left lower lobe collapse.", "+Atelectasis"),
        ("Small left apical pneumothorax.", "+Pneumothorax"),
        ("Bilateral pneumothoraces.", "+Pneumothorax"),
        ("Small bilateral pleural effusions.", "+Pleural Effusion"),
        ("Pleural fluid tracks along the major fissure.", "+Pleural Effusion"),
        ("Biapical pleural thickening.", "+Pleural Other"),
        ("Calcified pleural plaques.", "+Pleural Other"),
        ("Healing left sixth rib fracture.", "+Fracture"),
        ("Old fractures of the right ribs.", "+Fracture"),
        ("Widened mediastinum.", "+Enlarged Cardiomediastinum"),
        ("There is mediastinal widening.", "+Enlarged Cardiomediastinum"),
    ],
    "devices": [
        ("Right IJ central venous catheter tip in the SVC.", "+Support Devices"),
        ("Left-sided dual-lead pacemaker.", "+Support Devices"),
        ("The endotracheal tube is 4.5 cm above the carina.", "+Support Devices"),
        ("NG tube courses below the diaphragm.", "+Support Devices"),
        ("Right PICC in standard position.", "+Support Devices"),
        ("Right chest Port-A-Cath.", "+Support Devices"),
        ("Interval removal of the left chest tube.", "-Support Devices"),
        ("The right PICC line has been removed.", "-Support Devices"),
        ("Endotracheal tube and NG tube have been removed.", "-Support Devices"),
        ("Lines and tubes are unchanged.", "+Support Devices"),
        ("Suture lines and septal lines.", ""),
        ("No pneumothorax, right chest tube in place.", "-Pneumothorax, +Support Devices"),
        ("No pneumothorax after removal of the chest tube.", "-Pneumothorax, -Support Devices"),
        ("No pneumothorax following PICC placement.", "-Pneumothorax, +Support Devices"),
        ("Unchanged tracheostomy tube. No pneumothorax.", "-Pneumothorax, +Support Devices"),
        ("No change in position of the endotracheal tube.", "+Support Devices"),
    ],
    "a finding is denied": [
        ("No pneumothorax.", "-Pneumothorax"),
        ("There is no pleural effusion.", "-Pleural Effusion"),
        ("No evidence of pneumonia.", "-Pneumonia"),
        ("No definite consolidation.", "-Consolidation"),
        ("No acute fracture is seen.", "-Fracture"),
        ("Without focal consolidation.", "-Consolidation"),
        ("The lungs are free of infiltrate.", "-Lung Opacity"),
        ("Lungs are clear of focal airspace disease.", "-Lung Opacity"),
        ("Negative for pneumothorax.", "-Pneumothorax"),
        ("Absence of pleural effusion.", "-Pleural Effusion"),
        ("There is not a pneumothorax.", "-Pneumothorax"),
        ("No new consolidation.", "-Consolidation"),
        ("No suspicious pulmonary nodules or masses.", "-Lung Lesion"),
        ("No cardiomegaly.", "-Cardiomegaly"),
        ("No overt pulmonary edema.", "-Edema"),
        ("Neither pneumothorax nor effusion.", "-Pneumothorax, -Pleural Effusion"),
        ("No radiographic evidence to suggest pneumonia.", "-Pneumonia"),
        ("No focal opacity concerning for pneumonia.", "-Lung Opacity, -Pneumonia"),
        ("No opacity suspicious for pneumonia.", "-Lung Opacity, -Pneumonia"),
        ("No findings to suggest edema.", "-Edema"),
        ("No findings consistent with pneumonia.", "-Pneumonia"),
    ],
    "the denial comes after": [
        ("Cardiomegaly is not seen.", "-Cardiomegaly"),
        ("Pneumothorax is not identified.", "-Pneumothorax"),
        ("Pleural effusions are not present.", "-Pleural Effusion"),
        ("Pneumonia has resolved.", "-Pneumonia"),
        ("The previously seen left effusion has resolved.", "-Pleural Effusion"),
        ("The right pneumothorax is no longer seen.", "-Pneumothorax"),
        ("Consolidation is absent.", "-Consolidation"),
        ("Pneumonia is unlikely.", "-Pneumonia"),
        ("Interval resolution of pulmonary edema.", "-Edema"),
        ("Resolved interstitial edema.", "-Edema"),
        ("Edema has resolved, small effusions remain.", "-Edema, +Pleural Effusion"),
        ("Pulmonary edema has cleared.", "-Edema"),
        ("Pneumothorax is excluded.", "-Pneumothorax"),
    ],
    "lists are denied as a whole": [
        ("No pneumothorax, effusion, or consolidation.", "-Pneumothorax, -Pleural Effusion, -Consolidation"),
        ("No focal consolidation or pleural effusion.", "-Consolidation, -Pleural Effusion"),
        ("No pleural effusions or pneumothoraces.", "-Pleural Effusion, -Pneumothorax"),
        ("No pneumothorax, effusion or focal airspace disease.", "-Pneumothorax, -Pleural Effusion, -Lung Opacity"),
        ("No focal opacity, edema, nodule, or fracture.", "-Lung Opacity, -Edema, -Lung Lesion, -Fracture"),
        ("Without evidence of pneumonia, edema, or effusion.", "-Pneumonia, -Edema, -Pleural Effusion"),
        ("Pneumothorax, effusion, and consolidation are not seen.", "-Pneumothorax, -Pleural Effusion, -Consolidation"),
        ("No effusion or small pneumothorax.", "-Pleural Effusion, -Pneumothorax"),
        ("No effusion/pneumothorax.", "-Pleural Effusion, -Pneumothorax"),
    ],
    "hedges before": [
        ("Possible right lower lobe pneumonia.", "?Pneumonia"),
        ("Probable left basilar atelectasis.", "?Atelectasis"),
        ("Likely small left effusion.", "?Pleural Effusion"),
        ("Questionable nodule in the right apex.", "?Lung Lesion"),
        ("Cannot exclude pneumonia.", "?Pneumonia"),
        ("Cannot rule out a small pneumothorax.", "?Pneumothorax"),
        ("Suspected rib fracture.", "?Fracture"),
        ("Findings suggestive of mild edema.", "?Edema"),
        ("Findings are concerning for pneumonia.", "?Pneumonia"),
        ("Worrisome for malignancy.", "?Lung Lesion"),
        ("Perhaps mild pulmonary vascular congestion.", "?Edema"),
        ("Opacity may represent atelectasis.", "+Lung Opacity, ?Atelectasis"),
        ("Opacity which could reflect pneumonia.", "+Lung Opacity, ?Pneumonia"),
        ("Left basilar opacity, likely atelectasis.", "+Lung Opacity, ?Atelectasis"),
        ("Right basilar opacity is likely atelectasis.", "+Lung Opacity, ?Atelectasis"),
        ("There may be a trace effusion.", "?Pleural Effusion"),
        ("Concern for pneumothorax.", "?Pneumothorax"),
        ("Borderline cardiomegaly.", "?Cardiomegaly"),
        ("Opacities may be compatible with atelectasis.", "+Lung Opacity, ?Atelectasis"),
        ("Opacity may be due to infection.", "+Lung Opacity, ?Pneumonia"),
        ("Findings consistent with possible pneumonia.", "?Pneumonia"),
        ("Evaluation for pneumothorax is limited.", "?Pneumothorax"),
        ("Minimal if any pleural effusion.", "?Pleural Effusion"),
        ("?Pneumonia.", "?Pneumonia"),
    ],
    "hedges after": [
        ("Pneumonia cannot be excluded.", "?Pneumonia"),
        ("A small pleural effusion cannot be excluded.", "?Pleural Effusion"),
        ("Underlying consolidation is not excluded.", "?Consolidation"),
        ("Early pneumonia is possible.", "?Pneumonia"),
        ("A small pneumothorax is difficult to exclude.", "?Pneumothorax"),
        ("Superimposed infection should be considered.", "?Pneumonia"),
        ("Mild edema may be present.", "?Edema"),
        ("Pneumonia is suspected.", "?Pneumonia"),
        ("Pneumonia can not be ruled out.", "?Pneumonia"),
        ("Pneumonia is less likely.", "?Pneumonia"),
        ("Nondisplaced fractures may not be demonstrated.", "?Fracture"),
        ("Atypical infection is another consideration.", "?Pneumonia"),
        ("Pneumonia in the appropriate clinical setting.", "?Pneumonia"),
        ("In the appropriate clinical setting, this is compatible with pneumonia.", "?Pneumonia"),
        ("Please correlate for symptoms of infection.", "?Pneumonia"),
    ],
    "alternatives": [
        ("Atelectasis versus pneumonia.", "?Atelectasis, ?Pneumonia"),
        ("Bibasilar opacities, atelectasis vs. pneumonia.", "+Lung Opacity, ?Atelectasis, ?Pneumonia"),
        ("Atelectasis or early pneumonia at the left base.", "?Atelectasis, ?Pneumonia"),
        ("Small effusion or pleural thickening.", "?Pleural Effusion, ?Pleural Other"),
        ("Atelectasis rather than pneumonia.", "+Atelectasis, -Pneumonia"),
        ("Opacity may represent atelectasis or pneumonia.", "+Lung Opacity, ?Atelectasis, ?Pneumonia"),
        ("Likely atelectasis rather than pneumonia.", "?Atelectasis, -Pneumonia"),
        ("A nodule or mass in the right apex.", "+Lung Lesion"),
        ("Atelectasis and/or pneumonia.", "?Atelectasis, ?Pneumonia"),
        ("Basilar atelectasis or scarring.", "?Atelectasis"),
    ],
    "a hedge ends where a denial begins, and the other way round": [
        ("Possible atelectasis without effusion.", "?Atelectasis, -Pleural Effusion"),
        ("Likely atelectasis, no pneumothorax.", "?Atelectasis, -Pneumothorax"),
        ("No pneumothorax, possible small effusion.", "-Pneumothorax, ?Pleural Effusion"),
        ("No effusion, although pneumonia cannot be excluded.", "-Pleural Effusion, ?Pneumonia"),
        ("No pneumothorax but a small effusion may be present.", "-Pneumothorax, ?Pleural Effusion"),
        ("Possible pneumonia but no effusion.", "?Pneumonia, -Pleural Effusion"),
        ("Probable edema with small effusions.", "?Edema, +Pleural Effusion"),
    ],
    "pseudo-negations": [
        ("No change in the left pleural effusion.", "+Pleural Effusion"),
        ("No significant interval change in bibasilar atelectasis.", "+Atelectasis"),
        ("No increase in pneumothorax size.", "+Pneumothorax"),
        ("Not only edema but also effusions.", "+Edema, +Pleural Effusion"),
        ("The pleural effusion has not changed.", "+Pleural Effusion"),
        ("The pneumothorax has not significantly increased.", "+Pneumothorax"),
        ("Edema is not significantly changed.", "+Edema"),
        ("Without significant change in the right effusion.", "+Pleural Effusion"),
        ("No interval improvement in consolidation.", "+Consolidation"),
        ("The effusion has not resolved.", "+Pleural Effusion"),
        ("The pneumothorax has nearly resolved.", "+Pneumothorax"),
        ("Effusion with or without atelectasis.", "+Pleural Effusion, ?Atelectasis"),
        ("No further increase in the effusion.", "+Pleural Effusion"),
        ("Near complete resolution of the effusion.", "+Pleural Effusion"),
        ("Left effusion not seen on the prior exam.", "+Pleural Effusion"),
    ],
    "a denial ends": [
        ("No pneumothorax, but there is a small effusion.", "-Pneumothorax, +Pleural Effusion"),
        ("No consolidation; small effusion.", "-Consolidation, +Pleural Effusion"),
        ("No pneumothorax. Small effusion.", "-Pneumothorax, +Pleural Effusion"),
        ("No effusion, however there is atelectasis.", "-Pleural Effusion, +Atelectasis"),
        ("No effusion and there is mild edema.", "-Pleural Effusion, +Edema"),
        ("No pneumothorax and stable effusion.", "-Pneumothorax, +Pleural Effusion"),
        ("No pneumothorax, stable cardiomegaly.", "-Pneumothorax, +Cardiomegaly"),
        ("No focal consolidation aside from bibasilar atelectasis.", "-Consolidation, +Atelectasis"),
        ("No acute infiltrate except left basilar atelectasis.", "-Lung Opacity, +Atelectasis"),
        ("Cardiomegaly without edema.", "+Cardiomegaly, -Edema"),
        ("Stable effusion and no pneumothorax.", "+Pleural Effusion, -Pneumothorax"),
        ("Effusion, no edema.", "+Pleural Effusion, -Edema"),
        ("Small right effusion with no pneumothorax.", "+Pleural Effusion, -Pneumothorax"),
        ("Bibasilar atelectasis without pneumothorax or effusion.", "+Atelectasis, -Pneumothorax, -Pleural Effusion"),
    ],
    "organs and what is said of them": [
        ("Heart size is normal.", "-Cardiomegaly"),
        ("The heart is normal in size.", "-Cardiomegaly"),
        ("Normal heart size.", "-Cardiomegaly"),
        ("The heart is enlarged.", "+Cardiomegaly"),
        ("The heart is not enlarged.", "-Cardiomegaly"),
        ("Cardiac silhouette is mildly enlarged.", "+Cardiomegaly"),
        ("Enlarged cardiac silhouette.", "+Cardiomegaly"),
        ("Enlargement of the cardiac silhouette.", "+Cardiomegaly"),
        ("No enlargement of the cardiac silhouette.", "-Cardiomegaly"),
        ("The heart may be enlarged.", "?Cardiomegaly"),
        ("Heart size is borderline.", "?Cardiomegaly"),
        ("Heart size is at the upper limits of normal.", "-Cardiomegaly"),
        ("Heart size is borderline enlarged.", "?Cardiomegaly"),
        ("The mediastinum is stable with borderline heart size.", "?Cardiomegaly"),
        ("Widening of the upper mediastinum.", "+Enlarged Cardiomediastinum"),
        ("The pulmonary vascularity is prominent.", "+Edema"),
        ("There is air in the mediastinum, secondary to a large hernia.", ""),
        ("Heart size is stable.", ""),
        ("Stable enlarged heart.", "+Cardiomegaly"),
        ("Heart size is upper limits of normal or mildly enlarged.", "?Cardiomegaly"),
        ("Heart size remains slightly large.", "+Cardiomegaly"),
        ("Heart size is within normal limits and the lungs are clear.", "-Cardiomegaly, -Lung Opacity"),
        ("Clear lungs.", "-Lung Opacity"),
        ("The lungs are clear bilaterally.", "-Lung Opacity"),
        ("The heart and mediastinum are normal.", "-Cardiomegaly, -Enlarged Cardiomediastinum"),
        ("The mediastinum is widened.", "+Enlarged Cardiomediastinum"),
        ("Mediastinal contours are unremarkable.", "-Enlarged Cardiomediastinum"),
        ("The mediastinum is not widened.", "-Enlarged Cardiomediastinum"),
        ("Heart size is normal, the mediastinum is widened.", "-Cardiomegaly, +Enlarged Cardiomediastinum"),
        ("The mediastinum is widened and heart size is normal.", "+Enlarged Cardiomediastinum, -Cardiomegaly"),
        ("Heart size and mediastinal contours are normal.", "-Cardiomegaly, -Enlarged Cardiomediastinum"),
        ("Normal heart size and mediastinal contours.", "-Cardiomegaly, -Enlarged Cardiomediastinum"),
        ("Heart size is stable and the aorta is prominent.", ""),
        ("Pulmonary vasculature is normal.", "-Edema"),
        ("The pulmonary vasculature is engorged.", "+Edema"),
        ("Heart size is normal with mild edema.", "-Cardiomegaly, +Edema"),
        ("Pleural spaces are clear.", "-Pleural Effusion"),
        ("The osseous structures are intact.", "-Fracture"),
    ],
    "several findings in one phrase": [
        ("Right hydropneumothorax.", "+Pneumothorax, +Pleural Effusion"),
        ("No hydropneumothorax.", "-Pneumothorax, -Pleural Effusion"),
        ("Nodular opacity in the left apex.", "+Lung Opacity, +Lung Lesion"),
        ("Consolidative opacity at the right base.", "+Lung Opacity, +Consolidation"),
        ("Left pleural effusion with adjacent atelectasis.", "+Pleural Effusion, +Atelectasis"),
    ],
    "heart failure leaves the heart's size open": [
        ("Congestive heart failure.", "+Edema, ?Cardiomegaly"),
        ("Findings of CHF.", "+Edema, ?Cardiomegaly"),
        ("Possible CHF.", "?Edema, ?Cardiomegaly"),
        ("No evidence of CHF.", "-Edema"),
        ("Cardiomegaly with heart failure.", "+Edema, +Cardiomegaly"),
        ("Heart failure. The heart is normal in size.", "+Edema, ?Cardiomegaly"),
    ],
    "words that only look like findings": [
        ("Small pericardial effusion.", ""),
        ("Subcutaneous emphysema and soft tissue edema.", ""),
        ("Collapse of the T8 vertebral body.", ""),
        ("Kerley B lines.", "+Edema"),
        ("Low lung volumes.", ""),
        ("Lytic lesions of the ribs.", ""),
        ("Plate-like atelectasis without mass effect.", "+Atelectasis"),
        ("The lungs are not clear.", ""),
        ("The tip projects outside the thoracic cavity.", ""),
        ("Old granulomatous disease.", ""),
        ("Sequela of prior granulomatous infection.", ""),
        ("Midline trachea.", ""),
        ("Bone density is normal.", ""),
    ],
    "sentences add up": [
        ("No effusion on the left. Effusion on the right.", "+Pleural Effusion"),
        ("No pneumonia. Pneumonia cannot be excluded.", "?Pneumonia"),
        ("Possible edema. Definite edema.", "+Edema"),
        ("Possible edema. No edema. Edema.", "+Edema"),
        ("The left lung is clear. Opacity in the right lung.", "+Lung Opacity"),
        ("1. No pneumothorax. 2. Small effusion.", "-Pneumothorax, +Pleural Effusion"),
        ("1. Possible pneumonia 2. No effusion", "?Pneumonia, -Pleural Effusion"),
    ],
    "capitals": [
        ("NO PNEUMOTHORAX.", "-Pneumothorax"),
        ("CARDIOMEGALY.", "+Cardiomegaly"),
        ("Pneumonia Cannot Be Excluded.", "?Pneumonia"),
        ("PLEURAL EFFUSION IS NOT SEEN.", "-Pleural Effusion"),
        ("HEART SIZE NORMAL.", "-Cardiomegaly"),
        ("Picc in place.", "+Support Devices"),
    ],
    "lines are wrapped": [
        ("There is no pleural\n effusion.", "-Pleural Effusion"),
        (" Moderate interstitial\n edema and pleural\n thickening.", "+Edema, +Pleural Other"),
        ("The heart size is within\n normal limits.", "-Cardiomegaly"),
        ("Pneumonia cannot\r\n be excluded.", "?Pneumonia"),
        ("There is no evidence of focal consolidation, pneumothorax, or\n pleural effusion.",
         "-Consolidation, -Pneumothorax, -Pleural Effusion"),
        ("FINDINGS: \n \n No pneumothorax\n \n IMPRESSION: \n \n Small effusion", "-Pneumothorax, +Pleural Effusion"),
    ],
    "words were removed": [
        ("There is no ___ pneumothorax.", "-Pneumothorax"),
        ("Compared to ___, the effusion has increased.", "+Pleural Effusion"),
        ("There is XXXX opacity in the left base.", "+Lung Opacity"),
        ("No XXXX of a pleural effusion.", "-Pleural Effusion"),
        ("Dr. ___ was told of the pneumothorax at ___ p.m.", "+Pneumothorax"),
    ],
    "hospital prose": [
        ("The cardiac silhouette is top-normal.", "-Cardiomegaly"),
        ("Low lung volumes accentuate the cardiac silhouette.", ""),
        ("Cardiac and mediastinal silhouettes are stable.", ""),
        ("Mild pulmonary edema has improved.", "+Edema"),
        ("Lungs are well expanded and clear.", "-Lung Opacity"),
        ("No acute cardiopulmonary process.", ""),
        ("Blunting of the left costophrenic angle may be due to a small effusion.", "?Pleural Effusion"),
        ("Patient is status post median sternotomy and CABG.", ""),
        ("Right Port-A-Cath ends in the low SVC without evidence of pneumothorax.", "+Support Devices, -Pneumothorax"),
        ("Bibasilar opacities likely reflect atelectasis, though infection is not excluded.",
         "+Lung Opacity, ?Atelectasis, ?Pneumonia"),
        ("Pulmonary edema has slightly worsened; moderate bilateral effusions persist.", "+Edema, +Pleural Effusion"),
        ("A mid thoracic compression deformity is unchanged.", ""),
        ("The nodule seen previously is no longer visualized.", "-Lung Lesion"),
        ("The heart size is mildly enlarged but stable.", "+Cardiomegaly"),
        ("No pneumothorax or effusion and the lungs are clear.", "-Pneumothorax, -Pleural Effusion, -Lung Opacity"),
        ("Moderate cardiomegaly is unchanged, as are bilateral effusions.", "+Cardiomegaly, +Pleural Effusion"),
        ("No evidence of pneumothorax; the right chest tube is unchanged.", "-Pneumothorax, +Support Devices"),
        ("The pulmonary vasculature is not engorged.", "-Edema"),
        ("Increase in the left effusion with no definite pneumothorax.", "+Pleural Effusion, -Pneumothorax"),
        ("Linear opacities are most consistent with atelectasis.", "+Lung Opacity, +Atelectasis"),
        ("Heterogeneous opacity at the right base, potentially aspiration or pneumonia.", "+Lung Opacity, ?Pneumonia"),
        ("Heart size cannot be assessed.", ""),
        ("Prominence of the hila may be due to vascular congestion.", "?Edema"),
        ("The pneumothorax has increased from small to moderate.", "+Pneumothorax"),
        ("No overt edema, although there may be mild vascular congestion.", "?Edema"),
        ("Left-sided AICD with leads in the right atrium and ventricle.", "+Support Devices"),
        ("Mediastinal and hilar contours are unremarkable.", "-Enlarged Cardiomediastinum"),
        ("Right upper lobe lesion concerning for malignancy.", "+Lung Lesion"),
        ("The opacity in the right lung has cleared.", "-Lung Opacity"),
        ("No relevant change since the previous radiograph with moderate cardiomegaly.", "+Cardiomegaly"),
        ("1. Small effusion\n 2. No edema", "+Pleural Effusion, -Edema"),
        ("The heart is enlarged, and there is no overt edema.", "+Cardiomegaly, -Edema"),
        ("No displaced rib fracture or pneumothorax is identified.", "-Fracture, -Pneumothorax"),
        ("Left retrocardiac opacity, atelectasis or consolidation.", "+Lung Opacity, ?Atelectasis, ?Consolidation"),
        ("Large hiatal hernia, no effusion.", "-Pleural Effusion"),
        ("Sternal wires are intact.", ""),
        ("Placement of a right chest tube with decrease in the pneumothorax.", "+Support Devices, +Pneumothorax"),
        ("Lateral view shows no effusion, but the left costophrenic angle is blunted.", "-Pleural Effusion"),
        ("Tip of the endotracheal tube is not seen below the carina.", "+Support Devices"),
    ],
    "whole reports": [
        (
            "The cardiac silhouette and mediastinum size are within normal limits. There is no pulmonary edema. "
            "There is no focal consolidation. There is no evidence of pneumothorax.",
            "-Cardiomegaly, -Enlarged Cardiomediastinum, -Edema, -Consolidation, -Pneumothorax",
        ),
        (
            "ET tube in standard position. Moderate cardiomegaly is stable. Bilateral effusions, right greater than "
            "left, with adjacent atelectasis.\n \n No pneumothorax.",
            "+Support Devices, +Cardiomegaly, +Pleural Effusion, +Atelectasis, -Pneumothorax",
        ),
        (
            "Retrocardiac opacity could represent atelectasis, but pneumonia cannot be excluded. No effusion.",
            "+Lung Opacity, ?Atelectasis, ?Pneumonia, -Pleural Effusion",
        ),
        ("Stable chest.", ""),
    ],
}  # fmt: skip
"""What is tested -> (text, expected): + is present, - absent, ? uncertain; findings not listed are unmentioned."""

CASES = [pytest.param(*case, id=f"{group}-{case[0]}") for group, cases in SENTENCES.items() for case in cases]


def expected(findings: str) -> dict[str, float]:
    return {item.strip()[1:]: VALUES[item.strip()[0]] for item in findings.split(",") if item.strip()}


@pytest.fixture(scope="module")
def labeller() -> Labeller:
    return Labeller()


def labels(labeller: Labeller, report: str) -> dict[str, float]:
    """What was mentioned, by name, without No Finding."""
    row = labeller.label([report])[0]
    return {
        f: v for f, v in zip(CHEXPERT_FINDINGS, row.tolist(), strict=True) if v != UNMENTIONED and f != "No Finding"
    }


def no_finding(labeller: Labeller, report: str) -> float:
    return labeller.label([report])[0, CHEXPERT_FINDINGS.index("No Finding")]


@pytest.mark.parametrize(("report", "findings"), CASES)
def test_sentences(labeller, report, findings):
    assert labels(labeller, report) == expected(findings)


def test_there_are_enough_sentences():
    assert len(CASES) >= 170


@pytest.mark.parametrize(
    "report",
    ["No pneumothorax.", "Stable chest.", "Right PICC.", "Heart size is normal. Lungs are clear. Pacemaker."],
)
def test_no_finding_where_nothing_but_devices_is_there(labeller, report):
    assert no_finding(labeller, report) == PRESENT


@pytest.mark.parametrize(
    "report", ["Small effusion.", "Possible pneumonia.", "CHF.", "Rib fracture. Pacemaker.", "", " \n", "___"]
)
def test_no_finding_is_never_denied(labeller, report):
    assert no_finding(labeller, report) == UNMENTIONED


@pytest.mark.parametrize("report", ["", "  \n \n ", "___", "___."])
def test_an_empty_report_mentions_nothing(labeller, report):
    assert (labeller.label([report]) == UNMENTIONED).all()


def test_the_shape_and_type_of_labels(labeller):
    reports = ["No pneumothorax.", "", "Edema."]
    found = labeller.label(report for report in reports)
    assert found.shape == (3, 14)
    assert found.dtype == np.float32
    assert set(np.unique(found)) <= {PRESENT, ABSENT, UNCERTAIN, UNMENTIONED}
    assert np.array_equal(found, np.concatenate([labeller.label([report]) for report in reports]))
    assert labeller.label([]).shape == (0, 14)


@pytest.mark.parametrize(
    ("report", "masked"),
    [
        ("No pneumothorax.", "No ___."),
        ("Small LEFT Effusion, possible pneumonia; PICC.", "Small LEFT ___, possible ___; ___."),
        ("There is pleural\n effusion.", "There is ___."),
        ("The heart is mildly enlarged.", "The ___."),
        ("Heart size and mediastinal contours are normal.", "___."),
        ("Right hydropneumothorax.", "Right ___."),
        ("CHF.", "___."),
        ("Stable chest, no ___ seen.", "Stable chest, no ___ seen."),
        ("", ""),
    ],
)
def test_mask(labeller, report, masked):
    assert labeller.mask([report]) == [masked]


def test_nothing_is_left_to_label_behind_the_mask(labeller):
    reports = [report for cases in SENTENCES.values() for report, _ in cases]
    assert (labeller.label(labeller.mask(reports))[:, 1:] == UNMENTIONED).all()

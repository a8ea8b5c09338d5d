"""The parts of the DICOM node: settings, UIDs, the ledger, what is taken, what a report says."""

import hashlib
import shutil
import stat
import subprocess
from pathlib import Path

import numpy as np
import pydicom
import pytest
from highdicom.sr import srread
from pydicom.sr.codedict import codes

from tests.pacs_trial import images, pacs_trial, radiograph, write_bundle
from tests.test_cli import refusal
from vkd_pyro import __version__, load_bundle
from vkd_pyro.artifacts.export.writing import converted
from vkd_pyro.data.labels.findings import CHESTXRAY14_FINDINGS, CHEXPERT_FINDINGS
from vkd_pyro.prediction import predict_files
from vkd_pyro.prediction.prediction import UncertaintySources
from vkd_pyro.serving.pacs import codes as terms
from vkd_pyro.serving.pacs.answering import Answered, Answerer, NotAnswered
from vkd_pyro.serving.pacs.identifiers import file_name, in_logs, is_uid, report_uid, uid_of
from vkd_pyro.serving.pacs.intake import Intake
from vkd_pyro.serving.pacs.ledger import GONE, ON_DISK, Ledger
from vkd_pyro.serving.pacs.selection import Instance, Refused
from vkd_pyro.serving.pacs.settings import (
    Answering,
    Dicom,
    PacsSettings,
    Polling,
    Receiving,
    Spool,
    Waiting,
    Web,
    is_loopback,
)
from vkd_pyro.serving.pacs.spool import SpoolFolder
from vkd_pyro.serving.pacs.waits import wait_after
from vkd_pyro.utils.errors import UserError

ARCHIVE = Dicom("127.0.0.1", 4242, "ARCHIVE")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return load_bundle(write_bundle(tmp_path_factory.mktemp("pacs") / "bundle"))


@pytest.fixture
def spool(tmp_path) -> SpoolFolder:
    return SpoolFolder(tmp_path / "spool")


@pytest.fixture
def ledger(tmp_path):
    (tmp_path / "spool").mkdir(mode=0o700, exist_ok=True)
    made = Ledger(tmp_path / "spool" / "ledger.sqlite")
    yield made
    made.close()


@pytest.fixture
def intake(spool, ledger) -> Intake:
    return Intake(spool, ledger, ("frontal", "lateral"))


def take(intake, image, **said) -> Instance:
    return intake.take(image.SOPInstanceUID, pacs_trial.encoded(image), **said)


def files_in(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and "ledger" not in path.name]


# ------------------------------------------------------------------------------------------- settings


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"receive": None}, "receive, poll: both are null"),
        ({"send_dicom": None}, "send_dicom, send_web: found neither"),
        ({"send_web": Web("http://a/b")}, "send_dicom, send_web: found both"),
        ({"receive": Receiving(host="0.0.0.0")}, "0.0.0.0 is heard by other machines; name who may send"),
        ({"receive": Receiving(ae_title="A" * 17)}, "receive.ae_title: found"),
        ({"receive": Receiving(calling_ae_titles=["A\\B"])}, "receive.calling_ae_titles: found"),
        ({"receive": Receiving(port=70000)}, "receive.port: found 70000"),
        ({"send_dicom": Dicom("a", 0, "B")}, "send_dicom.port: found 0"),
        ({"poll": Polling(Web("ftp://a"))}, r"poll.archive.url: expected http\(s\)"),
        ({"poll": Polling(Web("http://me:secret@a/b"))}, "without a password; see authorization_file"),
        ({"poll": Polling(Web("http://a/b", Path("none")))}, "poll.archive.authorization_file: no file none"),
        ({"answer": Answering(quiet_seconds=0)}, "answer.quiet_seconds: found 0"),
        ({"wait": Waiting(10, 5)}, "wait.longest_seconds: found 5"),
        ({"spool": Spool(ledger_days=0.5)}, "spool.ledger_days: found 0.5"),
    ],
)
def test_settings_that_cannot_be_are_refused_in_a_line(changes, message):
    usual = {"receive": Receiving(), "send_dicom": ARCHIVE}
    assert PacsSettings(**usual).poll is None
    with pytest.raises(UserError, match=message):
        PacsSettings(**(usual | changes))


@pytest.mark.parametrize(("host", "here"), [("127.0.0.1", 1), ("::1", 1), ("localhost", 1), ("10.0.0.1", 0), ("a", 0)])
def test_loopback(host, here):
    assert is_loopback(host) == here


def test_the_command_says_what_is_wrong():
    error = refusal("pacs", "nothing", "--config", "pacs")
    assert "nothing: not a bundle" in error
    assert "did you mean port?" in refusal("pacs", "nothing", "--config", "pacs", "--receive.prt", "1")
    assert "found neither" in refusal("pacs", "nothing", "--config", "pacs", "--send_dicom", "null")


def test_waits_double_up_to_the_longest():
    settings = Waiting(2, 60)
    for attempts, most in ((0, 2), (1, 4), (4, 32), (5, 60), (10_000, 60)):
        waits = [wait_after(attempts, settings) for _ in range(50)]
        assert most / 2 <= min(waits)
        assert max(waits) <= most
        assert len(set(waits)) > 1


# ------------------------------------------------------------------------------------------------ UIDs


def test_uids_follow_from_study_and_bundle_alone():
    first = report_uid("b" * 64, "1.2.3", ["1.2.3.1", "1.2.3.2"])
    assert first == report_uid("b" * 64, "1.2.3", ["1.2.3.2", "1.2.3.1"])
    assert first == "2.25.257509931013649916176624532264665298"
    others = {
        report_uid("c" * 64, "1.2.3", ["1.2.3.1", "1.2.3.2"]),
        report_uid("b" * 64, "1.2.4", ["1.2.3.1", "1.2.3.2"]),
        report_uid("b" * 64, "1.2.3", ["1.2.3.1"]),
        uid_of("report series", "b" * 64, "1.2.3"),
    }
    assert len(others | {first}) == 5
    assert all(is_uid(uid) and pydicom.uid.UID(uid).is_valid for uid in others)


@pytest.mark.parametrize("text", ["", "1.2/../../etc", "1..2", "1.2.", "a", "1" * 65, "1.2\n", "٣.1"])
def test_what_is_no_uid(text):
    assert not is_uid(text)


def test_names_of_files_and_of_studies_in_logs_tell_no_uid():
    assert in_logs("1.2.3") == f"study {hashlib.sha256(b'1.2.3').hexdigest()[:8]}"
    assert "/" not in file_name("../../1.2")


# ---------------------------------------------------------------------------------------------- ledger


def instance(number=1, study="1.2.3", left_out=""):
    return Instance(f"{study}.{number}", study, f"{study}.0", "1.2", left_out)


def test_a_study_is_complete_when_it_was_quiet_and_answered_once(ledger):
    assert ledger.take(instance(1), "", now=100)
    assert ledger.take(instance(2), "", now=105)
    assert not ledger.take(instance(2), "", now=106)  # again
    assert ledger.complete(10, since=0, now=115) is None
    study = ledger.complete(10, since=0, now=116)
    assert (study.uid, study.instances, study.gone, study.earlier) == ("1.2.3", ("1.2.3.1", "1.2.3.2"), 0, ())
    ledger.answered(study, "9.1", now=117)
    ledger.answered(study, "9.1", now=118)
    assert ledger.complete(10, since=0, now=1000) is None
    assert ledger.due_answer(60, now=119).uid == "9.1"
    ledger.sent("9.1", now=120)
    assert ledger.due_answer(60, now=121) is None
    assert ledger.counts() == {"answered": 1, "waiting": 0}


def test_quiet_begins_when_the_node_can_hear(ledger):
    ledger.take(instance(), "", now=100)
    assert ledger.complete(10, since=500, now=505) is None
    assert ledger.complete(10, since=500, now=510) is not None


def test_an_instance_that_comes_after_the_answer_makes_another(ledger):
    ledger.take(instance(1), "", now=0)
    ledger.answered(ledger.complete(1, 0, now=2), "9.1", now=3)
    assert not ledger.take(instance(1), "", now=4)  # sent again: answered already
    assert ledger.complete(1, 0, now=9) is None
    ledger.sent("9.1", now=5)
    ledger.deleted(["1.2.3.1"])
    assert ledger.take(instance(2), "", now=10)
    study = ledger.complete(1, 0, now=20)
    assert (study.instances, study.gone, study.earlier) == (("1.2.3.2",), 1, ("9.1",))


def test_an_instance_that_comes_while_a_study_is_answered_is_not_forgotten(ledger):
    ledger.take(instance(1), "", now=0)
    study = ledger.complete(1, 0, now=2)
    ledger.take(instance(2), "", now=2.5)
    ledger.answered(study, "9.1", now=3)
    assert ledger.complete(1, 0, now=4).instances == ("1.2.3.1", "1.2.3.2")


def test_what_is_left_out_makes_no_study_and_may_be_taken_later(ledger):
    assert not ledger.take(instance(left_out="a knee"), "", now=0)
    assert ledger.complete(1, 0, now=9) is None
    assert ledger.of_study("1.2.3") == {"1.2.3.1": "a knee"}
    assert ledger.take(instance(), "", now=10)
    assert ledger.of_study("1.2.3") == {"1.2.3.1": ON_DISK}


def test_a_study_of_which_nothing_can_be_said_waits_for_other_instances(ledger):
    ledger.take(instance(), "", now=0)
    ledger.unreadable(ledger.complete(1, 0, now=2), "damaged")
    assert ledger.complete(1, 0, now=9) is None
    ledger.take(instance(), "", now=10)  # whole, this time
    assert ledger.complete(1, 0, now=20) is not None


def test_attempts_and_waits_survive_a_restart(ledger, tmp_path):
    ledger.take(instance(), "", now=0)
    ledger.postpone_study("1.2.3", 50, "OSError")
    assert ledger.complete(1, 0, now=49) is None
    study = ledger.complete(1, 0, now=50)
    assert study.attempts == 1
    ledger.answered(study, "9.1", now=51)
    ledger.postpone_answer("9.1", 100, "status 0xC000")
    again = Ledger(tmp_path / "spool" / "ledger.sqlite")
    assert again.due_answer(60, now=99) is None
    assert again.due_answer(60, now=100).attempts == 1
    assert again.due_answer(60, now=20).uid == "9.1"  # the clock was set back by more than the longest wait
    again.postpone_due_answers(200, "no connection", now=101)
    assert again.due_answer(60, now=201).attempts == 2
    again.close()


def test_what_is_deleted_and_what_is_forgotten(ledger):
    for study in ("1.1", "1.2"):
        ledger.take(instance(study=study), "", now=0)
    ledger.answered(ledger.complete(1, 0, now=10), "9.1", now=10)
    assert ledger.finished(before=100) == ([], [])  # not sent
    ledger.sent("9.1", now=20)
    assert ledger.finished(before=15) == ([], [])  # kept for some hours
    assert ledger.finished(before=20) == (["1.1.1"], ["9.1"])
    ledger.forget(before=1000)
    assert ledger.of_study("1.1") == {}
    assert ledger.of_study("1.2") == {"1.2.1": ON_DISK}  # not answered


def test_a_ledger_that_is_damaged_or_of_another_version_is_refused(ledger, tmp_path):
    ledger._connection.execute("PRAGMA user_version=9")
    with pytest.raises(UserError, match="version 9, this vkd_pyro reads 1"):
        Ledger(tmp_path / "spool" / "ledger.sqlite")
    (tmp_path / "other.sqlite").write_bytes(b"no database at all, but long enough for one" * 99)
    with pytest.raises(UserError, match="damaged"):
        Ledger(tmp_path / "other.sqlite")
    assert stat.S_IMODE((tmp_path / "spool" / "ledger.sqlite").stat().st_mode) == 0o600


# ------------------------------------------------------------------------------------------ what is taken


def test_a_chest_radiograph_is_on_disk_when_it_is_taken(intake, spool, ledger):
    (image,) = images("a", 1)
    assert take(intake, image, sop_class=image.SOPClassUID).left_out == ""
    path = spool.instance(image.SOPInstanceUID)
    assert path.read_bytes() == pacs_trial.encoded(image)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    for folder in (spool.folder, spool.instances, spool.answers):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert ledger.of_study(image.StudyInstanceUID) == {image.SOPInstanceUID: ON_DISK}


@pytest.mark.parametrize(
    ("tags", "reason"),
    [
        ({"Modality": "CT"}, "modality CT is not an X-ray (CR, DX, RG)"),
        ({"BodyPartExamined": "KNEE"}, "body part KNEE is not the chest"),
        ({"ViewPosition": "LLD"}, "view position LLD is neither frontal nor lateral, not frontal or lateral"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7"}, "not of a class of radiographs"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.1.1.1"}, "an image for processing, not for presentation"),
    ],
)
def test_what_is_no_chest_radiograph_is_left_out_with_its_reason(intake, spool, ledger, tags, reason):
    (image,) = images("a", 1)
    take(intake, image)
    (same,) = images("a", 1, **tags)  # the same instance, corrected
    assert take(intake, same).left_out == reason
    assert ledger.of_study(image.StudyInstanceUID) == {image.SOPInstanceUID: reason}
    assert files_in(spool.folder) == []


def test_the_view_must_be_one_that_the_model_knows(spool, ledger):
    (image,) = images("a", 1, ViewPosition="LL")
    assert take(Intake(spool, ledger, ("frontal",)), image).left_out == "view position LL is lateral, not frontal"


def test_a_study_has_so_many_images_at_most(intake, monkeypatch):
    monkeypatch.setattr("vkd_pyro.serving.pacs.intake.MOST_IMAGES", 2)
    taken = [take(intake, image).left_out for image in images("a", 3)]
    assert taken == ["", "", "more than 2 images of one study"]


@pytest.mark.parametrize(
    ("change", "status"),
    [
        (lambda image: pacs_trial.encoded(image)[:200], 0xC000),
        (lambda image: b"\0" * 400, 0xC000),
        (lambda image: b"", 0xC000),
        (lambda image: pacs_trial.encoded(images("b", 1)[0]), 0xA900),
        (lambda image: pacs_trial.encoded(images("a", 1, modality="CR")[0]), 0xA900),
    ],
)
def test_what_is_damaged_or_not_what_was_said_is_refused_and_leaves_nothing(intake, spool, ledger, change, status):
    (image,) = images("a", 1)
    with pytest.raises(Refused) as refused:
        intake.take(image.SOPInstanceUID, change(image), image.SOPClassUID)
    assert refused.value.status == status
    assert files_in(spool.folder) == []
    assert ledger.of_study(image.StudyInstanceUID) == {}


@pytest.mark.filterwarnings("ignore:Invalid value for VR UI")
@pytest.mark.parametrize("tag", ["StudyInstanceUID", "SeriesInstanceUID"])
def test_a_path_in_a_uid_is_refused(intake, spool, tag):
    (image,) = images("a", 1, **{tag: "../../../etc/passwd"})
    with pytest.raises(Refused, match=f"{tag} is no UID"):
        take(intake, image)
    with pytest.raises(Refused, match="SOPInstanceUID is no UID"):
        intake.take("../../x", b"")
    assert files_in(spool.folder.parent) == []


def test_where_there_is_no_room_an_instance_is_refused_as_such(intake, spool, ledger, monkeypatch):
    (image,) = images("a", 1)

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("vkd_pyro.serving.pacs.spool.os.fsync", full)
        with pytest.raises(Refused, match="the disk is full") as refused:
            take(intake, image)
    assert refused.value.status == 0xA700
    assert files_in(spool.folder) == []
    assert take(intake, image).left_out == ""


def test_files_that_nobody_was_told_of_are_removed_at_the_next_start(intake, spool, ledger):
    (image,) = images("a", 1)
    take(intake, image)
    with spool.new("1.2.3", b"killed before the ledger was told"):
        pass
    spool.put_answer("1.2.4", [b"the same"])
    spool.remove_others(*ledger.files())
    assert files_in(spool.folder) == [spool.instance(image.SOPInstanceUID)]


# ---------------------------------------------------------------------------------------------- answers


def answered(bundle, spool, ledger, intake, study="a", number=2, settings=None, **tags):
    """The documents of an answer, the report last, and what was predicted."""
    for image in images(study, number, **tags):
        take(intake, image)
    complete = ledger.complete(0, 0)
    settings = settings or Answering(num_samples=8)
    answer = Answerer(bundle, settings, spool).answer(complete)
    assert isinstance(answer, Answered)
    files = [spool.instance(uid) for uid in complete.instances]
    uncertainty = UncertaintySources(settings.num_samples, seed=settings.seed)
    (said,) = predict_files(bundle, [tuple(files)], uncertainty, level=settings.level)
    return spool.documents(answer.uid), said, complete


def groups_of(path):
    """Measurement groups of a report, by what they track."""
    report = srread(path)
    return {group.tracking_identifier: group for group in report.content.get_image_measurement_groups()}


def test_a_report_says_what_was_predicted(bundle, spool, ledger, intake):
    documents, said, _ = answered(bundle, spool, ledger, intake)
    groups = groups_of(documents[-1])
    assert list(groups) == ["study", *bundle.findings]
    for k, finding in enumerate(bundle.findings):
        group = groups[finding]
        assert group.finding_type == terms.finding(finding)
        numbers = {each.name.meaning: each.value for each in group.get_measurements()}
        raw = np.isnan(said.calibrated[k])
        p, low = (said.probabilities, said.low) if raw else (said.calibrated, said.calibrated_low)
        assert numbers["Probability"] == float(f"{p[k]:.6g}")
        assert numbers["Lower end of interval"] == float(f"{low[k]:.6g}")
        assert ("Threshold of the decision" in numbers) == (not np.isnan(said.thresholds[k]))
        (decision,) = group.get_qualitative_evaluations(terms.DECISION)
        assert decision.value == terms.ANSWERS[said.answers[k]]
        comments = [item.value for item in group[0].ContentSequence if item.name == codes.DCM.Comment]
        assert bool(comments) == (said.answers[k] == "unknown")
    assert {each.name.meaning: each.value for each in groups["study"].get_measurements()} == {
        "Number of images judged": 2,
        "Share of usual images that are as unlike": float(f"{said.ood_p:.6g}"),
    }
    (flag,) = groups["study"].get_qualitative_evaluations(terms.OOD_FLAG)
    assert flag.value == (terms.YES if said.flagged else terms.NO)


def test_a_report_names_algorithm_patient_and_study_and_nothing_else(bundle, spool, ledger, intake):
    secrets = {
        "InstitutionName": "CANARY-HOSPITAL",
        "PatientAddress": "CANARY-STREET",
        "OperatorsName": "CANARY^OPERATOR",
        "PatientComments": "CANARY-COMMENT",
        "StationName": "CANARY-ROOM",
        "OtherPatientIDs": "CANARY-OTHER",
        "PerformingPhysicianName": "CANARY^DOCTOR",
        "ImageComments": "CANARY-REPORT",
    }
    carried = {"PatientName": "Grün^Jürgen=<script>", "PatientID": "42", "AccessionNumber": "A7"}
    documents, _, complete = answered(bundle, spool, ledger, intake, **secrets, **carried)
    report = pydicom.dcmread(documents[-1])
    assert {tag: str(report.get(tag)) for tag in carried} == carried
    assert (report.PatientBirthDate, report.PatientSex, report.StudyDate) == ("19600131", "O", "20260102")
    assert (report.StudyInstanceUID, report.SpecificCharacterSet) == (complete.uid, "ISO_IR 192")
    assert report.SOPInstanceUID == report_uid(bundle.bundle_hash, complete.uid, complete.instances)
    for document in documents:
        assert b"CANARY" not in document.read_bytes()
    text = documents[-1].read_bytes().decode(errors="ignore")
    for part in (f"bundle sha256: {bundle.bundle_hash}", __version__, "draws of z: 8", "seed: 0", "level of intervals"):
        assert part in text
    assert (report.VerificationFlag, report.CompletionFlag) == ("UNVERIFIED", "COMPLETE")
    references = report.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence[0].ReferencedSOPSequence
    assert {each.ReferencedSOPInstanceUID for each in references} == set(complete.instances)


def test_header_values_that_are_none_are_left_blank(bundle, spool, ledger, intake):
    with pytest.warns(UserWarning, match="Invalid value"):
        documents, *_ = answered(
            bundle, spool, ledger, intake, PatientBirthDate="unknown!", PatientSex="X", StudyTime=None, StudyID=None
        )
    report = pydicom.dcmread(documents[-1])
    assert (report.PatientBirthDate, report.PatientSex, report.StudyTime, report.StudyID) == ("", "", "", "")


def test_pictures_show_where_findings_are_seen(bundle, spool, ledger, intake):
    documents, said, complete = answered(bundle, spool, ledger, intake)
    pictures = [pydicom.dcmread(path) for path in documents[:-1]]
    shown = int((said.answers == "yes").sum()) or int((said.answers == "unknown").all())
    assert len(pictures) == 2 * shown
    for picture in pictures:
        assert picture.pixel_array.shape[2] == 3
        assert np.ptp(picture.pixel_array) > 100
        assert (picture.Modality, picture.StudyInstanceUID) == ("OT", complete.uid)
        assert picture.SourceImageSequence[0].ReferencedSOPInstanceUID in complete.instances


def test_an_export_answers_without_pictures(bundle, spool, ledger, intake):
    pytest.importorskip("openvino", reason="the export extra is not installed")
    documents, said, _ = answered(converted(bundle), spool, ledger, intake)
    assert len(documents) == 1
    assert list(groups_of(documents[0])) == ["study", *said.findings]


def test_without_a_calibration_it_is_unknown_and_why(tmp_path, spool, ledger, intake):
    plain = load_bundle(write_bundle(tmp_path / "plain", CHEXPERT_FINDINGS[1:4], calibrated=False))
    documents, *_ = answered(plain, spool, ledger, intake, settings=Answering(num_samples=8, overlays=False))
    groups = groups_of(documents[-1])
    assert groups["Cardiomegaly"].finding_type.scheme_designator == "SCT"
    (decision,) = groups["Cardiomegaly"].get_qualitative_evaluations(terms.DECISION)
    assert decision.value == terms.UNKNOWN
    comments = [item.value for item in groups["Cardiomegaly"][0].ContentSequence if item.name == codes.DCM.Comment]
    assert comments == ["Threshold: unknown", "Decision: unknown, no calibration"]
    (flag,) = groups["study"].get_qualitative_evaluations(terms.OOD_FLAG)
    assert flag.value == terms.UNKNOWN


def test_an_image_that_cannot_be_read_is_named_and_the_others_are_judged(bundle, spool, ledger, intake):
    whole, damaged = images("a", 2)
    damaged.PixelData = damaged.PixelData[:100]
    documents, *_ = _answered_of(bundle, spool, ledger, intake, [whole, damaged])
    comments = [
        item.value for item in groups_of(documents[-1])["study"][0].ContentSequence if item.name == codes.DCM.Comment
    ]
    assert [comment.split(": ")[0] for comment in comments] == [f"Image {damaged.SOPInstanceUID} was not judged"]
    assert "bytes of pixel data" in comments[0]


def test_a_study_of_damaged_images_is_not_answered(bundle, spool, ledger, intake):
    (damaged,) = images("a", 1)
    damaged.PixelData = damaged.PixelData[:100]
    take(intake, damaged)
    answer = Answerer(bundle, Answering(num_samples=8), spool).answer(ledger.complete(0, 0))
    assert isinstance(answer, NotAnswered)
    assert "bytes of pixel data" in answer.problem


def _answered_of(bundle, spool, ledger, intake, found):
    for image in found:
        take(intake, image)
    answer = Answerer(bundle, Answering(num_samples=8, overlays=False), spool).answer(ledger.complete(0, 0))
    return spool.documents(answer.uid), answer


def test_a_later_answer_refers_to_the_one_before(bundle, spool, ledger, intake):
    first, second = images("a", 2)
    _, answer = _answered_of(bundle, spool, ledger, intake, [first])
    ledger.answered(ledger.complete(0, 0), answer.uid)
    ledger.deleted([first.SOPInstanceUID])
    assert ledger.of_study(first.StudyInstanceUID) == {first.SOPInstanceUID: GONE}
    documents, later = _answered_of(bundle, spool, ledger, intake, [second])
    assert later.uid != answer.uid
    report = pydicom.dcmread(documents[-1])
    (before,) = report.PredecessorDocumentsSequence[0].ReferencedSeriesSequence
    assert before.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == answer.uid
    assert before.SeriesInstanceUID == report.SeriesInstanceUID
    assert report.InstanceNumber == 2
    assert b"1 more images were judged in an earlier report" in documents[-1].read_bytes()


@pytest.mark.skipif(not shutil.which("dciodvfy"), reason="dciodvfy (Debian's dicom3tools) is not installed")
def test_dciodvfy_finds_no_error(bundle, spool, ledger, intake):
    documents, *_ = answered(bundle, spool, ledger, intake)
    for path in documents:
        done = subprocess.run(["dciodvfy", path], capture_output=True, text=True, check=False)
        said = (done.stdout + done.stderr).splitlines()
        assert any(line in ("ComprehensiveSR", "SCImage") for line in said), said[:5]
        assert not [line for line in said if line.startswith("Error")]


# ------------------------------------------------------------------------------------------------- codes


def test_codes_that_dicom_lists_are_as_it_lists_them():
    assert terms.finding("Pleural Effusion") == codes.SCT.PleuralEffusion
    assert terms.finding("Edema") == codes.SCT.PulmonaryEdema
    assert terms.finding("Pneumothorax") == codes.SCT.Pneumothorax
    assert terms.finding("Mass") == codes.cid6102.Mass
    assert terms.finding("Nodule") == codes.cid6102.Nodule
    assert terms.finding("Lung Opacity") == codes.cid6102.Opacity
    assert terms.finding("Infiltration") == codes.cid6102.Infiltrate
    assert codes.cid230.Yes == terms.YES
    assert codes.cid230.No == terms.NO
    assert codes.SCT.Unknown == terms.UNKNOWN


def test_every_finding_has_a_code_of_its_own():
    for names in (CHEXPERT_FINDINGS, CHESTXRAY14_FINDINGS):
        found = [terms.finding(name) for name in names]
        assert len({(code.scheme_designator, code.value) for code in found}) == len(names)
        assert all(len(code.value) <= 16 and len(code.meaning) <= 64 for code in found)
    lesion = terms.finding("Lung Lesion")
    assert lesion.value == f"F{hashlib.sha256(b'lung lesion').hexdigest()[:12]}"
    assert lesion.scheme_designator == "99VKD"
    assert terms.finding("x" * 100).meaning == "x" * 64


def test_a_made_radiograph_has_even_length():
    assert len(radiograph(np.zeros((3, 5), np.uint8), "a").PixelData) == 16

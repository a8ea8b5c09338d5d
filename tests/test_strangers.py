"""What someone else made is data: names are judged before an import, no file is a link, and nobody is told of."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import jsonargparse._common
import numpy as np
import pytest
import safetensors.torch
import torch
import yaml

from tests.conftest import TinyCorpus, study_data
from tests.test_bundle import FINDINGS, TRANSFORM, edit, make_classifier, make_model
from tests.test_cli import CONFIG, refusal, vkd
from tests.test_fuzz import SEEN, WATCHING
from vkd_pyro.artifacts import parts
from vkd_pyro.artifacts.bundle import MAX_WEIGHTS, check_rebuildable, findings_of, load_bundle, save_bundle
from vkd_pyro.artifacts.config import judge, read_yaml
from vkd_pyro.artifacts.export import load_export
from vkd_pyro.artifacts.export.engine import check_alone
from vkd_pyro.artifacts.export.writing import export_bundle
from vkd_pyro.artifacts.run import evaluation_parser
from vkd_pyro.data.images.image_transform import ImageTransform
from vkd_pyro.encoders.image import ConvEncoder, ImageEncoder, TorchvisionEncoder
from vkd_pyro.evaluation.outputs import outputs_of_images, signals
from vkd_pyro.methods.image_only import ImageOnly
from vkd_pyro.model import ImageClassifier
from vkd_pyro.posthoc import Isotonic, Platt, Temperature
from vkd_pyro.posthoc.known import rounded
from vkd_pyro.training.posthoc import Posthoc, calibrate
from vkd_pyro.utils.errors import UserError
from vkd_pyro.utils.serialization import check_name
from vkd_pyro.utils.text import printable


class OwnEncoder(ImageEncoder):
    """A part of one's own: its module is not this package's."""

    features_dim = 4

    def __init__(self) -> None:
        super().__init__()
        self.map = torch.nn.Linear(1, 4)

    def forward(self, images):
        return self.map(images.mean((2, 3)))


@pytest.fixture
def folder(tmp_path):
    save_bundle(tmp_path / "bundle", make_model(), FINDINGS, TRANSFORM, "# A card\n")
    return tmp_path / "bundle"


@pytest.fixture
def own(tmp_path):
    """A bundle whose image encoder is `OwnEncoder`."""
    save_bundle(tmp_path / "own", ImageClassifier(OwnEncoder(), 3), FINDINGS, TRANSFORM, "")
    return tmp_path / "own"


# ------------------------------------------------------------------------------------------- names


@contextlib.contextmanager
def watched():
    """Names of what is imported meanwhile, and of what is run."""
    SEEN.clear()
    WATCHING.append(True)
    try:
        yield SEEN
    finally:
        WATCHING.clear()


@pytest.mark.parametrize("module", ["bundle.part", "part", "antigravity"])
def test_a_module_that_a_bundle_names_is_not_imported_where_python_could_find_it(module, folder, monkeypatch):
    model = json.loads((folder / "config.json").read_text(encoding="utf-8"))["model"]
    model["init_args"]["image_encoder"] = {"class_path": f"{module}.Encoder", "init_args": {}}
    edit(folder, model=model)
    (folder / "part.py").write_text("raise SystemExit('ran')\n", encoding="utf-8")
    monkeypatch.syspath_prepend(folder)
    monkeypatch.syspath_prepend(folder.parent)
    with watched() as seen, pytest.raises(UserError, match=f"{module}.Encoder: not imported, since that runs code"):
        load_bundle(folder)
    assert not [name for _, name in seen if name.startswith(("bundle", "part", "antigravity"))]


@pytest.mark.parametrize(
    "name",
    ["os.system", "this.X", "vkd_pyro_evil.X", "vkd_pyro.cli.__main__.main", "vkd_pyro.utils._hidden.X", "tests.a.X"],
)
def test_names_that_are_neither_ours_nor_allowed(name):
    with pytest.raises(UserError, match=f"{name}: not imported, since that runs code; .* --allow_module"):
        check_name(name, ["test", "tests.b"])


@pytest.mark.parametrize("name", ["X", "", "..X", "a b.X", "vkd_pyro.", None, 5, ["a.b"]])
def test_what_is_no_name(name):
    with pytest.raises(UserError, match=r"found as the name of a class, expected package\.module\.Class"):
        check_name(name, ["a"])


@pytest.mark.parametrize("allow", [["tests"], ["other", "tests.test_strangers"]])
def test_what_the_caller_allows_is_imported(own, allow):
    with pytest.raises(UserError, match=r"tests\.test_strangers\.OwnEncoder: not imported"):
        load_bundle(own)
    assert type(load_bundle(own, allow).model.image_encoder) is OwnEncoder


def test_a_command_is_told_what_to_allow(own, tmp_path):
    assert "--allow_module tests.test_strangers" in refusal(
        "export", own, "--output", tmp_path / "e", "--format", "torch"
    )
    allowed = ("--allow_module", "tests.test_strangers")
    assert vkd("export", own, "--output", tmp_path / "e", "--format", "torch", *allowed)[0] == 0


def stored(**changes):
    """The parts of a run's config that an evaluation needs."""
    config = yaml.safe_load(CONFIG)
    known = {"data": config["data"], "method": config["method"]}
    for place, value in changes.items():
        *above, last = place.split("__")
        holder = known
        for key in above:
            holder = holder[key]
        holder[last] = value
    return known


def test_a_run_may_name_ours_and_what_is_allowed():
    with pytest.raises(UserError, match=r"config\.yaml: tests\.conftest\.TinyCorpus: not imported"):
        judge(stored(), evaluation_parser, [], Path("config.yaml"))
    before = dict(jsonargparse._common.parsing_settings)
    judge(stored(), evaluation_parser, ["tests.conftest"], Path("config.yaml"))
    assert jsonargparse._common.parsing_settings == before  # what the caller parses afterwards may name anything


@pytest.mark.parametrize(
    "changes",
    [
        {"method__class_path": "antigravity.Method"},
        {"method__init_args__prior": "antigravity.Prior"},
        {"method__init_args__prior": {"class_path": "antigravity.Prior"}},
        {"method__init_args__image_encoder__class_path": "venv.__main__.Encoder"},
        {"data__selection__corpus": "antigravity.Corpus"},
        {"data__selection__corpus__init_args": {"class_path": "antigravity.Corpus"}},
    ],
)
def test_a_run_that_names_anything_else_is_refused_before_an_import(changes):
    wrong = r"config\.yaml: .*(antigravity|venv\.__main__)\.\w+: not imported"
    with watched() as seen, pytest.raises(UserError, match=wrong):
        judge(stored(**changes), evaluation_parser, ["tests.conftest"], Path("config.yaml"))
    assert not [name for _, name in seen if name.startswith(("antigravity", "venv"))]


def test_a_config_that_a_run_points_to_is_judged_too(tmp_path):
    (tmp_path / "more.yaml").write_text("class_path: antigravity.Method\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"antigravity\.Method: not imported"):
        judge(stored(method=str(tmp_path / "more.yaml")), evaluation_parser, ["tests.conftest"], Path("config.yaml"))


def test_a_language_model_runs_no_code_of_its_own(tmp_path, monkeypatch):
    transformers = pytest.importorskip("transformers")
    from vkd_pyro.encoders.report import LanguageModelEncoder

    (tmp_path / "config.json").write_text(
        json.dumps({"model_type": "own", "auto_map": {"AutoConfig": "code.C", "AutoModel": "code.M"}}), encoding="utf-8"
    )
    (tmp_path / "code.py").write_text("raise SystemExit('ran')\n", encoding="utf-8")
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("it asked whether to run the folder's code"))
    assert transformers
    with pytest.raises(UserError, match=r"report_encoder\.language_model"):
        LanguageModelEncoder(str(tmp_path))


@pytest.mark.parametrize(
    "text",
    [
        "a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n"
        + "".join(f"{c}: &{c} [{', '.join([f'*{b}'] * 10)}]\n" for b, c in pairwise("abcdefghi")),
        "a: &a [*a]\n",
        "a: &a {b: *a}\n",
    ],
)
def test_aliases_of_a_config_are_counted_before_they_are_written_out(text, tmp_path):
    (tmp_path / "config.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=r"config\.yaml: (more than 10,000 values|the alias \*a stands for)"):
        read_yaml(tmp_path / "config.yaml")


# ------------------------------------------------------------------------------------------ membership


def validation(network, data):
    """What the model says of each validation image: distances, uncertainties and scores; and probabilities, [N, K]."""
    outputs = outputs_of_images(network, data, "validation", 100)
    studies = outputs.mean_over_images()
    return signals(outputs), studies.probabilities


def numbers_in(part):
    inner = part.values() if isinstance(part, dict) else part if isinstance(part, list) else ()
    return [*([float(part)] if type(part) is float else []), *(n for each in inner for n in numbers_in(each))]


@pytest.mark.parametrize("recalibration", [Temperature, Platt, Isotonic])
def test_no_value_in_a_bundle_is_one_of_a_validation_image(recalibration, tmp_path):
    torch.manual_seed(0)
    network, data = (
        ImageOnly(TinyCorpus.findings, ConvEncoder((8, 16))).eval(),
        study_data(TinyCorpus(250), image_size=32),
    )
    calibration = calibrate(network, data, Posthoc(recalibration))
    save_bundle(tmp_path / "b", network.model, data.findings, data.transform, "", data.description(), calibration)
    images, raw = validation(network, data)
    scores = calibration.reference.score(images)
    of_images = [one[~np.isnan(one)] for one in (scores.feature_distance, scores.uncertainty, scores.score)]
    config = json.loads((tmp_path / "b" / "config.json").read_text(encoding="utf-8"))
    kept = [numbers_in(config), *safetensors.torch.load_file(tmp_path / "b" / "ood.safetensors").values()]
    parts = ("operating_points", "conformal", "usual")
    decisions = [config["calibration"][unit][name] for unit in ("study", "image") for name in parts]
    assert len(data.studies("validation")) > 15
    for precision in (np.float64, np.float32):
        every, some = (
            np.concatenate([np.ravel(each) for each in one]).astype(precision)
            for one in (kept, [numbers_in(decisions)])
        )
        assert not np.isin(np.concatenate([*of_images, raw.ravel()]).astype(precision), every).any()
        assert not np.isin(calibration.study.recalibration(raw).astype(precision), some).any()


@pytest.mark.parametrize(
    ("p", "down", "up"),
    [
        (0.123456, 0.123, 0.124),
        (0.5, 0.5, 0.5),
        (0.0012345, 0.00123, 0.00124),
        (0.9987655, 0.99876, 0.99877),
        (0.99999948765, 0.999999487, 0.999999488),
        (1e-30, 1e-30, 1e-30),
        (0.0, 0.0, 0.0),
        (1.0, 1.0, 1.0),
    ],
)
def test_probabilities_are_rounded_outward_from_the_nearer_end(p, down, up):
    assert (rounded(p, "down"), rounded(p, "up")) == (down, up)
    assert rounded(p, "down") <= p <= rounded(p, "up")
    assert rounded(p, "down") <= rounded(p, "nearest") <= rounded(p, "up")


# ---------------------------------------------------------------------------------------------- sizes


def wide(folder, **changes):
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    for part, arguments in changes.items():
        config["model"]["init_args"][part]["init_args"] |= arguments
    edit(folder, model=config["model"])


@pytest.mark.parametrize(
    "changes",
    [
        {"image_encoder": {"channels": [8, 20_000, 20_000]}},
        {"prior": {"mlp": {"hidden": [60_000, 60_000], "dropout": 0.0}}},
        {"prior": {"latent_dim": 10**9}},
        {"likelihood": {"num_findings": 10**12}},
        {"image_encoder": {"channels": [8] * 100_000}},
    ],
)
def test_a_bundle_that_asks_for_more_than_it_has_is_refused_before_anything_is_allocated(changes, folder, monkeypatch):
    wide(folder, **changes)
    monkeypatch.setattr(parts.safetensors.torch, "load_file", lambda *_: pytest.fail("weights were read"))
    with pytest.raises(
        UserError, match=r"config\.json: (does not describe this model|the model described has too many)"
    ):
        load_bundle(folder)


def test_a_file_of_weights_above_the_limit_is_refused_unread(folder, monkeypatch):
    monkeypatch.setattr("vkd_pyro.artifacts.bundle.MAX_WEIGHTS", 1000)
    with pytest.raises(UserError, match=r"weights\.safetensors: [\d,]+ bytes, more than the limit of 1,000; copy"):
        load_bundle(folder)


def test_a_model_whose_bundle_could_not_be_read_is_refused_before_training():
    with torch.device("meta"):
        large = ImageClassifier(ConvEncoder((8, MAX_WEIGHTS // 250)), 3)
    with pytest.raises(UserError, match=r"the model has [\d,]+ bytes of weights, and a bundle at most 1,073,741,824"):
        check_rebuildable(large)
    with pytest.raises(UserError, match=r"finding 'Ede\\nma': not a name that can be shown"):
        check_rebuildable(make_model(), ("Ede\nma",))


@pytest.mark.parametrize("size", [0, -1, 2049, 30_000, 3.5, True])
def test_an_image_size_out_of_range_is_refused(size, folder):
    with pytest.raises(UserError, match=r"image_size: found .*, expected pixels, 1 to 2048"):
        ImageTransform(size)
    edit(folder, image_transform={"size": size})
    with pytest.raises(UserError, match=r"config\.json: image_transform\.size: Input should be"):
        load_bundle(folder)


def test_an_image_size_that_a_network_does_not_read_is_one_line(tmp_path):
    save_bundle(tmp_path / "b", ImageClassifier(TorchvisionEncoder("densenet121"), 3), FINDINGS, ImageTransform(8), "")
    with pytest.raises(UserError, match=r"config\.json: does not describe this model \(.*size is too small\); copy"):
        load_bundle(tmp_path / "b")


def test_a_part_that_cannot_be_built_without_memory_is_compared_afterwards(tmp_path):
    from vkd_pyro.distributions import BernoulliLikelihood, Flow
    from vkd_pyro.model import Model

    model = Model(ConvEncoder((8, 16)), Flow(16, 4), BernoulliLikelihood(4, 3, features_dim=16)).eval()
    save_bundle(tmp_path / "b", model, FINDINGS, TRANSFORM, "")
    assert all(
        torch.equal(a, b)
        for a, b in zip(
            model.state_dict().values(), load_bundle(tmp_path / "b").model.state_dict().values(), strict=True
        )
    )
    wide(tmp_path / "b", prior={"num_couplings": 2})
    with pytest.raises(
        UserError, match=r"does not describe this model: prior\.\S+ is F32 .* in weights\.safetensors, none"
    ):
        load_bundle(tmp_path / "b")


# ---------------------------------------------------------------------------------------------- links


@pytest.mark.parametrize("name", ["README.md", "config.json", "weights.safetensors"])
def test_a_link_in_a_bundle_is_refused_and_copies_no_file_of_the_machine(name, folder, tmp_path):
    secret = tmp_path / "secret"
    shutil.copy(folder / name, secret)
    (folder / name).unlink()
    (folder / name).symlink_to(secret)
    with pytest.raises(UserError, match=rf"{name}: a link, which could lead to any file of this machine; expected the"):
        load_bundle(folder)
    assert "a link" in refusal("export", folder, "--output", tmp_path / "export", "--format", "torch")
    assert not (tmp_path / "export").exists()


def test_findings_are_read_without_building_anything(folder, monkeypatch):
    monkeypatch.setattr("vkd_pyro.artifacts.bundle.load_model", lambda *_: pytest.fail("built"))
    assert findings_of(folder) == FINDINGS


# --------------------------------------------------------------------------------- values in a config


CALIBRATED = [
    (
        {"recalibration": {"temperature": -1.0}},
        r"Temperature\.temperature: found -1\.0, expected a number from 0\.05 to 20",
    ),
    ({"recalibration": {"temperature": None}}, r"Temperature\.temperature: found None"),
    (
        {"recalibration": {"findings": ["Edema"]}},
        r"calibration\.study\.recalibration: not of the findings of the model in their",
    ),
    ({"threshold": 5.0}, r"operating_points\.points\.0\.threshold: Input should be less than or equal to 1"),
    ({"threshold": None}, r"points\.0: expected a threshold, or why there is none"),
    ({"alpha": 1.5}, r"conformal\.alpha: Input should be less than 1"),
    ({"findings": FINDINGS[::-1]}, r"calibration\.study: not of the same findings in the same order"),
    ({"findings": (*FINDINGS, "Mass")}, r"calibration\.study: not of the same findings"),
    ({"findings": ("Edema", "Edema", "Mass")}, r"findings: one is named twice"),
    ({"views": "back"}, r"data\.views: found 'back', expected frontal, lateral or all"),
    ({"data": None}, r"data: Input should be a valid dictionary"),
]


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory):
    from tests.mutants import make

    root = tmp_path_factory.mktemp("calibrated")
    make(root, with_export=False)
    return root / "other"


@pytest.mark.parametrize(("changes", "message"), CALIBRATED)
def test_a_value_that_no_training_gives_is_one_line(changes, message, calibrated, tmp_path):
    folder = Path(shutil.copytree(calibrated, tmp_path / "bundle"))
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    fit = config["calibration"]["study"]
    fit["recalibration"]["init_args"] |= changes.get("recalibration", {})
    fit["operating_points"]["points"][0] |= {k: v for k, v in changes.items() if k == "threshold"}
    fit["conformal"] |= {k: v for k, v in changes.items() if k == "alpha"}
    config |= {k: list(v) for k, v in changes.items() if k == "findings"} | {
        k: v for k, v in changes.items() if k == "data"
    }
    if "views" in changes:
        config["data"] |= changes
    edit(folder, **config)
    with pytest.raises(UserError, match=message) as error:
        load_bundle(folder)
    assert str(folder / "config.json") in str(error.value)
    assert "\n" not in str(error.value)


def test_more_findings_than_the_model_has_are_refused(folder):
    edit(folder, findings=[*FINDINGS, "Mass"])
    with pytest.raises(UserError, match=r"findings: 4 are named, and the model says 3"):
        load_bundle(folder)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(value, tmp_path):
    model = make_classifier()
    with torch.no_grad():
        model.head.weight[0, 0] = value
    save_bundle(tmp_path / "b", model, FINDINGS, TRANSFORM, "")
    with pytest.raises(UserError, match=r"weights\.safetensors: head\.weight has values that are not finite"):
        load_bundle(tmp_path / "b")


# ------------------------------------------------------------------------------ what an export tells


@pytest.fixture(scope="module", params=["openvino", "onnx", "torch"])
def exported(request, tmp_path_factory):
    """An export in each format, with its bundle beside it."""
    if request.param != "torch":
        pytest.importorskip("onnx")
    root = tmp_path_factory.mktemp("exported")
    save_bundle(root / "bundle", make_model(), FINDINGS, TRANSFORM, "# A card\n")
    export_bundle(root / "bundle", root / "export", request.param)
    return root / "export"


def test_an_export_tells_nothing_of_the_machine(exported):
    here = [str(Path(__file__).parents[1]), sys.prefix, str(Path.home()), str(Path(torch.__file__).parent)]
    for path in sorted(exported.iterdir()):
        content = path.read_bytes()
        assert not [place for place in (*here, str(exported.parent)) if place.encode() in content], path.name
        assert b".py" not in content, path.name


def test_the_card_of_an_export_is_that_of_its_bundle_and_is_hashed(exported, tmp_path):
    if (exported / "head.pt2").exists():
        pytest.skip("a .pt2 file is written, and not read")
    assert load_export(exported).card == "# A card\n"
    folder = Path(shutil.copytree(exported, tmp_path / "export"))
    (folder / "README.md").write_text("# Another\n", encoding="utf-8")
    with pytest.raises(
        UserError, match=r"README\.md: not the card this export was written with; export the bundle again"
    ):
        load_export(folder)


def test_an_onnx_file_that_reads_other_files_is_refused(exported, tmp_path):
    if not (exported / "head.onnx").exists():
        pytest.skip("another format")
    onnx = pytest.importorskip("onnx")
    check_alone(exported / "head.onnx")
    model = onnx.load(exported / "head.onnx")
    onnx.save(model, tmp_path / "out.onnx", save_as_external_data=True, size_threshold=0, location="data")
    with pytest.raises(UserError, match=r"out\.onnx: takes numbers from other files; expected one that stands alone"):
        check_alone(tmp_path / "out.onnx")


def test_a_bundle_tells_no_path_of_the_weights_that_training_started_from(tmp_path):
    state = TorchvisionEncoder("mobilenet_v3_small").network.state_dict()
    safetensors.torch.save_file(state, tmp_path / "pretrained.safetensors")
    encoder = TorchvisionEncoder("mobilenet_v3_small", str(tmp_path / "pretrained.safetensors"))
    save_bundle(tmp_path / "bundle", ImageClassifier(encoder, 3), FINDINGS, TRANSFORM, "")
    text = (tmp_path / "bundle" / "config.json").read_text(encoding="utf-8")
    assert str(tmp_path) not in text
    assert '"weights": "pretrained.safetensors"' in text


# --------------------------------------------------------------------------- the terminal, encodings


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Ödem 肺", "Ödem 肺"),
        ("\x1b[2K\rfine", "\\x1b[2K\\rfine"),
        ("a\nb\tc", "a\\nb\\tc"),
        ("\u202egnp", "\\u202egnp"),
        ("\x9b31m\u2028", "\\x9b31m\\u2028"),
        (os.fsdecode(b"\xff.png"), "\\udcff.png"),
    ],
)
def test_what_a_terminal_would_act_on_is_escaped(text, shown):
    assert printable(text) == shown


def test_names_of_images_are_printed_escaped(folder, tmp_path):
    name = "\x1b[2K\rvkd: all fine\n.png"
    (tmp_path / name).write_bytes(b"no image")
    code, out, err = vkd("predict", folder, tmp_path / name)
    assert code == 2
    assert "\\x1b[2K\\rvkd: all fine\\n.png" in err
    assert not {"\x1b", "\r"} & set(out + err)
    missing = refusal("predict", folder, tmp_path / "\x1b[31m\nnowhere.png")
    assert "\\x1b[31m\\nnowhere.png" in missing


PLAIN = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": ""}
IN_ASCII = """
import locale, sys
assert locale.getpreferredencoding(False) in ("ANSI_X3.4-1968", "US-ASCII", "ascii"), locale.getpreferredencoding(False)
from tests.test_bundle import *
from vkd_pyro.cli import main
findings = ("\\u00d6dem", "Fracture", "Pneumonia")
save_bundle(Path(sys.argv[1]), make_model(), findings, TRANSFORM, "# \\u00d6dem\\n")
assert load_bundle(sys.argv[1]).card == "# \\u00d6dem\\n"
Image.frombytes("L", (20, 20), bytes(range(200)) * 2).save(sys.argv[2])
sys.exit(main(["predict", sys.argv[1], sys.argv[2]]))
"""


def test_a_finding_named_with_an_umlaut_survives_an_ascii_locale(tmp_path):
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "from pathlib import Path\n" + IN_ASCII,
            str(tmp_path / "bundle"),
            str(tmp_path / "a.png"),
        ],
        cwd=Path(__file__).parents[1],
        env={**os.environ, **PLAIN},
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert b"\\xd6dem" in done.stdout
    assert load_bundle(tmp_path / "bundle").findings[0] == "Ödem"

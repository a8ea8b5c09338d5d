"""Bundles, exports and checkpoints that someone has changed, and signed again where they are signed.

Each mutant is drawn from a seed, so one that fails can be made again by its number.
"""

import io
import json
import os
import pickle
import random
import shutil
import struct
import zipfile
from hashlib import sha256
from pathlib import Path

import numpy as np
import safetensors.torch
import torch

from tests.test_bundle import FINDINGS, TRANSFORM, make_model
from vkd_pyro.artifacts.bundle import save_bundle
from vkd_pyro.artifacts.checkpoints import save_checked
from vkd_pyro.artifacts.export.writing import export_bundle
from vkd_pyro.posthoc import (
    BySensitivity,
    Calibration,
    Conformal,
    Fit,
    Isotonic,
    OODDetector,
    OperatingPoints,
    Signals,
)
from vkd_pyro.posthoc.recalibration import Temperature
from vkd_pyro.posthoc.usual import UsualProbabilities
from vkd_pyro.utils.files import hash_of, sha256_of

IN_THE_BUNDLE = "module_in_the_bundle"
NAMED = ("antigravity", "this", "venv.__main__", "turtledemo.__main__", "idlelib.idle", IN_THE_BUNDLE)
"""Modules that mutants name; none may be imported."""

NAMES = [f"{module}.Encoder" for module in NAMED] + [
    "os.system",
    "builtins.eval",
    "subprocess.Popen",
    "torch.nn.Linear",
    "torch.hub.load",
    "vkd_pyro.cli.__main__.main",
    "vkd_pyro.cli.main",
    "vkd_pyro.encoders.report.LanguageModelEncoder",
    "vkd_pyro.methods.VKD",
    "__main__.Encoder",
    "vkd_pyro.encoders.image.\x1b[2J",
    "Encoder",
    "..Encoder",
    "",
    5,
    None,
]
VALUES = [
    *(None, True, False, -1, 0, 1, 2, 5, 1e-300, 1e308, -0.5, 0.5, 10**9, 10**30, -(2**63), 2**64),
    *("", "x", "\x1b[31mEdema", "a\nb", "a" * 5000, "../../etc/passwd", "\ud800"),
    *(
        [],
        [None],
        [0],
        [10**7] * 3,
        [60_000, 60_000],
        [8] * 3000,
        {},
        {"a": 1},
        {"class_path": "this.X", "init_args": {}},
    ),
]
LARGE = [2**k for k in range(10, 40, 3)]


def make(root: Path, with_export: bool = True) -> None:
    """A calibrated bundle, its export, and a checkpoint, in folders of these names."""
    generator = np.random.default_rng(0)
    model, labels = make_model(), (generator.random((200, 3)) < 0.4).astype(float)
    p = np.clip(0.3 * labels + generator.random((200, 3)) * 0.6, 0.01, 0.99)
    some = [
        Signals(generator.normal(size=(n, 16)), generator.normal(size=(n, 4)), generator.random(n)) for n in (60, 80)
    ]
    for name, recalibration in (("bundle", Isotonic), ("other", Temperature)):
        fit = Fit(
            recalibration.fit(p, labels, FINDINGS),
            OperatingPoints.fit(p, labels, FINDINGS, BySensitivity(0.9)),
            Conformal.fit(p, labels, FINDINGS),
            UsualProbabilities.fit(p, FINDINGS),
        )
        calibration = Calibration(fit, fit, OODDetector.fit(*some))
        save_bundle(root / name, model, FINDINGS, TRANSFORM, "# A card\n", {"views": "frontal"}, calibration)
    if with_export:
        export_bundle(root / "bundle", root / "export")
    state = {"method.model." + key: value for key, value in model.state_dict().items()}
    content = {"state_dict": state, "position": {"epoch": 1, "batch": 2}, "settings": {"seed": 0}, "epoch": 1}
    save_checked(content, root / "run" / "checkpoints" / "best.ckpt")


def mutant(root: Path, kind: str, number: int, folder: Path) -> str:
    """Writes a mutant of a kind ("bundle", "other", "export", "run") to a folder. Returns: what was done."""
    draw = random.Random(f"{kind} {number}")
    shutil.copytree(root / kind, folder)
    (folder / f"{IN_THE_BUNDLE}.py").write_text("raise SystemExit('ran')\n", encoding="utf-8")
    ways = CHECKPOINT if kind == "run" else EXPORT if kind == "export" else BUNDLE
    way = ways[number % len(ways)]
    way(draw, folder)
    return way.__name__


# ------------------------------------------------------------------------------------- configs, signed again


def sign(folder: Path, config: object) -> None:
    if isinstance(config, dict):
        for key, name in (
            ("weights_sha256", "weights.safetensors"),
            ("ood_sha256", "ood.safetensors"),
            ("card_sha256", "README.md"),
        ):
            if isinstance(config.get(key), str) and (folder / name).is_file():
                config[key] = sha256_of(folder / name)
        if isinstance(config.get("files"), dict):
            config["files"] = {
                n: sha256_of(folder / n) if (folder / n).is_file() else h for n, h in config["files"].items()
            }
        config["config_sha256"] = hash_of(config)
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")


def read(folder: Path) -> dict:
    return json.loads((folder / "config.json").read_text(encoding="utf-8"))


def places(part: object, above: tuple = ()) -> list[tuple]:
    """The paths of all values in a config."""
    inner = part.items() if isinstance(part, dict) else enumerate(part) if isinstance(part, list) else ()
    return [*([above] if above else []), *(place for key, value in inner for place in places(value, (*above, key)))]


def holder_of(config: dict, place: tuple) -> object:
    for key in place[:-1]:
        config = config[key]
    return config


def change_a_value(draw, folder):
    config = read(folder)
    place = draw.choice(places(config))
    holder_of(config, place)[place[-1]] = draw.choice(VALUES)
    sign(folder, config)


def drop_a_field(draw, folder):
    config = read(folder)
    place = draw.choice(places(config))
    del holder_of(config, place)[place[-1]]
    sign(folder, config)


def add_a_field(draw, folder):
    config = read(folder)
    holder = draw.choice([config, *(v for place in places(config) if isinstance(v := holder_of(config, place), dict))])
    holder[draw.choice(["weights", "extra", "allow", "init_args", "backbone", "__class__"])] = draw.choice(VALUES)
    sign(folder, config)


def permute_a_list(draw, folder):
    config = read(folder)
    lists = [v for place in places(config) if isinstance(v := holder_of(config, place)[place[-1]], list) and len(v) > 1]
    chosen = draw.choice(lists)
    draw.choice([chosen.reverse, lambda: chosen.append(chosen[0]), chosen.pop, chosen.clear])()
    sign(folder, config)


def scale_a_number(draw, folder):
    config = read(folder)
    numbers = [p for p in places(config) if type(holder_of(config, p)[p[-1]]) in (int, float)]
    place = draw.choice(numbers)
    holder_of(config, place)[place[-1]] *= draw.choice([-1, 0, 1e6, 1000, 5, 1e-9, 10**12])
    sign(folder, config)


def name_a_class(draw, folder):
    config = read(folder)
    named = [place for place in places(config) if place[-1] == "class_path"]
    place = draw.choice(named)
    holder_of(config, place)["class_path"] = draw.choice(NAMES)
    sign(folder, config)


def ask_for_much(draw, folder):
    config = read(folder)
    much = draw.choice(LARGE)
    parts = config["model"]["init_args"] if "model" in config else {}
    wide = [
        lambda: config["image_transform"].update(size=much),
        lambda: parts["image_encoder"]["init_args"].update(channels=[8, much, much]),
        lambda: parts["image_encoder"]["init_args"].update(channels=[8] * min(much, 10**5)),
        lambda: parts["prior"]["init_args"].update(latent_dim=much),
        lambda: parts["prior"]["init_args"]["mlp"].update(hidden=[much, much]),
        lambda: parts["likelihood"]["init_args"].update(num_findings=much),
        lambda: parts.update(
            image_encoder={
                "class_path": "vkd_pyro.encoders.image.TorchvisionEncoder",
                "init_args": {"name": "vit_h_14"},
            }
        ),
        lambda: parts["image_encoder"].update(
            class_path="vkd_pyro.encoders.image.SmallResNetEncoder", init_args={"channels": [8, 16], "blocks": much}
        ),
        lambda: parts.update(
            prior={
                "class_path": "vkd_pyro.distributions.Flow",
                "init_args": {"in_features": 16, "latent_dim": 4, "num_couplings": much},
            }
        ),
        lambda: parts.update(
            report_likelihood={
                "class_path": "vkd_pyro.distributions.WordPresence",
                "init_args": {"latent_dim": 4, "vocabulary_size": much},
            }
        ),
        lambda: config.update(findings=[str(n) for n in range(min(much, 10**5))]),
    ]
    (draw.choice(wide) if parts else wide[draw.choice([0, -1])])()
    sign(folder, config)


def other_json(draw, folder):
    text = (folder / "config.json").read_text(encoding="utf-8")
    other = [
        lambda: "[" * 10**5,
        lambda: text.replace("{", '{"deep": ' + '{"a":' * 900 + "1" + "}" * 900 + ",", 1),
        lambda: text.replace("32", "3" * 5000),
        lambda: text.replace("0.", "NaN", 1),
        lambda: text.replace("0.", "1e999", 1),
        lambda: " " * 2**24 + text,
        lambda: "null",
        lambda: text[: draw.randrange(len(text))],
        lambda: text.replace('"findings"', '"findings": 5, "findings"', 1),
        lambda: text.encode("utf-16").decode("latin-1"),
    ]
    (folder / "config.json").write_text(draw.choice(other)(), encoding="utf-8")


# ------------------------------------------------------------------------------------------ other files


def damaged(draw, content: bytes) -> bytes:
    one, other = sorted(draw.randrange(len(content) + 1) for _ in range(2))
    ways = [
        lambda: content[:one],
        lambda: content[:one] + content[other:],
        lambda: content[:one] + bytes(draw.randrange(256) for _ in range(9)) + content[one:],
        lambda: b"",
        lambda: content + content,
        lambda: bytes(b ^ (1 << draw.randrange(8)) if draw.random() < 20 / len(content) else b for b in content),
        lambda: (
            content[:8]
            + bytes(b ^ (1 << draw.randrange(8)) if draw.random() < 0.02 else b for b in content[8:600])
            + content[600:]
        ),
        lambda: struct.pack("<Q", draw.choice([0, 1, 2**20, 2**31, 2**40, 2**63, 2**64 - 1])) + content[8:],
    ]
    return draw.choice(ways)()


def damage_a_file(draw, folder):
    path = draw.choice([p for p in sorted(folder.iterdir()) if p.suffix in (".safetensors", ".xml", ".bin", ".md")])
    path.write_bytes(damaged(draw, path.read_bytes()))
    sign(folder, read(folder))


def other_tensors(draw, folder):
    path = draw.choice(sorted(folder.glob("*.safetensors")))
    state = safetensors.torch.load_file(path)
    name = draw.choice(sorted(state))
    one = state[name]
    ways = [
        lambda: state.update({name: one * float("nan") if one.is_floating_point() else one - 5}),
        lambda: state.update({name: one.to(draw.choice([torch.float64, torch.float16, torch.int64, torch.uint8]))}),
        lambda: state.update({name: one.reshape(-1)}),
        lambda: state.update({name: one[None]}),
        lambda: state.update({name: torch.zeros(0)}),
        lambda: state.update({name: -one * 1e6 if one.is_floating_point() else one}),
        lambda: state.update({"extra": torch.zeros(3)}),
        lambda: state.pop(name),
        lambda: state.clear(),
        lambda: state.update({name: torch.full_like(one, float("inf")) if one.is_floating_point() else one}),
    ]
    draw.choice(ways)()
    safetensors.torch.save_file({key: value.contiguous() for key, value in state.items()}, path)
    sign(folder, read(folder))


def other_header(draw, folder):
    """Shapes and offsets in the header of tensors that their bytes do not have."""
    path = draw.choice(sorted(folder.glob("*.safetensors")))
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    one = header[draw.choice([name for name in sorted(header) if name != "__metadata__"])]
    much = draw.choice([0, -1, 2**20, 2**40, 2**63, 2**64])
    ways = [
        lambda: one.update(shape=[much, much]),
        lambda: one.update(data_offsets=[0, much]),
        lambda: one.update(dtype=draw.choice(["F64", "X", None])),
        lambda: header.update(__metadata__={"a": "b" * 1000}),
        lambda: header.update(extra={"dtype": "F32", "shape": [much], "data_offsets": [0, 4 * much]}),
        lambda: header.update({"a" * 10**6: one}),
    ]
    draw.choice(ways)()
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + content[8 + length :])
    sign(folder, read(folder))


def put_a_link(draw, folder):
    """A link, a folder or a pipe in the place of a file."""
    path = draw.choice([p for p in sorted(folder.rglob("*.*")) if p.suffix != ".py"])
    content = path.read_bytes()
    outside = folder.parent / f"{folder.name}-outside"
    outside.write_bytes(content)
    path.unlink()
    draw.choice(
        [
            lambda: path.symlink_to(outside),
            lambda: path.symlink_to("/etc/hostname"),
            lambda: path.symlink_to("/dev/zero"),
            lambda: path.symlink_to(path.name),
            path.mkdir,
            lambda: os.mkfifo(path),
            lambda: None,
        ]
    )()


BUNDLE = (
    *(
        change_a_value,
        drop_a_field,
        add_a_field,
        permute_a_list,
        scale_a_number,
        name_a_class,
        ask_for_much,
        other_json,
    ),
    *(damage_a_file, other_tensors, other_header, put_a_link),
)
EXPORT = (
    change_a_value,
    drop_a_field,
    permute_a_list,
    scale_a_number,
    ask_for_much,
    other_json,
    damage_a_file,
    put_a_link,
)


# ------------------------------------------------------------------------------------------ checkpoints


def sign_checkpoint(path: Path, content: bytes) -> None:
    path.write_bytes(content + sha256(content).hexdigest().encode())


def damage_a_checkpoint(draw, folder):
    path = folder / "checkpoints" / "best.ckpt"
    sign_checkpoint(path, damaged(draw, path.read_bytes()[:-64]))


def another_state(draw, folder):
    path = folder / "checkpoints" / "best.ckpt"
    state = torch.load(path, weights_only=True)
    weights = state["state_dict"]
    name = draw.choice(sorted(weights))
    ways = [
        lambda: state.pop("state_dict"),
        lambda: state.update(state_dict=5),
        lambda: state.update(state_dict={name: 5}),
        lambda: state.update(position=draw.choice([None, 5, {}, {"epoch": "x"}])),
        lambda: weights.update({name: weights[name] * float("nan")}),
        lambda: weights.update({name: torch.zeros(1).expand(2**30)}),
        lambda: weights.update({name: torch.zeros(0)}),
        lambda: weights.pop(name),
        lambda: weights.update({"method.model.extra": torch.zeros(3)}),
        state.clear,
    ]
    draw.choice(ways)()
    save_checked(state, path)


class Runs:
    """Unpickled, it runs what it was told to."""

    def __init__(self, what, *arguments) -> None:
        self.what, self.arguments = what, arguments

    def __reduce__(self):
        return self.what, self.arguments


def another_pickle(draw, folder):
    """What is not a tensor, asks for much, or would run code."""
    content = io.BytesIO()
    told = [
        lambda: Runs(os.system, "exit 3"),
        lambda: Runs(bytearray, 2**34),
        lambda: Runs(eval, "exit()"),
        lambda: [[[]]] * 10**5,
        lambda: {"state_dict": {"a": "b"}},
        lambda: 5,
    ]
    with zipfile.ZipFile(content, "w", draw.choice([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])) as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(draw.choice(told)(), protocol=2))
        archive.writestr("archive/version", "3")
        archive.writestr("archive/byteorder", "little")
        archive.writestr("archive/data/0", b"\0" * draw.choice([0, 10**7]))
    sign_checkpoint(folder / "checkpoints" / "best.ckpt", content.getvalue())


CHECKPOINT = (damage_a_checkpoint, another_state, another_pickle, put_a_link)

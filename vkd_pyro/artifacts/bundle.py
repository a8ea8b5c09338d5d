"""A bundle: a trained image-only model as a folder that stands alone and never changes.

bundle/
  config.json           format version, parts by class and arguments, findings, image transform, what was learned from
                        (views, label policies), what was fitted on the validation split (to studies, and to images),
                        hashes of the other files
  weights.safetensors   the model's parameters and buffers; nothing of the report branch
  ood.safetensors       what features and z of training images were like, and quantiles of held-out ones
  README.md             its card: what it was trained on, and what it is not for
  model.sig             a signature, where there is one (`vkd sign`)

Nothing in it is of one patient or image: what was fitted to the validation split is kept as quantiles, and as
thresholds that are rounded. Nothing in it is code, but its config names the classes that the model is built of: see
`load_bundle`.
"""

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import safetensors.numpy
import safetensors.torch
import torch
from torch import Tensor

from vkd_pyro.artifacts.folders import (
    AGAIN,
    CARD,
    CONFIG,
    OOD,
    WEIGHTS,
    check_not_bundle,
    is_bundle,
    read_calibration,
    read_card,
    verified,
)
from vkd_pyro.artifacts.guard import MAX_WEIGHTS, guarded, regular_file
from vkd_pyro.artifacts.hub import fetched, on_hub
from vkd_pyro.artifacts.parts import describe_model, load_model, merged
from vkd_pyro.artifacts.predictor import Array, Predictor, Sampled
from vkd_pyro.artifacts.schema import BundleSchema, ConfigSchema, checked
from vkd_pyro.artifacts.signing import SIGNATURE, verified_copy
from vkd_pyro.data.images.image_transform import ImageTransform
from vkd_pyro.methods.base import Method
from vkd_pyro.model import ImageModel
from vkd_pyro.posthoc.calibration import Calibration
from vkd_pyro.sampling import PosteriorPredictive
from vkd_pyro.utils.errors import UserError
from vkd_pyro.utils.files import read_signed_json, sha256_of, write_signed_json, written_folder

FORMAT_VERSION = 5
TRIED_SIZE = 256
"""Side of an image, at most, that a model is tried with when it is loaded: some networks read no small ones."""


@dataclass(frozen=True)
class Bundle(Predictor):
    """A loaded bundle.

    Attributes:
        model: in eval mode, on the CPU.
    """

    model: ImageModel

    @property
    def method(self) -> Method:
        """The model as a method that reads no report and cannot train, to be evaluated."""
        return Method(self.findings, self.model).eval()

    @torch.no_grad()
    def sample(self, images: Array, num_samples: int, seed: int = 0) -> Sampled:
        """As `Predictor.sample`, on the device of the model."""
        features = self.model.encode(torch.from_numpy(images))
        return sampled(self.model.posterior_predictive(features, num_samples, seed), features)


def sampled(said: PosteriorPredictive, features: Tensor) -> Sampled:
    """What a model says of images, and their features [N, F], as arrays."""
    latents = None if said.latent is None else said.latent.mean.double().cpu().numpy()
    z = None if said.z is None else _array(said.z)
    return Sampled(_array(said.samples), _array(features), latents, z, said.independent)


def _array(tensor: Tensor) -> Array:
    return tensor.float().cpu().numpy()


def save_bundle(
    folder: Path,
    model: ImageModel,
    findings: tuple[str, ...],
    transform: ImageTransform,
    card: str,
    data: Mapping[str, Any] | None = None,
    calibration: Calibration | None = None,
) -> None:
    """Writes a bundle, whole or not at all; `data` says what it learned from (`StudyData.description`).

    Raises:
        UserError: there is something at `folder` already; a bundle never changes.
    """
    if folder.exists():
        raise UserError(f"{folder}: exists already, and a bundle never changes; choose another folder")
    model = merged(model)
    state = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    with written_folder(folder) as unfinished:
        safetensors.torch.save_file(state, unfinished / WEIGHTS)
        (unfinished / CARD).write_text(card, encoding="utf-8")
        config = {
            "format_version": FORMAT_VERSION,
            "findings": list(findings),
            "image_transform": asdict(transform),
            "data": dict(data or {}),
            "model": describe_model(model),
            "weights_sha256": sha256_of(unfinished / WEIGHTS),
            "card_sha256": sha256_of(unfinished / CARD),
        }
        if calibration is not None:
            safetensors.numpy.save_file(calibration.reference.to_arrays(), unfinished / OOD)
            config |= {"calibration": calibration.to_json(), "ood_sha256": sha256_of(unfinished / OOD)}
        write_signed_json(unfinished / CONFIG, config)
        for file in unfinished.iterdir():
            file.chmod(0o644)  # nothing of a patient is in a bundle, and whoever serves it must read it


def save_recalibrated(
    folder: Path, source: Path, calibration: Calibration, card: str, recalibrated: Mapping[str, Any]
) -> None:
    """Writes a bundle like another, with the same file of weights and another calibration, whole or not at all.

    Args:
        folder: of the new bundle.
        source: the other, which stays as it is.
        calibration, card: of the new one.
        recalibrated: on whom, and what it is worth: kept under data.recalibrated.

    Raises:
        UserError: there is something at `folder` already, or it is in a bundle; or the source was changed meanwhile.
    """
    if folder.exists():
        raise UserError(f"{folder}: exists already, and a bundle never changes; choose another folder")
    check_not_bundle(folder)
    old = read_config(source)
    with written_folder(folder) as unfinished:
        shutil.copyfile(source / WEIGHTS, unfinished / WEIGHTS)
        verified(unfinished / WEIGHTS, old["weights_sha256"], "not the weights", MAX_WEIGHTS)
        safetensors.numpy.save_file(calibration.reference.to_arrays(), unfinished / OOD)
        (unfinished / CARD).write_text(card, encoding="utf-8")
        config = old | {
            "data": old["data"] | {"recalibrated": dict(recalibrated) | {"from": old["config_sha256"]}},
            "calibration": calibration.to_json(),
            "card_sha256": sha256_of(unfinished / CARD),
            "ood_sha256": sha256_of(unfinished / OOD),
        }
        del config["config_sha256"]
        write_signed_json(unfinished / CONFIG, config)
        for file in unfinished.iterdir():
            file.chmod(0o644)  # as `save_bundle`


def load_bundle(folder: str | Path, allow: Sequence[str] = (), trusted_key: str | Path | None = None) -> Bundle:
    """Reads a bundle; nothing of the report branch is needed, and nothing is unpickled.

    A bundle is data, whoever made it, and may be loaded without trust in them. What it names is built of the classes of
    this package alone, and of modules that `allow` names, which are code: allow what you would run.

    Args:
        folder: as `vkd train` writes it to RUN/bundle; or "hf://owner/name@revision", of the Hugging Face hub (`hub`).
        allow: modules that its parts may be of beside this package's, e.g. ("my_parts",).
        trusted_key: public key, PEM, of who must have signed it (`signing.verify`); before that nothing is parsed.

    Raises:
        UserError: not a bundle, a bundle of another version, or one whose files were changed, are links, are too large
            (`MAX_WEIGHTS`), or do not fit each other; or a part of a module that is not allowed.
    """
    if on_hub(folder):
        with local_bundle(folder) as local:
            return load_bundle(local, allow, trusted_key)
    folder = Path(folder)
    if trusted_key is not None:
        with verified_copy(folder, Path(trusted_key)) as copy:
            return load_bundle(copy, allow)
    path, config = folder / CONFIG, read_config(folder)
    schema = checked(config, BundleSchema, path, AGAIN)
    weights_hash = verified(folder / WEIGHTS, schema.weights_sha256, "not the weights", MAX_WEIGHTS)
    with guarded(path, AGAIN, "does not describe this model"):
        model = load_model(config["model"], folder / WEIGHTS, AGAIN, allow)
        calibration = read_calibration(folder, config, allow)
        check_together(schema, model, calibration)
        return Bundle(
            model,
            tuple(schema.findings),
            ImageTransform(**schema.image_transform.model_dump()),
            weights_hash,
            views_of(schema.data),
            calibration,
            schema.config_sha256,
            read_card(folder, schema),
        )


@contextmanager
def local_bundle(name: str | Path) -> Iterator[Path]:
    """The folder of a bundle; of one on the hub a folder with its files, as long as the block lasts.

    Raises: UserError, as `hub.fetched`.
    """
    if on_hub(name):
        with fetched(name, (CONFIG, WEIGHTS, CARD), (OOD, SIGNATURE)) as folder:
            yield folder
    else:
        yield Path(name)


def views_of(data: Mapping[str, Any]) -> tuple[str, ...]:
    """The views that a bundle learned from, by what it keeps of its data."""
    views = data.get("views", "all")
    if views not in ("all", "frontal", "lateral"):
        raise UserError(f"data.views: found {str(views)[:40]!r}, expected frontal, lateral or all")
    return ("frontal", "lateral") if views == "all" else (views,)


@torch.no_grad()
def check_together(schema: ConfigSchema, model: ImageModel, calibration: Calibration | None) -> None:
    """Raises `UserError` where the model reads no such images, says other findings, or was not what was fitted."""
    features, size = torch.zeros(1, model.image_encoder.features_dim), schema.image_transform.size
    if size <= TRIED_SIZE and (found := model.encode(torch.zeros(1, 1, size, size))).shape != features.shape:
        raise UserError(f"image_encoder: gives features {list(found.shape)}, expected {list(features.shape)}; {AGAIN}")
    said = model.posterior_predictive(features, 1).samples
    if said.shape[-1] != len(schema.findings):
        raise UserError(f"findings: {len(schema.findings)} are named, and the model says {said.shape[-1]}; {AGAIN}")
    if calibration is not None:
        latent = model.latent(features)
        calibration.check_for(tuple(schema.findings), features.shape[-1], latent and latent.event_shape[-1])


def read_config(folder: Path) -> dict[str, Any]:
    """The config of a bundle; raises `UserError` where it is none, or was changed."""
    path = folder / CONFIG
    if not is_bundle(folder):
        raise UserError(
            f"{folder}: not a bundle; expected a folder with {CONFIG} and {WEIGHTS}, as vkd train writes to RUN/bundle"
        )
    with guarded(path, AGAIN):
        regular_file(path, AGAIN)
        older = "use the version it was written with, or train again"
        return read_signed_json(path, ("format_version", FORMAT_VERSION), older, AGAIN)


def findings_of(folder: Path) -> tuple[str, ...]:
    """The findings of a bundle, of which nothing is built; errors as of `load_bundle`."""
    return tuple(checked(read_config(folder), BundleSchema, folder / CONFIG, AGAIN).findings)


def check_rebuildable(model: ImageModel, findings: Sequence[str] = ()) -> None:
    """Raises `UserError` where a bundle of this model could not be written and read: before training, not after it."""
    model = merged(model)
    try:
        json.dumps(describe_model(model))
    except TypeError as error:
        raise UserError(f"a part of the model has an argument that JSON cannot hold: {error}") from error
    if (size := sum(one.numel() * one.element_size() for one in model.state_dict().values())) > MAX_WEIGHTS:
        raise UserError(
            f"the model has {size:,} bytes of weights, and a bundle at most {MAX_WEIGHTS:,}; make it smaller"
        )
    for finding in findings:
        if not (finding.isprintable() and 0 < len(finding) <= 200):
            raise UserError(f"finding {finding[:40]!r}: not a name that can be shown; expected up to 200 letters")

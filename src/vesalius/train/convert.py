"""Converts what `open_source` opened into other formats."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

import safetensors.torch
import torch
from sentence_transformers.sentence_transformer.modules import Dense
from torch import Tensor

from vesalius.errors import InputError, SettingError
from vesalius.folder import write_manifest, writing, writing_folder
from vesalius.ids import MODALITIES, Modality
from vesalius.model.aligner import PromptProjection
from vesalius.model.export import RAW, prompt_modules, prompts_of, write_model_card
from vesalius.model.export_onnx import write_onnx
from vesalius.model.sat import NUM_SEGMENTATION_MODALITIES, segmentation_tensors
from vesalius.model.sat_file import sat_file_details
from vesalius.train.region_file import write_region_weights
from vesalius.train.run import ENCODER, KIND, SCHEMA
from vesalius.train.sources import RunSource, Source

Format = Literal["sentence-transformers", "sat", "safetensors", "onnx", "run"]
Features = Literal["raw", "prompts"]

UNTRAINED = "projection and modality embedding of a stage-1 checkpoint were never trained; what they give is random"
OWN_TOKENS = (
    "the text tower was trained with its own special tokens around a text (MPNet: <s> … </s>); the segmentation code feeds "
    "[CLS] … [SEP], so prompts differ there"
)


@dataclass(frozen=True, kw_only=True)
class Conversion:
    """What was written.

    Attributes:
        written: files and folders.
        warnings: what the user should know about them.
    """

    written: list[Path]
    warnings: list[str] = field(default_factory=list)


def convert(
    source: Source, to: Format | str, *, out: Path, features: Features | None = None, modality: Modality | None = None
) -> Conversion:
    """Writes `source` to `out` in another format, whole or not at all.

    Args:
        source: what `open_source` returned.
        to: ``sentence-transformers`` and ``onnx`` (a folder, or a file where `out` ends in ``.onnx``) give text features or prompts;
            ``sat`` (what the published segmentation code loads) and ``safetensors`` (everything, under the published names) are
            files of weights; ``run`` is a run folder to train on from, both towers in it.
        out: file or folder to write; a folder must be new or empty.
        features: ``raw`` text features, or ``prompts``: projected, with the embedding of one modality, not normalised. None
            takes prompts where they were trained, or where `modality` is given.
        modality: the modality of prompts; None writes a folder for each.

    Raises:
        SettingError: a setting without effect, or `source` lacks or does not fit what the format needs.
        InputError: `out` exists and is not empty.
        VesaliusError: ONNX gives other numbers.
    """
    if to not in get_args(Format):
        raise SettingError(f"unknown format {to!r}", remedy=f"known are: {', '.join(get_args(Format))}")
    if to in ("sat", "safetensors", "run"):
        for name, value in (("features", features), ("modality", modality)):
            if value is not None:
                raise SettingError(f"--{name} has no effect with --to {to}", remedy="leave it out")
    is_file = to in ("sat", "safetensors") or (to == "onnx" and out.suffix == ".onnx")
    if is_file and out.is_dir():
        raise InputError(f"is a folder; --to {to} writes a file", where=out, remedy="give another --out")
    if not is_file and (out.is_file() or (out.is_dir() and any(out.iterdir()))):
        raise InputError("exists, and is no empty folder", where=out, remedy="give another --out")
    if to == "run":
        return _run(source, out)
    if to in ("sat", "safetensors"):
        return _weights(source, to, out)
    return _encoders(source, to, out, features=features, modality=modality)


@dataclass(frozen=True, kw_only=True)
class _Variant:
    """One encoder to write: its place below `out`, the modules behind the features, what the model card says it gives."""

    place: str
    projection: Sequence[Dense]
    gives: str


def _encoders(
    source: Source, to: str, out: Path, *, features: Features | None, modality: Modality | None
) -> Conversion:
    prompts = source.prompts()
    if features is None:
        features = "prompts" if modality is not None or (prompts is not None and source.stage == 2) else "raw"
    variants = list(_variants(prompts, features, modality))
    warnings = [UNTRAINED] if features == "prompts" and source.stage == 1 else []
    encoder = source.encoder()
    if to == "onnx" and out.suffix == ".onnx":
        if len(variants) > 1:
            raise SettingError("one file holds one modality", where=out, remedy="give --modality, or a folder as --out")
        write_onnx(encoder, out, projection=variants[0].projection)
        return Conversion(written=[out], warnings=warnings)
    facts = source.facts()
    with writing_folder(out) as temporary:
        for variant in variants:
            folder = temporary / variant.place
            folder.mkdir(parents=True, exist_ok=True)
            if to == "onnx":
                write_onnx(encoder, folder / "model.onnx", projection=variant.projection)
                encoder.save_tokenizer(folder)
            else:
                encoder.save(folder, projection=variant.projection, normalise=False)
            write_model_card(
                folder, title=facts.title, origins=facts.origins, results=facts.results, results_title=facts.results_title,
                recipe=facts.recipe, gives=variant.gives, name=(out / variant.place).name, onnx=to == "onnx",
            )  # fmt: skip
    return Conversion(written=[out / variant.place for variant in variants], warnings=warnings)


def _variants(prompts: PromptProjection | None, features: Features, modality: Modality | None) -> Iterator[_Variant]:
    if features == "raw":
        if modality is not None:
            raise SettingError(
                "--modality has no effect on raw features", remedy="leave it out, or give --features prompts"
            )
        yield _Variant(place=".", projection=[], gives=RAW)
        return
    if prompts is None:
        raise SettingError(
            "no text projection, which prompts need", remedy="give --features raw, or train stage 2 first"
        )
    for each in prompts.modalities if modality is None else (modality,):
        place = each if modality is None else "."
        yield _Variant(place=place, projection=prompt_modules(prompts, each), gives=prompts_of(each))


def _weights(source: Source, to: str, out: Path) -> Conversion:
    tensors = source.published()
    details = sat_file_details(
        step=source.step,
        stage=source.stage,
        origins=source.facts().origins,
        last_gelu=source.last_gelu,
        tokens=source.tokens,
    )
    warnings = []
    if to == "sat":
        num_rows = len(tensors.get("module.modality_embed.weight", ()))
        tensors = segmentation_tensors(tensors)
        if num_rows > NUM_SEGMENTATION_MODALITIES:
            left_out = ", ".join(MODALITIES[NUM_SEGMENTATION_MODALITIES:num_rows])
            warnings.append(
                f"the segmentation code knows no {left_out}: that row of the modality embedding is left out"
            )
        if source.stage == 1:
            warnings.append(UNTRAINED)
        if source.tokens == "own":
            warnings.append(OWN_TOKENS)
    with writing(out) as temporary:
        _save(tensors, details, temporary, as_pickle=to == "sat")
    return Conversion(written=[out], warnings=warnings)


def _save(tensors: dict[str, Tensor], details: Mapping[str, int | str], path: Path, *, as_pickle: bool) -> None:
    if as_pickle:
        torch.save({"model_state_dict": tensors, **details}, path)
    else:
        safetensors.torch.save_file(tensors, path, metadata={key: str(value) for key, value in details.items()})


def _run(source: Source, out: Path) -> Conversion:
    if isinstance(source, RunSource):
        raise SettingError("a run is a run already", remedy="use it as it is")
    model = source.model()
    if model is None and source.prompts() is not None:
        raise SettingError(
            "a text side without region encoder; a run would lose its text projection",
            remedy="give the whole checkpoint, or convert to sentence-transformers",
        )
    encoder, facts = source.encoder(), source.facts()
    with writing_folder(out) as temporary:
        encoder.save(temporary / ENCODER)
        write_model_card(
            temporary / ENCODER, title=facts.title, origins=facts.origins, results=None, recipe=facts.recipe
        )
        if model is not None:
            write_region_weights(temporary, model, region_keys=[])
        stage = "regions" if model is not None and source.stage == 2 else "text"
        details = {"stage": stage, "step": source.step, "recipe": facts.recipe}
        write_manifest(temporary, kind=KIND, schema=SCHEMA, origins=facts.origins, details=details)
    return Conversion(written=[out], warnings=[UNTRAINED] if source.stage == 1 and model is not None else [])

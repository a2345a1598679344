"""The layout of SAT-Pretrain's checkpoints: shapes out of tensors, our modules out of its names, and back.

| published name | ours |
|---|---|
| ``text_tower.{biolord, medcpt, pubmedbert}.*`` | `TextEncoder` |
| ``projection_layer.{0, 2}.*`` | `Aligner.prompt_projection.projection` |
| ``modality_embed.weight`` | `Aligner.prompt_projection.modality_embedding` |
| ``atlas_tower.encoder.stages.*`` | `RegionEncoder.stages` |
| ``atlas_tower.projection_layer.{0, 2}.*`` | `Aligner.region_projection` |
| ``temperature`` | `Aligner.logit_scale` and `RegionModel.text_logit_scale`: the logarithm of the multiplier |
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from vesalius.errors import InputError, SettingError
from vesalius.ids import MODALITIES
from vesalius.model.aligner import Aligner, PromptProjection
from vesalius.model.region_encoder import RegionEncoder, UNetSize
from vesalius.model.region_model import RegionModel, RegionModelSize, make_aligner
from vesalius.model.sat_file import DAMAGED, DUPLICATES, TEXT_TEMPERATURE, SatFile
from vesalius.model.sat_text import check_tower, tower_tensors
from vesalius.model.text_encoder import TextEncoder

SEGMENTATION_WIDTH = 768
NUM_SEGMENTATION_MODALITIES = 4

_STAGES = "atlas_tower.encoder.stages."


def check_sat_file(file: SatFile) -> None:
    """Looks that every tensor of a checkpoint has its place and the shape that the others ask for, without loading one.

    Raises:
        InputError: one has not.
    """
    text_width = check_tower(file)
    if file.has_regions:
        size = region_model_size(file)
        with torch.device("meta"):
            regions = RegionEncoder(size.unet)
            aligner = make_aligner(size, text_width=text_width, region_width=regions.width)
        for beginning, module in _parts(regions, aligner).items():
            file.part(beginning, module)
        _temperature(file, "temperature")
    elif file.has_prompts:
        prompt_projection(file)


def prompt_projection(file: SatFile) -> PromptProjection:
    """Returns the text projection and the modality embedding of a checkpoint.

    Raises:
        InputError: they are missing, or their shapes do not fit.
    """
    hidden_width, text_width = file.shape("projection_layer.0.weight", num_axes=2)
    num_modalities, width = _modality_shape(file)
    module = PromptProjection(
        text_width=text_width, hidden_width=hidden_width, width=width, num_modalities=num_modalities
    )
    for beginning, part in _prompt_parts(module).items():
        part.load_state_dict(file.part(beginning, part))
    return module.eval()


def region_model(file: SatFile, encoder: TextEncoder) -> RegionModel:
    """Returns the whole model of a checkpoint around its text tower.

    Args:
        file: the checkpoint.
        encoder: its text tower, see `sat_text.text_tower`.

    Raises:
        InputError: tensors are missing, or their shapes do not fit.
    """
    model = RegionModel(encoder, size=region_model_size(file))
    for beginning, part in _parts(model.regions, model.aligner).items():
        part.load_state_dict(file.part(beginning, part))
    model.aligner.logit_scale.log_logit_scale.data.copy_(_temperature(file, "temperature"))
    own = TEXT_TEMPERATURE if TEXT_TEMPERATURE in file.tensors else "temperature"
    model.text_logit_scale.log_logit_scale.data.copy_(_temperature(file, own))
    return model.eval()


def region_model_size(file: SatFile) -> RegionModelSize:
    """Returns the shape of everything around the text tower, read off the tensors.

    Raises:
        InputError: tensors are missing, or their shapes do not fit.
    """
    num_modalities, width = _modality_shape(file)
    return RegionModelSize(
        unet=_unet_size(file),
        width=width,
        text_hidden_width=file.shape("projection_layer.0.weight", num_axes=2)[0],
        region_hidden_width=file.shape("atlas_tower.projection_layer.0.weight", num_axes=2)[0],
        last_gelu=file.last_gelu,
        num_modalities=num_modalities,
    )


def published_tensors(encoder: TextEncoder, model: RegionModel | None) -> dict[str, Tensor]:
    """Returns all weights under the published names, duplicates included, each a tensor of its own on the CPU.

    Args:
        encoder: the text tower.
        model: what surrounds it; None gives the text tower alone.

    Raises:
        SettingError: the layout has no place for the encoder.
    """
    tensors = tower_tensors(encoder)
    if model is not None:
        for beginning, part in _parts(model.regions, model.aligner).items():
            tensors |= {beginning + name: tensor for name, tensor in part.state_dict().items()}
        tensors["temperature"] = model.aligner.logit_scale.log_logit_scale
        if not torch.equal(tensors["temperature"], model.text_logit_scale.log_logit_scale):
            tensors[TEXT_TEMPERATURE] = model.text_logit_scale.log_logit_scale
    return with_duplicates(tensors)


def with_duplicates(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Returns copies of `tensors` under names with ``module.``, the U-Net's once more as the published code saves them."""
    copies = {}
    for name, tensor in tensors.items():
        copies[f"module.{name}"] = tensor.detach().cpu().contiguous().clone()
        for again, original in DUPLICATES.items():
            if name.startswith(_STAGES) and original in name:
                copies[f"module.{name.replace(original, again)}"] = tensor.detach().cpu().contiguous().clone()
    return copies


def segmentation_tensors(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Returns those of `published_tensors` that the published segmentation code (SAT) loads, in its shapes.

    These are the text tower, the projection, and the first four rows of the modality embedding: it has none for microscopy.

    Raises:
        SettingError: the tower is not BioLORD's (MPNet), there is no projection, or a width is not the 768 that the code has built in.
    """
    plain = {name.removeprefix("module."): tensor for name, tensor in tensors.items()}
    kind = next(name.split(".")[1] for name in plain if name.startswith("text_tower."))
    if kind != "biolord":
        raise SettingError(
            f"a text tower of kind {kind}; the segmentation code takes biolord (MPNet, mean pooling) only",
            remedy="convert to another format",
        )
    kept = {
        name: tensor
        for name, tensor in plain.items()
        if name.startswith(("text_tower.", "projection_layer.", "modality_embed."))
    }
    if "modality_embed.weight" not in kept:
        raise SettingError(
            "a model without text projection, which the segmentation code needs", remedy="train stage 2 first"
        )
    width = kept["text_tower.biolord.embeddings.word_embeddings.weight"].shape[1]
    if width != SEGMENTATION_WIDTH:
        raise SettingError(
            f"a biolord text tower of width {width}; the segmentation code takes {SEGMENTATION_WIDTH} only",
            remedy="convert to another format",
        )
    for name in ("projection_layer.0.weight", "projection_layer.2.weight"):
        if tuple(kept[name].shape) != (SEGMENTATION_WIDTH, SEGMENTATION_WIDTH):
            raise SettingError(
                f"{name} of shape {tuple(kept[name].shape)}; the segmentation code takes {SEGMENTATION_WIDTH} × "
                f"{SEGMENTATION_WIDTH} only",
                remedy="convert to another format",
            )
    rows = kept["modality_embed.weight"]
    if len(rows) < NUM_SEGMENTATION_MODALITIES:
        raise SettingError(
            f"{len(rows)} modalities; the segmentation code takes {NUM_SEGMENTATION_MODALITIES}",
            remedy="convert to another format",
        )
    kept["modality_embed.weight"] = rows[:NUM_SEGMENTATION_MODALITIES].clone()
    return {f"module.{name}": tensor for name, tensor in kept.items()}


def _parts(regions: RegionEncoder, aligner: Aligner) -> dict[str, nn.Module]:
    """Returns beginning of a published name → the module whose parameters those names end in."""
    return {
        "atlas_tower.encoder.": regions,
        "atlas_tower.projection_layer.": aligner.region_projection,
        **_prompt_parts(aligner.prompt_projection),
    }


def _prompt_parts(prompts: PromptProjection) -> dict[str, nn.Module]:
    return {"projection_layer.": prompts.projection, "modality_embed.": prompts.modality_embedding}


def _temperature(file: SatFile, name: str) -> Tensor:
    shape = file.shape(name, num_axes=0)
    return file.tensors[name].reshape(shape)


def _modality_shape(file: SatFile) -> tuple[int, ...]:
    shape = file.shape("modality_embed.weight", num_axes=2)
    if shape[0] > len(MODALITIES):
        raise InputError(
            f"{shape[0]} modalities, where at most {len(MODALITIES)} are known", where=file.path, remedy=DAMAGED
        )
    return shape


def _unet_size(file: SatFile) -> UNetSize:
    """Reads stages, convolutions and channels off the names and shapes of the convolutions."""
    found: dict[int, set[int]] = {}
    for name in file.tensors:
        matched = re.fullmatch(re.escape(_STAGES) + r"([0-9]{1,3})\.0\.convs\.([0-9]{1,3})\.conv\.weight", name)
        if matched:
            found.setdefault(int(matched.group(1)), set()).add(int(matched.group(2)))
    num_convs = len(found.get(0, ()))
    if not found or any(found.get(stage) != set(range(num_convs)) for stage in range(len(found))):
        raise InputError(
            "a region encoder whose stages are not numbered through, or of different depth",
            where=file.path,
            remedy=DAMAGED,
        )
    first = [file.shape(f"{_STAGES}{stage}.0.convs.0.conv.weight", num_axes=5) for stage in range(len(found))]
    return UNetSize(channels=tuple(shape[0] for shape in first), convs_per_stage=num_convs, in_channels=first[0][1])

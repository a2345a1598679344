"""Stage 2: text against image regions, text against text in turn."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Literal

import torch
from torch import Tensor

from vesalius.corpus.batch import Ancestors, RegionCrop, text_batch
from vesalius.corpus.crop_stream import CropStream
from vesalius.corpus.crops import CropSampler, CropSettings
from vesalius.corpus.pair_table import PairTable
from vesalius.corpus.tokens import TokenGroup
from vesalius.errors import SettingError
from vesalius.eval.encoder import validation_scores
from vesalius.ids import ConceptId, Modality, Split
from vesalius.knowledge.graph import Graph
from vesalius.model.loss import contrastive_loss
from vesalius.model.region_model import RegionModel, RegionModelSize
from vesalius.model.text_encoder import TextEncoder
from vesalius.predict.embed import encode_group
from vesalius.train.config import CHANGEABLE
from vesalius.train.loop import LoopSettings
from vesalius.train.optim import ParameterGroup, refuse_scale
from vesalius.train.processes import Processes
from vesalius.train.region_memory import RegionMemory, RegionMemorySettings, own_pairs, structure_pairs
from vesalius.train.text import TextShare, text_loss, text_share
from vesalius.train.text_data import TextData, TextStream, validation_sources
from vesalius.volumes.regions import Region
from vesalius.volumes.store import CaseStore


@dataclass(frozen=True, kw_only=True)
class RegionSettings:
    """Everything that decides a run of stage 2.

    Attributes:
        network: shape of what stage 2 adds to the text encoder.
        crops: how crops are drawn.
        crops_per_step: crops whose regions make one update.
        text: the text pairs of the text update.
        train_layers: how many of the text encoder's last layers are trained.
        train_embeddings: whether its token embeddings are trained.
        text_learning_rate_scale: the text encoder's learning rate as a share of the new parts'.
        loop: how long, and how.
        updates: ``joint``: each step is one update by the sum of region loss and text losses. ``alternating``, as published: steps
            are in turn a region update and a text update, so that one published step is two.
        positives: ``structure``: all regions of a prompt's structure, while relatives are left out. ``own``, as published: the region
            it was drawn with alone; others of its structure are left out, relatives are negatives.
        memory: regions of earlier steps that prompts choose among too.
        crop_workers: processes that draw crops ahead, for each training process; 0 draws between the steps.
    """

    network: RegionModelSize
    crops: CropSettings
    crops_per_step: int
    text: TextData
    train_layers: int
    train_embeddings: bool
    text_learning_rate_scale: float
    loop: LoopSettings
    updates: Literal["joint", "alternating"] = "joint"
    positives: Literal["structure", "own"] = "structure"
    memory: RegionMemorySettings = field(default_factory=RegionMemorySettings)
    crop_workers: int = field(default=2, metadata=CHANGEABLE)

    def __post_init__(self) -> None:
        """Refuses values that cannot work."""
        for name, least in (("crops_per_step", 1), ("crop_workers", 0)):
            if getattr(self, name) < least:
                raise SettingError(f"{name} is {getattr(self, name)}", remedy=f"give {least} or more")
        refuse_scale(self, "text_learning_rate_scale")
        stride = self.network.unet.stride
        if max(self.crops.size) <= stride:
            raise SettingError(
                f"crop size {self.crops.size} leaves the U-Net a single voxel at its coarsest stage",
                remedy=f"give more than {stride} voxels along at least one axis",
            )


@dataclass(frozen=True, kw_only=True)
class RegionBatch:
    """What one step of stage 2 is given.

    Attributes:
        crops: this process's crops; there may be none.
        text: pairs, and as further texts the prompts of the crops.
        has_regions: whether the step makes a region update, on whichever process.
        has_pairs: whether it makes a text update.
    """

    crops: list[RegionCrop]
    text: TextShare
    has_regions: bool
    has_pairs: bool


class RegionStage:
    """Contrasts regions with their names; beside it goes on with stage 1, in raw and projected features.

    As SAT-Pretrain there is a region update to each text update; whether their gradients are added or follow each other is a setting. A
    region is asked for by its name, and by synonyms only where its concept is on the train side: no held-out synonym is
    ever paired with its concept, not even through an image.

    Args:
        encoder: the text encoder of stage 1.
        graph: knowledge; with `pairs`, the concepts that validate and those of the regions are enough.
        sides: concept → side of the split.
        store: cases; only those of the train side are drawn.
        settings: everything else.
        pairs: where a mixture draws from, for a graph that is not held in memory; None draws from `graph`.
        processes: who trains with this one.

    Attributes:
        region_keys: the structures that are trained on.
    """

    name = "Stage 2: regions"

    def __init__(
        self,
        encoder: TextEncoder,
        *,
        graph: Graph,
        sides: Mapping[ConceptId, Split],
        store: CaseStore,
        settings: RegionSettings,
        pairs: PairTable | None = None,
        processes: Processes | None = None,
    ) -> None:
        encoder.open_layers(num_layers=settings.train_layers, embeddings=settings.train_embeddings)
        self.module = RegionModel(encoder, size=settings.network)
        self._graph = graph
        self._sides = sides
        self._settings = settings
        self._processes = processes or Processes()
        above = graph if pairs is None else pairs
        self._ancestors: Ancestors = cache(
            lambda concept: above.ancestors(concept) if concept in graph else frozenset()
        )
        self._text = TextStream(graph, sides, settings.text, seed=settings.loop.seed, pairs=pairs, encoder=encoder)
        sampler = CropSampler(
            store,
            splits=["train"],
            prompts=region_prompts(graph, sides),
            settings=settings.crops,
            seed=settings.loop.seed,
        )
        self._crops = CropStream(
            sampler,
            crops_per_step=settings.crops_per_step,
            workers=settings.crop_workers,
            rank=self._processes.rank,
            num_processes=self._processes.num,
        )
        self._memory = RegionMemory(settings.memory, width=settings.network.width)
        self.region_keys: list[str] = sampler.keys

    def parameter_groups(self) -> Sequence[ParameterGroup]:
        """Returns the new parts at the full learning rate, the text encoder at its share."""
        module = self.module
        new = [module.regions, module.aligner, module.text_logit_scale]
        return [
            ParameterGroup(parameters=[parameter for part in new for parameter in part.parameters()]),
            ParameterGroup(
                parameters=list(module.encoder.parameters()),
                learning_rate_scale=self._settings.text_learning_rate_scale,
            ),
        ]

    def draw(self) -> RegionBatch:
        """Returns the next batch: of the crops and of the texts, this process's own are loaded."""
        is_joint = self._settings.updates == "joint"
        has_regions = is_joint or self._crops.state_dict()["step"] == self._text.state_dict()["step"]
        has_pairs = is_joint or not has_regions
        crops = self._crops.draw() if has_regions else []
        text = text_share(
            self._text.draw() if has_pairs else text_batch([], ancestors=self._ancestors),
            encoder=self.module.encoder,
            max_length=self._settings.text.max_length,
            processes=self._processes,
            further=[prompt for crop in crops for prompt in crop.prompts],
        )
        return RegionBatch(crops=crops, text=text, has_regions=has_regions, has_pairs=has_pairs)

    def parts(self, batch: RegionBatch) -> Sequence[TokenGroup | RegionCrop]:
        """Returns the groups of this process's texts, then its crops."""
        return [*batch.text.groups, *batch.crops]

    def encode(self, part: TokenGroup | RegionCrop) -> Tensor:
        """Returns the features of a group of texts, or of the regions of a crop."""
        if isinstance(part, TokenGroup):
            return encode_group(self.module.encoder, part)
        device = next(self.module.regions.parameters()).device
        return self.module.regions(part.image.to(device), part.masks.to(device))

    def contrast(self, features: Sequence[Tensor], batch: RegionBatch) -> tuple[Tensor, dict[str, float]]:
        """Returns this process's share of region loss, raw text loss and projected text loss, and each of them of the batch."""
        module, processes = self.module, self._processes
        num_groups = len(batch.text.groups)
        texts, prompts = batch.text.in_order(features[:num_groups], encoder=module.encoder)
        scale, text_scale = module.aligner.logit_scale(), module.text_logit_scale()
        losses: dict[str, Tensor] = {}
        if batch.has_regions:
            losses["region_loss"] = self._region_loss(features[num_groups:], prompts, batch.crops, scale)
        if batch.has_pairs:
            losses["text_loss"] = text_loss(texts, batch.text, logit_scale=text_scale, processes=processes)
            projected = module.aligner.prompt_projection.projection(texts)
            losses["projected_text_loss"] = text_loss(projected, batch.text, logit_scale=scale, processes=processes)
        shares = torch.stack(list(losses.values()))
        values = {
            **dict(zip(losses, processes.sum(shares).tolist(), strict=True)),
            "logit_scale": scale.item(),
            "text_logit_scale": text_scale.item(),
        }
        return shares.sum(), values

    def _region_loss(
        self, features: Sequence[Tensor], prompts: Tensor, crops: Sequence[RegionCrop], scale: Tensor
    ) -> Tensor:
        """Returns this process's share of the loss of regions against their prompts; remembers the regions."""
        aligner, processes = self.module.aligner, self._processes
        modalities: list[Modality] = [crop.modality for crop in crops for _ in crop.prompts]
        own = torch.cat(list(features)) if features else prompts.new_zeros(0, self.module.regions.width)
        texts = processes.gather(aligner.project_texts(prompts, modalities).float())
        regions = processes.gather(aligner.project_regions(own).float())
        rows, keys, concepts = self._as_drawn(crops)
        regions, texts = regions[rows], texts[rows]
        positives, ignored = self._pairs([*keys, *self._memory.keys], [*concepts, *self._memory.concept_ids], len(keys))
        loss = contrastive_loss(
            torch.cat([regions, self._memory.embeddings.to(regions.device)]),
            texts,
            logit_scale=scale,
            positives=positives.to(regions.device),
            ignored=ignored.to(regions.device),
            num_asking=len(keys),
            share=(processes.rank, processes.num),
        )
        self._memory.add(regions, keys, concepts)
        return loss

    def _as_drawn(self, crops: Sequence[RegionCrop]) -> tuple[list[int], list[str], list[ConceptId]]:
        """Returns where the gathered regions of all crops lie, in the order of the draws, and their keys and concepts."""
        told = self._processes.gather_objects([(crop.keys, crop.concept_ids) for crop in crops])
        numbers = [rank + place * len(told) for rank, own in enumerate(told) for place, _ in enumerate(own)]
        regions = [
            (number, row, key, concept)
            for number, (keys, concepts) in zip(numbers, (crop for own in told for crop in own), strict=True)
            for row, (key, concept) in enumerate(zip(keys, concepts, strict=True))
        ]
        rows = sorted(range(len(regions)), key=lambda place: regions[place][:2])
        return rows, [regions[row][2] for row in rows], [regions[row][3] for row in rows]

    def _pairs(self, keys: Sequence[str], concepts: Sequence[ConceptId], num: int) -> tuple[Tensor, Tensor]:
        if self._settings.positives == "own":
            return own_pairs(keys, num=num)
        return structure_pairs(keys, concepts, num=num, ancestors=self._ancestors)

    def describe(self, batch: RegionBatch) -> str:
        """Returns the crops of all processes and the concepts of a batch."""
        names = self._processes.gather_objects([crop.name for crop in batch.crops])
        return "; ".join([*(name for some in names for name in some), ", ".join(batch.text.batch.concept_ids)])

    def num_examples(self, batch: RegionBatch) -> int:
        """Returns the number of this process's regions, or in an update without regions of its pairs."""
        if not batch.has_regions:
            return len(self._processes.share(batch.text.batch.left))
        return sum(len(crop.keys) for crop in batch.crops)

    def validate(self) -> tuple[float, dict[str, float]]:
        """Returns mean MRR, and MRR by task, of raw text features on validation concepts, see `validation_sources`."""
        data = self._settings.text
        return validation_scores(
            self.module.encoder,
            self._graph,
            sides=self._sides,
            max_length=data.max_length,
            sources=validation_sources(data),
        )

    def state_dict(self) -> dict[str, Any]:
        """Returns the positions of both data streams, and the memory."""
        return {
            "text": self._text.state_dict(),
            "crops": dict(self._crops.state_dict()),
            "memory": self._memory.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes to where `state` was taken."""
        self._text.load_state_dict(state["text"])
        self._crops.load_state_dict(state["crops"])
        self._memory.load_state_dict(state["memory"])

    def close(self) -> None:
        """Ends the processes that draw crops."""
        self._crops.close()


def region_prompts(graph: Graph, sides: Mapping[ConceptId, Split]) -> Callable[[Region], Sequence[str]]:
    """Returns what gives the texts a region may be asked for with.

    Its name first; then, where its concept is on the train side, the concept's exact names with the region's side before them.
    """

    def prompts(region: Region) -> Sequence[str]:
        texts = [region.name]
        if sides.get(region.concept_id) == "train":
            side = f"{region.laterality} " if region.laterality else ""
            texts += [f"{side}{name.lower()}" for name in graph[region.concept_id].exact_names()]
        return list(dict.fromkeys(texts))

    return prompts

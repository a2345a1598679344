"""Stage 2: text against image regions, text against text in turn."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor

from vesalius.corpus.batch import Ancestors, RegionCrop, relatives, same, wholes
from vesalius.corpus.crops import CropSampler, CropSettings
from vesalius.corpus.tokens import TokenGroup
from vesalius.errors import SettingError
from vesalius.eval.encoder import validation_scores
from vesalius.ids import ConceptId, Modality, Split
from vesalius.knowledge.graph import Graph
from vesalius.model.loss import contrastive_loss
from vesalius.model.region_model import RegionModel, RegionModelSize
from vesalius.model.text_encoder import TextEncoder
from vesalius.predict.embed import encode_group
from vesalius.train.loop import LoopSettings
from vesalius.train.optim import ParameterGroup
from vesalius.train.processes import Processes
from vesalius.train.text import TextData, TextShare, TextStream, text_loss, text_share
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
    """

    network: RegionModelSize
    crops: CropSettings
    crops_per_step: int
    text: TextData
    train_layers: int
    train_embeddings: bool
    text_learning_rate_scale: float
    loop: LoopSettings

    def __post_init__(self) -> None:
        """Refuses values that cannot work."""
        if self.crops_per_step < 1:
            raise SettingError(f"crops_per_step is {self.crops_per_step}", remedy="give 1 or more")
        stride = self.network.unet.stride
        if max(self.crops.size) <= stride:
            raise SettingError(
                f"crop size {self.crops.size} leaves the U-Net a single voxel at its coarsest stage",
                remedy=f"give more than {stride} voxels along at least one axis",
            )


@dataclass(frozen=True, kw_only=True)
class RegionBatch:
    """What one step of stage 2 is given: this process's crops for the region update, pairs for the text update.

    The prompts of the crops are the further texts of `text`.
    """

    crops: list[RegionCrop]
    text: TextShare


class RegionStage:
    """Contrasts regions with their names; beside it goes on with stage 1, in raw and projected features.

    As SAT-Pretrain each step holds one region update and one text update; here their gradients are added. A
    region is asked for by its name, and by synonyms only where its concept is on the train side: no held-out synonym is
    ever paired with its concept, not even through an image.

    Args:
        encoder: the text encoder of stage 1.
        graph: knowledge.
        sides: concept → side of the split.
        store: cases; only those of the train side are drawn.
        settings: everything else.
        processes: who trains with this one.
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
        processes: Processes | None = None,
    ) -> None:
        encoder.open_layers(num_layers=settings.train_layers, embeddings=settings.train_embeddings)
        self.module = RegionModel(encoder, size=settings.network)
        self._graph = graph
        self._sides = sides
        self._settings = settings
        self._processes = processes or Processes()
        self._ancestors: Ancestors = cache(
            lambda concept: graph.ancestors(concept) if concept in graph else frozenset()
        )
        self._text = TextStream(graph, sides, settings.text, seed=settings.loop.seed)
        self._crops = CropSampler(
            store,
            splits=["train"],
            prompts=region_prompts(graph, sides),
            settings=settings.crops,
            seed=settings.loop.seed,
        )

    @property
    def region_keys(self) -> list[str]:
        """The structures that are trained on."""
        return self._crops.keys

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
        first, num = self._crops.state_dict()["step"], self._settings.crops_per_step
        crops = [self._crops.draw_at(draw) for draw in self._processes.share(range(first, first + num))]
        self._crops.load_state_dict({"step": first + num})
        text = text_share(
            self._text.draw(),
            encoder=self.module.encoder,
            max_length=self._settings.text.max_length,
            processes=self._processes,
            further=[prompt for crop in crops for prompt in crop.prompts],
        )
        return RegionBatch(crops=crops, text=text)

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
        projection = module.aligner.prompt_projection.projection
        raw = text_loss(texts, batch.text, logit_scale=text_scale, processes=processes)
        projected = text_loss(projection(texts), batch.text, logit_scale=scale, processes=processes)
        region = self._region_loss(features[num_groups:], prompts, batch.crops, scale)
        losses = processes.sum(torch.stack([region, raw, projected])).tolist()
        values = {
            **dict(zip(("region_loss", "text_loss", "projected_text_loss"), losses, strict=True)),
            "logit_scale": scale.item(),
            "text_logit_scale": text_scale.item(),
        }
        return region + raw + projected, values

    def _region_loss(
        self, features: Sequence[Tensor], prompts: Tensor, crops: Sequence[RegionCrop], scale: Tensor
    ) -> Tensor:
        """Regions of one structure are positives; of a structure and its ancestor, or of a whole and its side, neither."""
        aligner, processes = self.module.aligner, self._processes
        modalities: list[Modality] = [crop.modality for crop in crops for _ in crop.prompts]
        own = torch.cat(list(features)) if features else prompts.new_zeros(0, self.module.regions.width)
        texts = processes.gather(aligner.project_texts(prompts, modalities).float())
        regions = processes.gather(aligner.project_regions(own).float())
        told = processes.gather_objects([(crop.keys, crop.concept_ids) for crop in crops])
        keys = [key for crops in told for crop_keys, _ in crops for key in crop_keys]
        concepts = [concept for crops in told for _, crop_concepts in crops for concept in crop_concepts]
        positives = same(keys)
        related = relatives(concepts, ancestors=self._ancestors) | wholes(concepts, keys)
        return contrastive_loss(
            regions,
            texts,
            logit_scale=scale,
            positives=positives.to(regions.device),
            ignored=(related & ~positives).to(regions.device),
            share=(processes.rank, processes.num),
        )

    def describe(self, batch: RegionBatch) -> str:
        """Returns the crops of all processes and the concepts of a batch."""
        names = self._processes.gather_objects([crop.name for crop in batch.crops])
        return "; ".join([*(name for some in names for name in some), ", ".join(batch.text.batch.concept_ids)])

    def num_examples(self, batch: RegionBatch) -> int:
        """Returns the number of this process's regions."""
        return sum(len(crop.keys) for crop in batch.crops)

    def validate(self) -> tuple[float, dict[str, float]]:
        """Returns mean MRR, and MRR by task, of raw text features on validation concepts."""
        return validation_scores(
            self.module.encoder, self._graph, sides=self._sides, max_length=self._settings.text.max_length
        )

    def state_dict(self) -> dict[str, Any]:
        """Returns the positions of both data streams."""
        return {"text": self._text.state_dict(), "crops": dict(self._crops.state_dict())}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes to where `state` was taken."""
        self._text.load_state_dict(state["text"])
        self._crops.load_state_dict(state["crops"])


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

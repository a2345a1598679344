"""Stage 2: text against image regions, text against text in turn."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor

from vesalius.corpus.batch import Ancestors, RegionCrop, TextBatch, relatives, same, wholes
from vesalius.corpus.crops import CropSampler, CropSettings
from vesalius.errors import SettingError
from vesalius.eval.encoder import validation_scores
from vesalius.ids import ConceptId, Modality, Split
from vesalius.knowledge.graph import Graph
from vesalius.model.loss import contrastive_loss
from vesalius.model.region_model import RegionModel, RegionModelSize
from vesalius.model.text_encoder import TextEncoder
from vesalius.predict.embed import encode_texts
from vesalius.train.loop import LoopSettings
from vesalius.train.optim import ParameterGroup
from vesalius.train.text import TextData, TextStream, text_features, text_loss
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
    """What one step of stage 2 is given: crops for the region update, pairs for the text update."""

    crops: list[RegionCrop]
    text: TextBatch


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
    ) -> None:
        encoder.open_layers(num_layers=settings.train_layers, embeddings=settings.train_embeddings)
        self.module = RegionModel(encoder, size=settings.network)
        self._graph = graph
        self._sides = sides
        self._settings = settings
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
        """Returns the next batch."""
        return RegionBatch(
            crops=[self._crops.draw() for _ in range(self._settings.crops_per_step)], text=self._text.draw()
        )

    def loss(self, batch: RegionBatch) -> tuple[Tensor, dict[str, float]]:
        """Returns the sum of region loss, raw text loss and projected text loss, and each of them."""
        module = self.module
        texts = text_features(module.encoder, batch.text, max_length=self._settings.text.max_length)
        raw = text_loss(texts, batch.text, logit_scale=module.text_logit_scale())
        scale = module.aligner.logit_scale()
        projected = text_loss(module.aligner.prompt_projection.projection(texts), batch.text, logit_scale=scale)
        region = self._region_loss(batch.crops, scale)
        values = {
            "region_loss": region.item(),
            "text_loss": raw.item(),
            "projected_text_loss": projected.item(),
            "logit_scale": scale.item(),
            "text_logit_scale": module.text_logit_scale().item(),
        }
        return region + raw + projected, values

    def _region_loss(self, crops: Sequence[RegionCrop], scale: Tensor) -> Tensor:
        """Regions of one structure are positives; of a structure and its ancestor, or of a whole and its side, neither."""
        module = self.module
        device = scale.device
        prompts = [prompt for crop in crops for prompt in crop.prompts]
        modalities: list[Modality] = [crop.modality for crop in crops for _ in crop.prompts]
        features = encode_texts(module.encoder, prompts, max_length=self._settings.text.max_length)
        texts = module.aligner.project_texts(features, modalities)
        regions = module.aligner.project_regions(
            torch.cat([module.regions(crop.image.to(device), crop.masks.to(device)) for crop in crops])
        )
        keys = [key for crop in crops for key in crop.keys]
        concepts = [concept for crop in crops for concept in crop.concept_ids]
        positives = same(keys)
        related = relatives(concepts, ancestors=self._ancestors) | wholes(concepts, keys)
        return contrastive_loss(
            regions,
            texts,
            logit_scale=scale,
            positives=positives.to(device),
            ignored=(related & ~positives).to(device),
        )

    def describe(self, batch: RegionBatch) -> str:
        """Returns the crops and the concepts of a batch."""
        return "; ".join([*(crop.name for crop in batch.crops), ", ".join(batch.text.concept_ids)])

    def num_examples(self, batch: RegionBatch) -> int:
        """Returns the number of regions."""
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

"""Stage 1: text against text."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vesalius.corpus.batch import Ancestors, TextBatch, text_batch
from vesalius.corpus.pairs import text_pairs
from vesalius.corpus.sampling import PairSampler
from vesalius.eval.encoder import validation_scores
from vesalius.ids import ConceptId, Split
from vesalius.knowledge.graph import Graph
from vesalius.model.aligner import LogitScale
from vesalius.model.loss import contrastive_loss
from vesalius.model.text_encoder import TextEncoder
from vesalius.predict.embed import encode_texts
from vesalius.train.loop import LoopSettings
from vesalius.train.optim import ParameterGroup


@dataclass(frozen=True, kw_only=True)
class TextData:
    """Which text pairs are drawn, and how many.

    Attributes:
        sources: sources whose texts are trained on.
        batch_size: pairs a step.
        max_length: longer texts are cut to this many tokens.
        definition_share: probability of a definition where a concept has both kinds.
        neighbourhood_size: most easily confused concepts that come into a step together; 1 draws independently.
    """

    sources: tuple[str, ...] = ("uberon",)
    batch_size: int = 128
    max_length: int = 64
    definition_share: float = 0.5
    neighbourhood_size: int = 8


@dataclass(frozen=True, kw_only=True)
class TextSettings:
    """Everything that decides a run of stage 1.

    Attributes:
        init: ``minilm`` (bundled), a sentence-transformers folder, or ``hub:OWNER/NAME``.
        data: what is drawn.
        train_layers: how many of the last layers are trained.
        train_embeddings: whether token embeddings are trained.
        loop: how long, and how.
    """

    init: str = "minilm"
    data: TextData
    train_layers: int
    train_embeddings: bool
    loop: LoopSettings


class TextStream:
    """Draws text batches of the training concepts of a graph; also the text side of stage 2."""

    def __init__(self, graph: Graph, sides: Mapping[ConceptId, Split], data: TextData, *, seed: int) -> None:
        trained = {concept for concept, side in sides.items() if side == "train"}
        self._ancestors: Ancestors = cache(graph.ancestors)
        self._sampler = PairSampler(
            text_pairs(graph, concepts=trained, sources=data.sources),
            batch_size=data.batch_size,
            definition_share=data.definition_share,
            neighbours=siblings(graph, trained) if data.neighbourhood_size > 1 else None,
            neighbourhood_size=data.neighbourhood_size,
            seed=seed,
        )

    def draw(self) -> TextBatch:
        """Returns the next batch."""
        return text_batch(self._sampler.draw(), ancestors=self._ancestors)

    def state_dict(self) -> dict[str, Any]:
        """Returns where the stream stands."""
        return dict(self._sampler.state_dict())

    def load_state_dict(self, state: Any) -> None:
        """Goes to where `state` was taken."""
        self._sampler.load_state_dict(state)


def siblings(graph: Graph, concepts: Collection[ConceptId]) -> dict[ConceptId, list[ConceptId]]:
    """Returns for each of `concepts` the others that share a direct parent: the concepts it is most easily confused with."""
    children: dict[ConceptId, list[ConceptId]] = {}
    for concept in graph:
        if concept.concept_id in concepts:
            for parent in graph.parents(concept.concept_id):
                children.setdefault(parent, []).append(concept.concept_id)
    return {
        concept: sorted({child for parent in graph.parents(concept) for child in children[parent]} - {concept})
        for concept in concepts
    }


class TextModel(nn.Module):
    """The text encoder and its logit scale."""

    def __init__(self, encoder: TextEncoder) -> None:
        super().__init__()
        self.encoder = encoder
        self.logit_scale = LogitScale()


class TextStage:
    """Contrasts definitions and synonyms with names.

    Args:
        encoder: what is trained.
        graph: knowledge.
        sides: concept → side of the split; only train is drawn, only validation validates.
        settings: everything else.
    """

    name = "Stage 1: text"

    def __init__(
        self, encoder: TextEncoder, *, graph: Graph, sides: Mapping[ConceptId, Split], settings: TextSettings
    ) -> None:
        encoder.open_layers(num_layers=settings.train_layers, embeddings=settings.train_embeddings)
        self.module = TextModel(encoder)
        self._graph = graph
        self._sides = sides
        self._settings = settings
        self._stream = TextStream(graph, sides, settings.data, seed=settings.loop.seed)

    def parameter_groups(self) -> Sequence[ParameterGroup]:
        """Returns the open layers, and the logit scale at ten times their learning rate."""
        return [
            ParameterGroup(parameters=list(self.module.encoder.parameters())),
            ParameterGroup(parameters=list(self.module.logit_scale.parameters()), learning_rate_scale=10.0),
        ]

    def draw(self) -> TextBatch:
        """Returns the next batch."""
        return self._stream.draw()

    def loss(self, batch: TextBatch) -> tuple[Tensor, dict[str, float]]:
        """Returns the contrastive loss of a batch and the logit scale."""
        features = text_features(self.module.encoder, batch, max_length=self._settings.data.max_length)
        scale = self.module.logit_scale()
        loss = text_loss(features, batch, logit_scale=scale)
        return loss, {"logit_scale": scale.item()}

    def describe(self, batch: TextBatch) -> str:
        """Returns the concepts of a batch."""
        return ", ".join(batch.concept_ids)

    def num_examples(self, batch: TextBatch) -> int:
        """Returns the number of pairs."""
        return len(batch.left)

    def validate(self) -> tuple[float, dict[str, float]]:
        """Returns mean MRR, and MRR by task, on validation concepts."""
        return validation_scores(
            self.module.encoder, self._graph, sides=self._sides, max_length=self._settings.data.max_length
        )

    def state_dict(self) -> dict[str, Any]:
        """Returns the position of the text stream."""
        return {"text": self._stream.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes to where `state` was taken."""
        self._stream.load_state_dict(state["text"])


def text_features(encoder: TextEncoder, batch: TextBatch, *, max_length: int) -> Tensor:
    """Returns the features of all left texts, then all right texts, `2n d`; a text that stands twice is encoded once."""
    texts = [*batch.left, *batch.right]
    places = {text: place for place, text in enumerate(dict.fromkeys(texts))}
    features = encode_texts(encoder, list(places), max_length=max_length)
    return features[torch.tensor([places[text] for text in texts], device=features.device)]


def text_loss(features: Tensor, batch: TextBatch, *, logit_scale: Tensor) -> Tensor:
    """Returns the contrastive loss of `2n d` features or embeddings, left texts before right ones."""
    left, right = F.normalize(features, dim=-1).chunk(2)
    return contrastive_loss(
        left,
        right,
        logit_scale=logit_scale,
        positives=batch.positives.to(left.device),
        ignored=batch.ignored.to(left.device),
    )

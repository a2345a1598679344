"""Stage 1: text against text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn

from vesalius.corpus.batch import TextBatch
from vesalius.corpus.pair_table import PairTable
from vesalius.corpus.tokens import TokenGroup, group_by_length
from vesalius.errors import SettingError
from vesalius.eval.encoder import validation_scores
from vesalius.ids import ConceptId, Split
from vesalius.knowledge.graph import Graph
from vesalius.model.aligner import LogitScale
from vesalius.model.loss import contrastive_loss
from vesalius.model.text_encoder import TextEncoder
from vesalius.model.text_source import PoolingName
from vesalius.predict.embed import MAX_TOKENS, encode_group
from vesalius.train.loop import LoopSettings
from vesalius.train.optim import ParameterGroup, refuse_scale
from vesalius.train.processes import Processes
from vesalius.train.text_data import TextData, TextStream, validation_sources


@dataclass(frozen=True, kw_only=True)
class TextSettings:
    """Everything that decides a run of stage 1.

    Attributes:
        init: ``minilm`` (bundled), a folder, or ``hub:OWNER/NAME``: a sentence-transformers model or a plain transformer.
        pooling: how a plain transformer's tokens become one feature; None where the model says so, or is known.
        data: what is drawn.
        train_layers: how many of the last layers are trained.
        train_embeddings: whether token embeddings are trained.
        logit_scale_learning_rate_scale: the logit scale's learning rate as a multiple of the layers'.
        loop: how long, and how.
    """

    init: str = "minilm"
    data: TextData
    train_layers: int
    train_embeddings: bool
    logit_scale_learning_rate_scale: float = 10.0
    loop: LoopSettings
    pooling: PoolingName | None = None

    def __post_init__(self) -> None:
        """Refuses values that cannot work."""
        refuse_scale(self, "logit_scale_learning_rate_scale")


class TextModel(nn.Module):
    """The text encoder and its logit scale."""

    def __init__(self, encoder: TextEncoder) -> None:
        super().__init__()
        self.encoder = encoder
        self.logit_scale = LogitScale()


class TextStage:
    """Contrasts definitions, synonyms and relations with names.

    Args:
        encoder: what is trained.
        graph: knowledge; with `pairs`, the concepts that validate are enough (`validation_graph`).
        sides: concept → side of the split; only train is drawn, only validation validates.
        settings: everything else.
        pairs: where a mixture draws from, for a graph that is not held in memory; None draws from `graph`.
        processes: who trains with this one.
    """

    name = "Stage 1: text"

    def __init__(
        self,
        encoder: TextEncoder,
        *,
        graph: Graph,
        sides: Mapping[ConceptId, Split],
        settings: TextSettings,
        pairs: PairTable | None = None,
        processes: Processes | None = None,
    ) -> None:
        encoder.open_layers(num_layers=settings.train_layers, embeddings=settings.train_embeddings)
        if not any(parameter.requires_grad for parameter in encoder.parameters()):
            raise SettingError("every layer of the encoder is frozen", remedy="train at least one layer")
        self.module = TextModel(encoder)
        self._graph = graph
        self._sides = sides
        self._settings = settings
        self._processes = processes or Processes()
        self._stream = TextStream(graph, sides, settings.data, seed=settings.loop.seed, pairs=pairs, encoder=encoder)

    def parameter_groups(self) -> Sequence[ParameterGroup]:
        """Returns the open layers, and the logit scale at its multiple of their learning rate."""
        scale = self._settings.logit_scale_learning_rate_scale
        return [
            ParameterGroup(parameters=list(self.module.encoder.parameters())),
            ParameterGroup(parameters=list(self.module.logit_scale.parameters()), learning_rate_scale=scale),
        ]

    def draw(self) -> TextShare:
        """Returns the next batch, with the tokens of this process's texts."""
        return text_share(
            self._stream.draw(),
            encoder=self.module.encoder,
            max_length=self._settings.data.max_length,
            processes=self._processes,
        )

    def parts(self, batch: TextShare) -> Sequence[TokenGroup]:
        """Returns the groups of this process's texts."""
        return batch.groups

    def encode(self, part: TokenGroup) -> Tensor:
        """Returns the features of a group of texts."""
        return encode_group(self.module.encoder, part)

    def contrast(self, features: Sequence[Tensor], batch: TextShare) -> tuple[Tensor, dict[str, float]]:
        """Returns this process's share of the contrastive loss, and the logit scale."""
        scale = self.module.logit_scale()
        own, _ = batch.in_order(features, encoder=self.module.encoder)
        return text_loss(own, batch, logit_scale=scale, processes=self._processes), {"logit_scale": scale.item()}

    def describe(self, batch: TextShare) -> str:
        """Returns the concepts of a batch."""
        return ", ".join(batch.batch.concept_ids)

    def num_examples(self, batch: TextShare) -> int:
        """Returns the number of this process's pairs."""
        return len(self._processes.share(batch.batch.left))

    def validate(self) -> tuple[float, dict[str, float]]:
        """Returns mean MRR, and MRR by task, on validation concepts, see `validation_sources`."""
        data = self._settings.data
        return validation_scores(
            self.module.encoder,
            self._graph,
            sides=self._sides,
            max_length=data.max_length,
            sources=validation_sources(data),
        )

    def state_dict(self) -> dict[str, Any]:
        """Returns the position of the text stream."""
        return {"text": self._stream.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes to where `state` was taken."""
        self._stream.load_state_dict(state["text"])


@dataclass(frozen=True, kw_only=True)
class TextShare:
    """The texts of a batch that one process encodes.

    Attributes:
        batch: all pairs.
        groups: the tokens of this process's texts, in groups of similar length.
        num: how many texts of the pairs are its own; the further ones it encodes follow them.
        places: `2n` for each left text, then each right one: its row among the texts of all processes.
    """

    batch: TextBatch
    groups: Sequence[TokenGroup]
    num: int
    places: Int64[Tensor, " m"]

    def in_order(self, features: Sequence[Tensor], *, encoder: TextEncoder) -> tuple[Tensor, Tensor]:
        """Returns the features of its own texts of the pairs, and of its further texts, from those of each group."""
        if not self.groups:
            device = next(encoder.parameters()).device
            return torch.zeros(0, encoder.width, device=device), torch.zeros(0, encoder.width, device=device)
        rows = torch.cat([group.rows for group in self.groups])
        ordered = torch.cat(list(features))[torch.argsort(rows).to(features[0].device)]
        return ordered[: self.num], ordered[self.num :]


def text_share(
    batch: TextBatch, *, encoder: TextEncoder, max_length: int, processes: Processes, further: Sequence[str] = ()
) -> TextShare:
    """Deals the texts of a batch out to the processes; a text that stands twice is encoded once.

    The texts are dealt in the order of their length, so that all processes have about as many tokens.

    Args:
        batch: the pairs, the same on every process.
        encoder: what tokenises.
        max_length: longer texts are cut to this many tokens.
        processes: who encodes.
        further: texts beside the pairs that this process encodes for itself.
    """
    texts = [*batch.left, *batch.right]
    dealt = sorted(dict.fromkeys(texts), key=len)
    shares = [dealt[rank :: processes.num] for rank in range(processes.num)]
    places = {text: place for place, text in enumerate(text for share in shares for text in share)}
    own = shares[processes.rank]
    tokens = encoder.tokenise([*own, *further], max_length=max_length)
    return TextShare(
        batch=batch,
        groups=group_by_length(tokens, max_tokens=MAX_TOKENS),
        num=len(own),
        places=torch.tensor([places[text] for text in texts], dtype=torch.int64),
    )


def text_loss(features: Tensor, share: TextShare, *, logit_scale: Tensor, processes: Processes) -> Float[Tensor, ""]:
    """Returns this process's share of the contrastive loss.

    Args:
        features: of this process's own texts of the pairs.
        share: whose they are.
        logit_scale: the multiplier.
        processes: who has the others.
    """
    rows = processes.gather(F.normalize(features.float(), dim=-1))
    left, right = rows[share.places.to(rows.device)].chunk(2)
    return contrastive_loss(
        left,
        right,
        logit_scale=logit_scale,
        positives=share.batch.positives.to(rows.device),
        ignored=share.batch.ignored.to(rows.device),
        share=(processes.rank, processes.num),
    )

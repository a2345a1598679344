"""Regions of earlier steps: more for a prompt to choose among than one batch of crops holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from vesalius.corpus.batch import Ancestors, relatives, wholes
from vesalius.errors import SettingError
from vesalius.ids import ConceptId


@dataclass(frozen=True, kw_only=True)
class RegionMemorySettings:
    """How many regions are remembered.

    Attributes:
        size: regions; 0 remembers none.
        begin_after: region updates before the first is remembered: while embeddings still move fast, old ones mislead.
    """

    size: int = 0
    begin_after: int = 0

    def __post_init__(self) -> None:
        """Refuses values that cannot work."""
        for name in ("size", "begin_after"):
            if getattr(self, name) < 0:
                raise SettingError(f"{name} of the memory is {getattr(self, name)}", remedy="give 0 or more")
        if self.begin_after and not self.size:
            raise SettingError("begin_after has no effect without a memory", remedy="give it a size, or set it to 0")


class RegionMemory:
    """The last regions, the oldest first: their embeddings as they were, and what they are.

    To a prompt they are what the regions of its own batch are: of its structure, of a relative, or of another. They ask
    nothing themselves, and no gradient reaches them. All processes are given the same regions, and remember the same.

    Source: Wang et al., Cross-batch memory for embedding learning, CVPR 2020, section 3.2. Departure: regions alone are
    remembered, since prompts are cheap to encode anew; and their modality is not, for it plays no part in what is positive.

    Args:
        settings: size and beginning.
        width: dimension of the embeddings.
    """

    def __init__(self, settings: RegionMemorySettings, *, width: int) -> None:
        self._settings = settings
        self._num_updates = 0
        self.embeddings: Float[Tensor, "k d"] = torch.zeros(0, width)
        self.keys: list[str] = []
        self.concept_ids: list[ConceptId] = []

    def add(self, embeddings: Float[Tensor, "n d"], keys: Sequence[str], concept_ids: Sequence[ConceptId]) -> None:
        """Remembers the regions of an update, and forgets the oldest beyond its size.

        Args:
            embeddings: unit norm.
            keys: `n` what makes two regions the same structure.
            concept_ids: `n` concept of each region.
        """
        self._num_updates += 1
        size = self._settings.size
        if not size or self._num_updates <= self._settings.begin_after:
            return
        held = self.embeddings.to(embeddings.device)
        self.embeddings = torch.cat([held, embeddings.detach().float()])[-size:].clone()
        self.keys = [*self.keys, *keys][-size:]
        self.concept_ids = [*self.concept_ids, *concept_ids][-size:]

    def state_dict(self) -> dict[str, Any]:
        """Returns what is remembered."""
        return {
            "num_updates": self._num_updates,
            "embeddings": self.embeddings.cpu(),
            "keys": list(self.keys),
            "concept_ids": [str(concept) for concept in self.concept_ids],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Remembers what was remembered when `state` was taken."""
        self._num_updates = state["num_updates"]
        self.embeddings = state["embeddings"]
        self.keys = list(state["keys"])
        self.concept_ids = [ConceptId(concept) for concept in state["concept_ids"]]


def structure_pairs(
    keys: Sequence[str], concept_ids: Sequence[ConceptId], *, num: int, ancestors: Ancestors
) -> tuple[Bool[Tensor, "m n"], Bool[Tensor, "m n"]]:
    """Returns which of `m` regions are positives of which of `n` prompts, and which are neither positive nor negative.

    Positive is a region of the prompt's structure; neither is one of a concept above or below, or of a whole and its side.

    Args:
        keys: `m` what makes two regions the same structure; prompts are those of the first `num` regions.
        concept_ids: `m` concept of each region.
        num: prompts.
        ancestors: gives everything above a concept.
    """
    structures = {structure: code for code, structure in enumerate(dict.fromkeys(zip(keys, concept_ids, strict=True)))}
    codes = torch.tensor(
        [structures[structure] for structure in zip(keys, concept_ids, strict=True)], dtype=torch.int64
    )
    different = [concept for _, concept in structures]
    related = relatives(different, ancestors=ancestors) | wholes(different, [key for key, _ in structures])
    positives = codes[:, None] == codes[None, :num]
    return positives, related[codes][:, codes[:num]] & ~positives


def own_pairs(keys: Sequence[str], *, num: int) -> tuple[Bool[Tensor, "m n"], Bool[Tensor, "m n"]]:
    """Returns the same as SAT-Pretrain decides it: a prompt's only positive is its own region, others of its structure are neither.

    Relatives are negatives like all the rest.

    Args:
        keys: `m` as `structure_pairs` takes them.
        num: prompts.
    """
    known = {key: code for code, key in enumerate(dict.fromkeys(keys))}
    codes = torch.tensor([known[key] for key in keys], dtype=torch.int64)
    positives = torch.eye(len(keys), num, dtype=torch.bool)
    return positives, (codes[:, None] == codes[None, :num]) & ~positives

"""Does a name find its region in a held-out image, a region its name?"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float32

from vesalius.eval.retrieval import RetrievalScores, retrieval_ranks, retrieval_scores
from vesalius.ids import CaseId, Modality
from vesalius.model.aligner import Aligner
from vesalius.model.region_encoder import RegionEncoder
from vesalius.model.text_encoder import TextEncoder
from vesalius.predict.embed import embed_regions, encode_texts
from vesalius.volumes.regions import Region
from vesalius.volumes.store import CaseStore

MAX_LENGTH = 64
NUM_CALLED = 3
LARGEST_SHARE = 0.25
"""Of an image's voxels, for a region that a picture shows."""


@dataclass(frozen=True, kw_only=True)
class CaseEmbeddings:
    """The regions of one case and their names in the shared space.

    Attributes:
        regions: `n` regions.
        of_regions: `n d` embeddings of the regions.
        of_names: `n d` embeddings of their names, asked of the case's modality.
    """

    regions: list[Region]
    of_regions: Float32[np.ndarray, "n d"]
    of_names: Float32[np.ndarray, "n d"]

    def called(self, place: int) -> list[str]:
        """Returns the names nearest to region `place`, the nearest first, among the names of the case."""
        scores = self.of_names @ self.of_regions[place]
        names = [self.regions[index].name for index in np.argsort(-scores, kind="stable")]
        return list(dict.fromkeys(names))[:NUM_CALLED]


def embed_case(
    store: CaseStore, case_id: CaseId, *, encoder: TextEncoder, regions: RegionEncoder, aligner: Aligner
) -> CaseEmbeddings:
    """Embeds all regions of a case in one pass over the whole image, and their names.

    Raises:
        ValueError: the case has no regions.
    """
    listed = store.regions(case_id)
    if not listed:
        raise ValueError(f"case {case_id} has no regions")
    (row,) = (row for row in store.cases if row.case_id == case_id)
    masks: Bool[np.ndarray, "n i j k"] = np.stack([store.read_mask(region) for region in listed])
    of_regions = embed_regions(regions, aligner, store.read_image(case_id), masks)
    modalities: list[Modality] = [row.modality for _ in listed]
    with torch.no_grad():
        features = encode_texts(encoder, [region.name for region in listed], max_length=MAX_LENGTH)
        of_names = aligner.project_texts(features, modalities).cpu().numpy()
    return CaseEmbeddings(regions=listed, of_regions=of_regions, of_names=of_names)


def region_scores(embedded: CaseEmbeddings, *, seen: Collection[str]) -> dict[str, dict[str, RetrievalScores]]:
    """Measures name → region and region → name among all regions of one case.

    A region's answer is its structure (concept and side); every query chooses among all regions (names) of the case.

    Args:
        embedded: the case.
        seen: structures (`Region.key`) that were trained on.

    Returns:
        ``name_to_region`` and ``region_to_name``, each with ``all``, and ``seen`` and ``unseen`` where there are any.
    """
    keys = [region.key for region in embedded.regions]
    rows = {
        "all": list(range(len(keys))),
        "seen": [place for place, key in enumerate(keys) if key in seen],
        "unseen": [place for place, key in enumerate(keys) if key not in seen],
    }
    directions = {
        "name_to_region": (embedded.of_names, embedded.of_regions),
        "region_to_name": (embedded.of_regions, embedded.of_names),
    }
    scores: dict[str, dict[str, RetrievalScores]] = {}
    for task, (asking, candidates) in directions.items():
        ranks = retrieval_ranks(asking, candidates, answers=keys, owners=keys)
        scores[task] = {
            group: retrieval_scores(ranks[places], num_candidates=len(keys)) for group, places in rows.items() if places
        }
    return scores


def panel_regions(embedded: CaseEmbeddings, *, num: int, num_voxels: int) -> Sequence[int]:
    """Returns the places of `num` regions to show: large ones, spread over the list so that both sides are seen.

    What fills more of the image than `LARGEST_SHARE` is left out where anything else is there: its outline is the body's.

    Args:
        embedded: the case.
        num: how many regions at most.
        num_voxels: voxels of the whole image.
    """
    sizes = [region.num_voxels for region in embedded.regions]
    by_size = sorted(range(len(sizes)), key=lambda place: -sizes[place])
    pool = [place for place in by_size if sizes[place] <= LARGEST_SHARE * num_voxels][: num * 4] or by_size[:num]
    return pool[:: max(1, len(pool) // num)][:num]

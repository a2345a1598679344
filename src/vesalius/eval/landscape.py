"""What the space looks like: a map of names by body system, and what lies near a name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float32
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE

from vesalius.eval.pictures import EmbeddingMap
from vesalius.eval.report import Neighbour
from vesalius.ids import ConceptId
from vesalius.knowledge.graph import Graph

BODY_SYSTEMS: dict[str, ConceptId] = {
    "nervous": ConceptId("UBERON:0001016"),
    "sensory": ConceptId("UBERON:0001032"),
    "skeletal": ConceptId("UBERON:0001434"),
    "muscular": ConceptId("UBERON:0000383"),
    "cardiovascular": ConceptId("UBERON:0004535"),
    "respiratory": ConceptId("UBERON:0001004"),
    "digestive": ConceptId("UBERON:0001007"),
    "urinary": ConceptId("UBERON:0001008"),
    "reproductive": ConceptId("UBERON:0000990"),
    "endocrine": ConceptId("UBERON:0000949"),
    "immune": ConceptId("UBERON:0002405"),
    "integumental": ConceptId("UBERON:0002416"),
}
"""Name of a body system → its concept."""

NUM_COMPONENTS = 30


def body_systems(graph: Graph, concepts: Sequence[ConceptId]) -> list[str | None]:
    """Returns the body system of each concept: the one among its ancestors; None where there is none, or several."""
    systems = {concept: name for name, concept in BODY_SYSTEMS.items()}
    found = [
        [systems[ancestor] for ancestor in {concept, *graph.ancestors(concept)} if ancestor in systems]
        for concept in concepts
    ]
    return [names[0] if len(names) == 1 else None for names in found]


def embedding_map(
    embeddings: Float32[np.ndarray, "n d"], groups: Sequence[str], *, title: str, seed: int = 0
) -> EmbeddingMap:
    """Lays embeddings out on a plane: PCA to 30 dimensions, then t-SNE (van der Maaten and Hinton 2008), cosine distances.

    Args:
        embeddings: at least three.
        groups: `n` what each point is coloured by.
        title: of the map.
        seed: of the layout.
    """
    num_components = min(NUM_COMPONENTS, *embeddings.shape)
    reduced = PCA(n_components=num_components, random_state=seed).fit_transform(embeddings)
    perplexity = min(30.0, (len(embeddings) - 1) / 3)
    layout = TSNE(metric="cosine", init="pca", perplexity=perplexity, max_iter=500, random_state=seed)
    return EmbeddingMap(title=title, xy=layout.fit_transform(reduced), groups=list(groups))


def nearest_names(
    asked: Float32[np.ndarray, " d"],
    candidates: Float32[np.ndarray, "m d"],
    *,
    names: Sequence[str],
    owners: Sequence[ConceptId],
    concept: ConceptId,
    graph: Graph,
    num: int = 5,
) -> list[Neighbour]:
    """Returns the `num` candidates nearest to `asked` that are not of `concept` itself.

    A neighbour is related where it is an ancestor, a descendant, or shares a direct parent.
    """
    scores = candidates @ asked
    found: list[Neighbour] = []
    for place in np.argsort(-scores, kind="stable"):
        owner = owners[place]
        if owner != concept:
            found.append(
                Neighbour(
                    name=str(names[int(place)]),
                    similarity=float(scores[place]),
                    related=_related(graph, concept, owner),
                )
            )
        if len(found) == num:
            break
    return found


def _related(graph: Graph, one: ConceptId, other: ConceptId) -> bool:
    if one in graph.ancestors(other) or other in graph.ancestors(one):
        return True
    return bool(set(graph.parents(one)) & set(graph.parents(other)))


def rows_by_system(systems: Mapping[int, str], num: int) -> list[int]:
    """Returns at most `num` rows, taken evenly over those that have a system."""
    rows = sorted(systems)
    stride = max(1, len(rows) // num)
    return rows[::stride][:num]

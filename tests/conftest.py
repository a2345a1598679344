"""What several rooms' tests need."""

from pathlib import Path

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer
from transformers import BertConfig, BertModel, BertTokenizerFast

from vesalius.folder import Origin
from vesalius.ids import CaseId, ConceptId, ResolvedLabel
from vesalius.knowledge.build import build_graph
from vesalius.knowledge.concept import Concept, Definition, Relation, Scope, Synonym
from vesalius.knowledge.graph import Graph
from vesalius.knowledge.predicates import IS_A_OR_PART_OF
from vesalius.volumes.case import SourceCase
from vesalius.volumes.image import Image, LabelMap
from vesalius.volumes.prepare import PrepareSettings, prepare
from vesalius.volumes.store import CaseStore

WORDS = "organ no an like the number liver spleen kidney lung heart brain stomach pancreas bladder colon left right . ,"
ORGANS = ("liver", "spleen", "kidney", "lung", "heart", "brain", "stomach", "pancreas", "bladder", "colon")


@pytest.fixture
def graph() -> Graph:
    """Sixty anatomy concepts under a root, each with a definition and a synonym."""
    root = Concept(concept_id=ConceptId("UBERON:9999999"), name="organ", source="uberon")
    concepts = [
        Concept(
            concept_id=ConceptId(f"UBERON:{number:07d}"),
            name=f"{ORGANS[number % 10]} {number}",
            source="uberon",
            synonyms=(Synonym(text=f"organ no {number}", scope=Scope.EXACT, source="uberon"),),
            definitions=(
                Definition(text=f"An organ like the {ORGANS[number % 10]}, number {number}.", source="uberon"),
            ),
        )
        for number in range(60)
    ]
    relations = [
        Relation(subject=concept.concept_id, predicate=IS_A_OR_PART_OF, object=root.concept_id, source="uberon")
        for concept in concepts
    ]
    origin = Origin(name="uberon", version="test", licence="CC0-1.0", attribution="made for tests")
    return Graph([root, *concepts], relations, [origin])


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real data beside the checkout; tests that need it skip where it is absent."""
    path = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not path.is_dir():
        pytest.skip("no real data beside the checkout (../shared/data)")
    return path


@pytest.fixture(scope="session")
def tiny_encoder(tmp_path_factory) -> Path:
    """A sentence-transformers folder: two BERT layers of width 32 with random weights, a vocabulary of a few words."""
    folder = tmp_path_factory.mktemp("tiny")
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS.split(), *map(str, range(60))]
    (folder / "vocab.txt").write_text("\n".join(vocabulary) + "\n")
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(vocabulary), hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64
    )
    BertModel(config).save_pretrained(folder / "bert")
    BertTokenizerFast(str(folder / "vocab.txt")).save_pretrained(folder / "bert")
    modules = [Transformer(str(folder / "bert")), Pooling(32, pooling_mode="mean"), Normalize()]
    SentenceTransformer(modules=modules, device="cpu").save(str(folder / "encoder"), create_model_card=False)
    assert (folder / "encoder" / "modules.json").is_file()
    return folder / "encoder"


@pytest.fixture(scope="session")
def tiny_sources(tmp_path_factory) -> list[SourceCase]:
    """Three cases with four regions each; the last case is held out."""
    folder = tmp_path_factory.mktemp("cases")
    rng = np.random.default_rng(0)
    labels = {value: f"kidney {value}" for value in (2, 12, 22, 32)}

    def load() -> tuple[Image, list[LabelMap]]:
        values = np.zeros((24, 24, 16), dtype=np.int16)
        for number, value in enumerate(labels):
            i, j = 2 + 12 * (number % 2), 2 + 12 * (number // 2)
            values[i : i + 8, j : j + 8, 3:13] = value
        data = rng.normal(40, 20, size=values.shape).astype(np.float32) + values
        affine = np.diag([1.0, 1.0, 3.0, 1.0])
        return Image(data=data, affine=affine), [LabelMap(data=values, affine=affine, labels=labels)]

    sources = []
    for number, split in enumerate(("train", "train", "test")):
        path = folder / f"case{number}.bin"
        path.write_text(str(number))
        sources.append(
            SourceCase(
                case_id=CaseId(f"case{number}"), dataset="made", modality="ct", split=split, patient_id=None, load=load,
                origins=(Origin(name="made", version="1", licence="CC0-1.0", attribution="made for tests"),),
                files=(path,),
            )
        )  # fmt: skip
    return sources


@pytest.fixture(scope="session")
def tiny_cases(tiny_sources, tmp_path_factory) -> CaseStore:
    """The store of `tiny_sources`."""

    def resolve(text: str) -> ResolvedLabel:
        concept = ConceptId(f"UBERON:{int(text.split()[1]):07d}")
        return ResolvedLabel(concept_id=concept, laterality=None, name=text, tied_by="name")

    store = tmp_path_factory.mktemp("cases") / "store"
    prepare(tiny_sources, resolver=resolve, settings=PrepareSettings(spacing_mm=(1.0, 1.0, 3.0)), out=store)
    return CaseStore.open(store)


@pytest.fixture(scope="session")
def handbook_graph() -> Graph:
    """The shipped handbook as a graph, built once for all tests."""
    return build_graph(["handbook"])

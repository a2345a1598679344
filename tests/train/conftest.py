"""A text encoder and cases small enough to train on in a test."""

from pathlib import Path

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer
from transformers import BertConfig, BertModel, BertTokenizerFast

from vesalius.folder import Origin
from vesalius.ids import CaseId, ConceptId, ResolvedLabel
from vesalius.knowledge.graph import Graph
from vesalius.volumes.case import SourceCase
from vesalius.volumes.image import Image, LabelMap
from vesalius.volumes.prepare import PrepareSettings, prepare
from vesalius.volumes.store import CaseStore

WORDS = "organ no an like the number liver spleen kidney lung heart brain stomach pancreas bladder colon left right . ,"


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
def tiny_cases(tmp_path_factory) -> CaseStore:
    """Three prepared cases with four regions each; the last case is held out."""
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

    def resolve(text: str) -> ResolvedLabel:
        concept = ConceptId(f"UBERON:{int(text.split()[1]):07d}")
        return ResolvedLabel(concept_id=concept, laterality=None, name=text, tied_by="name")

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
    prepare(sources, resolver=resolve, settings=PrepareSettings(spacing_mm=(1.0, 1.0, 3.0)), out=folder / "store")
    return CaseStore.open(folder / "store")


@pytest.fixture
def sides(graph: Graph) -> dict[ConceptId, str]:
    """Every tenth concept validates, the next one tests, the others train."""
    kinds = {8: "validation", 9: "test"}
    return {concept.concept_id: kinds.get(int(concept.concept_id[-1]), "train") for concept in graph}

"""What several rooms' tests need."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer
from torch import nn
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
    labels = {value: f"kidney {value}" for value in (2, 12, 22, 32)}

    def load(seed: int) -> tuple[Image, list[LabelMap]]:
        values = np.zeros((24, 24, 16), dtype=np.int16)
        for number, value in enumerate(labels):
            i, j = 2 + 12 * (number % 2), 2 + 12 * (number // 2)
            values[i : i + 8, j : j + 8, 3:13] = value
        data = np.random.default_rng(seed).normal(40, 20, size=values.shape).astype(np.float32) + values
        affine = np.diag([1.0, 1.0, 3.0, 1.0])
        return Image(data=data, affine=affine), [LabelMap(data=values, affine=affine, labels=labels)]

    sources = []
    for number, split in enumerate(("train", "train", "test")):
        path = folder / f"case{number}.bin"
        path.write_text(str(number))
        sources.append(
            SourceCase(
                case_id=CaseId(f"case{number}"), dataset="made", modality="ct", split=split, patient_id=None,
                load=partial(load, number),
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


@pytest.fixture
def store_graph(tmp_path) -> Callable[[Graph], Path]:
    """Writes a graph as a folder of Parquet tables and returns the folder."""
    from vesalius.knowledge.store import write_graph

    def store(graph: Graph, name: str = "graph") -> Path:
        write_graph(graph, tmp_path / name)
        return tmp_path / name

    return store


def _tower_folder(folder: Path, *, mpnet: bool, width: int, num_layers: int) -> nn.Module:
    """Writes the folder a text tower starts from (config, tokeniser) and returns a network of its shape."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import AutoConfig, AutoModel, PreTrainedTokenizerFast

    bert = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    special = ["<s>", "<pad>", "</s>", "<unk>", *bert] if mpnet else bert
    words = ["left", "right", "kid", "##ney", "liver", "heart", "rib", "12", "##th", "of", "the", "a", ",", "(", ")"]
    vocabulary = {word: number for number, word in enumerate([*special, *words])}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    begin, end, pad = ("<s>", "</s>", "<pad>") if mpnet else ("[CLS]", "[SEP]", "[PAD]")
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{begin} $A {end}", special_tokens=[(token, vocabulary[token]) for token in (begin, end)]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, cls_token=begin, sep_token=end, pad_token=pad, unk_token="[UNK]"
    ).save_pretrained(folder)
    config = AutoConfig.for_model(
        "mpnet" if mpnet else "bert",
        vocab_size=len(vocabulary), hidden_size=width, num_hidden_layers=num_layers, num_attention_heads=4,
        intermediate_size=3 * width, max_position_embeddings=40, pad_token_id=1 if mpnet else 0,
    )  # fmt: skip
    config.save_pretrained(folder)
    return AutoModel.from_config(config)


@pytest.fixture
def write_published(tmp_path: Path) -> Callable[..., tuple[Path, Path, dict[str, Any]]]:
    """Writes a tiny checkpoint with random weights in the published layout; gives its path, its base folder, its content."""

    def write(
        name="multimodal.pth", *, tower="biolord", width=16, channels=(4, 6, 8), num_convs=2, num_modalities=5, hidden=12,
        num_layers=2, atlas_loss=True, change=None,
    ):  # fmt: skip
        torch.manual_seed(0)
        base = tmp_path / f"{name}-base"
        network = _tower_folder(base, mpnet=tower == "biolord", width=width, num_layers=num_layers)
        shapes = {}
        for stage, out in enumerate(channels):
            for conv in range(num_convs):
                before = out if conv else (channels[stage - 1] if stage else 3)
                place = f"atlas_tower.encoder.stages.{stage}.0.convs.{conv}."
                shapes[f"{place}conv.weight"] = (out, before, 3, 3, 3)
                shapes |= {f"{place}{key}": (out,) for key in ("conv.bias", "norm.weight", "norm.bias")}
        for side, before in (("atlas_tower.", sum(channels)), ("", width)):
            shapes[f"{side}projection_layer.0.weight"] = (hidden, before)
            shapes[f"{side}projection_layer.0.bias"] = (hidden,)
            shapes[f"{side}projection_layer.2.weight"] = (width, hidden)
            shapes[f"{side}projection_layer.2.bias"] = (width,)
        shapes["modality_embed.weight"] = (num_modalities, width)
        state = {"module.temperature": torch.tensor(2.5)}
        state |= {f"module.text_tower.{tower}.{key}": 3 * value for key, value in network.state_dict().items()}
        state |= {f"module.{key}": 0.3 * torch.randn(shape) for key, shape in shapes.items()}
        for key in [key for key in state if ".convs." in key]:
            state[key.replace(".conv.", ".all_modules.0.").replace(".norm.", ".all_modules.1.")] = state[key]
        content = {
            "step": 7, "model_state_dict": state, "text_loss": 0.4, **({"atlas_loss": 0.5} if atlas_loss else {}),
            "optimizer_state_dict": {"state": {}, "param_groups": [{"lr": np.float64(1e-5), "params": [0]}]},
        }  # fmt: skip
        if change is not None:
            change(content)
        torch.save(content, tmp_path / name)
        return tmp_path / name, base, content

    return write


@pytest.fixture(scope="session")
def handbook_graph() -> Graph:
    """The shipped handbook as a graph, built once for all tests."""
    return build_graph(["handbook"])

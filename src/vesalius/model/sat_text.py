"""The text towers of SAT-Pretrain: which kinds there are, and how one becomes a text encoder with its published tokenisation.

A checkpoint holds weights only. What they do not say (number of attention heads, epsilon of the norms, vocabulary) comes from the
folder of the model the tower was trained from.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import torch
from sentence_transformers.sentence_transformer.modules import Dense, Transformer
from tokenizers.processors import TemplateProcessing
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, AutoTokenizer, PreTrainedTokenizerFast

from vesalius.errors import InputError, SettingError
from vesalius.model.packed import longest
from vesalius.model.sat_file import DAMAGED, SatFile, Tokens
from vesalius.model.text_encoder import TextEncoder
from vesalius.model.text_source import PoolingName, pooled

MAX_LENGTH = 256
PAD_ID = 0


@dataclass(frozen=True, kw_only=True)
class TowerKind:
    """A kind of text tower.

    Attributes:
        model_type: architecture, as the transformers library names it.
        pooling: how its tokens become one feature.
        hub: the model that towers of this kind were trained from.
    """

    model_type: Literal["mpnet", "bert"]
    pooling: PoolingName
    hub: str


TOWER_KINDS: dict[str, TowerKind] = {
    "biolord": TowerKind(model_type="mpnet", pooling="mean", hub="FremyCompany/BioLORD-2023-C"),
    "medcpt": TowerKind(model_type="bert", pooling="cls", hub="ncbi/MedCPT-Query-Encoder"),
    "pubmedbert": TowerKind(
        model_type="bert", pooling="pooler", hub="microsoft/BiomedNLP-BiomedBERT-base-uncased-abstract"
    ),
    "bert_mean": TowerKind(model_type="bert", pooling="mean", hub="sentence-transformers/all-MiniLM-L6-v2"),
}
"""The first three are published; `bert_mean` is ours, for encoders made from MiniLM."""


def tower_kind(file: SatFile) -> TowerKind:
    """Returns the kind of a checkpoint's text tower.

    Raises:
        InputError: it is none of `TOWER_KINDS`.
    """
    if file.tower not in TOWER_KINDS:
        raise InputError(
            f"text tower {file.tower!r}",
            where=file.path,
            remedy=f"give a checkpoint with one of {', '.join(TOWER_KINDS)}",
        )
    return TOWER_KINDS[file.tower]


def check_tower(file: SatFile) -> int:
    """Looks that the tensors of the text tower fit together, without loading them; returns the width of its features.

    Raises:
        InputError: one is missing, left over, or of another shape.
    """
    kind, sizes = tower_kind(file), _sizes(file)
    config = cast("Any", AutoConfig.for_model(kind.model_type))
    config.update({"num_attention_heads": 1, **sizes})
    with torch.device("meta"):
        file.part(f"text_tower.{file.tower}.", AutoModel.from_config(config))
    return sizes["hidden_size"]


def text_tower(file: SatFile, base: str) -> TextEncoder:
    """Returns the text tower of a checkpoint, with the tokenisation it was trained under.

    Args:
        file: the checkpoint.
        base: the model the tower was trained from, for its ``config.json`` and its vocabulary: a folder, or ``hub:OWNER/NAME``.

    Raises:
        InputError: `base` cannot be read, is another model than the tower's, or tensors do not fit.
    """
    kind = tower_kind(file)
    config, tokenizer = _base(base)
    _compare(config, kind, _sizes(file), file=file, base=base)
    network = AutoModel.from_config(config).float()  # whatever precision the files of `base` have
    network.load_state_dict(file.part(f"text_tower.{file.tower}.", network))
    _check_tokenizer(tokenizer, config, base=base)
    if file.tokens == "published":
        tokenizer = _published_tokenizer(tokenizer, config)
    with tempfile.TemporaryDirectory() as folder:
        network.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        transformer = Transformer(folder, max_seq_length=longest(config, MAX_LENGTH))
    return pooled(transformer, kind.pooling)


def kind_of(encoder: TextEncoder) -> str:
    """Returns which of `TOWER_KINDS` an encoder is.

    Raises:
        SettingError: none of them.
    """
    pooling = str(encoder.pooling_mode)
    if len(encoder.head):
        dense = cast("Dense", encoder.head[0])
        is_pooler = len(encoder.head) == 1 and pooling == "cls" and isinstance(dense.activation_function, nn.Tanh)
        pooling = "pooler" if is_pooler and dense.in_features == dense.out_features else f"{pooling} and Dense"
    for name, kind in TOWER_KINDS.items():
        if (kind.model_type, kind.pooling) == (encoder.model_type, pooling):
            return name
    raise SettingError(
        f"an encoder of type {encoder.model_type} with pooling {pooling} has no place in the published layout",
        remedy="convert to sentence-transformers or onnx",
    )


def tokens_of(encoder: TextEncoder) -> Tokens:
    """Returns what an encoder reads around a text."""
    return "published" if encoder.puts_around("[CLS]", "[SEP]") else "own"


def tower_tensors(encoder: TextEncoder) -> dict[str, Tensor]:
    """Returns the weights of a text encoder under the published names.

    Raises:
        SettingError: the layout has no place for it.
    """
    kind = kind_of(encoder)
    tensors = {name: tensor for name, tensor in encoder.network.state_dict().items() if "position_ids" not in name}
    if TOWER_KINDS[kind].pooling == "pooler":
        pooler = cast("Dense", encoder.head[0]).linear
        tensors |= {"pooler.dense.weight": pooler.weight, "pooler.dense.bias": pooler.bias}
    return {f"text_tower.{kind}.{name}": tensor for name, tensor in tensors.items()}


def _sizes(file: SatFile) -> dict[str, int]:
    """Returns field of ``config.json`` → what the tensors say it is."""
    prefix = f"text_tower.{file.tower}."
    layers = {
        int(matched.group(1))
        for name in file.tensors
        if (matched := re.match(re.escape(prefix) + r"encoder\.layer\.([0-9]{1,4})\.", name))
    }
    vocab_size, hidden_size = file.shape(f"{prefix}embeddings.word_embeddings.weight", num_axes=2)
    sizes = {
        "vocab_size": vocab_size,
        "hidden_size": hidden_size,
        "num_hidden_layers": len(layers),
        "max_position_embeddings": file.shape(f"{prefix}embeddings.position_embeddings.weight", num_axes=2)[0],
        "intermediate_size": file.shape(f"{prefix}encoder.layer.0.intermediate.dense.weight", num_axes=2)[0],
    }
    if tower_kind(file).model_type == "bert":
        shape = file.shape(f"{prefix}embeddings.token_type_embeddings.weight", num_axes=2)
        return {**sizes, "type_vocab_size": shape[0]}
    num_buckets, num_heads = file.shape(f"{prefix}encoder.relative_attention_bias.weight", num_axes=2)
    if hidden_size % num_heads:
        raise InputError(
            f"{num_heads} attention heads in a text tower of width {hidden_size}", where=file.path, remedy=DAMAGED
        )
    return {**sizes, "relative_attention_num_buckets": num_buckets, "num_attention_heads": num_heads}


def _base(base: str) -> tuple[Any, Any]:
    name = base.removeprefix("hub:")
    local = name == base
    if local and not (Path(name) / "config.json").is_file():
        raise InputError(
            "no model folder (no config.json)",
            where=base,
            remedy="check the path given as --base; a model of the hub is called hub:OWNER/NAME",
        )
    try:
        return (
            AutoConfig.from_pretrained(name, local_files_only=local),
            AutoTokenizer.from_pretrained(name, local_files_only=local),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise InputError(
            f"cannot be loaded ({reason[0]})", where=base, remedy="give a folder with config.json and tokenizer"
        ) from error


def _compare(config: Any, kind: TowerKind, sizes: Mapping[str, int], *, file: SatFile, base: str) -> None:
    expected: dict[str, str | int] = {"model_type": kind.model_type, **sizes}
    for field, value in expected.items():
        found = getattr(config, field, None)
        if found != value:
            raise InputError(
                f"{field} is {found!r} there, but {value!r} in {file.path.name}",
                where=base,
                remedy=f"give the model its text tower was trained from, as published hub:{kind.hub}",
            )


def _check_tokenizer(tokenizer: Any, config: Any, *, base: str) -> None:
    vocabulary = tokenizer.get_vocab()
    if not tokenizer.is_fast or not {"[CLS]", "[SEP]"} <= vocabulary.keys():
        raise InputError("a tokeniser without [CLS] and [SEP]", where=base, remedy="give a BERT or MPNet model")
    if max(vocabulary.values()) >= config.vocab_size:
        raise InputError(
            f"a tokeniser with ids up to {max(vocabulary.values())}, but {config.vocab_size} token embeddings",
            where=base,
            remedy="give the folder of the tower's own model",
        )


def _published_tokenizer(tokenizer: Any, config: Any) -> PreTrainedTokenizerFast:
    """Returns the tokeniser with the special tokens of the published tokenisation.

    It puts the tokens ``[CLS]`` and ``[SEP]`` around every text whatever the model's own are (MPNet was trained with ``<s>`` and
    ``</s>``), pads with id 0, and cuts behind 256 tokens. Padding has no influence on a feature.
    """
    vocabulary = tokenizer.get_vocab()
    backend = tokenizer.backend_tokenizer
    backend.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(token, vocabulary[token]) for token in ("[CLS]", "[SEP]")],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        cls_token="[CLS]",  # noqa: S106  a token of the vocabulary
        sep_token="[SEP]",  # noqa: S106
        pad_token=tokenizer.convert_ids_to_tokens(PAD_ID),
        unk_token=tokenizer.unk_token,
        mask_token=tokenizer.mask_token,
        model_max_length=longest(config, MAX_LENGTH),
        model_input_names=["input_ids", "attention_mask"],
    )

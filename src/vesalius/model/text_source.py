"""Text encoders by name: sentence-transformers models as they are, and plain transformers with the pooling they need."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Dense, Pooling, Transformer
from sentence_transformers.util import is_sentence_transformer_model
from torch import nn
from transformers import AutoConfig, AutoModel

from vesalius.errors import InputError, SettingError
from vesalius.model.packed import longest
from vesalius.model.text_encoder import DAMAGE, TextEncoder

PoolingName = Literal["mean", "cls", "pooler"]
"""``mean`` of all tokens, ``cls`` (the first token), or ``pooler`` (the model's own tanh layer behind the first token)."""

HUB = "hub:"

KNOWN_POOLINGS: dict[str, PoolingName] = {
    "ncbi/MedCPT-Query-Encoder": "cls",
    "ncbi/MedCPT-Article-Encoder": "cls",
    "microsoft/BiomedNLP-BiomedBERT-base-uncased-abstract": "pooler",
    "microsoft/BiomedNLP-BiomedBERT-base-uncased-abstract-fulltext": "pooler",
    "cambridgeltl/SapBERT-from-PubMedBERT-fulltext": "cls",
}
"""Plain transformers on the hub → the pooling their authors use (PubMedBERT: the one SAT-Pretrain used it with)."""


def load_text_encoder(source: str | Path, *, pooling: PoolingName | None = None) -> TextEncoder:
    """Returns the encoder of a folder, or of a hub model named ``hub:OWNER/NAME``; no hub is asked for anything else.

    Args:
        source: a sentence-transformers folder or model, or a plain transformer (a folder with ``config.json``, weights, tokenizer).
        pooling: how a plain transformer's tokens become one feature; may be left out for `KNOWN_POOLINGS`.

    Raises:
        InputError: there is no such folder or model, or it cannot be loaded.
        SettingError: a plain transformer without a pooling, or a sentence-transformers model with one: it has its own.
    """
    name = str(source)
    has_pooling = _is_sentence_transformer(name)
    if has_pooling and pooling is not None:
        raise SettingError(
            f"pooling {pooling!r} has no effect: the model has its own", where=name, remedy="leave it out"
        )
    if has_pooling:
        return TextEncoder.load(source)
    return _plain(name, pooling_for(name, pooling))


def pooling_for(name: str, asked: PoolingName | None) -> PoolingName:
    """Returns the pooling of a plain transformer: the one asked for, or that of `KNOWN_POOLINGS`.

    Raises:
        SettingError: none is asked for, and none known.
    """
    found = asked or KNOWN_POOLINGS.get(name.removeprefix(HUB))
    if found is None:
        raise SettingError(
            "a plain transformer, which does not say how its tokens become one feature",
            where=name,
            remedy="name the pooling it was trained with: mean, cls or pooler",
        )
    return found


def pooled(transformer: Transformer, pooling: PoolingName) -> TextEncoder:
    """Returns the encoder made of a transformer and a pooling.

    Raises:
        SettingError: the transformer has no pooler of its own, and that is asked for.
    """
    network: Any = transformer.model
    width = network.config.hidden_size
    modules: list[nn.Module] = [transformer, Pooling(width, pooling_mode="mean" if pooling == "mean" else "cls")]
    if pooling == "pooler":
        pooler = getattr(getattr(network, "pooler", None), "dense", None)
        if pooler is None:
            raise SettingError(f"a {network.config.model_type} model without a pooler", remedy="give mean or cls")
        modules.append(
            Dense(
                width, width, activation_function=nn.Tanh(),
                init_weight=pooler.weight.detach().clone(), init_bias=pooler.bias.detach().clone(),
            )
        )  # fmt: skip
    return TextEncoder(SentenceTransformer(modules=modules, device="cpu"))


def _is_sentence_transformer(name: str) -> bool:
    if not name.startswith(HUB):
        if not (Path(name) / "modules.json").is_file() and not (Path(name) / "config.json").is_file():
            raise InputError(
                "no encoder folder (no modules.json, no config.json)",
                where=name,
                remedy=f"check the path; a model of the hub is called {HUB}OWNER/NAME",
            )
        return (Path(name) / "modules.json").is_file()
    try:
        return is_sentence_transformer_model(name.removeprefix(HUB))
    except DAMAGE as error:
        raise _unloadable(name, error) from error


def _plain(name: str, pooling: PoolingName) -> TextEncoder:
    path, options = name.removeprefix(HUB), {"local_files_only": not name.startswith(HUB)}
    try:
        config = AutoConfig.from_pretrained(path, **options)
        if pooling == "pooler":
            _, told = AutoModel.from_pretrained(path, output_loading_info=True, **options)
            if any(key.startswith("pooler.") for key in told["missing_keys"]):
                raise SettingError("its files hold no pooler", where=name, remedy="give mean or cls")
        transformer = Transformer(
            path,
            max_seq_length=longest(config, 512),
            model_kwargs=options,
            config_kwargs=options,
            processor_kwargs=options,
        )
    except DAMAGE as error:
        raise _unloadable(name, error) from error
    return pooled(transformer, pooling)


def _unloadable(name: str, error: Exception) -> InputError:
    reason = str(error).strip().splitlines() or [type(error).__name__]
    return InputError(
        f"cannot be loaded ({reason[0]})", where=name, remedy="check the name, and that the model is complete"
    )

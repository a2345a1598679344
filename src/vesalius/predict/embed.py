"""Texts to features and regions to embeddings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Float32
from torch import Tensor

from vesalius.corpus.tokens import TokenGroup, group_by_length
from vesalius.errors import InputError, SettingError
from vesalius.folder import unreadable, writing
from vesalius.ids import Modality
from vesalius.model.aligner import Aligner, PromptProjection
from vesalius.model.region_encoder import RegionEncoder
from vesalius.model.text_encoder import TextEncoder
from vesalius.tables import write_table

MAX_TOKENS = 8192
"""Tokens of one forward pass."""


def encode_texts(
    encoder: TextEncoder,
    texts: Sequence[str],
    *,
    max_length: int,
    max_tokens: int = MAX_TOKENS,
    advance: Callable[[int], None] | None = None,
) -> Float[Tensor, "n d"]:
    """Returns the features of `texts` in their order, not normalised, with gradients where they are enabled.

    Nothing that is computed is padding; the result is that of one padded batch up to rounding.

    Args:
        encoder: the text encoder.
        texts: `n` texts; none gives an empty array.
        max_length: longer texts are cut to this many tokens.
        max_tokens: tokens of one pass.
        advance: told the number of texts done after each pass, for a progress bar.
    """
    device = next(encoder.parameters()).device
    groups = group_by_length(encoder.tokenise(texts, max_length=max_length), max_tokens=max_tokens)
    if not groups:
        return torch.zeros(0, encoder.width, device=device)
    features = []
    for group in groups:
        features.append(encode_group(encoder, group))
        if advance is not None:
            advance(len(group.rows))
    rows = torch.cat([group.rows for group in groups]).to(device)
    return torch.cat(features)[torch.argsort(rows)]


def encode_group(encoder: TextEncoder, group: TokenGroup) -> Float[Tensor, "n d"]:
    """Returns the features of a group's texts in the group's order, not normalised, with gradients where they are enabled."""
    device = next(encoder.parameters()).device
    return encoder.encode(group.input_ids.to(device), group.lengths)


@torch.no_grad()
def embed_texts(
    encoder: TextEncoder, texts: Sequence[str], *, max_length: int, advance: Callable[[int], None] | None = None
) -> Float32[np.ndarray, "n d"]:
    """Returns the unit-norm features of `texts`: what the exported folder gives for them."""
    features = encode_texts(encoder, texts, max_length=max_length, advance=advance)
    return F.normalize(features.float(), dim=-1).cpu().numpy()


@torch.no_grad()
def embed_regions(
    encoder: RegionEncoder, aligner: Aligner, image: Float32[np.ndarray, "i j k"], masks: Bool[np.ndarray, "n i j k"]
) -> Float32[np.ndarray, "n d"]:
    """Returns the unit-norm embeddings of the regions of one image, taken in one pass."""
    device = next(encoder.parameters()).device
    features = encoder(torch.from_numpy(image).to(device), torch.from_numpy(masks).to(device))
    return aligner.project_regions(features).cpu().numpy()


@torch.no_grad()
def embed_prompts(
    encoder: TextEncoder,
    texts: Sequence[str],
    *,
    prompts: PromptProjection | None = None,
    modality: Modality | None = None,
    normalise: bool = False,
    advance: Callable[[int], None] | None = None,
) -> Float32[np.ndarray, "n d"]:
    """Returns the raw features of `texts`, or with a modality the prompts that ask an image of that modality for them.

    Args:
        encoder: the text encoder; texts are cut to its own `max_length`.
        texts: `n` texts; none gives an empty array.
        prompts: projection and modality embedding; needed with a modality.
        modality: of the image that is asked.
        normalise: whether to scale to unit norm. A segmentation model of the SAT family reads prompts that are not.
        advance: told the number of texts done after each pass, for a progress bar.

    Raises:
        SettingError: a modality without a projection, or one that has no embedding.
    """
    if modality is not None and prompts is None:
        raise SettingError(
            f"modality {modality!r} has no effect on an encoder without text projection",
            remedy="leave it out, or give a run of `vesalius train regions`",
        )
    features = encode_texts(encoder, texts, max_length=encoder.max_length, advance=advance)
    if modality is not None and prompts is not None:
        features = prompts(features, [modality] * len(texts))
    return (F.normalize(features.float(), dim=-1) if normalise else features.float()).cpu().numpy()


def read_prompts(path: Path) -> list[str]:
    """Returns the lines of a UTF-8 text file, one prompt each.

    Raises:
        InputError: the file cannot be read, is empty, or has a blank line, which would shift all behind it.
    """
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").split("\n")]
    except OSError as error:
        raise unreadable(path, error) from error
    except UnicodeDecodeError as error:
        raise InputError("is no UTF-8 text", where=path, remedy="save it as UTF-8") from error
    if lines[-1] == "":
        lines.pop()
    if not lines:
        raise InputError("is empty", where=path, remedy="write one prompt a line")
    if "" in lines:
        raise InputError("blank line", where=f"{path}, line {lines.index('') + 1}", remedy="write one prompt a line")
    return lines


def write_embeddings(
    path: Path, texts: Sequence[str], embeddings: Float32[np.ndarray, "n d"], *, modality: Modality | None
) -> None:
    """Writes embeddings as ``.npy`` (`n d`, fp32) or ``.parquet`` (columns ``prompt``, ``modality``, ``embedding``).

    Raises:
        SettingError: the name ends otherwise.
    """
    check_embeddings_path(path)
    if path.suffix == ".npy":
        with writing(path) as temporary, temporary.open("wb") as file:
            np.save(file, embeddings, allow_pickle=False)
        return
    rows = ((text, modality, row.tolist()) for text, row in zip(texts, embeddings, strict=True))
    write_table(path, rows, schema={"prompt": "VARCHAR", "modality": "VARCHAR", "embedding": "FLOAT[]"})


def check_embeddings_path(path: Path) -> None:
    """Refuses a path that `write_embeddings` could not write, before anything is computed.

    Raises:
        SettingError: the name ends neither in ``.npy`` nor in ``.parquet``.
    """
    if path.suffix not in (".npy", ".parquet"):
        raise SettingError(f"unknown kind of file {path.suffix!r}", where=path, remedy="end it in .npy or .parquet")

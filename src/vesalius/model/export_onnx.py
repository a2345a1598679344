"""Text encoders as ONNX, checked against the original by onnxruntime."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import numpy as np
import torch
from jaxtyping import Float, Int64
from sentence_transformers.sentence_transformer.modules import Dense
from torch import Tensor, nn

from vesalius.errors import VesaliusError
from vesalius.folder import writing
from vesalius.model.text_encoder import TextEncoder

TOLERANCE = 1e-5
"""Largest difference to the original, as a share of the largest value where that is above one."""

_CHECKED_SHAPES = ((1, 3), (2, 17), (5, 64))
"""Batches and lengths the written file is checked on; none of them is the one it was traced with."""


class _Exported(nn.Module):
    """Text encoder and projection in one: token ids in, features or prompts out."""

    def __init__(self, encoder: TextEncoder, projection: Sequence[Dense]) -> None:
        super().__init__()
        self.encoder = encoder
        self.projection = nn.ModuleList(projection)

    def forward(self, input_ids: Int64[Tensor, "n t"], attention_mask: Int64[Tensor, "n t"]) -> Float[Tensor, "n d"]:
        features = self.encoder(input_ids, attention_mask)
        for module in self.projection:
            dense = cast("Dense", module)
            features = dense.activation_function(dense.linear(features))
        return features


@torch.no_grad()
def write_onnx(encoder: TextEncoder, path: Path, *, projection: Sequence[Dense] = ()) -> float:
    """Writes ``input_ids, attention_mask → features`` with dynamic batch and length; returns the largest difference found.

    Args:
        encoder: the text encoder, on the CPU.
        path: the file, which holds the weights too.
        projection: modules behind the features.

    Raises:
        VesaliusError: onnxruntime gives other numbers than the original. Nothing is written.
    """
    module = _Exported(encoder, projection).eval()
    vocab_size = int(encoder.network.get_input_embeddings().num_embeddings)  # type: ignore[operator, union-attr]
    example = _tokens((3, 9), vocab_size)
    program = _program(module, example)
    assert program is not None, "torch.onnx.export returns a program where dynamo is on"
    with writing(path) as temporary:
        program.save(temporary, external_data=False)
        difference = _difference(temporary, module, vocab_size, max_length=encoder.max_length)
        if not difference <= TOLERANCE:
            raise VesaliusError(
                f"onnxruntime differs from the original by {difference:.1e}, more than {TOLERANCE:.0e}",
                where=path,
                remedy="report it with the versions of torch, onnx and onnxruntime",
            )
    return difference


def _program(module: nn.Module, example: tuple[Tensor, Tensor]) -> torch.onnx.ONNXProgram | None:
    axes = {0: "batch", 1: "length"}
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it tells of operators of packages that are not installed
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*shares the same shape constraints")  # both inputs do, and shall
        return torch.onnx.export(
            module,
            example,
            dynamo=True,
            verbose=False,
            input_names=["input_ids", "attention_mask"],
            output_names=["features"],
            dynamic_shapes={"input_ids": axes, "attention_mask": axes},
        )


def _difference(path: Path, module: nn.Module, vocab_size: int, *, max_length: int) -> float:
    import onnxruntime  # noqa: PLC0415  an extra of its own

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    worst = 0.0
    for batch, length in _CHECKED_SHAPES:
        input_ids, attention_mask = _tokens((batch, min(length, max_length)), vocab_size)
        reference = module(input_ids, attention_mask).numpy()
        (found,) = session.run(None, {"input_ids": input_ids.numpy(), "attention_mask": attention_mask.numpy()})
        scale = max(1.0, float(np.abs(reference).max()))
        worst = max(worst, float(np.abs(np.asarray(found) - reference).max()) / scale)
    return worst


def _tokens(shape: tuple[int, int], vocab_size: int) -> tuple[Tensor, Tensor]:
    """Returns random token ids, and a mask under which each text but the first is padded."""
    generator = torch.Generator().manual_seed(0)
    input_ids = torch.randint(vocab_size, shape, generator=generator)
    lengths = torch.randint(1, shape[1] + 1, (shape[0], 1), generator=generator)
    lengths[0] = shape[1]
    return input_ids, (torch.arange(shape[1]) < lengths).long()

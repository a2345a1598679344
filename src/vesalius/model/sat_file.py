"""Reads a published SAT-Pretrain checkpoint: what it is, and its tensors. Its bytes are foreign and run no code."""

from __future__ import annotations

import json
import pickle
import re
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import safetensors
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from vesalius.errors import InputError
from vesalius.folder import Origin, unreadable

DUPLICATES = {"all_modules.0.": "conv.", "all_modules.1.": "norm."}
"""The published U-Net registers the convolution and the norm of each block a second time."""

PRETRAINING = "textual_only.pth, multimodal_sat_ds.pth or multimodal_cvpr25.pth of SAT-Pretrain"
TEXT_TEMPERATURE = "text_temperature"
"""Ours: `temperature` of raw text features, where it is not that of the shared space. Published files have one for both."""

DAMAGED = "the file is damaged or not in the published layout; get it again"
_SEGMENTATION = re.compile(r"(^|\.)(backbone|transformer_decoder|mask_embed_proj|mid_mask_embed_proj|query_proj)\.")
_NOT_ALLOWED = re.compile(r"GLOBAL (\S+) (?:was not an allowed global|whose module)")
_DAMAGE = (
    OSError, RuntimeError, EOFError, ValueError, TypeError, KeyError, IndexError, AttributeError, AssertionError, OverflowError,
    MemoryError, RecursionError, pickle.UnpicklingError, zipfile.BadZipFile,
)  # fmt: skip
"""What PyTorch's restricted unpickler raises on bytes that are no checkpoint."""

Stage = Literal[1, 2]
Tokens = Literal["published", "own"]
"""What stands around a text: ``[CLS]`` and ``[SEP]``, as published, or the special tokens of the tower's own model."""


@dataclass(frozen=True, kw_only=True)
class SatFile:
    """A pretraining checkpoint in the published layout.

    Attributes:
        path: the file.
        step: step it was saved at; None where the file does not say.
        stage: 1 (text against text; projection, modality embedding and region encoder were never trained) or 2.
        tower: kind of the text tower: ``biolord``, ``medcpt``, ``pubmedbert``.
        tensors: published name, without ``module.`` → value; no duplicates, no ``position_ids``.
        origins: what the weights were made from, where the file says it: those that `vesalius convert` wrote do.
        last_gelu: whether a GELU closes the region projection, as in every published file.
        tokens: what the text tower was trained to read around a text.
    """

    path: Path
    step: int | None
    stage: Stage
    tower: str
    tensors: Mapping[str, Tensor]
    origins: Sequence[Origin] = ()
    last_gelu: bool = True
    tokens: Tokens = "published"

    def describe(self) -> str:
        """Returns one line that says what the file is."""
        step = "unknown" if self.step is None else self.step
        sides = "" if self.has_regions else ", text side only"
        return f"pretraining checkpoint, text tower {self.tower}, stage {self.stage}, step {step}{sides}"

    @property
    def has_prompts(self) -> bool:
        """Whether it holds the text projection and the modality embedding."""
        return "modality_embed.weight" in self.tensors

    @property
    def has_regions(self) -> bool:
        """Whether it holds the region encoder."""
        return any(name.startswith("atlas_tower.") for name in self.tensors)

    def shape(self, name: str, *, num_axes: int) -> tuple[int, ...]:
        """Returns the shape of a tensor.

        Raises:
            InputError: it is missing, or has another number of axes.
        """
        tensor = self.tensors.get(name)
        if tensor is None:
            raise InputError(f"tensor {name} is missing", where=self.path, remedy=DAMAGED)
        if tensor.ndim != num_axes or min(tensor.shape, default=1) < 1:
            raise InputError(
                f"tensor {name} has shape {tuple(tensor.shape)}, where {num_axes} axes are expected",
                where=self.path,
                remedy=DAMAGED,
            )
        return tuple(tensor.shape)

    def part(self, beginning: str, module: nn.Module) -> dict[str, Tensor]:
        """Returns the tensors whose names begin with `beginning`, under the rest of their names, which are those of `module`.

        Raises:
            InputError: one is missing, left over, or of another shape than in `module`.
        """
        found = {
            name.removeprefix(beginning): tensor for name, tensor in self.tensors.items() if name.startswith(beginning)
        }
        wanted = module.state_dict()
        for name, tensor in wanted.items():
            if name not in found:
                raise InputError(f"tensor {beginning}{name} is missing", where=self.path, remedy=DAMAGED)
            if found[name].shape != tensor.shape:
                raise InputError(
                    f"tensor {beginning}{name} has shape {tuple(found[name].shape)}; "
                    f"beside the others it must be {tuple(tensor.shape)}",
                    where=self.path,
                    remedy=DAMAGED,
                )
        for name in found.keys() - wanted.keys():
            raise InputError(
                f"tensor {beginning}{name} has no place here", where=self.path, remedy=f"give {PRETRAINING}"
            )
        return found


def read_sat_file(path: Path) -> SatFile:
    """Reads a ``.pth`` that PyTorch saved, or a ``.safetensors`` that `vesalius convert` wrote.

    Nothing in the file is executed: tensors, plain containers and numpy's numbers are all it may hold.

    Raises:
        InputError: the file is missing, truncated, no checkpoint, a segmentation checkpoint, holds other Python objects, or
            tensors that do not belong there.
    """
    if path.suffix == ".safetensors":
        content, state = _safetensors(path)
    else:
        content = _unpickled(path)
        state = content.get("model_state_dict") if isinstance(content, dict) else None
    if not isinstance(state, dict) or not all(isinstance(name, str) for name in state):
        raise InputError("a file without 'model_state_dict'", where=path, remedy=f"give {PRETRAINING}")
    tensors = _named(state, path)
    _refuse_segmentation(tensors, path)
    tower = _tower(tensors, path)
    known = (
        "projection_layer.",
        "modality_embed.",
        "atlas_tower.encoder.",
        "atlas_tower.projection_layer.",
        "text_tower.",
    )
    for name in tensors:
        if name not in ("temperature", TEXT_TEMPERATURE) and not name.startswith(known):
            raise InputError(
                f"tensor {name} has no place in a pretraining checkpoint", where=path, remedy=f"give {PRETRAINING}"
            )
    step = content.get("step")
    return SatFile(
        path=path,
        step=step if isinstance(step, int) and not isinstance(step, bool) else None,
        stage=_stage(content, tensors),
        tower=tower,
        tensors=tensors,
        origins=_origins(content.get("sources"), path),
        last_gelu=content.get("last_gelu") != 0,
        tokens="own" if content.get("tokens") == "own" else "published",
    )


def sat_file_details(
    *, step: int | None, stage: Stage, origins: Sequence[Origin], last_gelu: bool, tokens: Tokens
) -> dict[str, int | str]:
    """Returns what a file written by us says beside its tensors, as `read_sat_file` reads it."""
    sources = json.dumps([asdict(origin) for origin in origins], ensure_ascii=False)
    details = {"stage": stage, "sources": sources, "last_gelu": int(last_gelu), "tokens": tokens}
    return {**details, **({} if step is None else {"step": step})}


def _origins(sources: object, path: Path) -> list[Origin]:
    if sources is None:
        return []
    try:
        return [Origin(**source) for source in json.loads(str(sources))]
    except (ValueError, TypeError) as error:
        raise InputError("a list of sources that cannot be read", where=path, remedy=DAMAGED) from error


def _safetensors(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            content: dict[str, Any] = dict(file.metadata() or {})
            for key in ("step", "stage", "last_gelu"):
                if re.fullmatch("[0-9]{1,15}", content.get(key, "")):
                    content[key] = int(content[key])
            return content, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except OSError as error:
        raise unreadable(path, error) from error
    except SafetensorError as error:
        raise InputError(
            f"no safetensors file, or truncated ({error})", where=path, remedy="get the file again"
        ) from error


def _unpickled(path: Path) -> Any:
    try:
        with path.open("rb") as file:
            begins_as_zip = file.read(4) == b"PK\x03\x04"
    except OSError as error:
        raise unreadable(path, error) from error
    is_zip = zipfile.is_zipfile(path)
    if begins_as_zip and not is_zip:
        raise InputError("truncated: the end of the file is missing", where=path, remedy="get the file again")
    try:
        with torch.serialization.safe_globals(_allowed()):
            return torch.load(path, map_location="cpu", weights_only=True, mmap=is_zip)
    except _DAMAGE as error:
        found = _NOT_ALLOWED.search(str(error))
        if found:
            raise InputError(
                f"holds the Python object {found.group(1)}, which only running code could make; nothing was run",
                where=path,
                remedy=f"give {PRETRAINING}, from where its authors keep it",
            ) from error
        raise InputError("no PyTorch checkpoint, or a damaged one", where=path, remedy=f"give {PRETRAINING}") from error


class _NumberType:
    """Stands in for ``numpy.dtype`` while a checkpoint is read: a type of number, nothing else."""

    code = "f8"
    order = "<"

    def __init__(self, code: object, align: object = False, copy: object = False) -> None:
        del align, copy  # part of every pickled dtype, without meaning for a number
        if not isinstance(code, str) or not re.fullmatch(r"[fiu][248]|[iub]1", code):
            raise pickle.UnpicklingError(f"a numpy scalar of type {code!r}")
        self.code = code

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.order = ">" if state[1] == ">" else "<"


def _number(kind: _NumberType, data: bytes) -> int | float | bool:
    """Stands in for numpy's ``scalar``: returns a plain number of `data`."""
    return np.frombuffer(data, dtype=np.dtype(kind.order + kind.code))[0].item()


def _allowed() -> list[Callable[..., Any] | tuple[Callable[..., Any], str]]:
    """Returns what may stand in a checkpoint beyond PyTorch's own list: numpy's numbers, as numpy 1 and 2 name them."""
    return [
        (_NumberType, "numpy.dtype"),
        (_number, "numpy.core.multiarray.scalar"),
        (_number, "numpy._core.multiarray.scalar"),
    ]


def _named(state: Mapping[str, Any], path: Path) -> dict[str, Tensor]:
    """Returns the tensors under names without ``module.``, duplicates taken out after a look that they are equal."""
    tensors, duplicates = {}, {}
    for full_name, tensor in state.items():
        name = full_name.removeprefix("module.")
        if name.endswith(".position_ids"):
            continue  # a constant that older libraries saved
        if not isinstance(tensor, Tensor) or tensor.layout != torch.strided or not tensor.is_floating_point():
            raise InputError(f"{full_name} is no tensor of weights", where=path, remedy=f"give {PRETRAINING}")
        for again, original in DUPLICATES.items():
            if again in name:
                duplicates[name.replace(again, original)] = tensor
                break
        else:
            tensors[name] = tensor
    for name, tensor in duplicates.items():
        if name not in tensors or not torch.equal(tensors[name], tensor):
            raise InputError(f"two different values of {name}", where=path, remedy="get the file again")
    return tensors


def _refuse_segmentation(tensors: Mapping[str, Tensor], path: Path) -> None:
    if any(_SEGMENTATION.search(name) for name in tensors):
        raise InputError(
            "a segmentation checkpoint (SAT), not a pretraining one: it holds a mask decoder and no text tower to convert",
            where=path,
            remedy=f"give {PRETRAINING}",
        )


def _tower(tensors: Mapping[str, Tensor], path: Path) -> str:
    towers = sorted({name.split(".")[1] for name in tensors if name.startswith("text_tower.")})
    if len(towers) != 1:
        found = f"text towers {', '.join(towers)}" if towers else "no text tower"
        raise InputError(f"a checkpoint with {found}, where one is expected", where=path, remedy=f"give {PRETRAINING}")
    return towers[0]


def _stage(content: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Stage:
    """Tells the stage: our files say it; published ones keep the losses of what was trained; else the norms show it.

    A region encoder that was never trained has all instance norms at one.
    """
    said = content.get("stage")
    if isinstance(said, int) and said in (1, 2):
        return cast("Stage", said)
    if "atlas_loss" in content:
        return 2
    if "text_loss" in content:
        return 1
    norms = [tensor for name, tensor in tensors.items() if name.endswith(".norm.weight")]
    return 1 if norms and all(bool((norm == 1).all()) for norm in norms) else 2

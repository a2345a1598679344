"""`vesalius convert`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import tyro

from vesalius.ids import Modality


def convert(
    source: tyro.conf.Positional[Path],
    /,
    *,
    to: Literal["sentence-transformers", "sat", "safetensors", "onnx", "run"],
    out: Path,
    base: str | None = None,
    features: Literal["raw", "prompts"] | None = None,
    modality: Modality | None = None,
) -> None:
    """Convert a run, a sentence-transformers folder or a published SAT checkpoint into another format.

    Args:
        source: run folder, sentence-transformers folder, or .pth of SAT-Pretrain (textual_only, multimodal_sat_ds, multimodal_cvpr25).
        to: sentence-transformers and onnx encode texts; sat is what the published segmentation code loads; safetensors holds all
            weights under the published names; run is a folder that `vesalius train regions --init` goes on from.
        out: file or folder to write. A folder must be new or empty.
        base: for a .pth, which holds no vocabulary: the model its text tower was trained from, a folder or hub:OWNER/NAME.
        features: raw text features, or prompts: projected, with a modality's embedding. Prompts, where they were trained.
        modality: modality of the prompts; without it a folder for each is written below the output folder.
    """
    from vesalius.train.convert import convert as converted
    from vesalius.train.progress import progress_bar, say
    from vesalius.train.sources import open_source

    opened = open_source(source, base=base)
    print(f"{source}: {opened.description}", flush=True)
    with progress_bar("Convert", total=1) as advance:
        done = converted(opened, to, out=out, features=features, modality=modality)
        advance(1)
    for warning in done.warnings:
        say(f"warning: {warning}")
    for path in done.written:
        print(f"{to}: {path}")

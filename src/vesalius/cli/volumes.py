"""`vesalius volumes …`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Literal

from vesalius.ids import Modality


def prepare(
    *,
    layout: Literal["atlas", "nifti-pairs"],
    graph: Path,
    out: Path,
    input: Path | None = None,
    modality: Modality | None = None,
    spacing_mm: tuple[float, float, float] = (1.0, 1.0, 3.0),
    salt: str | None = None,
    noncommercial_atlases: bool = False,
) -> None:
    """Prepare cases: one orientation and spacing, intensities by modality, labels tied to concepts. Call it again to go on.

    Args:
        layout: how the dataset is laid out; atlas is the data in installed packages.
        graph: graph folder that labels are tied to.
        out: case store to write.
        input: the dataset's folder.
        modality: of every image, where the dataset does not say it.
        spacing_mm: voxel size to resample to.
        salt: secret that patient ids are hashed with.
        noncommercial_atlases: add atlases under non-commercial or unclear terms.
    """
    from vesalius.errors import InputError
    from vesalius.folder import sha256_of_folder
    from vesalius.knowledge.resolve import Resolver
    from vesalius.knowledge.store import read_graph
    from vesalius.train.progress import progress_bar
    from vesalius.volumes.layouts import LayoutOptions, layout_of
    from vesalius.volumes.prepare import PrepareSettings
    from vesalius.volumes.prepare import prepare as prepare_cases

    resolver = Resolver(read_graph(graph))
    options = LayoutOptions(folder=input, modality=modality, salt=salt, noncommercial=noncommercial_atlases)
    sources = list(layout_of(layout)(options))
    with progress_bar("Cases", total=len(sources)) as advance:
        outcome = prepare_cases(
            sources,
            resolver=resolver,
            settings=PrepareSettings(spacing_mm=spacing_mm),
            out=out,
            inputs={"graph": sha256_of_folder(graph)},
            progress=lambda case_id, _done, _all: advance(1, note=case_id),
        )
    for label in outcome.unresolved:
        print(f"{label.case_id}: label {label.label!r}: {label.reason}")
    for reject in outcome.rejects:
        print(f"left out {reject.case_id}: {reject.reason}", file=sys.stderr)
    print(f"cases: {out} ({len(outcome.cases)} prepared, {len(outcome.rejects)} left out)")
    if outcome.rejects:
        raise InputError(
            f"{len(outcome.rejects)} of {len(sources)} cases were left out", where=out, remedy="see rejects.parquet"
        )


COMMANDS = {"prepare": prepare}

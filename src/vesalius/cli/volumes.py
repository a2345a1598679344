"""`vesalius volumes …`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Literal

import tyro

from vesalius.ids import Modality


def prepare(
    *,
    layout: Literal["atlas", "nifti-pairs", "nnunet", "totalsegmentator", "sat-ds", "cvpr25", "bids", "dicom"],
    graph: Path,
    out: str,
    input: Path | None = None,
    label_dataset: str | None = None,
    modality: Modality | None = None,
    spacing_mm: tuple[float, float, float] = (1.0, 1.0, 3.0),
    own_spacing: bool = False,
    orientation: str = "RAS",
    no_wholes: bool = False,
    workers: int | None = None,
    shard: str | None = None,
    dask: str | None = None,
    salt: str | None = None,
    dataset: str | None = None,
    labels: Path | None = None,
    stored_orientation: str | None = None,
    noncommercial_atlases: bool = False,
) -> None:
    """Prepare cases: one orientation and spacing, intensities by modality, labels tied to concepts. Call it again to go on.

    Args:
        layout: how the dataset is laid out; atlas is the data in installed packages.
        graph: graph folder that labels are tied to.
        out: case store to write: a folder, s3://bucket/prefix or gs://bucket/prefix.
        input: the dataset's folder; for sat-ds and cvpr25 also the file that lists its cases.
        label_dataset: whose labels these are, as the handbook names datasets (SAT-DS/HAN_Seg), where one text means several things.
        modality: of every image, where the dataset does not say it.
        spacing_mm: voxel size to resample to.
        own_spacing: keep each image's own voxel size instead.
        orientation: where the axes run to; ASR for sagittal spine images as published.
        no_wholes: make no further regions of left and right, such as kidney, where the graph knows them.
        workers: processes of this machine.
        shard: i/n prepares every n-th case from the i-th on, without tables; when all n are done, call without it.
        dask: address of a Dask scheduler whose workers do the work.
        salt: secret that patient ids are hashed with; without it your own is made once, in ~/.config/vesalius/salt.
        dataset: name of the dataset, where the folder's is not to be used.
        labels: file that says what the labels stand for (or the challenge's prompts), where the dataset does not hold it.
        stored_orientation: where i, j and k of arrays run to that do not say it themselves (cvpr25, sat-ds, nnunet).
        noncommercial_atlases: add atlases under non-commercial or unclear terms.
    """
    from vesalius.errors import InputError
    from vesalius.folder import sha256_of_folder
    from vesalius.knowledge.resolve import Resolver
    from vesalius.knowledge.store import read_graph
    from vesalius.knowledge.wholes import Wholes
    from vesalius.train.progress import progress_bar
    from vesalius.volumes.layouts import LayoutOptions, layout_of
    from vesalius.volumes.prepare import PrepareSettings, Shard
    from vesalius.volumes.prepare import prepare as prepare_cases
    from vesalius.volumes.workers import workers_of

    settings = PrepareSettings(spacing_mm=None if own_spacing else spacing_mm, orientation=orientation)
    chosen, share = workers_of(num=workers, dask=dask), Shard.parse(shard) if shard is not None else None
    read = read_graph(graph)
    options = LayoutOptions(
        folder=input,
        modality=modality,
        salt=salt,
        noncommercial=noncommercial_atlases,
        dataset=dataset,
        labels=labels,
        stored_orientation=stored_orientation,
    )
    sources = list(layout_of(layout)(options))
    with progress_bar("Cases", total=len(sources) if share is None else share.count(len(sources))) as advance:
        outcome = prepare_cases(
            sources,
            resolver=Resolver(read, dataset=label_dataset),
            wholes=None if no_wholes else Wholes(read),
            settings=settings,
            out=out,
            workers=chosen,
            shard=share,
            inputs={"graph": sha256_of_folder(graph)},
            progress=lambda case_id, _done, _all: advance(1, note=case_id),
        )
    for line in outcome.summary():
        print(line)
    for reject in outcome.rejects:
        print(f"left out {reject.case_id}: {reject.file}: {reject.reason}", file=sys.stderr)
    print(f"cases: {out} ({len(outcome.cases)} prepared, {len(outcome.rejects)} left out)")
    if share is not None:
        print(f"shard {shard} is done; when all are, call again without --shard to write the tables")
    if outcome.rejects:
        num = len(outcome.rejects) + len(outcome.cases)
        remedy = "see above" if share is not None else "see rejects.parquet"
        raise InputError(f"{len(outcome.rejects)} of {num} cases were left out", where=out, remedy=remedy)


def show(
    store: tyro.conf.Positional[str],
    case: tyro.conf.Positional[str],
    /,
    *,
    out: Path | None = None,
    regions: tuple[str, ...] = (),
) -> None:
    """Draw a case: three planes, its regions outlined, and their names.

    Args:
        store: case store.
        case: id of the case.
        out: PNG to write; CASE.png here without it.
        regions: names of the regions to draw; the largest ones without any.
    """
    from vesalius.eval.cases import case_figure
    from vesalius.folder import writing
    from vesalius.ids import CaseId
    from vesalius.volumes.store import CaseStore

    path = out if out is not None else Path(f"{case}.png")
    figure = case_figure(CaseStore.open(store), CaseId(case), names=regions)
    with writing(path) as temporary:
        figure.savefig(temporary, format="png", facecolor=figure.get_facecolor())
    print(f"picture: {path}")


def stats(store: tyro.conf.Positional[str], /, *, out: Path | None = None) -> None:
    """Count the cases, patients, regions and structures of a store.

    Args:
        store: case store.
        out: PNG to draw the structures to.
    """
    from rich.console import Console

    from vesalius.cli.tables import print_store
    from vesalius.eval.cases import stats_figure, store_stats
    from vesalius.folder import writing
    from vesalius.volumes.store import CaseStore

    found = store_stats(CaseStore.open(store))
    print_store(Console(), found.groups, [(s.name, s.key, s.num, s.num_cut, s.volumes_ml) for s in found.structures])
    if out is not None:
        with writing(out) as temporary:
            stats_figure(found).savefig(temporary, format="png", dpi=150)
        print(f"picture: {out}")


COMMANDS = {"prepare": prepare, "show": show, "stats": stats}

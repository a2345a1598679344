"""Prepared cases as a person looks at them: a picture of one, and what a store holds."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from vesalius.errors import InputError
from vesalius.eval.slices import FIELD, REGION_COLOURS, WHISPER, ImagePanel, PanelRegion, slices_figure
from vesalius.ids import CaseId
from vesalius.volumes.geometry import to_canonical
from vesalius.volumes.image import Image, LabelMap
from vesalius.volumes.regions import Region
from vesalius.volumes.store import CaseStore

_LEGEND_COLUMNS = 4
_LINE_INCHES = 0.19
_DPI = 150


@dataclass(frozen=True, kw_only=True)
class StructureStats:
    """What a store holds of one structure.

    Attributes:
        key: concept and side.
        name: how it is said in a prompt.
        num: its regions.
        num_cut: of these, how many reach the edge of the field of view.
        volumes_ml: the smallest, the median and the largest region.
    """

    key: str
    name: str
    num: int
    num_cut: int
    volumes_ml: tuple[float, float, float]


@dataclass(frozen=True, kw_only=True)
class StoreStats:
    """What a store holds.

    Attributes:
        groups: (dataset, modality, split) → cases, patients (a case without one counts as one), regions.
        structures: the structures, the most frequent first.
    """

    groups: dict[tuple[str, str, str], tuple[int, int, int]]
    structures: list[StructureStats]


def store_stats(store: CaseStore) -> StoreStats:
    """Counts cases, patients, regions and structures of a store; reads no image."""
    cases: Counter[tuple[str, str, str]] = Counter()
    regions_of: Counter[tuple[str, str, str]] = Counter()
    patients: dict[tuple[str, str, str], set[str]] = defaultdict(set)
    found: dict[str, list[Region]] = defaultdict(list)
    for row in store.cases:
        group = (row.dataset, f"{row.modality} {row.sequence}" if row.sequence else row.modality, row.split)
        cases[group] += 1
        patients[group].add(row.patient_id or f"case {row.case_id}")
        for region in store.regions(row.case_id):
            regions_of[group] += 1
            found[region.key].append(region)
    structures = [
        StructureStats(
            key=key,
            name=regions[0].name,
            num=len(regions),
            num_cut=sum(region.touches_border for region in regions),
            volumes_ml=_spread([region.volume_mm3 / 1000 for region in regions]),
        )
        for key, regions in sorted(found.items(), key=lambda item: (-len(item[1]), item[1][0].name))
    ]
    return StoreStats(
        groups={group: (cases[group], len(patients[group]), regions_of[group]) for group in sorted(cases)},
        structures=structures,
    )


def stats_figure(stats: StoreStats, *, num: int = 40) -> Figure:
    """Draws how often the `num` most frequent structures occur, and from which to which volume they range."""
    shown = stats.structures[:num][::-1]
    figure = Figure(figsize=(10, 1.2 + 0.2 * len(shown)), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    places = np.arange(len(shown))
    left.barh(places, [one.num for one in shown], color="#44AA99", label="whole")
    left.barh(places, [one.num_cut for one in shown], color="#DDCC77", label="reach the edge of the image")
    left.set(yticks=places, xlabel="regions")
    left.set_yticklabels([one.name for one in shown], fontsize=7.5)
    left.legend(frameon=False, fontsize=7.5)
    for place, one in zip(places, shown, strict=True):
        low, middle, high = one.volumes_ml
        right.plot([low, high], [place, place], color="#332288", linewidth=1.5)
        right.plot([middle], [place], marker="o", markersize=4, color="#332288")
    right.set(xscale="log", xlabel="volume, ml: smallest, median, largest")
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_ylim(-0.7, len(shown) - 0.3)
    return figure


def case_figure(store: CaseStore, case_id: CaseId, *, names: Sequence[str] = (), num: int = 24) -> Figure:
    """Draws three planes of a case with its regions outlined, and their names below.

    Args:
        store: holds the case.
        case_id: the case.
        names: the regions to draw; without any, the `num` largest that the dataset itself draws.
        num: most regions.

    Raises:
        InputError: the store holds no such case, or the case no region of such a name.
    """
    listed = sorted(store.regions(case_id), key=lambda region: -region.num_voxels)
    missing = sorted(set(names) - {region.name for region in listed})
    if missing:
        known = ", ".join(sorted(region.name for region in listed))
        raise InputError(f"no region named {missing[0]!r}", where=case_id, remedy=f"it has {known}")
    chosen = [r for r in listed if (r.name in names if names else r.tied_by != "parts")][:num]
    row, affine = store.case(case_id), store.affine(case_id)
    image = to_canonical(Image(data=store.read_image(case_id), affine=affine))
    masks = [
        to_canonical(LabelMap(data=store.read_mask(region).astype(np.int16), affine=affine, labels={})).data > 0
        for region in chosen
    ]
    low, high = np.percentile(image.data, [1, 99.5])
    panel = ImagePanel(
        name=case_id,
        modality=row.modality,
        image=image.data,
        spacing_mm=tuple(np.linalg.norm(image.affine[:3, :3], axis=0).tolist()),
        regions=[PanelRegion(name=region.name, mask=mask) for region, mask in zip(chosen, masks, strict=True)],
        display_range=(float(low), float(high)),
    )
    sequence = f" {row.sequence}" if row.sequence else ""
    title = f"{case_id}   {row.dataset}, {row.modality}{sequence}, {row.split}"
    left_out = len(listed) - len(chosen)
    return _with_legend(slices_figure(panel), title, [region.name for region in chosen], left_out)


def _with_legend(slices: Figure, title: str, names: Sequence[str], num_left_out: int) -> Figure:
    slices.set_dpi(_DPI)
    canvas = FigureCanvasAgg(slices)
    canvas.draw()
    width, height = slices.get_size_inches()
    num_lines = -(-len(names) // _LEGEND_COLUMNS) + 1
    foot, head = _LINE_INCHES * (num_lines + 1), 0.35
    whole = height + foot + head
    figure = Figure(figsize=(width, whole), dpi=_DPI, facecolor=FIELD)
    axes = figure.add_axes((0, foot / whole, 1, height / whole))
    axes.imshow(np.asarray(canvas.buffer_rgba()), aspect="auto", interpolation="none")
    axes.axis("off")
    figure.text(0.012, 1 - 0.18 / whole, title, size=10, color="white", va="center")
    for number, name in enumerate(names):
        line, column = divmod(number, _LEGEND_COLUMNS)
        figure.text(
            0.012 + column / _LEGEND_COLUMNS,
            (foot - _LINE_INCHES * (line + 0.8)) / whole,
            f"{number + 1}  {name}",
            size=8,
            color=REGION_COLOURS[number % len(REGION_COLOURS)],
            va="center",
        )
    if num_left_out:
        note = f"and {num_left_out} smaller regions"
        figure.text(0.012, _LINE_INCHES / whole, note, size=7.5, color=WHISPER, va="center")
    return figure


def _spread(values: Sequence[float]) -> tuple[float, float, float]:
    return min(values), float(np.median(values)), max(values)

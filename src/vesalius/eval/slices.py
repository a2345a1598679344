"""Slices of an image with its regions outlined, as a Matplotlib figure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from jaxtyping import Bool, Shaped
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from vesalius.arrays import Mask, Voxels
from vesalius.ids import Modality

FIELD, WHISPER = "#000000", "#a9aeb6"

REGION_COLOURS = ("#56B4E9", "#E69F00", "#2FD09B", "#F0E442", "#FF7D45", "#E79AC8", "#B7A6FF", "#F2F2F2")
"""Colours of regions on a dark field: Okabe and Ito's, lightened, told apart by colour-blind readers too."""

_Box: TypeAlias = tuple[slice, slice, slice]
_CT_WINDOW_HU = (-160.0, 240.0)


@dataclass(frozen=True, kw_only=True)
class PanelRegion:
    """One region of an image and what the model calls it.

    Attributes:
        name: its true name.
        mask: `i j k`, its voxels on the image's grid.
        called: the names the model ranks first, best first; empty where the model was not asked.
        is_right: whether the first of `called` names this region.
    """

    name: str
    mask: Mask
    called: Sequence[str] = ()
    is_right: bool = False


@dataclass(frozen=True, kw_only=True)
class ImagePanel:
    """An image with a few of its regions.

    Attributes:
        name: what to call the image.
        modality: imaging modality; ``ct`` is shown from -160 to 240 HU unless `display_range` says otherwise.
        image: `i j k`, intensities in RAS+ order: i grows to the patient's right, j to the front, k to the head.
        spacing_mm: voxel size along i, j and k.
        regions: the regions to draw, in the order of the legend.
        display_range: intensities shown black and white; None chooses by modality, or from the image's own percentiles.
    """

    name: str
    modality: Modality
    image: Voxels
    spacing_mm: tuple[float, float, float]
    regions: Sequence[PanelRegion]
    display_range: tuple[float, float] | None = None


@dataclass(frozen=True, kw_only=True)
class Plane:
    """How a volume in RAS+ order is cut and laid on the page.

    One rule gives every view: `across` runs from its high end (viewer's left) to its low end, `up` from low to high.

    Attributes:
        name: anatomical name of the plane.
        normal: array axis that is cut.
        across: array axis shown from left to right, flipped.
        up: array axis shown from bottom to top.
        note: the convention, as written on the picture.
    """

    name: str
    normal: int
    across: int
    up: int
    note: str


_RADIOLOGICAL = "radiological: patient's right is on your left"
PLANES = (
    Plane(name="Axial", normal=2, across=0, up=1, note=_RADIOLOGICAL),
    Plane(name="Coronal", normal=1, across=0, up=2, note=_RADIOLOGICAL),
    Plane(name="Sagittal", normal=0, across=1, up=2, note="seen from the patient's left"),
)
_LOW_LETTERS, _HIGH_LETTERS = "LPI", "RAS"


def slices_figure(panel: ImagePanel, *, planes: Sequence[Plane] = PLANES) -> Figure:
    """Draws an image in the given planes with its regions outlined, at one scale in mm.

    Each plane is cut where it shows most of the regions, a small one counting as much as a large one.
    The patient's right is on the viewer's left (radiological); in sagittal planes the front is. Letters at the edges
    say so: R right, L left, A anterior, P posterior, S superior, I inferior.

    Args:
        panel: the image and its regions.
        planes: the planes to draw from left to right; the scale is that of all three.

    Raises:
        ValueError: a mask has another shape than the image.
    """
    for region in panel.regions:
        if region.mask.shape != panel.image.shape:
            raise ValueError(f"{region.name}: mask of shape {region.mask.shape}, image of shape {panel.image.shape}")
    window = panel.display_range or _display_range(panel)
    box = _field(panel, window)
    extent = [(part.stop - part.start) * size for part, size in zip(box, panel.spacing_mm, strict=True)]
    margin = 0.085 * max(extent)
    bar_mm = next((size for size in (200.0, 100.0, 50.0, 20.0, 10.0, 5.0, 2.0) if size <= 0.3 * max(extent)), 1.0)
    widths = {plane.name: max(extent[plane.across], 0.6 * max(extent)) + 2 * margin for plane in PLANES}
    height = max(extent[plane.up] for plane in PLANES) + 2 * margin
    inches = 10.8 / sum(widths.values())
    head, foot = 0.3, 0.28
    figure_width = inches * sum(widths[plane.name] for plane in planes)
    figure_height = inches * height + head + foot
    figure = Figure(figsize=(figure_width, figure_height), facecolor=FIELD)
    left = 0.0
    for plane in planes:
        width = inches * widths[plane.name]
        place = (left / figure_width, foot / figure_height, width / figure_width, inches * height / figure_height)
        axes = figure.add_axes(place, label=plane.name)
        axes.axis("off")
        across, up = extent[plane.across], extent[plane.up]
        axes.set(
            xlim=((across - widths[plane.name]) / 2, (across + widths[plane.name]) / 2),
            ylim=((up - height) / 2, (up + height) / 2),
        )
        span = box[plane.normal]
        masks = [region.mask[box] for region in panel.regions]
        index = best_slice(masks, axis=plane.normal, size=span.stop - span.start)
        _draw_plane(axes, panel, plane, box=box, index=index, window=window)
        _draw_marks(axes, plane, across=across, up=up, margin=margin, bar_mm=bar_mm)
        x, y = (left + 0.1) / figure_width, (foot + inches * height + 0.1) / figure_height
        number = span.start + index + 1
        figure.text(x, y, plane.name, size=9.5, color="white", weight="bold", va="center")
        figure.text(
            (left + width - 0.1) / figure_width,
            y,
            f"slice {number} of {panel.image.shape[plane.normal]}",
            size=7.5,
            color=WHISPER,
            ha="right",
            va="center",
        )
        figure.text(x, 0.15 / figure_height, plane.note, size=7.5, color=WHISPER, va="center")
        left += width
    return figure


def best_slice(masks: Sequence[Mask], *, axis: int, size: int) -> int:
    """Returns the index along `axis` at which the masks show most, each weighed by its own largest cross-section.

    Of equally good slices it is the middle one; without masks, the middle of `size`.
    """
    score = np.zeros(size)
    others = tuple(other for other in range(3) if other != axis)
    for mask in masks:
        areas = mask.sum(axis=others)
        score += areas / max(int(areas.max(initial=0)), 1)
    best = np.flatnonzero(score == score.max(initial=0.0))
    return int(best[len(best) // 2])


def cut(voxels: Voxels | Mask, plane: Plane, index: int) -> Shaped[np.ndarray, "r c"]:
    """Returns a slice as shown: rows from bottom to top, columns from the viewer's left to right."""
    return np.take(voxels, index, axis=plane.normal).T[:, ::-1]


def _draw_plane(
    axes: Axes,
    panel: ImagePanel,
    plane: Plane,
    *,
    box: _Box,
    index: int,
    window: tuple[float, float],
) -> None:
    shown = cut(panel.image[box], plane, index)
    rows, columns = shown.shape
    dx, dy = panel.spacing_mm[plane.across], panel.spacing_mm[plane.up]
    axes.imshow(
        shown,
        cmap="gray",
        vmin=window[0],
        vmax=window[1],
        origin="lower",
        extent=(0, columns * dx, 0, rows * dy),
        aspect="auto",
        interpolation="none",
        zorder=0,
    )
    x, y = (np.arange(-1, columns + 1) + 0.5) * dx, (np.arange(-1, rows + 1) + 0.5) * dy
    for number, region in enumerate(panel.regions):
        mask = np.pad(cut(region.mask[box], plane, index), 1)
        if not mask.any():
            continue
        colour = REGION_COLOURS[number % len(REGION_COLOURS)]
        style = "solid" if number < len(REGION_COLOURS) else "dashed"
        axes.contourf(x, y, mask, levels=[0.5, 1.5], colors=[colour], alpha=0.22)
        axes.contour(x, y, mask, levels=[0.5], colors=[colour], linewidths=1.1, linestyles=style)
        row, column = _inner_voxel(mask)
        axes.text(
            x[column],
            y[row],
            str(number + 1),
            size=7.5,
            weight="bold",
            color=colour,
            ha="center",
            va="center",
            path_effects=[withStroke(linewidth=2.2, foreground=FIELD)],
        )


def _draw_marks(axes: Axes, plane: Plane, *, across: float, up: float, margin: float, bar_mm: float) -> None:
    style = {"size": 10, "weight": "bold", "color": "white", "ha": "center", "va": "center"}
    near = margin * 0.5
    axes.text(-near, up / 2, _HIGH_LETTERS[plane.across], **style)
    axes.text(across + near, up / 2, _LOW_LETTERS[plane.across], **style)
    axes.text(across / 2, up + near, _HIGH_LETTERS[plane.up], **style)
    axes.text(across / 2, -near, _LOW_LETTERS[plane.up], **style)
    (left, _), (bottom, _) = axes.get_xlim(), axes.get_ylim()
    start, height = left + near, bottom + 0.25 * margin
    axes.plot([start, start + bar_mm], [height, height], color="white", linewidth=1.8, solid_capstyle="butt")
    label = f"{bar_mm:g} mm"
    axes.annotate(label, (start, height), xytext=(0, 3), textcoords="offset points", size=7.5, color="white")


def _display_range(panel: ImagePanel) -> tuple[float, float]:
    if panel.modality == "ct":
        return _CT_WINDOW_HU
    above = panel.image[panel.image > panel.image.min()]
    if not above.size:
        return 0.0, 1.0
    low, high = np.percentile(above, [0.5, 99.7])
    headroom = 1.12  # bright tissue stays off pure white, so that outlines stand out
    return min(float(low), 0.0), max(headroom * float(high), float(low) + 1e-6)


def _field(panel: ImagePanel, window: tuple[float, float]) -> _Box:
    """Returns the box of what is worth showing: everything brighter than nearly black, and every region."""
    seen = panel.image > window[0] + 0.08 * (window[1] - window[0])
    for region in panel.regions:
        seen |= region.mask
    if not seen.any():
        seen[:] = True
    occupied = [np.flatnonzero(seen.any(axis=others)) for others in ((1, 2), (0, 2), (0, 1))]
    i, j, k = (slice(int(at[0]), int(at[-1]) + 1) for at in occupied)
    return i, j, k


def _inner_voxel(mask: Bool[np.ndarray, "r c"]) -> tuple[int, int]:
    """Returns the row and column of the mask's voxel nearest to its centre of mass."""
    places = np.argwhere(mask)
    row, column = places[np.square(places - places.mean(axis=0)).sum(axis=1).argmin()]
    return int(row), int(column)

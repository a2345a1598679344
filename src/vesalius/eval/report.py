"""The report of a run: one self-contained HTML page with its numbers, pictures, sources and settings."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import jinja2

from vesalius import folder
from vesalius.eval import pictures, slices
from vesalius.eval.pictures import Curve, EmbeddingMap, RetrievalRow
from vesalius.eval.slices import ImagePanel, PanelRegion

__all__ = [
    "Curve",
    "EmbeddingMap",
    "ImagePanel",
    "Neighbour",
    "Neighbours",
    "PanelRegion",
    "RegionRow",
    "ReportContent",
    "RetrievalRow",
    "render_report",
    "write_report",
]


@dataclass(frozen=True, kw_only=True)
class RegionRow:
    """How well regions of the held-out image and names find each other. Every measure is a fraction in 0 … 1.

    Attributes:
        task: ``name → region`` or ``region → name``.
        group: which names were asked about: ``all``, ``seen names``, ``unseen names``.
        num: questions asked; with 0 the measures are shown as a dash.
        recall_at_1: share of questions whose right answer came first.
        recall_at_5: share with the right answer among the first five.
        chance: R@1 of guessing.
    """

    task: str
    group: str
    num: int
    recall_at_1: float
    recall_at_5: float
    chance: float


@dataclass(frozen=True, kw_only=True)
class Neighbour:
    """A name near another.

    Attributes:
        name: the name.
        similarity: cosine similarity, -1 … 1.
        related: whether the graph relates the two concepts, e.g. as parent or sibling; such neighbours are marked.
    """

    name: str
    similarity: float
    related: bool = False


@dataclass(frozen=True, kw_only=True)
class Neighbours:
    """The nearest neighbours of a name before and after training, nearest first."""

    name: str
    before: Sequence[Neighbour]
    after: Sequence[Neighbour]


@dataclass(frozen=True, kw_only=True)
class ReportContent:
    """Everything the report shows. What is empty is left out, with its heading.

    Attributes:
        title: heading of the page.
        summary: one paragraph: what was trained on what.
        facts: label → value, e.g. recipe, commit, device, wall time, date.
        retrieval: results of each encoder in each task; the first row of a task is the base of comparison.
        num_candidates: names that each retrieval question chose from; 0 leaves the sentence out.
        retrieval_note: a paragraph under the results, in the caller's words.
        regions: results on the held-out image.
        held_out_image: name of the image that `regions` are of.
        caveats: paragraphs beside the results on regions: what they do not show.
        curves: one for each stage of training.
        maps: maps of the same names by each encoder, before first.
        maps_note: how the positions were made.
        neighbours: a dozen names with their neighbours.
        images: images with regions.
        graph_counts: what is counted → number.
        untied_labels: labels of the datasets that no concept was found for.
        origins: sources with their terms.
        config_yaml: the resolved settings.
    """

    title: str
    summary: str
    facts: Mapping[str, str] = field(default_factory=dict)
    retrieval: Sequence[RetrievalRow] = ()
    num_candidates: int = 0
    retrieval_note: str = ""
    regions: Sequence[RegionRow] = ()
    held_out_image: str = ""
    caveats: Sequence[str] = ()
    curves: Sequence[Curve] = ()
    maps: Sequence[EmbeddingMap] = ()
    maps_note: str = ""
    neighbours: Sequence[Neighbours] = ()
    images: Sequence[ImagePanel] = ()
    graph_counts: Mapping[str, int] = field(default_factory=dict)
    untied_labels: Sequence[str] = ()
    origins: Sequence[folder.Origin] = ()
    config_yaml: str = ""


_Row = TypeVar("_Row", RetrievalRow, RegionRow)


def write_report(content: ReportContent, path: Path) -> None:
    """Writes the report to `path`, whole or not at all.

    Raises:
        ValueError: a region's mask has another shape than its image.
    """
    folder.write_text(path, render_report(content))


def render_report(content: ReportContent) -> str:
    """Returns the report as HTML that loads nothing from anywhere and escapes every text it was given.

    Raises:
        ValueError: a region's mask has another shape than its image.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(percent=_percent, points=_points, cosine=_cosine)
    groups = [group for embedding_map in content.maps for group in embedding_map.groups]
    colours = pictures.group_colours(groups)
    sizes = Counter(content.maps[0].groups if content.maps else ())
    return environment.get_template("report.html").render(
        content=content,
        version=folder.version(),
        tasks=_by_task(content.retrieval),
        region_tasks=_by_task(content.regions),
        retrieval_picture=pictures.data_uri(pictures.retrieval_figure(content.retrieval)) if content.retrieval else "",
        curve_pictures=[(curve.stage, pictures.data_uri(pictures.curves_figure(curve))) for curve in content.curves],
        map_pictures=[
            (embedding_map.title, pictures.data_uri(pictures.map_figure(embedding_map, colours=colours)))
            for embedding_map in content.maps
        ],
        map_legend=[(group, colour, sizes[group]) for group, colour in colours.items()],
        panels=[_panel(panel) for panel in content.images],
    )


def _by_task(rows: Sequence[_Row]) -> dict[str, list[_Row]]:
    tasks: dict[str, list[_Row]] = {}
    for row in rows:
        tasks.setdefault(row.task, []).append(row)
    return tasks


def _panel(panel: ImagePanel) -> dict[str, object]:
    """Returns what the template needs of an image: a picture of each plane with its width, and the legend's entries."""
    views = []
    for plane in slices.PLANES:
        figure = slices.slices_figure(panel, planes=[plane])
        views.append({"plane": plane.name, "width": figure.get_figwidth(), "picture": pictures.data_uri(figure)})
    colours = slices.REGION_COLOURS
    legend = [
        {
            "number": number + 1,
            "colour": colours[number % len(colours)],
            "name": region.name,
            "called": [
                (name, (rank == 0 and region.is_right) or name.casefold() == region.name.casefold())
                for rank, name in enumerate(region.called)
            ],
        }
        for number, region in enumerate(panel.regions)
    ]
    return {
        "name": panel.name,
        "modality": panel.modality.upper(),
        "spacing": " × ".join(f"{size:.3g}" for size in panel.spacing_mm),
        "num_asked": sum(bool(region.called) for region in panel.regions),
        "num_right": sum(region.is_right for region in panel.regions),
        "views": views,
        "legend": legend,
    }


def _percent(fraction: float) -> str:
    return "–" if math.isnan(fraction) else f"{100 * fraction:.1f}"


def _points(difference: float) -> str:
    """Returns a difference of fractions in percentage points, with its sign; what rounds to nothing has none."""
    if math.isnan(difference):
        return "–"
    rounded = round(100 * difference, 1)
    return f"{rounded:+.1f}".replace("-", "−") if rounded else "0.0"


def _cosine(similarity: float) -> str:
    return f"{similarity:.2f}".replace("-", "−")

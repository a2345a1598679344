"""A picture of what a graph holds."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from vesalius.eval.pictures import GROUP_COLOURS, INK, OTHER_COLOUR, QUIET, RULE
from vesalius.folder import writing
from vesalius.knowledge.concept import Scope
from vesalius.knowledge.stats import GraphStats

KINDS = ("concepts", "synonyms", "definitions", "relations", "xrefs")
MOST_PREDICATES = 20
FEWEST_BARS = 4
"""Bars that a picture leaves room for."""

MOST_SOURCES = len(GROUP_COLOURS)
"""Sources with a colour of their own; the others are one, grey."""


def stats_figure(stats: GraphStats, *, title: str) -> Figure:
    """Returns bars of rows by kind, of synonyms by scope and of the most frequent predicates, each stacked by source.

    An empty graph gives axes without bars.
    """
    ranked = sorted(stats.counts, key=lambda source: -sum(stats.counts[source].values()))
    shown = [source for source in stats.counts if source in ranked[:MOST_SOURCES]]
    others = [source for source in stats.counts if source not in shown]
    predicates = list(stats.predicates)[:MOST_PREDICATES]
    figure = Figure(figsize=(11, 2.2 + 0.24 * max(len(predicates), 12)), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(2, 2, height_ratios=(5, 4))
    rows, scopes = figure.add_subplot(grid[0, 0]), figure.add_subplot(grid[1, 0])
    relations = figure.add_subplot(grid[:, 1])
    groups = [(source, [source]) for source in shown] + ([(f"{len(others)} others", others)] if others else [])
    for axes, heading, labels, count in (
        (rows, "rows", KINDS, lambda kind, source: stats.counts[source].get(kind, 0)),
        (scopes, "synonyms", tuple(map(str, Scope)), lambda scope, source: stats.scopes.get(source, {}).get(scope, 0)),
        (relations, "relations", tuple(predicates), lambda said, source: stats.predicates[said].get(source, 0)),
    ):
        starts = [0.0] * len(labels)
        for place, (name, members) in enumerate(groups):
            widths = [float(sum(count(label, source) for source in members)) for label in labels]
            colour = GROUP_COLOURS[place] if place < MOST_SOURCES else OTHER_COLOUR
            axes.barh(labels, widths, left=starts, height=0.72, color=colour, label=name)
            starts = [start + width for start, width in zip(starts, widths, strict=True)]
        _finish(axes, heading, starts)
    handles, names = rows.get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=min(len(names), 5) or 1, frameon=False, fontsize=8)
    figure.suptitle(title, x=0.01, ha="left", color=INK, fontweight="bold")
    return figure


def write_stats_picture(stats: GraphStats, path: Path, *, title: str) -> None:
    """Writes `stats_figure` as a PNG file, whole or not at all."""
    with mpl.rc_context({"font.size": 9}):
        figure = stats_figure(stats, title=title)
    with writing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=150)


def _finish(axes: Axes, heading: str, totals: list[float]) -> None:
    """Puts the sum behind each bar and takes away what is not needed."""
    for place, total in enumerate(totals):
        axes.text(total, place, f" {total:,.0f}", va="center", ha="left", color=QUIET, fontsize=7.5)
    axes.set_title(heading, loc="left", color=INK, fontsize=10)
    axes.set_ylim(max(len(totals), FEWEST_BARS) - 0.5, -0.5)
    axes.set_xticks([])
    axes.set_xlim(0, 1.18 * max([*totals, 1.0]))
    axes.tick_params(axis="y", length=0, labelcolor=INK)
    for side in ("top", "right", "bottom"):
        axes.spines[side].set_visible(False)
    axes.spines["left"].set_color(RULE)

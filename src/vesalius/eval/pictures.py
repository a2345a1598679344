"""Charts of a run: retrieval, loss curves, embedding maps, as Matplotlib figures; and any figure as a data URI."""

from __future__ import annotations

import base64
import io
import math
import re
import textwrap
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import matplotlib as mpl
import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

INK, QUIET, RULE, ACCENT = "#22252b", "#6b7078", "#dcdfe3", "#9a3b2e"

GROUP_COLOURS = ("#332288", "#44AA99", "#CC6677", "#88CCEE", "#117733", "#DDCC77", "#882255", "#999933", "#AA4499")
"""Colours of groups on white: Paul Tol's muted scheme, safe for colour-blind readers."""

OTHER, OTHER_COLOUR = "other", "#B9BDC3"
SMALL_TITLE_WIDTH = 22
"""Letters of a small panel's title on one line."""

_FONTS = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"


@dataclass(frozen=True, kw_only=True)
class RetrievalRow:
    """How well one encoder retrieves names. Every measure is a fraction in 0 … 1.

    Attributes:
        stage: the encoder, e.g. ``base`` or ``stage 1 (text)``; a task's first row is the base of comparison.
        task: what is asked and what is answered, e.g. ``definition → name``.
        num: questions asked.
        recall_at_1: share of questions whose right answer came first.
        recall_at_1_interval: bootstrap 95 % interval of `recall_at_1`.
        recall_at_5: share with the right answer among the first five.
        recall_at_10: share with the right answer among the first ten.
        mrr: mean reciprocal rank.
    """

    stage: str
    task: str
    num: int
    recall_at_1: float
    recall_at_1_interval: tuple[float, float]
    recall_at_5: float
    recall_at_10: float
    mrr: float


@dataclass(frozen=True, kw_only=True)
class Curve:
    """How one stage of training went.

    Attributes:
        stage: name of the stage.
        steps: optimiser steps at which `losses` were logged, ascending.
        losses: training loss at each of `steps`.
        validation_steps: steps at which validation ran, ascending; may be empty.
        validation_values: value at each of `validation_steps`.
        validation_name: what `validation_values` are, e.g. ``validation loss``.
        learning_rates: learning rate at each of `steps`, or empty.
        logit_scales: logit scale at each of `steps`, or empty.
    """

    stage: str
    steps: Sequence[int]
    losses: Sequence[float]
    validation_steps: Sequence[int] = ()
    validation_values: Sequence[float] = ()
    validation_name: str = "validation loss"
    learning_rates: Sequence[float] = ()
    logit_scales: Sequence[float] = ()


@dataclass(frozen=True, kw_only=True)
class EmbeddingMap:
    """Embeddings laid out in a plane.

    Attributes:
        title: which encoder they are from.
        xy: `n 2`, positions in arbitrary units.
        groups: group of each position, e.g. its body system; ``other`` is drawn grey.
    """

    title: str
    xy: Float[np.ndarray, "n 2"]
    groups: Sequence[str]


def data_uri(figure: Figure, *, kind: Literal["svg", "png"] = "svg", dpi: float = 200) -> str:
    """Returns a figure as a ``data:`` URI; the same figure gives the same bytes.

    Args:
        figure: the figure; its own size in inches is kept.
        kind: ``svg`` (text stays text, in the reader's system font) or ``png``.
        dpi: dots an inch of a PNG, and of what an SVG holds as pixels.
    """
    FigureCanvasAgg(figure)
    buffer = io.BytesIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "vesalius"}):
        metadata = {"Date": None, "Creator": None} if kind == "svg" else {"Software": None}
        figure.savefig(buffer, format=kind, dpi=dpi, facecolor=figure.get_facecolor(), metadata=metadata)
    content, media = buffer.getvalue(), "image/png"
    if kind == "svg":
        text = re.sub(r"'DejaVu Sans'[^;\"]*", _FONTS, content.decode("utf-8"))
        text = re.sub(r"image-rendering:[^;\"]*;?", "", text)  # browsers then smooth voxels as they enlarge them
        content, media = text.encode("utf-8"), "image/svg+xml"
    return f"data:{media};base64,{base64.b64encode(content).decode('ascii')}"


def retrieval_figure(rows: Sequence[RetrievalRow]) -> Figure:
    """Draws R@1 of every row as a dot on its bootstrap interval, one block a task.

    Args:
        rows: the rows, in the order to draw them from top to bottom within their task.
    """
    tasks = list(dict.fromkeys(row.task for row in rows))
    stages = list(dict.fromkeys(row.stage for row in rows))
    colours = dict(zip(stages, _shades(len(stages)), strict=True))
    figure = Figure(figsize=(4.8, 0.55 + sum(0.42 + 0.27 * sum(row.task == task for row in rows) for task in tasks)))
    axes = figure.add_axes((0.3, 0.46 / figure.get_figheight(), 0.68, 1 - 0.5 / figure.get_figheight()))
    beside = {"transform": axes.get_yaxis_transform(), "color": INK, "va": "center"}
    y = 0.0
    for task in tasks:
        axes.text(-0.43, y, task, weight="bold", size=9, **beside)
        y += 0.95
        for row in (row for row in rows if row.task == task):
            low, high = (100 * bound for bound in row.recall_at_1_interval)
            value, colour = 100 * row.recall_at_1, colours[row.stage]
            axes.plot([low, high], [y, y], color=colour, linewidth=5, alpha=0.28, solid_capstyle="round")
            axes.plot([value], [y], "o", color=colour, markersize=7)
            axes.text(max(high, value) + 2.2, y, f"{value:.1f}", size=8.5, color=INK, va="center")
            axes.text(-0.43, y, row.stage, size=8.5, **beside)
            y += 0.85
        y += 0.45
    axes.set(xlim=(0, 108), ylim=(y - 0.75, -0.45), xticks=range(0, 101, 20), yticks=[])
    axes.set_xlabel("R@1 in %, with the bootstrap 95 % interval", size=8.5, color=QUIET)
    _calm(axes, grid="x")
    axes.spines["left"].set_visible(False)
    axes.spines["bottom"].set_bounds(0, 100)
    return figure


def curves_figure(curve: Curve) -> Figure:
    """Draws a stage of training: the loss (light, and smoothed) over small panels of validation, lr and logit scale."""
    lr_name, learning_rates = _scaled("lr", curve.learning_rates)
    small = [
        (name, steps, values, marker)
        for name, steps, values, marker in (
            (curve.validation_name, curve.validation_steps, curve.validation_values, "o"),
            (lr_name, curve.steps, learning_rates, ""),
            ("logit scale", curve.steps, curve.logit_scales, ""),
        )
        if len(values)
    ]
    figure = Figure(figsize=(4.8, 4.1 if small else 2.8), layout="constrained")
    grid = figure.add_gridspec(2 if small else 1, max(len(small), 1), height_ratios=[2.2, 1] if small else [1])
    axes = figure.add_subplot(grid[0, :])
    axes.plot(curve.steps, curve.losses, color=ACCENT, alpha=0.25, linewidth=0.9, label="each logged step")
    smooth = _smoothed(np.asarray(curve.losses, dtype=float))
    axes.plot(curve.steps, smooth, color=ACCENT, linewidth=1.8, label="smoothed")
    axes.set_title("training loss", loc="left", size=9, color=INK)
    axes.set_xlabel("step", size=8, color=QUIET)
    axes.legend(frameon=False, fontsize=8, labelcolor=QUIET)
    _calm(axes, grid="y")
    for column, (name, steps, values, marker) in enumerate(small):
        panel = figure.add_subplot(grid[1, column])
        panel.plot(steps, values, color=INK, linewidth=1.2, marker=marker, markersize=3.5)
        panel.set_title(textwrap.fill(name, SMALL_TITLE_WIDTH), loc="left", size=8.5, color=INK)
        panel.xaxis.set_major_locator(MaxNLocator(3, integer=True))
        panel.yaxis.set_major_locator(MaxNLocator(3))
        _calm(panel, grid="y")
    return figure


def group_colours(groups: Sequence[str]) -> dict[str, str]:
    """Returns the colour of each group, the largest group first; ``other`` and all past the ninth are grey."""
    counts = Counter(groups)
    ranked = sorted((group for group in counts if group != OTHER), key=lambda group: (-counts[group], group))
    colours = dict.fromkeys(ranked, OTHER_COLOUR) | dict(zip(ranked, GROUP_COLOURS, strict=False))
    return colours | ({OTHER: OTHER_COLOUR} if OTHER in counts else {})


def map_figure(embedding_map: EmbeddingMap, *, colours: Mapping[str, str] | None = None) -> Figure:
    """Draws embeddings in a plane, each group in its colour and named where it lies.

    Args:
        embedding_map: the positions and their groups.
        colours: group → colour, to colour several maps alike; None takes `group_colours`.
    """
    colours = group_colours(embedding_map.groups) if colours is None else colours
    xy, groups = np.asarray(embedding_map.xy, dtype=float), np.asarray(embedding_map.groups)
    assert len(xy) == len(groups), "every position has a group"
    figure = Figure(figsize=(4.8, 4.4))
    axes = figure.add_axes((0.01, 0.01, 0.98, 0.98))
    axes.axis("off")
    if not len(xy):
        return figure
    low, high = np.percentile(xy, [0.2, 99.8], axis=0)
    margin = 0.06 * np.maximum(high - low, 1e-9)
    axes.set(xlim=(low[0] - margin[0], high[0] + margin[0]), ylim=(low[1] - margin[1], high[1] + margin[1]))
    order = np.random.default_rng(0).permutation(len(xy))
    order = order[np.argsort([colours[group] != OTHER_COLOUR for group in groups[order]], kind="stable")]
    size = float(np.clip(6000 / len(xy), 3, 22))
    shades = [colours[group] for group in groups[order]]
    axes.scatter(*xy[order].T, s=size, c=shades, alpha=0.72, linewidths=0, rasterized=True)
    named = [group for group, colour in colours.items() if colour != OTHER_COLOUR and (groups == group).any()]
    homes = np.array([_home(xy[groups == group]) for group in named]).reshape(-1, 2)
    homes = axes.transAxes.inverted().transform(axes.transData.transform(homes))
    plate = {"boxstyle": "round,pad=0.3", "facecolor": "white", "linewidth": 1.4, "alpha": 0.9}
    for group, home, spot in zip(named, homes, _spread(homes, named, figure), strict=True):
        axes.plot(*np.stack([home, spot]).T, transform=axes.transAxes, color=colours[group], linewidth=1, zorder=2)
        axes.text(
            float(spot[0]),
            float(spot[1]),
            group,
            transform=axes.transAxes,
            ha="center",
            va="center",
            size=7.5,
            color=INK,
            bbox=plate | {"edgecolor": colours[group]},
            zorder=3,
        )
    return figure


def _home(xy: Float[np.ndarray, "n 2"]) -> Float[np.ndarray, " 2"]:
    """Returns where a group is densest, so that its name points at many of its own."""
    counts, *edges = np.histogram2d(*xy.T, bins=12)
    cell = np.unravel_index(counts.argmax(), counts.shape)
    centre = np.array([(edge[at] + edge[at + 1]) / 2 for edge, at in zip(edges, cell, strict=True)])
    return xy[np.square(xy - centre).sum(axis=1).argmin()]


def _spread(spots: Float[np.ndarray, "n 2"], names: Sequence[str], figure: Figure) -> Float[np.ndarray, "n 2"]:
    """Returns label positions in axes fractions, pushed apart until no two labels overlap and none leaves the frame."""
    width, height = figure.get_size_inches()
    half = np.array([[(0.072 * len(name) + 0.26) / width, 0.29 / height] for name in names]).reshape(-1, 2) / 2
    spots = spots.copy()
    for _ in range(400):
        moved = False
        for one in range(len(spots)):
            for two in range(one):
                gap = spots[one] - spots[two]
                overlap = half[one] + half[two] - np.abs(gap)
                if (overlap > 1e-4).all():
                    axis = int(overlap[1] > overlap[0] * width / height) ^ 1
                    push = 0.5 * overlap[axis] * (1 if gap[axis] >= 0 else -1)
                    spots[one, axis] += push
                    spots[two, axis] -= push
                    moved = True
        spots = np.clip(spots, half + 0.01, 0.99 - half)
        if not moved:
            break
    return spots


def _scaled(name: str, values: Sequence[float]) -> tuple[str, list[float]]:
    """Returns small values as multiples of a power of ten, and the name with that power in it."""
    exponent = math.floor(math.log10(top)) if (top := max(values, default=0.0)) > 0 else 0
    if exponent > -3:
        return name, list(values)
    power = str(exponent).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return f"{name}, × 10{power}", [value / 10.0**exponent for value in values]


def _smoothed(values: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """Returns each value's mean over a twelfth of the values around it, the nearest weighing most: it does not lag."""
    weights = np.bartlett(2 * max(len(values) // 24, 1) + 3)[1:-1]
    if len(values) < len(weights):
        return values
    return np.convolve(values, weights, "same") / np.convolve(np.ones(len(values)), weights, "same")


def _shades(num: int) -> list[str]:
    return (["#8a9099"] + ["#3d6f8e", ACCENT, "#5c7a3a", "#7a4f8f"] * num)[:num]


def _calm(axes: Axes, *, grid: Literal["x", "y"]) -> None:
    """Takes away what a reader does not need: frame above and at the right, dark ticks, the other grid lines."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(RULE)
    axes.grid(axis=grid, color=RULE, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, labelsize=8, labelcolor=QUIET)

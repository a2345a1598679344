from __future__ import annotations

import base64

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from vesalius.eval import pictures, slices
from vesalius.eval.pictures import Curve, EmbeddingMap, RetrievalRow
from vesalius.eval.slices import ImagePanel, PanelRegion, Plane


def pixels(figure: Figure) -> np.ndarray:
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].astype(float) / 255


def letter_at(figure: Figure, letter: str) -> tuple[float, float]:
    """Column and row, from the upper left, of a letter on a drawn figure."""
    (text,) = [text for axes in figure.axes for text in axes.texts if text.get_text() == letter]
    box = text.get_window_extent()
    return (box.x0 + box.x1) / 2, figure.bbox.height - (box.y0 + box.y1) / 2


def coloured_at(figure: Figure, colour: str) -> tuple[float, float]:
    """Mean column and row, from the upper left, of the pixels whose hue is that of `colour`."""
    image, wanted = pixels(figure), np.array(to_rgb(colour))
    chroma = image - image.mean(axis=2, keepdims=True)
    towards = wanted - wanted.mean()
    strength = np.linalg.norm(chroma, axis=2)
    alike = (chroma @ towards) / np.maximum(strength * np.linalg.norm(towards), 1e-9)
    rows, columns = np.nonzero((strength > 0.1) & (alike > 0.97))
    assert len(rows) > 20
    return float(columns.mean()), float(rows.mean())


def panel(where: tuple[slice, slice, slice], *, spacing_mm: tuple[float, float, float] = (1.0, 1.0, 1.0)) -> ImagePanel:
    image = np.full((40, 48, 32), 100, dtype=np.float32)
    image[0, 0, 0] = 0
    mask = np.zeros(image.shape, dtype=bool)
    mask[where] = True
    return ImagePanel(
        name="block", modality="mr", image=image, spacing_mm=spacing_mm, regions=[PanelRegion(name="spot", mask=mask)]
    )


LEFT = (slice(4, 12), slice(20, 28), slice(12, 20))
FRONT = (slice(16, 24), slice(38, 46), slice(12, 20))
TOP = (slice(16, 24), slice(20, 28), slice(24, 31))


@pytest.mark.parametrize(
    ("plane", "where", "near", "far"),
    [
        (slices.PLANES[0], LEFT, "L", "R"),
        (slices.PLANES[1], LEFT, "L", "R"),
        (slices.PLANES[0], FRONT, "A", "P"),
        (slices.PLANES[2], FRONT, "A", "P"),
        (slices.PLANES[1], TOP, "S", "I"),
        (slices.PLANES[2], TOP, "S", "I"),
    ],
    ids=lambda value: value.name if isinstance(value, Plane) else value if isinstance(value, str) else "",
)
@pytest.mark.parametrize("spacing_mm", [(1.0, 1.0, 1.0), (0.7, 1.5, 4.0)])
def test_a_region_lies_on_the_side_that_its_letter_marks(plane, where, near, far, spacing_mm) -> None:
    figure = slices.slices_figure(panel(where, spacing_mm=spacing_mm), planes=[plane])
    spot = np.array(coloured_at(figure, slices.REGION_COLOURS[0]))
    to_near = np.linalg.norm(spot - letter_at(figure, near))
    to_far = np.linalg.norm(spot - letter_at(figure, far))
    assert to_near < 0.7 * to_far


def test_the_view_is_radiological_and_says_so() -> None:
    figure = slices.slices_figure(panel(LEFT), planes=slices.PLANES[:1])
    pixels(figure)
    assert letter_at(figure, "R")[0] < letter_at(figure, "L")[0]
    assert any("radiological" in text.get_text() for text in figure.texts)


@pytest.mark.parametrize("plane", slices.PLANES, ids=lambda plane: plane.name)
def test_brightness_and_mask_are_laid_out_alike(plane) -> None:
    mask = np.random.default_rng(0).random((5, 6, 7)) > 0.5
    assert np.array_equal(slices.cut(mask, plane, 2), slices.cut(mask.astype(np.float32), plane, 2) > 0)


def test_a_mm_is_as_long_across_as_up_and_in_every_plane() -> None:
    figure = slices.slices_figure(panel(LEFT, spacing_mm=(0.7, 1.5, 4.0)))
    scales = []
    for axes in figure.axes:
        box = axes.get_window_extent()
        scales += [box.width / np.ptp(axes.get_xlim()), box.height / np.ptp(axes.get_ylim())]
        left, right, bottom, top = axes.images[0].get_extent()
        assert (right - left, top - bottom) in {(28.0, 72.0), (28.0, 128.0), (72.0, 128.0)}
    assert np.allclose(scales, scales[0])


def test_the_scale_bar_is_as_long_as_it_says() -> None:
    for axes in slices.slices_figure(panel(LEFT, spacing_mm=(3.0, 3.0, 3.0))).axes:
        (bar,) = axes.lines
        (says,) = [text.get_text() for text in axes.texts if text.get_text().endswith(" mm")]
        assert says == f"{np.ptp(np.asarray(bar.get_xdata())):g} mm"


def test_the_best_slice_weighs_a_small_region_as_much_as_a_large_one() -> None:
    large, small = np.zeros((2, 20, 20, 20), dtype=bool)
    large[2:18, 2:18, 2:12] = True
    small[9:11, 9:11, 10:18] = True
    assert slices.best_slice([large, small], axis=2, size=20) in {10, 11}
    assert slices.best_slice([], axis=2, size=20) == 10


def test_a_mask_of_another_shape_is_refused() -> None:
    shown = panel(LEFT)
    other = PanelRegion(name="spot", mask=np.zeros((3, 3, 3), dtype=bool))
    with pytest.raises(ValueError, match="spot"):
        slices.slices_figure(
            ImagePanel(name="", modality="mr", image=shown.image, spacing_mm=(1.0, 1.0, 1.0), regions=[other])
        )


def test_an_empty_or_even_image_without_regions_is_drawn() -> None:
    for value in (0.0, -5.0):
        image = np.full((4, 4, 4), value, dtype=np.float32)
        for modality in ("ct", "mr"):
            shown = ImagePanel(name="", modality=modality, image=image, spacing_mm=(1.0, 1.0, 1.0), regions=[])
            assert pixels(slices.slices_figure(shown)).std() > 0


def test_figures_are_not_empty() -> None:
    rows = [
        RetrievalRow(
            stage=stage,
            task=task,
            num=9,
            recall_at_1=0.4,
            recall_at_1_interval=(0.3, 0.5),
            recall_at_5=0.6,
            recall_at_10=0.7,
            mrr=0.5,
        )
        for task in ("definition → name", "synonym → name")
        for stage in ("base", "stage 1")
    ]
    xy = np.random.default_rng(0).normal(size=(60, 2))
    drawn = [
        pictures.retrieval_figure(rows),
        pictures.curves_figure(
            Curve(stage="1", steps=[0, 1, 2], losses=[3.0, 2.0, 1.5], learning_rates=[0.0, 3e-5, 1e-5])
        ),
        pictures.curves_figure(
            Curve(stage="1", steps=[0], losses=[3.0], validation_steps=[0], validation_values=[2.0])
        ),
        pictures.map_figure(EmbeddingMap(title="", xy=xy, groups=["heart", "other", "lung"] * 20)),
        slices.slices_figure(panel(LEFT)),
    ]
    for figure in drawn:
        assert pixels(figure).std() > 0.02


def test_names_of_groups_at_one_place_do_not_cover_each_other() -> None:
    groups = [f"system number {number}" for number in range(9)]
    xy = np.random.default_rng(0).normal(size=(90, 2)) * 1e-3
    xy[0], xy[1] = (5, 5), (-5, -5)
    figure = pictures.map_figure(EmbeddingMap(title="", xy=xy, groups=groups * 10))
    pixels(figure)
    boxes = [text.get_bbox_patch().get_window_extent() for text in figure.axes[0].texts]
    assert len(boxes) == 9
    for one, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[:one])
        assert figure.bbox.x0 <= box.x0
        assert box.x1 <= figure.bbox.x1


def test_a_smoothed_curve_neither_lags_nor_leaves_a_straight_line() -> None:
    line = np.arange(500, dtype=float)
    assert np.allclose(pictures._smoothed(line)[30:-30], line[30:-30])
    assert np.allclose(pictures._smoothed(np.full(7, 2.0)), 2.0)
    assert pictures._smoothed(np.zeros(0)).size == 0


def test_groups_past_the_palette_are_grey_and_the_largest_come_first() -> None:
    colours = pictures.group_colours(["b"] * 3 + ["a"] * 9 + ["other"] * 50 + [f"g{number}" for number in range(9)])
    assert list(colours)[:2] == ["a", "b"]
    assert colours["other"] == colours["g8"] == pictures.OTHER_COLOUR
    assert colours["g0"] != pictures.OTHER_COLOUR


@pytest.mark.parametrize(("kind", "start"), [("svg", b"<?xml"), ("png", b"\x89PNG")])
def test_the_same_figure_gives_the_same_bytes(kind, start) -> None:
    first, second = (pictures.data_uri(slices.slices_figure(panel(LEFT)), kind=kind) for _ in range(2))
    assert first == second
    assert base64.b64decode(first.partition(",")[2]).startswith(start)

import itertools
from dataclasses import replace

import nibabel
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from vesalius.errors import SettingError
from vesalius.volumes.geometry import (
    grid_with_spacing,
    orientation_of,
    reorient,
    resample,
    resample_labels_to,
    spacing_mm,
    to_canonical,
)
from vesalius.volumes.image import Image, LabelMap

ORIENTATIONS = [
    "".join(codes) for order in itertools.permutations(("LR", "PA", "IS")) for codes in itertools.product(*order)
]


def oblique() -> np.ndarray:
    angle = np.deg2rad(20)
    affine = np.eye(4)
    affine[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    return affine @ np.diag([0.7, 0.9, 3.0, 1.0])


def make_image(shape=(5, 6, 7), affine=None) -> Image:
    data = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    return Image(data=data, affine=np.diag([1.0, 2.0, 3.0, 1.0]) if affine is None else affine)


def test_there_are_48_orientations():
    assert len(set(ORIENTATIONS)) == 48


@pytest.mark.parametrize("orientation", ORIENTATIONS)
@pytest.mark.parametrize("affine", [np.diag([1.0, 2.0, 3.0, 1.0]), oblique()], ids=["straight", "oblique"])
def test_reorient_and_back_is_the_identity(orientation, affine):
    image = make_image(affine=affine)
    there = reorient(image, orientation)
    assert orientation_of(there.affine) == orientation
    back = to_canonical(there)
    np.testing.assert_array_equal(back.data, image.data)
    np.testing.assert_allclose(back.affine, image.affine, atol=1e-12)


@pytest.mark.parametrize("orientation", ["LPS", "ASR", "IRP"])
def test_reorienting_moves_no_voxel_in_the_world(orientation):
    image = make_image(affine=oblique())
    there = reorient(image, orientation)
    at = there.affine @ [2, 1, 3, 1]
    i, j, k = np.rint(np.linalg.inv(image.affine) @ at)[:3].astype(int)
    assert there.data[2, 1, 3] == image.data[i, j, k]


@pytest.mark.parametrize("orientation", ["RAX", "RA", "RAR", "RLS", "ras", ""])
def test_what_is_no_orientation_is_refused(orientation):
    with pytest.raises(SettingError, match="none of the 48"):
        reorient(make_image(), orientation)


def test_spacing_is_the_length_of_the_columns():
    assert spacing_mm(oblique()) == pytest.approx((0.7, 0.9, 3.0))


def test_at_its_own_spacing_the_grid_is_the_same():
    image = make_image(affine=oblique())
    affine, shape = grid_with_spacing(image, spacing_mm(image.affine))
    np.testing.assert_allclose(affine, image.affine, atol=1e-12)
    assert shape == image.data.shape
    np.testing.assert_array_equal(resample(image, affine, shape, order=1).data, image.data)


@settings(deadline=None, max_examples=60)
@given(
    shape=st.tuples(*[st.integers(1, 40)] * 3),
    spacing=st.tuples(*[st.floats(0.3, 9, allow_nan=False)] * 3),
)
def test_another_spacing_keeps_centre_axes_and_size(shape, spacing):
    image = make_image(shape, oblique())
    affine, new = grid_with_spacing(image, spacing)
    assert spacing_mm(affine) == pytest.approx(spacing)
    centres = [a[:3, :3] @ ((np.array(s) - 1) / 2) + a[:3, 3] for a, s in ((affine, new), (image.affine, shape))]
    np.testing.assert_allclose(*centres, atol=1e-9)
    lost = np.abs(np.array(new) * spacing - np.array(shape) * spacing_mm(image.affine))
    assert (lost <= np.array(spacing) * (0.5 + 1e-5)).all() or 1 in new


@pytest.mark.parametrize("spacing", [(0.0, 1.0, 1.0), (1.0, -2.0, 1.0), (1.0, 1.0, float("nan"))])
def test_what_is_no_spacing_is_refused(spacing):
    with pytest.raises(SettingError, match="three positive numbers"):
        grid_with_spacing(make_image(), spacing)


def test_linear_interpolation_reproduces_a_ramp():
    i, j, k = np.indices((12, 10, 8))
    image = Image(data=(2 * i - j + 3 * k).astype(np.float32), affine=np.eye(4))
    affine = np.diag([0.5, 0.5, 0.5, 1.0])
    affine[:3, 3] = (2, 3, 1)
    moved = resample(image, affine, (6, 6, 6), order=1).data
    x, y, z = np.indices((6, 6, 6)) * 0.5 + np.array([2, 3, 1]).reshape(3, 1, 1, 1)
    np.testing.assert_allclose(moved, 2 * x - y + 3 * z, atol=1e-5)


def test_outside_a_label_map_is_background():
    label_map = LabelMap(data=np.ones((3, 3, 3), dtype=np.int16), affine=np.eye(4), labels={1: "all"})
    affine = np.eye(4)
    affine[:3, 3] = (-2, 0, 0)
    moved = resample(label_map, affine, (7, 3, 3), order=0).data
    assert moved[:, 1, 1].tolist() == [0, 0, 1, 1, 1, 0, 0]


def test_an_atlas_of_another_orientation_and_spacing_comes_to_the_images_grid():
    rng = np.random.default_rng(0)
    labels = LabelMap(
        data=rng.integers(0, 5, (6, 7, 8)).astype(np.int16), affine=np.diag([2.0, 2.0, 2.0, 1.0]), labels={}
    )
    image = make_image((12, 14, 16), np.eye(4))
    image = Image(data=image.data, affine=image.affine - np.array([[0] * 3 + [0.5]] * 3 + [[0] * 4]))
    expected = labels.data.repeat(2, 0).repeat(2, 1).repeat(2, 2)
    for orientation in ("RAS", "LIA", "PSR"):
        moved = resample_labels_to(reorient(labels, orientation), image)
        np.testing.assert_array_equal(moved.data, expected)


def test_the_choice_of_planes_equals_scipy_where_no_two_voxels_are_as_near():
    rng = np.random.default_rng(0)
    labels = LabelMap(data=rng.integers(0, 9, (9, 8, 7)).astype(np.int16), affine=np.eye(4), labels={})
    turned = np.array([[0, 0.83, 0, -1.3], [-0.71, 0, 0, 6.2], [0, 0, 1.37, -2.1], [0, 0, 0, 1.0]])
    tilted = turned + np.array([[1e-8, 0, 0, 0], [0] * 4, [0] * 4, [0] * 4])  # off the axes: SciPy's way
    np.testing.assert_array_equal(
        resample(labels, turned, (11, 11, 11), order=0).data, resample(labels, tilted, (11, 11, 11), order=0).data
    )


def test_linear_labels_nearest_images_and_smooth_labels_are_refused():
    labels = LabelMap(data=np.ones((2, 2, 2), dtype=np.int16), affine=np.eye(4), labels={})
    for grid, order, anti_alias in ((labels, 1, False), (make_image(), 0, False), (labels, 0, True)):
        with pytest.raises(SettingError, match="order 1 for images"):
            resample(grid, np.eye(4), (2, 2, 2), order=order, anti_alias=anti_alias)


def test_anti_aliasing_keeps_the_mean_of_what_falls_between_samples():
    data = np.zeros((64, 64, 64), dtype=np.float32)
    data[::4] = 4  # thin sheets, mean 1
    image = Image(data=data, affine=np.eye(4))
    affine, shape = grid_with_spacing(image, (4.0, 1.0, 1.0))
    shifted = affine.copy()
    shifted[0, 3] = 0
    plain = resample(image, shifted, shape, order=1).data
    smooth = resample(image, shifted, shape, order=1, anti_alias=True).data
    assert plain.mean() == 4
    assert abs(smooth[2:-2].mean() - 1) < 0.1


def test_to_canonical_agrees_with_nibabel():
    image = make_image(affine=oblique())
    there = reorient(image, "PIR")
    theirs = nibabel.as_closest_canonical(nibabel.Nifti1Image(there.data, there.affine))
    ours = to_canonical(there)
    np.testing.assert_array_equal(ours.data, np.asarray(theirs.dataobj))
    np.testing.assert_allclose(ours.affine, theirs.affine)


def test_anti_aliasing_costs_no_more_than_the_image_whatever_factor_a_header_claims():
    image = make_image(shape=(12, 12, 12), affine=np.eye(4))
    tiny = replace(image, affine=np.diag([1e-9, 1e-9, 1e-9, 1.0]))
    smooth = resample(tiny, np.eye(4), (2, 2, 2), order=1, anti_alias=True)
    assert np.isfinite(smooth.data).all()
    assert image.data.min() <= smooth.data.min() <= smooth.data.max() <= image.data.max()
    affine = np.diag([3.0, 2.0, 5.0, 1.0])
    sigmas = np.sqrt(np.array([8.0, 3.0, 24.0]) / (8 * np.log(2)))
    expected = resample(
        replace(image, data=ndimage.gaussian_filter(image.data, sigmas, mode="nearest")), affine, (2, 2, 2), order=1
    )
    found = resample(image, affine, (2, 2, 2), order=1, anti_alias=True)
    np.testing.assert_allclose(found.data, expected.data, rtol=1e-6)

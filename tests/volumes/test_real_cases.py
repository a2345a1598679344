"""Real cases, prepared and compared with what nibabel and an own nearest-neighbour resampling say of the source files."""

from pathlib import Path

import nibabel
import numpy as np
import pytest

from vesalius.ids import CaseId, ResolvedLabel, local_concept_id
from vesalius.volumes.case import SourceCase
from vesalius.volumes.image import read_image, read_label_map
from vesalius.volumes.layouts import LayoutOptions, layout_of
from vesalius.volumes.prepare import PrepareSettings, prepare, prepare_case
from vesalius.volumes.store import CaseStore

OWN = PrepareSettings(spacing_mm=None)
TOTAL, SPINE = "volumes/totalsegmentator/", "volumes/spine/"
CASES = {
    "abdomen": ("ct", TOTAL + "example_ct", TOTAL + "example_seg_fast_force_split"),
    "slab": ("ct", TOTAL + "example_ct_sm", TOTAL + "example_seg"),
    "mr": ("mr", TOTAL + "example_mr_sm", TOTAL + "example_seg_mr"),
    "spine-ct": ("ct", SPINE + "sub-ct_label-22_ct", SPINE + "sub-ct_seg-subreg_label-22_msk"),
    "spine-ct-vertebrae": ("ct", SPINE + "sub-ct_label-22_ct", SPINE + "sub-ct_seg-vert_label-22_msk"),
    "spine-mr": ("mr", SPINE + "sub-mri_label-6_T2w", SPINE + "sub-mri_seg-subreg_label-6_msk"),
    **{f"hippocampus-{n}": ("mr", f"volumes/hippocampus/images/hippocampus_{n}", f"volumes/hippocampus/labels/hippocampus_{n}")
       for n in ("001", "004", "006")},
}  # fmt: skip


def resolve(text):
    return ResolvedLabel(concept_id=local_concept_id(text), laterality=None, name=text, tied_by="name")


@pytest.fixture(params=CASES)
def case(request, shared_data):
    """Source case, and its label map as nibabel reads it; every value bears its number as name."""
    modality, image, labels = CASES[request.param]
    files = tuple(Path(f"{shared_data / stem}.nii.gz") for stem in (image, labels))
    if not files[0].is_file():
        pytest.skip(f"no {files[0].name}")
    held = nibabel.load(files[1])
    values = np.asarray(held.dataobj)
    names = {int(value): f"value {value:g}" for value in np.unique(values) if value}
    source = SourceCase(
        case_id=CaseId(request.param), dataset="real", modality=modality, split=None, patient_id=None,
        load=lambda: (read_image(files[0]), [read_label_map(files[1], names)]), origins=(), files=files,
    )  # fmt: skip
    return source, values, held.affine


def value_of(region):
    return int(region.label.split()[1])


def test_at_the_sources_own_spacing_volumes_and_centroids_are_those_of_the_file(case):
    source, values, affine = case
    prepared = prepare_case(source, resolve, OWN)
    voxel_mm3 = abs(np.linalg.det(affine[:3, :3]))
    half_a_voxel = np.linalg.norm(affine[:3, :3], axis=0).min() / 2
    assert {value_of(region) for region in prepared.regions} == set(np.unique(values).astype(int).tolist()) - {0}
    for region, mask in zip(prepared.regions, prepared.masks, strict=True):
        inside = values == value_of(region)
        assert region.num_voxels == mask.sum() == inside.sum()
        assert region.volume_mm3 == pytest.approx(inside.sum() * voxel_mm3, rel=1e-6)
        centroid = (affine @ [*np.argwhere(inside).mean(axis=0), 1])[:3]
        assert np.linalg.norm(np.array(region.centroid_mm) - centroid) < min(half_a_voxel, 1e-3)


def nearest(values, affine, to_affine, shape, *, axes):
    """Takes for every voxel of another grid the nearest one of the file, in the file's own order of axes.

    Of two as near, the one further along the patient's axes: towards right, front and head.
    """
    back = np.linalg.inv(affine) @ to_affine
    index = np.stack(np.meshgrid(*(np.arange(size) for size in shape), indexing="ij"), axis=-1)
    at = np.round(index @ back[:3, :3].T + back[:3, 3], 6)
    towards = np.array([1 if affine[np.abs(affine[:3, axis]).argmax(), axis] > 0 else -1 for axis in axes])
    place = np.where(towards > 0, np.floor(at + 0.5), np.ceil(at - 0.5)).astype(int)
    inside = ((place >= 0) & (place < values.shape)).all(axis=-1)
    place = np.clip(place, 0, np.array(values.shape) - 1)
    return np.where(inside, values[tuple(np.moveaxis(place, -1, 0))], 0)


def test_resampled_regions_equal_an_independent_nearest_neighbour(case):
    source, values, affine = case
    prepared = prepare_case(source, resolve, PrepareSettings())
    shape = prepared.prepared.levels.shape
    expected = nearest(values, affine, prepared.prepared.affine, shape, axes=range(3))
    for region, mask in zip(prepared.regions, prepared.masks, strict=True):
        whole = np.zeros(shape, dtype=bool)
        whole[tuple(slice(a, b) for a, b in zip(*region.box, strict=True))] = mask
        np.testing.assert_array_equal(whole, expected == value_of(region))


def test_over_all_real_cases_the_median_volume_deviates_by_at_most_1_percent(shared_data, record_property):
    deviations, far = [], []
    for name, (modality, image, labels) in CASES.items():
        files = tuple(Path(f"{shared_data / stem}.nii.gz") for stem in (image, labels))
        held = nibabel.load(files[1])
        values = np.asarray(held.dataobj)
        names = {int(value): f"value {value:g}" for value in np.unique(values) if value}
        source = SourceCase(
            case_id=CaseId(name), dataset="real", modality=modality, split=None, patient_id=None,
            load=lambda files=files, names=names: (read_image(files[0]), [read_label_map(files[1], names)]),
            origins=(), files=files,
        )  # fmt: skip
        for region in prepare_case(source, resolve, PrepareSettings()).regions:
            true_mm3 = (values == value_of(region)).sum() * abs(np.linalg.det(held.affine[:3, :3]))
            deviations.append(abs(region.volume_mm3 / true_mm3 - 1))
            if deviations[-1] > 0.05:
                far.append(f"{name} {region.label}: {100 * deviations[-1]:.1f} % of {true_mm3:.0f} mm³")
    record_property("regions that deviate by more than 5 %", far)
    assert np.median(deviations) <= 0.01
    assert len(far) <= 0.05 * len(deviations), far


def test_the_embedded_atlases_prepare(tmp_path):
    pytest.importorskip("nilearn")
    sources = [source for source in layout_of("atlas")(LayoutOptions()) if source.case_id == "chest-ct"]
    outcome = prepare(sources, resolver=resolve, settings=PrepareSettings(), out=tmp_path / "store")
    assert not outcome.rejects
    assert len(CaseStore.open(tmp_path / "store").regions(CaseId("chest-ct"))) == 7

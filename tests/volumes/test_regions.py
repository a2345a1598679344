import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from vesalius.ids import CaseId, ResolvedLabel, local_concept_id
from vesalius.volumes.image import LabelMap
from vesalius.volumes.regions import find_regions, region_mask, values_in


def resolve(*texts):
    return {
        text: ResolvedLabel(concept_id=local_concept_id(text), laterality=None, name=text, tied_by="none")
        for text in texts
    }


@settings(deadline=None, max_examples=50)
@given(seed=st.integers(0, 2**32 - 1), high=st.sampled_from([3, 12175]))
def test_regions_agree_with_counting_each_label_alone(seed, high):
    rng = np.random.default_rng(seed)
    values = {0, *rng.integers(1, high, 4).tolist()}
    data = rng.choice(sorted(values), size=(5, 6, 4)).astype(np.int32)
    affine = np.array([[0, 1.5, 0, 3], [-2, 0, 0, 4], [0, 0.3, 2.5, 5], [0, 0, 0, 1.0]])
    label_map = LabelMap(data=data, affine=affine, labels={value: f"label {value}" for value in values})
    regions = find_regions(label_map, case_id=CaseId("a"), resolved=resolve(*label_map.labels.values()))
    present = set(np.unique(data).tolist()) - {0}
    assert {region.label for region in regions} == {f"label {value}" for value in present}
    for region in regions:
        mask = data == int(region.label.split()[1])
        where = np.argwhere(mask)
        assert region.start == tuple(where.min(axis=0))
        assert region.stop == tuple(where.max(axis=0) + 1)
        assert region.num_voxels == mask.sum()
        np.testing.assert_allclose(region.volume_mm3, mask.sum() * 1.5 * 2 * 2.5)
        np.testing.assert_allclose(region.centroid_mm, (affine @ [*where.mean(axis=0), 1])[:3])
        assert region.touches_border == any(
            where[:, axis].min() == 0 or where[:, axis].max() == size - 1 for axis, size in enumerate(data.shape)
        )
        window = tuple(slice(a, b) for a, b in zip(region.start, region.stop, strict=True))
        np.testing.assert_array_equal(region_mask(label_map, region), mask[window])


def test_values_of_one_text_are_one_region_and_other_values_none():
    data = np.zeros((4, 4, 4), dtype=np.int16)
    data[1, 1, 1], data[2, 2, 2], data[3, 3, 3] = 3, 9, 5
    label_map = LabelMap(data=data, affine=np.eye(4), labels={3: "rib", 9: "rib", 4: "absent"})
    (rib,) = find_regions(label_map, case_id=CaseId("a"), resolved=resolve("rib", "absent"))
    assert (rib.start, rib.stop, rib.num_voxels) == ((1, 1, 1), (3, 3, 3), 2)
    assert int(region_mask(label_map, rib).sum()) == 2


def test_no_label_gives_no_region():
    label_map = LabelMap(data=np.ones((2, 2, 2), dtype=np.int16), affine=np.eye(4), labels={})
    assert find_regions(label_map, case_id=CaseId("a"), resolved={}) == []


def test_the_key_is_the_concept_and_its_side():
    label_map = LabelMap(data=np.ones((2, 2, 2), dtype=np.int16), affine=np.eye(4), labels={1: "x"})
    tied = ResolvedLabel(concept_id="UBERON:1", laterality="left", name="left x", tied_by="name")
    (region,) = find_regions(label_map, case_id=CaseId("a"), resolved={"x": tied})
    assert region.key == tied.key == "UBERON:1/left"


def test_negative_and_very_large_values_are_found():
    data = np.array([[[0, -4, 2**40]]], dtype=np.int64)
    assert values_in(data) == [-4, 2**40]
    label_map = LabelMap(data=data, affine=np.eye(4), labels={-4: "a", 2**40: "b"})
    regions = find_regions(label_map, case_id=CaseId("a"), resolved=resolve("a", "b"))
    assert [region.num_voxels for region in regions] == [1, 1]

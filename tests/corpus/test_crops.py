import pickle
from collections import Counter

import numpy as np
import pytest
import torch

from vesalius.corpus.augment import augmented
from vesalius.corpus.crops import MIN_VISIBLE, CropSampler, CropSettings
from vesalius.errors import InputError, SettingError
from vesalius.ids import CaseId, ConceptId, ResolvedLabel
from vesalius.volumes.case import SourceCase
from vesalius.volumes.image import Image, LabelMap
from vesalius.volumes.prepare import PrepareSettings, prepare
from vesalius.volumes.store import CaseStore

SIZE = (12, 12, 8)
NAMES = {1: "tube", 2: "dot", 3: "rare", 4: "die"}
AFFINE = np.diag([1.0, 1.0, 3.0, 1.0])


def resolve(text):
    return ResolvedLabel(concept_id=ConceptId(f"T:{text}"), laterality=None, name=text, tied_by="name")


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Five cases of two datasets: a tube in each, a dot in most, a rare dot in one, dice that lie far off."""
    folder = tmp_path_factory.mktemp("crops")
    rng = np.random.default_rng(0)
    sources = []
    for number in range(5):
        values = np.zeros((30, 26, 20), dtype=np.int16)
        values[4:26, 12:15, 8:11] = 1
        if number < 4:
            values[5:8, 5:8, 8:11] = 2
        if number == 0:
            values[12:14, 10:12, 9] = 3
        values[27:29, 23:25, 1:3] = 4

        image = Image(data=rng.normal(40, 50, values.shape).astype(np.float32), affine=AFFINE)
        (folder / f"{number}").write_text(str(number))
        sources.append(
            SourceCase(
                case_id=CaseId(f"case{number}"), dataset="small" if number == 4 else "large", modality="ct",
                split="test" if number == 3 else "train", patient_id=None, origins=(),
                load=lambda image=image, values=values: (image, [LabelMap(data=values, affine=AFFINE, labels=NAMES)]),
                files=(folder / f"{number}",),
            )
        )  # fmt: skip
    prepare(sources, resolver=resolve, settings=PrepareSettings(crop_to_foreground=False), out=folder / "store")
    return CaseStore.open(folder / "store")


def name_of(region):
    return [region.name, f"the {region.name}"]


def sampler(store, seed=0, **more):
    settings = CropSettings(**{"size": SIZE, "max_regions": 3, **more})
    return CropSampler(store, splits=["train"], prompts=name_of, settings=settings, seed=seed)


def equal(one, other):
    return (
        torch.equal(one.image, other.image)
        and torch.equal(one.masks, other.masks)
        and (one.keys, one.prompts, one.name, one.modality) == (other.keys, other.prompts, other.name, other.modality)
    )


def place_of(crop):
    case_id, box = crop.name.split(" ", 1)
    start = eval(box.split("–")[0])
    return CaseId(case_id), start


@pytest.mark.parametrize("kind", ["published", "covering"])
def test_every_crop_is_cut_from_its_case_and_holds_what_was_drawn(store, kind):
    drawn = sampler(store, sampler=kind)
    for number in range(60):
        crop = drawn.draw_at(number)
        case_id, start = place_of(crop)
        stop = tuple(a + b for a, b in zip(start, SIZE, strict=True))
        assert store.case(case_id).split == "train"
        assert crop.masks.flatten(1).any(dim=1).all()
        assert len(set(crop.keys)) == len(crop.keys) <= 3
        regions = {region.key: region for region in store.regions(case_id)}
        image, masks = store.read_crop(case_id, (start, stop), [regions[key] for key in crop.keys])
        np.testing.assert_array_equal(crop.image.numpy(), image)
        np.testing.assert_array_equal(crop.masks.numpy(), masks)
        assert all(prompt in name_of(regions[key]) for prompt, key in zip(crop.prompts, crop.keys, strict=True))


def test_structures_are_drawn_by_the_root_of_their_count_and_cases_by_the_root_of_their_dataset(store):
    drawn = sampler(store, max_regions=1)
    crops = [drawn.draw_at(number) for number in range(1500)]
    counts = {"T:tube": 4, "T:dot": 3, "T:rare": 1, "T:die": 4}
    found = Counter(crop.keys[0] for crop in crops)
    total = sum(count**0.5 for count in counts.values())
    for key, count in counts.items():
        assert found[key] / len(crops) == pytest.approx(count**0.5 / total, abs=0.04)
    cases = Counter(place_of(crop)[0] for crop in crops if crop.keys[0] == "T:tube")
    share = 1 / (1 + 3 * 3**-0.5)
    assert cases["case4"] / sum(cases.values()) == pytest.approx(share, abs=0.07)


def test_the_published_crop_lies_around_a_random_voxel(store):
    drawn = sampler(store, max_regions=1)
    starts = [
        place_of(crop)[1][0] for crop in (drawn.draw_at(number) for number in range(300)) if crop.keys == ["T:tube"]
    ]
    assert set(starts) > {0, 5, 12, 18}


def test_the_covering_crop_holds_the_whole_structure_where_it_fits(store):
    drawn = sampler(store, sampler="covering")
    whole = {(r.case_id, r.key): r for row in store.cases for r in store.regions(row.case_id)}
    for number in range(80):
        crop = drawn.draw_at(number)
        case_id, start = place_of(crop)
        region = whole[case_id, crop.keys[0]]
        for axis in range(3):
            if region.stop[axis] - region.start[axis] <= SIZE[axis]:
                assert start[axis] <= region.start[axis]
                assert region.stop[axis] <= start[axis] + SIZE[axis]
        for key, mask in zip(crop.keys[1:], crop.masks[1:], strict=True):
            assert mask.sum() >= MIN_VISIBLE * whole[case_id, key].num_voxels


def test_draws_are_seeded_and_any_process_gives_the_same_in_any_order(store):
    one, other = sampler(store, seed=3), sampler(store, seed=3)
    first = [one.draw_at(number) for number in range(7)]
    again = pickle.loads(pickle.dumps(other))
    assert all(equal(again.draw_at(number), first[number]) for number in reversed(range(7)))
    assert [one.case_at(number) for number in range(7)] == [place_of(crop)[0] for crop in first]
    assert not all(
        equal(a, b) for a, b in zip(first, [sampler(store, seed=4).draw_at(n) for n in range(7)], strict=True)
    )


def test_a_crop_larger_than_the_case_is_padded_with_the_lowest_intensity(store):
    drawn = sampler(store, size=(40, 12, 8))
    crop = drawn.draw_at(0)
    assert crop.image.shape == (40, 12, 8)
    lowest = np.float32(store._held[place_of(crop)[0]].offset)
    assert (crop.image == lowest).all(dim=2).all(dim=1).sum() >= 10


def test_no_region_and_senseless_settings_are_refused(store):
    with pytest.raises(InputError, match="validation"):
        CropSampler(store, splits=["validation"], prompts=name_of, settings=CropSettings(size=SIZE))
    for wrong in ({"size": (0, 1, 1)}, {"size": SIZE, "max_regions": 0}):
        with pytest.raises(SettingError):
            CropSettings(**wrong)


def test_augmentation_is_seeded_per_draw_and_keeps_sides_and_the_drawn_structure(store):
    plain, changed, again = sampler(store), sampler(store, augment=True), sampler(store, augment=True)
    for number in range(8):
        one, two, three = (drawn.draw_at(number) for drawn in (plain, changed, again))
        assert equal(two, three)
        assert one.keys[0] == two.keys[0]
        assert two.masks.flatten(1).any(dim=1).all()
        assert not torch.equal(one.image, two.image)


def test_augmentation_moves_image_and_masks_together_and_mirrors_nothing():
    image = np.zeros((32, 32, 32), dtype=np.float32)
    masks = np.zeros((2, 32, 32, 32), dtype=bool)
    masks[0, 4:9, 12:20, 12:20] = True
    masks[1, 22:27, 12:20, 12:20] = True
    image[masks[0]], image[masks[1]] = 5, 9
    for seed in range(6):
        moved, found = augmented(image, masks, seed=seed)
        left, right = (np.argwhere(mask).mean(axis=0) for mask in found)
        assert left[0] < right[0]
        assert moved[found[0]].mean() < moved[found[1]].mean()
        assert moved[found[1]].mean() > moved[~found.any(axis=0)].mean() + 3


def test_a_structure_that_would_leave_the_crop_is_left_where_it_is():
    masks = np.zeros((1, 24, 24, 24), dtype=bool)
    masks[0, 0, 0, 0] = True
    image = np.random.default_rng(0).normal(size=(24, 24, 24)).astype(np.float32)
    for seed in range(4):
        _, found = augmented(image, masks, seed=seed)
        assert found.any()

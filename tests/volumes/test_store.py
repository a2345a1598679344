import multiprocessing
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vesalius.errors import FolderError, InputError, SettingError
from vesalius.ids import CaseId
from vesalius.volumes import store as stores
from vesalius.volumes.prepare import PrepareSettings, prepare
from vesalius.volumes.store import CaseStore

SHAPE = (20, 24, 18)
BOX = st.tuples(*[st.tuples(st.integers(-8, 20), st.integers(1, 30)) for _ in range(3)])


@pytest.fixture(scope="module")
def held(tmp_path_factory):
    """A store of one case of overlapping blobs, and what it should hold."""
    from vesalius.ids import ResolvedLabel
    from vesalius.volumes.case import SourceCase
    from vesalius.volumes.image import Image, LabelMap

    rng = np.random.default_rng(0)
    data = rng.integers(-400, 900, SHAPE).astype(np.float32)
    masks = {}
    for number in range(4):
        mask = np.zeros(SHAPE, dtype=bool)
        start = rng.integers(0, 8, 3)
        window = tuple(slice(a, a + b) for a, b in zip(start, rng.integers(3, 11, 3), strict=True))
        mask[window] = rng.random(mask[window].shape) < 0.4
        masks[f"blob {number}"] = mask
    affine = np.diag([1.0, 1.0, 3.0, 1.0])
    maps = [LabelMap(data=mask.astype(np.int16), affine=affine, labels={1: name}) for name, mask in masks.items()]
    folder = tmp_path_factory.mktemp("store")
    (folder / "x").touch()
    case = SourceCase(
        case_id=CaseId("one"), dataset="made", modality="ct", split="train", patient_id=None,
        load=lambda: (Image(data=data, affine=affine), maps), origins=(), files=(folder / "x",),
    )  # fmt: skip
    resolve = lambda text: ResolvedLabel(concept_id=f"T:{text[-1]}", laterality=None, name=text, tied_by="name")  # noqa: E731
    outcome = prepare([case], resolver=resolve, settings=PrepareSettings(crop_to_foreground=False), out=folder / "s")
    assert not outcome.rejects
    return CaseStore.open(folder / "s"), masks


def test_every_mask_and_the_image_come_back(held):
    store, masks = held
    for region in store.regions(CaseId("one")):
        np.testing.assert_array_equal(store.read_mask(region), masks[region.name])
    image = store.read_image(CaseId("one"))
    assert abs(image.mean()) < 1e-4
    assert abs(image.std() - 1) < 1e-4


@settings(deadline=None, max_examples=40)
@given(box=BOX)
def test_a_crop_is_cut_from_the_whole_and_padded_with_the_lowest_intensity(held, box):
    store, masks = held
    start, size = zip(*box, strict=True)
    stop = tuple(a + b for a, b in zip(start, size, strict=True))
    regions = store.regions(CaseId("one"))
    image, found = store.read_crop(CaseId("one"), (start, stop), regions)
    whole = np.pad(store.read_image(CaseId("one")), 40, constant_values=np.float32(store._held["one"].offset))
    there = tuple(slice(40 + a, 40 + b) for a, b in zip(start, stop, strict=True))
    np.testing.assert_array_equal(image, whole[there])
    for region, mask in zip(regions, found, strict=True):
        np.testing.assert_array_equal(mask, np.pad(masks[region.name], 40)[there])


def test_the_nth_voxel_is_that_of_the_mask(held):
    store, masks = held
    for region in store.regions(CaseId("one")):
        voxels = np.argwhere(masks[region.name])
        for n in (0, 1, len(voxels) // 2, len(voxels) - 1):
            assert store.nth_voxel(region, n) == tuple(voxels[n])
        with pytest.raises(ValueError, match="of a region of"):
            store.nth_voxel(region, len(voxels))


def test_what_is_not_there_is_refused(held):
    store, _ = held
    with pytest.raises(InputError, match="no case 'two'"):
        store.read_image(CaseId("two"))
    with pytest.raises(ValueError, match="cut it to the image"):
        store.read_image(CaseId("one"), ((0, 0, 0), (21, 1, 1)))
    with pytest.raises(ValueError, match="empty"):
        store.read_crop(CaseId("one"), ((0, 0, 0), (0, 1, 1)), [])
    from dataclasses import replace

    region = store.regions(CaseId("one"))[0]
    with pytest.raises(InputError, match="like this"):
        store.read_mask(replace(region, num_voxels=1))


def test_an_open_store_is_pickled_without_its_arrays(held):
    store, _ = held
    store.read_image(CaseId("one"))
    again = pickle.loads(pickle.dumps(store))
    assert again._arrays == {}
    np.testing.assert_array_equal(again.read_image(CaseId("one")), store.read_image(CaseId("one")))


def read_in_fork(store, told):
    try:
        store.read_image(CaseId("one"))
        told.put("read")
    except SettingError as error:
        told.put(str(error))


def test_a_fork_that_could_not_read_says_so_instead_of_hanging(held):
    store, _ = held
    store.read_image(CaseId("one"))
    context = multiprocessing.get_context("fork")
    told = context.Queue()
    child = context.Process(target=read_in_fork, args=(pickle.loads(pickle.dumps(store)), told))
    child.start()
    assert "forkserver" in told.get(timeout=30)
    child.join()


@pytest.mark.parametrize("harm", ["missing", "short", "no metadata"])
def test_damaged_arrays_are_refused_and_not_read_as_zeros(held, tmp_path, harm):
    import shutil

    store, _ = held
    shutil.copytree(store.place.path, tmp_path / "s")
    case = tmp_path / "s/cases/one.zarr"
    shard = case / "image/c/0/0/0"
    if harm == "missing":
        shard.unlink()
    elif harm == "short":
        shard.write_bytes(shard.read_bytes()[:-100])
    else:
        (case / "image/zarr.json").unlink()
    broken = CaseStore.open(tmp_path / "s")
    with pytest.raises(FolderError, match="damaged case"):
        broken.read_image(CaseId("one"))
    (case / "masks/c/0").unlink()
    region = broken.regions(CaseId("one"))[0]
    with pytest.raises(FolderError, match="damaged case"):
        broken.read_mask(region)


def test_only_so_many_arrays_are_kept_open(held, monkeypatch):
    monkeypatch.setattr(stores, "_NUM_OPEN", 1)
    store = CaseStore.open(held[0].place)
    store.read_image(CaseId("one"))
    store.read_mask(store.regions(CaseId("one"))[0])
    assert len(store._arrays) == 1

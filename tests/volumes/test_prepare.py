import errno
import itertools
import json
from dataclasses import replace

import numpy as np
import pytest

from vesalius.errors import FolderError, InputError, SettingError
from vesalius.folder import unwritable
from vesalius.ids import SPLITS, ResolvedLabel, ResolvedWhole
from vesalius.volumes.case_folder import read_record
from vesalius.volumes.geometry import grid_with_spacing, reorient, resample
from vesalius.volumes.image import Image
from vesalius.volumes.intensities import NUM_STEPS
from vesalius.volumes.patients import assign_splits, hash_patient
from vesalius.volumes.place import Place
from vesalius.volumes.prepare import PrepareSettings, Shard, prepare, prepare_case, prepare_image
from vesalius.volumes.store import CaseStore
from vesalius.volumes.store_tables import read_rejects, read_unresolved

PUBLISHED = PrepareSettings()
OWN = PrepareSettings(spacing_mm=None, crop_to_foreground=False)
ORIENTATIONS = [
    "".join(codes) for order in itertools.permutations(("LR", "PA", "IS")) for codes in itertools.product(*order)
]


@pytest.fixture
def made(resolver, tmp_path):
    """Prepares sources into a store and opens it."""

    def make(sources, name="store", settings=PUBLISHED, **more):
        outcome = prepare(sources, resolver=resolver, settings=settings, out=tmp_path / name, **more)
        return outcome, CaseStore.open(tmp_path / name)

    return make


def oblique(affine):
    angle = np.deg2rad(9)
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    return turn @ affine


@pytest.mark.parametrize("is_oblique", [False, True])
def test_a_case_stored_in_any_of_48_orientations_prepares_to_the_same_arrays(source, body, resolver, is_oblique):
    image, label_map = body
    if is_oblique:
        affine = oblique(image.affine)
        image, label_map = replace(image, affine=affine), replace(label_map, affine=affine)
    settings = PrepareSettings(spacing_mm=(1.0, 1.3, 3.0))
    expected = prepare_case(source(load=lambda: (image, [label_map])), resolver, settings)
    for orientation in ORIENTATIONS:
        turned = reorient(image, orientation), [reorient(label_map, orientation)]
        found = prepare_case(source(load=lambda turned=turned: turned), resolver, settings)
        np.testing.assert_array_equal(found.prepared.levels, expected.prepared.levels)
        np.testing.assert_allclose(found.prepared.affine, expected.prepared.affine, atol=1e-9)
        assert [r.box for r in found.regions] == [r.box for r in expected.regions]
        for mask, other in zip(found.masks, expected.masks, strict=True):
            np.testing.assert_array_equal(mask, other)


def test_kept_at_the_sources_spacing_nothing_moves(source, body, resolver):
    image, label_map = body
    case = prepare_case(source(), resolver, OWN)
    np.testing.assert_array_equal(case.prepared.affine, image.affine)
    for region, mask in zip(case.regions, case.masks, strict=True):
        (value,) = (value for value, text in label_map.labels.items() if text == region.label)
        inside = label_map.data == value
        assert region.volume_mm3 == inside.sum() * 4.5
        assert mask.sum() == inside.sum()
        centroid = image.affine @ [*np.argwhere(inside).mean(axis=0), 1]
        np.testing.assert_allclose(region.centroid_mm, centroid[:3])


def test_intensities_are_clipped_and_of_zero_mean_and_unit_variance(source, body, resolver):
    image, _ = body
    case = prepare_case(source(), resolver, OWN)
    clipped = np.clip(image.data.astype(float), -500, 1000)
    np.testing.assert_allclose(case.prepared.image, (clipped - clipped.mean()) / clipped.std(), atol=1e-4)
    assert case.prepared.clip == (-500, 1000)
    step = 1500 / NUM_STEPS
    assert np.abs(case.prepared.levels * step - 500 - clipped).max() <= step / 2 * 1.01


def test_whole_hounsfield_units_are_kept_exactly(source, body, resolver):
    image, label_map = body
    whole = replace(image, data=np.rint(image.data))
    prepared = prepare_case(source(load=lambda: (whole, [label_map])), resolver, OWN).prepared
    np.testing.assert_array_equal(prepared.levels / 32 - 500, np.clip(whole.data, -500, 1000))


def test_mr_is_clipped_to_percentiles_of_its_foreground(source, body, resolver):
    image, _ = body
    foreground = image.data[image.data > image.data.min()]
    prepared = prepare_case(source(modality="mr"), resolver, OWN).prepared
    np.testing.assert_allclose(prepared.clip, np.percentile(foreground, (0.5, 99.5)), rtol=1e-6)


def test_what_its_source_clipped_is_not_clipped_again(source, body, resolver):
    image, label_map = body
    normal = replace(image, data=(image.data - image.data.mean()) / image.data.std(), clipped=True)
    prepared = prepare_case(source(load=lambda: (normal, [label_map])), resolver, OWN).prepared
    np.testing.assert_allclose(prepared.image, normal.data, atol=1e-4)


def test_prediction_sees_what_training_saw(source, body, resolver):
    settings = replace(PrepareSettings(), crop_to_foreground=False)
    image = prepare_image(body[0], "ct", settings)
    np.testing.assert_array_equal(image.image, prepare_case(source(), resolver, settings).prepared.image)


def test_overlapping_labels_come_from_maps_over_one_array(source, body, resolver):
    image, label_map = body
    kidneys = replace(label_map, labels={1: "kidneys", 2: "kidneys"}, ignored=frozenset({7}))
    case = prepare_case(source(load=lambda: (image, iter([label_map, kidneys]))), resolver, OWN)
    assert {region.label for region in case.regions} == {"left kidney", "right kidney", "spine", "kidneys"}
    assert case.unresolved == ()
    both = next(region for region in case.regions if region.label == "kidneys")
    assert both.num_voxels == sum(region.num_voxels for region in case.regions if "t kidney" in region.label)


def test_a_label_map_on_a_smaller_grid_is_placed_by_its_affine(source, body, resolver):
    image, label_map = body
    affine = np.array(label_map.affine)
    affine[:3, 3] = (label_map.affine @ [3, 5, 3, 1])[:3]
    part = replace(label_map, data=label_map.data[3:17, 5:13, 3:10], affine=affine)
    whole = prepare_case(source(), resolver, PrepareSettings())
    cut = prepare_case(source(load=lambda: (image, [part])), resolver, PrepareSettings())
    for one in ("left kidney", "right kidney"):
        first, second = (
            next((r.box, m.tobytes()) for r, m in zip(c.regions, c.masks, strict=True) if r.label == one)
            for c in (whole, cut)
        )
        assert first == second


def test_two_labellings_keep_the_first_and_labels_of_one_share_nothing(source, body, tmp_path):
    image, label_map = body
    same = lambda text: ResolvedLabel(concept_id="T:1", laterality=None, name=text, tied_by="synonym")  # noqa: E731
    one = replace(label_map, labels={1: "a", 2: "b", 7: "c"}, labelling="first")
    other = replace(label_map, labels={1: "d", 2: "e", 7: "f"}, labelling="second")
    case = prepare_case(source(load=lambda: (image, [one, other])), same, OWN)
    assert {label.label: label.reason for label in case.unresolved if label.label in "abc"} == dict.fromkeys(
        "abc", "shared concept"
    )
    two = replace(label_map, labels={1: "a"}, ignored=frozenset({2, 7}), labelling="first")
    three = replace(label_map, labels={2: "b"}, ignored=frozenset({1, 7}), labelling="second")
    case = prepare_case(source(load=lambda: (image, [two, three])), same, OWN)
    assert [region.label for region in case.regions] == ["a"]
    assert [(label.label, label.reason) for label in case.unresolved] == [("b", "drawn twice")]


def kidneys_as(name, concept="TEST:kidney", times=1):
    """A rule that makes one structure of the two kidneys."""

    def wholes(told):
        by_name = {tied.name: tied for tied in told}
        whole = ResolvedLabel(concept_id=concept, laterality=None, name=name, tied_by="parts")
        return [ResolvedWhole(whole=whole, parts=(by_name["left kidney"], by_name["right kidney"]))] * times

    return wholes


def test_left_and_right_make_a_whole_unless_the_dataset_draws_it(source, body, resolver):
    image, label_map = body
    wholes = kidneys_as("kidney")
    case = prepare_case(source(), resolver, OWN, wholes=wholes)
    left, right, _, kidney = case.regions
    assert (kidney.name, kidney.tied_by) == ("kidney", "parts")
    assert kidney.num_voxels == left.num_voxels + right.num_voxels == case.masks[3].sum()
    assert kidney.volume_mm3 == left.volume_mm3 + right.volume_mm3
    np.testing.assert_allclose(kidney.centroid_mm, (np.array(left.centroid_mm) + right.centroid_mm) / 2)
    drawn = replace(label_map, labels={7: "kidney"}, ignored=frozenset({1, 2}))
    again = prepare_case(source(load=lambda: (image, [label_map, drawn])), resolver, OWN, wholes=wholes)
    assert [region.tied_by for region in again.regions] == ["name"] * 4
    twice = prepare_case(source(), resolver, OWN, wholes=kidneys_as("kidney", times=2))
    assert [region.key for region in twice.regions].count("TEST:kidney") == 1


def test_a_case_is_prepared_again_where_the_graph_makes_other_wholes_of_it(source, made):
    sources = [source("one"), source("two")]
    told = {
        "none": lambda _told: [], "kidney": kidneys_as("kidney"), "kidneys": kidneys_as("kidneys"),
        "renal": kidneys_as("kidneys", "TEST:renal"),
    }  # fmt: skip
    hashes = set()
    for name, wholes in told.items():
        outcome, store = made(sources, wholes=wholes)
        assert outcome.num_kept == 0
        assert len(store.regions("one")) == (3 if name == "none" else 4)
        hashes.add(store.sha256)
        assert made(sources, wholes=wholes)[0].num_kept == 2
    assert len(hashes) == 4
    assert made(sources, wholes=None)[0].num_kept == 0
    assert made(sources, wholes=told["none"])[0].num_kept == 2  # nothing was made, and nothing would be


def test_regions_touch_the_border_of_the_image_not_of_the_crop(source, resolver):
    case = prepare_case(source(), resolver, PrepareSettings())
    assert {region.label: region.touches_border for region in case.regions} == {
        "left kidney": False, "right kidney": False, "spine": True,
    }  # fmt: skip


def failing(what, where="scan.nii.gz"):
    def load():
        raise InputError(what, where=where, remedy="mend it")

    return load


def test_what_is_wrong_with_a_case_is_told_and_the_others_go_on(source, body, made, tmp_path):
    image, label_map = body

    def defect():
        raise KeyError("x")

    def full():
        raise OSError(errno.ENOSPC, "No space left on device", "store/x")

    bad = Image(data=np.where(image.data > 60, np.nan, image.data), affine=image.affine)
    empty = replace(label_map, data=np.zeros_like(label_map.data))
    flat = replace(image, data=np.full_like(image.data, 7))
    sources = [
        source("good"),
        source("nan", load=lambda: (bad, [label_map])),
        source("empty", load=lambda: (image, [empty])),
        source("flat", load=lambda: (flat, [label_map])),
        source("broken", load=failing("cut short")),
        source("twice"),
        source("twice"),
        source("defect", load=defect),
        source("full", load=full),
        source("fine"),
    ]
    outcome, store = made(sources)
    assert [row.case_id for row in store.cases] == ["good", "fine"]
    reasons = {reject.case_id: reject.reason for reject in read_rejects(store.place)}
    assert set(reasons) == {"nan", "empty", "flat", "broken", "twice", "defect", "full"}
    assert "NaN or infinite" in reasons["nan"]
    assert "no region" in reasons["empty"]
    assert "one intensity" in reasons["flat"]
    assert reasons["broken"] == "cut short – mend it"
    assert "2 cases of the id twice" in reasons["twice"]
    assert "KeyError" in reasons["defect"]
    assert "No space left" in reasons["full"]
    files = {reject.case_id: reject.file for reject in outcome.rejects}
    assert files["broken"] == "scan.nii.gz"
    assert files["nan"].endswith("nan.bin")


def test_a_case_whose_files_name_the_patient_never_shows_them(source, made):
    def load():
        raise ValueError("JohnDoe.dcm is odd")

    sources = [source("good"), source("one", load=failing("cut", "JohnDoe.dcm"), shown_as="series 1"),
               source("two", load=load, shown_as="series 2")]  # fmt: skip
    outcome, store = made(sources)
    assert [reject.file for reject in outcome.rejects] == ["series 1", "series 2"]
    assert not any("JohnDoe" in reject.reason for reject in outcome.rejects)
    assert "one.bin" not in json.dumps([str(r) for r in outcome.rejects] + [json.dumps(store.manifest)])


def test_labels_without_name_or_voxel_are_listed(source, body, made):
    image, label_map = body
    odd = replace(label_map, labels={1: "left kidney", 2: "?"})
    empty = replace(label_map, data=np.zeros_like(label_map.data), labels={3: "spleen"})
    outcome, store = made([source(load=lambda: (image, [odd, empty]))])
    found = {(label.value, label.label, label.reason) for label in read_unresolved(store.place)}
    assert found == {(2, "?", "no name"), (7, None, "no name"), (3, "spleen", "no voxel")}
    assert outcome.summary() == [
        "one: label '?': no name", "one: value 7: no name", "one: label 'spleen': no voxel",
    ]  # fmt: skip


def test_a_second_call_does_only_what_is_missing(source, body, made, tmp_path):
    loads = []
    image, label_map = body

    def load():
        loads.append(1)
        return image, [label_map]

    sources = [source("one", load=load), source("two", load=load)]
    made(sources)
    outcome, store = made(sources)
    assert (outcome.num_kept, len(loads)) == (2, 2)
    hashed = store.sha256
    (tmp_path / "one.bin").touch()  # another time, the same bytes
    outcome, store = made(sources)
    assert (outcome.num_kept, store.sha256) == (2, hashed)
    (tmp_path / "one.bin").write_text("other bytes")
    outcome, store = made(sources)
    assert (outcome.num_kept, len(loads)) == (1, 3)
    assert store.sha256 != hashed
    (tmp_path / "store/cases/two.zarr/zarr.json").write_text("{")
    outcome, _ = made(sources)
    assert (outcome.num_kept, len(loads)) == (1, 4)
    outcome, _ = made(sources, settings=PrepareSettings(spacing_mm=(2.0, 2.0, 2.0)))
    assert (outcome.num_kept, len(loads)) == (0, 6)


def test_killed_at_any_point_the_next_call_does_what_is_missing(source, made, tmp_path, resolver, monkeypatch):
    sources = [source(name) for name in ("one", "two", "three")]
    for stop_at in range(3):
        seen = []

        def killed(case_id, done, total, stop_at=stop_at, seen=seen):
            seen.append(case_id)
            if done == stop_at + 1:
                raise KeyboardInterrupt

        out = tmp_path / f"stopped{stop_at}"
        with pytest.raises(KeyboardInterrupt):
            prepare(sources, resolver=resolver, settings=OWN, out=out, progress=killed)
        (out / "cases" / ".two.zarr.killed_0").mkdir(parents=True)
        with pytest.raises(FolderError):
            CaseStore.open(out)
        outcome = prepare(sources, resolver=resolver, settings=OWN, out=out)
        assert outcome.num_kept == stop_at + 1
        assert sorted(path.name for path in (out / "cases").iterdir()) == ["one.zarr", "three.zarr", "two.zarr"]


def test_shards_write_one_store_and_a_last_call_its_tables(source, made, tmp_path, resolver):
    sources = [source(f"case{number}") for number in range(5)]
    for index in (1, 0):
        outcome = prepare(
            sources, resolver=resolver, settings=OWN, out=tmp_path / "shards", shard=Shard(index=index, num=2)
        )
        assert len(outcome.cases) == Shard(index=index, num=2).count(5)
    with pytest.raises(FolderError):
        CaseStore.open(tmp_path / "shards")
    outcome, store = made(sources, name="shards", settings=OWN)
    assert (outcome.num_kept, len(store.cases)) == (5, 5)


@pytest.mark.parametrize("text", ["2/2", "-1/2", "1", "a/b", "0/0", "1/2/3"])
def test_what_is_no_shard_is_refused(text):
    with pytest.raises(SettingError, match="from 0 to n - 1"):
        Shard.parse(text)


def test_a_folder_of_other_things_or_other_cases_is_refused(source, made, tmp_path, resolver):
    made([source("one"), source("two")])
    with pytest.raises(FolderError, match="not among those"):
        made([source("one")])
    with pytest.raises(FolderError, match="something else"):
        prepare([source("one")], resolver=resolver, settings=OWN, out=tmp_path)
    with pytest.raises(InputError, match="no case"):
        prepare([], resolver=resolver, settings=OWN, out=tmp_path / "none")
    with pytest.raises(InputError, match="no address"):
        prepare([source("one")], resolver=resolver, settings=OWN, out="http://x/y")


@pytest.mark.parametrize("step", [800.0, 1e12])
def test_a_false_spacing_asks_for_no_memory(source, body, resolver, step):
    image, label_map = body
    affine = np.diag([step, step, step, 1.0])
    false = replace(image, affine=affine), [replace(label_map, affine=affine)]
    with pytest.raises(InputError, match=r"spacing of .* mm makes .* voxels .* --own-spacing"):
        prepare_case(source(load=lambda: false), resolver, PUBLISHED)
    prepare_case(source(load=lambda: false), resolver, OWN)


def test_hidden_files_that_are_not_ours_stay(source, resolver, tmp_path):
    head, other = tmp_path / "out/cases/.git/HEAD", tmp_path / "out/thesis.docx"
    head.parent.mkdir(parents=True)
    head.write_text("ref")
    other.write_text("text")
    with pytest.raises(FolderError, match="something else"):
        prepare([source("one")], resolver=resolver, settings=OWN, out=tmp_path / "out")
    other.unlink()
    unfinished = tmp_path / "out/cases/.one.zarr.old.abcd_012"
    unfinished.mkdir()
    stranger = tmp_path / "out/cases/mine.txt"
    stranger.write_text("text")
    with pytest.raises(FolderError, match="not among those"):
        prepare([source("one")], resolver=resolver, settings=OWN, out=tmp_path / "out")
    assert unfinished.is_dir()
    stranger.unlink()
    prepare([source("one")], resolver=resolver, settings=OWN, out=tmp_path / "out")
    assert head.read_text() == "ref"
    assert not unfinished.exists()


def test_a_patient_is_on_one_side_and_it_is_the_most_held_out_official_one(source, made):
    def of(name, split, patient=None, group=None):
        return replace(source(name), split=split, patient_id=patient, group=group)

    sources = [of("a", "train", "p"), of("b", "test", "p"), of("c", None, "p"), of("d", None, group="g"),
               of("e", "validation", group="g"), *(of(f"n{number}", None, f"q{number % 40}") for number in range(80))]  # fmt: skip
    splits = assign_splits(sources)
    assert [splits[name] for name in "abcde"] == ["test", "test", "test", "validation", "validation"]
    assert all(splits[f"n{number}"] == splits[f"n{number + 40}"] for number in range(40))
    assert {splits[f"n{number}"] for number in range(40)} == set(SPLITS)
    assert assign_splits(sources[::-1]) == splits
    _, store = made(sources[:2])
    assert [(row.split, row.official_split) for row in store.cases] == [("test", "train"), ("test", "test")]


def test_patients_are_hashed_with_salt_and_dataset():
    one = hash_patient("7", dataset="a", salt="s")
    assert len(one) == 32
    assert len({one, hash_patient("7", dataset="b", salt="s"), hash_patient("7", dataset="a", salt="t")}) == 3
    with pytest.raises(SettingError, match="--salt"):
        hash_patient("7", dataset="a", salt="")


def test_mr_sequences_and_all_columns_reach_the_tables(source, made):
    _, store = made([replace(source("one", modality="mr"), sequence="T1w", patient_id="ab")])
    (row,) = store.cases
    assert (row.modality, row.sequence, row.patient_id, row.dataset) == ("mr", "T1w", "ab", "made")
    record = read_record(Place.of(store.place), "cases/one.zarr")
    assert record.row == row
    held = json.loads((store.place.path / "cases/one.zarr/zarr.json").read_text())["attributes"]
    assert held["ome"]["multiscales"][0]["datasets"][0]["path"] == "image"
    np.testing.assert_allclose(held["affine"], store.affine("one"))


def test_resampled_masks_equal_another_way_to_take_the_nearest_voxel(source, body, resolver):
    image, label_map = body
    settings = PrepareSettings(crop_to_foreground=False)
    case = prepare_case(source(), resolver, settings)
    affine, shape = grid_with_spacing(image, settings.spacing_mm)
    back = np.linalg.inv(label_map.affine) @ affine
    axes = [
        np.floor(back[axis, axis] * np.arange(size) + back[axis, 3] + 0.5 + 1e-9).astype(int)
        for axis, size in enumerate(shape)
    ]
    nearest = label_map.data[
        np.ix_(*(np.clip(at, 0, size - 1) for at, size in zip(axes, label_map.data.shape, strict=True)))
    ]
    for region, mask in zip(case.regions, case.masks, strict=True):
        (value,) = (value for value, text in label_map.labels.items() if text == region.label)
        whole = np.zeros(shape, dtype=bool)
        whole[tuple(slice(a, b) for a, b in zip(*region.box, strict=True))] = mask
        np.testing.assert_array_equal(whole, nearest == value)
    linear = resample(image, affine, shape, order=1)
    clipped = np.clip(linear.data, -500, 1000)
    np.testing.assert_allclose(case.prepared.image, (clipped - clipped.mean()) / clipped.std(), atol=1e-4)


def test_a_store_of_rejects_only_is_still_a_store(source, made):
    for _ in range(2):
        outcome, store = made([source("broken", load=failing("cut short"))])
        assert (store.cases, len(outcome.rejects)) == ([], 1)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (unwritable("/tmp/made/rows.json", "No space left on device"), r"^/tmp/made/rows\.json: cannot be written \(No space .*\)"),
        (OSError(errno.ENOSPC, "No space left on device"), r"/store: the tables cannot be written \(No space left on device\)"),
    ],
)  # fmt: skip
def test_tables_that_cannot_be_written_name_the_place_that_is_full(source, made, monkeypatch, error, said):
    def refuse(*_, **__):
        raise error

    with monkeypatch.context() as patched:
        patched.setattr("vesalius.volumes.prepare.write_tables", refuse)
        with pytest.raises(FolderError, match=said + " – make room .* prepared stays$"):
            made([source("one")])
    assert made([source("one")])[0].num_kept == 1

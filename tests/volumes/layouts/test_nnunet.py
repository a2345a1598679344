import json
import pickle

import blosc2
import nibabel
import numpy as np
import pytest
import SimpleITK

from vesalius.errors import InputError, SettingError
from vesalius.volumes.inert_pickle import plain, read_inert
from vesalius.volumes.layouts import LayoutOptions
from vesalius.volumes.layouts.nnunet import nnunet_cases
from vesalius.volumes.layouts.nnunet_preprocessed import _plan


def describe(folder, labels, channels=None, **more):
    held = {"channel_names": channels or {"0": "CT"}, "labels": labels, "file_ending": ".nii.gz", **more}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "dataset.json").write_text(json.dumps(held))


def test_each_channel_is_a_case_of_one_group_with_its_sequence(tmp_path, body, write_grid):
    describe(tmp_path, {"background": 0, "tumour": 1}, {"0": "T1w", "1": "FLAIR"})
    for channel in ("0000", "0001"):
        write_grid(tmp_path / f"imagesTr/p1_{channel}.nii.gz", body[0])
    write_grid(tmp_path / "labelsTr/p1.nii.gz", body[1])
    first, second = nnunet_cases(LayoutOptions(folder=tmp_path, dataset="D"))
    assert (first.case_id, second.case_id) == ("d-p1-0000", "d-p1-0001")
    assert (first.modality, first.sequence, second.sequence) == ("mr", "T1w", "FLAIR")
    assert first.group == second.group == "D p1"
    assert first.files[0].name == "p1_0000.nii.gz"


def test_regions_are_labels_of_several_values_that_overlap(tmp_path, body, write_grid, prepared):
    describe(tmp_path, {"background": 0, "whole": [1, 2, 3], "core": [2, "3"], "enhancing": 3, "ignore": 4})
    image, label_map = body
    drawn = label_map.data.copy()
    drawn[5, 7, 3] = 4
    write_grid(tmp_path / "imagesTr/p_0000.nii.gz", image)
    write_grid(tmp_path / "labelsTr/p.nii.gz", type(label_map)(data=drawn, affine=label_map.affine, labels={}))
    (source,) = nnunet_cases(LayoutOptions(folder=tmp_path))
    _, masks = prepared(source, crop_to_foreground=False)
    assert set(masks) == {"whole", "core", "enhancing"}
    np.testing.assert_array_equal(masks["whole"], np.isin(drawn, (1, 2, 3)))
    np.testing.assert_array_equal(masks["core"], np.isin(drawn, (2, 3)))
    np.testing.assert_array_equal(masks["enhancing"], drawn == 3)


def test_a_decathlon_dataset_keeps_its_channels_along_a_fourth_axis(tmp_path, body, write_grid):
    (tmp_path / "dataset.json").write_text(
        json.dumps({"modality": {"0": "T2", "1": "ADC"}, "labels": {"0": "background", "1": "PZ", "2": "TZ"}})
    )
    image, label_map = body
    (tmp_path / "imagesTr").mkdir()
    stack = np.stack([image.data, image.data + 1], axis=-1)
    nibabel.save(nibabel.Nifti1Image(stack, image.affine), tmp_path / "imagesTr/prostate_00.nii.gz")
    write_grid(tmp_path / "labelsTr/prostate_00.nii.gz", label_map)
    first, second = nnunet_cases(LayoutOptions(folder=tmp_path))
    np.testing.assert_array_equal(second.load()[0].data, first.load()[0].data + 1)
    assert (first.sequence, second.sequence) == ("T2", "ADC")


def test_the_held_out_part_is_the_test_side_where_it_has_label_maps(tmp_path, body, write_grid):
    describe(tmp_path, {"background": 0, "a": 1})
    for part in ("Tr", "Ts"):
        write_grid(tmp_path / f"images{part}/x{part}_0000.nii.gz", body[0])
        write_grid(tmp_path / f"labels{part}/x{part}.nii.gz", body[1])
    write_grid(tmp_path / "imagesTs/unlabelled_0000.nii.gz", body[0])
    assert [source.split for source in nnunet_cases(LayoutOptions(folder=tmp_path))] == ["train", "test"]


def test_cases_may_lie_where_the_description_says(tmp_path, body, write_grid, monkeypatch):
    monkeypatch.setenv("ELSEWHERE", str(tmp_path / "elsewhere"))
    for name in ("t1", "t2"):
        write_grid(tmp_path / f"elsewhere/{name}.nii.gz", body[0])
    write_grid(tmp_path / "masks/drawn.nii.gz", body[1])
    listed = {"p1": {"images": ["$ELSEWHERE/t1.nii.gz", "../elsewhere/t2.nii.gz"], "label": "../masks/drawn.nii.gz"}}
    describe(tmp_path / "d", {"background": 0, "a": 1}, {"0": "T1", "1": "T2"}, dataset=listed)
    first, second = nnunet_cases(LayoutOptions(folder=tmp_path / "d"))
    assert (first.case_id, first.split, first.files[0].name) == ("d-p1-0000", "train", "t1.nii.gz")
    np.testing.assert_array_equal(second.load()[0].data, body[0].data)
    for wrong in ("p", {"images": "x", "label": "y"}, {"images": ["x"]}):
        describe(tmp_path / "d", {"a": 1}, dataset={"p1": wrong})
        with pytest.raises(InputError, match="does not list images and label of case 'p1'"):
            nnunet_cases(LayoutOptions(folder=tmp_path / "d"))


def test_a_missing_channel_and_a_missing_image_fail_when_they_are_loaded(tmp_path, body, write_grid):
    describe(tmp_path, {"background": 0, "a": 1}, {"0": "T1", "1": "T2"})
    write_grid(tmp_path / "imagesTr/p_0000.nii.gz", body[0])
    for stem in ("p", "q"):
        write_grid(tmp_path / f"labelsTr/{stem}.nii.gz", body[1])
    write_grid(tmp_path / "imagesTr/bare_0000.nii.gz", body[0])
    sources = nnunet_cases(LayoutOptions(folder=tmp_path))
    assert len(sources) == 5
    sources[0].load()
    with pytest.raises(InputError, match=r"bare_0000\.nii\.gz: no label map for this image"):
        sources[4].load()
    for source in sources[1:4]:
        with pytest.raises(InputError, match="no image named"):
            source.load()


def test_descriptions_of_no_use_are_refused(tmp_path, body, write_grid):
    write_grid(tmp_path / "labelsTr/p.nii.gz", body[1])
    options = LayoutOptions(folder=tmp_path)
    for held, match in (
        ("nonsense", "not JSON"),
        ("[]", "not a JSON object"),
        ('{"labels": {"a": 1}}', "no channel_names"),
        ('{"channel_names": {"0": "CT"}}', "no labels"),
        ('{"channel_names": {"0": "CT"}, "labels": {"background": 0}}', "no label but background"),
        ('{"channel_names": {"0": "CT"}, "labels": {"a": "one"}}', "no whole number"),
    ):
        (tmp_path / "dataset.json").write_text(held)
        with pytest.raises(InputError, match=match):
            nnunet_cases(options)
    describe(tmp_path, {"background": 0, "a": 1}, {"0": "zscore"})
    with pytest.raises(SettingError, match="channel 'zscore': the modality is not known"):
        nnunet_cases(options)
    (source,) = nnunet_cases(LayoutOptions(folder=tmp_path, modality="mr"))
    assert source.modality == "mr"


def preprocess(folder, raw_image, raw_labels, transpose, properties=True, factor=1):
    """Writes what nnU-Net would, for one channel of ct; `factor` thins the first axis by nearest neighbours."""
    image, drawn = (
        SimpleITK.ReadImage(str(raw_image)),
        SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(raw_labels))),
    )
    data = SimpleITK.GetArrayFromImage(image).astype(np.float32).transpose(transpose)
    drawn = drawn.transpose(transpose)
    inside = np.argwhere(data != 0)
    low, high = inside.min(axis=0), inside.max(axis=0) + 1
    box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    cropped, drawn = data[box], np.where((drawn[box] == 0) & (data[box] == 0), -1, drawn[box])
    shape = cropped.shape
    cropped, drawn = cropped[factor // 2 :: factor], drawn[factor // 2 :: factor]
    arrays = folder / "nnUNetPlans_3d_fullres"
    arrays.mkdir(parents=True)
    blosc2.asarray(((cropped - 50) / 20)[None].copy(), urlpath=str(arrays / "p.b2nd"))
    blosc2.asarray(drawn[None].astype(np.int8), urlpath=str(arrays / "p_seg.b2nd"))
    held = {
        "sitk_stuff": {
            "spacing": image.GetSpacing(), "origin": image.GetOrigin(), "direction": image.GetDirection(),
        },
        "spacing": list(image.GetSpacing())[::-1],
        "shape_before_cropping": data.shape,
        "bbox_used_for_cropping": [[int(a), np.int64(b)] for a, b in zip(low, high, strict=True)],
        "shape_after_cropping_and_before_resampling": shape,
        "class_locations": {1: np.zeros((3, 4), dtype=np.int64), (1, 2): []},
    }  # fmt: skip
    if properties:
        (arrays / "p.pkl").write_bytes(pickle.dumps(held))
    spacing = [image.GetSpacing()[2 - axis] for axis in transpose]
    spacing[0] *= factor
    plans = {
        "transpose_forward": list(transpose),
        "foreground_intensity_properties_per_channel": {"0": {"mean": 50.0, "std": 20.0}},
        "configurations": {"3d_fullres": {"spacing": spacing, "normalization_schemes": ["CTNormalization"]}},
    }
    (folder / "nnUNetPlans.json").write_text(json.dumps(plans))


@pytest.mark.parametrize("transpose", [(0, 1, 2), (2, 0, 1), (1, 2, 0)])
@pytest.mark.parametrize("orientation", ["RAS", "LPI", "PIR"])
def test_preprocessed_cases_lie_where_their_source_lay(tmp_path, body, write_grid, prepared, transpose, orientation):
    labels = {"background": 0, "left kidney": 1, "right kidney": 2, "spine": 3}
    image = write_grid(tmp_path / "raw/imagesTr/p_0000.nii.gz", body[0], orientation)
    drawn = write_grid(tmp_path / "raw/labelsTr/p.nii.gz", body[1], orientation)
    describe(tmp_path / "raw", labels)
    describe(tmp_path / "done", labels)
    preprocess(tmp_path / "done", image, drawn, transpose)
    (raw,) = nnunet_cases(LayoutOptions(folder=tmp_path / "raw"))
    (source,) = nnunet_cases(LayoutOptions(folder=tmp_path / "done"))
    expected, expected_masks = prepared(raw)
    found, masks = prepared(source)
    np.testing.assert_allclose(found, expected, atol=2e-3)
    for name, mask in expected_masks.items():
        np.testing.assert_array_equal(masks[name], mask)
    image, label_maps = source.load()
    corner = np.argwhere(label_maps[0].data == 2).mean(axis=0)
    centre = np.argwhere(body[1].data == 2).mean(axis=0)
    world = image.affine[:3, :3] @ corner + image.affine[:3, 3]
    np.testing.assert_allclose(world, body[1].affine[:3, :3] @ centre + body[1].affine[:3, 3], atol=1e-4)


def test_resampled_cases_keep_their_field_of_view(tmp_path, body, write_grid):
    image = write_grid(tmp_path / "p_0000.nii.gz", body[0])
    drawn = write_grid(tmp_path / "p.nii.gz", body[1])
    describe(tmp_path / "done", {"background": 0, "a": 1})
    preprocess(tmp_path / "done", image, drawn, (0, 1, 2), factor=2)
    (source,) = nnunet_cases(LayoutOptions(folder=tmp_path / "done/nnUNetPlans_3d_fullres", dataset="d"))
    found, _ = source.load()
    # The body begins at k = 1 and is 8 slices of 3 mm: 4 of 6 mm, the first centred between slices 1 and 2.
    assert found.data.shape[2] == 4
    np.testing.assert_allclose(np.linalg.norm(found.affine[:3, 2]), 6, atol=1e-5)
    np.testing.assert_allclose(found.affine[2, 3], 30 + 1.5 * 3, atol=1e-5)


def test_plans_are_found_by_the_arrays_they_name(tmp_path, body, write_grid):
    image = write_grid(tmp_path / "p_0000.nii.gz", body[0])
    drawn = write_grid(tmp_path / "p.nii.gz", body[1])
    describe(tmp_path / "done", {"background": 0, "a": 1})
    preprocess(tmp_path / "done", image, drawn, (2, 0, 1))
    plans = json.loads((tmp_path / "done/nnUNetPlans.json").read_text())
    plans["configurations"]["3d_fullres"]["data_identifier"] = "nnUNetPlans_3d_fullres"
    (source,) = nnunet_cases(LayoutOptions(folder=tmp_path / "done"))
    expected = source.load()[0]
    (tmp_path / "done/nnUNetPlans.json").unlink()
    with pytest.raises(InputError, match=r"nnUNetPlans\.json"):
        nnunet_cases(LayoutOptions(folder=tmp_path / "done/nnUNetPlans_3d_fullres"))
    (tmp_path / "done/nnUNetResEncUNetLPlans.json").write_text(json.dumps(plans))
    (source,) = nnunet_cases(LayoutOptions(folder=tmp_path / "done"))
    found = source.load()[0]
    np.testing.assert_array_equal(found.data, expected.data)
    np.testing.assert_array_equal(found.affine, expected.affine)


@pytest.mark.parametrize("arrays", ["nnUNetPlans_3d_fullres", "nnUNetData_plans_v2.1_stage0"])
def test_arrays_of_an_older_nnunet_are_told_as_such(tmp_path, arrays):
    (tmp_path / arrays).mkdir()
    for ending in (".npz", ".pkl"):
        (tmp_path / arrays / f"p{ending}").touch()
    is_first = arrays.startswith("nnUNetData")
    (tmp_path / ("nnUNetPlansv2.1_plans_3D.pkl" if is_first else "nnUNetPlans.json")).touch()
    for folder in (tmp_path, tmp_path / arrays):
        with pytest.raises(InputError, match="older nnU-Net"):
            nnunet_cases(LayoutOptions(folder=folder))


@pytest.mark.parametrize("parents", [("a",), ("b", "a")])
def test_configurations_that_inherit_from_each_other_are_refused(tmp_path, parents):
    held = {name: {"inherits_from": parent} for name, parent in zip("ab", parents, strict=False)}
    (tmp_path / "plans.json").write_text(json.dumps({"configurations": held}))
    with pytest.raises(InputError, match="'a' inherits from itself"):
        _plan(tmp_path / "plans.json", "a")


def test_lists_that_hold_one_another_many_times_are_refused():
    value = 1.0
    key = b"K\x01"
    for _ in range(40):
        value, key = [value, value], key + b"2\x86"  # the pickle of a tuple that holds the one before twice
    with pytest.raises(ValueError, match="items"):
        plain(read_inert(pickle.dumps(value)))
    assert len(read_inert(b"}" + key + b"Ns.")) == 1
    ring = []
    ring.append(ring)
    with pytest.raises(ValueError, match="too deep"):
        plain(read_inert(pickle.dumps(ring)))


def test_a_case_without_properties_needs_an_orientation(tmp_path, body, write_grid):
    image = write_grid(tmp_path / "p_0000.nii.gz", body[0])
    drawn = write_grid(tmp_path / "p.nii.gz", body[1])
    describe(tmp_path / "done", {"background": 0, "a": 1})
    preprocess(tmp_path / "done", image, drawn, (0, 1, 2), properties=False)
    with pytest.raises(SettingError, match="nothing says where left is"):
        nnunet_cases(LayoutOptions(folder=tmp_path / "done"))
    (source,) = nnunet_cases(LayoutOptions(folder=tmp_path / "done", stored_orientation="RAS"))
    assert nibabel.aff2axcodes(source.load()[0].affine) == ("R", "A", "S")
    (tmp_path / "done/nnUNetPlans_3d_fullres/p.pkl").write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    (source,) = nnunet_cases(LayoutOptions(folder=tmp_path / "done", stored_orientation="RAS"))
    with pytest.raises(InputError, match=r"p\.pkl: not the properties of a case"):
        source.load()

import json
from dataclasses import replace

import nibabel
import numpy as np
import pytest

from vesalius.errors import InputError
from vesalius.volumes.layouts import LayoutOptions
from vesalius.volumes.layouts.options import salt_file
from vesalius.volumes.layouts.sat_ds import sat_ds_cases
from vesalius.volumes.layouts.sat_ds_labels import _NUM_DRAWN, _UNIONS, drawn_labels
from vesalius.volumes.patients import assign_splits
from vesalius.volumes.prepare import PrepareSettings, prepare


@pytest.fixture
def lines(tmp_path, body, write_grid):
    """Writes a file of lines beside one image and label map."""
    write_grid(tmp_path / "nii/a.nii.gz", body[0])
    write_grid(tmp_path / "nii/mask.nii.gz", body[1])

    def write(**more):
        line = {
            "image": "nii/a.nii.gz", "mask": "nii/mask.nii.gz", "label": ["a", "b", "c"], "modality": "MRI T1",
            "dataset": "X", "official_split": "unknown", "patient_id": "p1", **more,
        }  # fmt: skip
        (tmp_path / "x.jsonl").write_text(json.dumps({k: v for k, v in line.items() if v is not None}))
        return LayoutOptions(folder=tmp_path / "x.jsonl")

    return write


def test_the_published_lines_can_be_listed(shared_data):
    sources = list(sat_ds_cases(LayoutOptions(folder=shared_data / "sat/sat_ds_sample.jsonl", salt="s")))
    assert len(sources) == 6
    assert {source.modality for source in sources} == {"ct", "mr", "pet"}
    assert len({source.case_id for source in sources}) == 6
    assert all("2003" not in (source.patient_id or "") for source in sources)


def test_unions_have_no_value_of_their_own(lines, body, prepared):
    labels = ["left kidney", "right kidney", "spine", "kidney"]
    (source,) = sat_ds_cases(lines(label=labels))
    assert (source.modality, source.sequence, source.split) == ("mr", "T1", None)
    _, masks = prepared(source, crop_to_foreground=False)
    np.testing.assert_array_equal(masks["kidney"], np.isin(body[1].data, (1, 2)))
    np.testing.assert_array_equal(masks["spine"], body[1].data == 3)


def test_values_that_are_not_in_the_order_of_the_labels_are_known_or_refused(lines, body, prepared, tmp_path):
    labels = ["left heart ventricle", "right heart ventricle", "myocardium", "heart ventricle"]
    (source,) = sat_ds_cases(lines(label=labels, dataset="ACDC"))
    _, masks = prepared(source, crop_to_foreground=False)
    for name, values in zip(labels, ((3,), (1,), (2,), (1, 3)), strict=True):
        np.testing.assert_array_equal(masks[name], np.isin(body[1].data, values))
    (source,) = sat_ds_cases(lines(dataset="DAP_Atlas"))
    with pytest.raises(InputError, match="not in the order of their values"):
        source.load()
    (tmp_path / "table.json").write_text('{"1": "liver", "3": "spleen"}')
    (source,) = sat_ds_cases(replace(lines(dataset="DAP_Atlas"), labels=tmp_path / "table.json"))
    assert dict(source.load()[1][0].labels) == {1: "liver", 3: "spleen"}


def test_values_beyond_the_labels_are_refused(lines):
    (source,) = sat_ds_cases(lines(label=["liver", "spleen"]))
    with pytest.raises(InputError, match=r"mask\.nii\.gz: values up to 3 for 2 labels"):
        source.load()


def test_one_structure_may_be_drawn_with_any_value(lines, body, tmp_path, write_grid):
    mask = type(body[1])(data=np.int16(255) * (body[1].data == 1), affine=body[1].affine, labels={})
    write_grid(tmp_path / "nii/mask.nii.gz", mask)
    (source,) = sat_ds_cases(lines(label=["liver"]))
    assert dict(source.load()[1][0].labels) == {255: "liver"}


def test_a_stack_of_masks_goes_by_its_first_axis(lines, body, tmp_path, prepared):
    stack = np.stack([body[1].data == 1, body[1].data > 0, body[1].data == 3]).astype(np.uint8)
    nibabel.save(nibabel.Nifti1Image(stack, body[0].affine), tmp_path / "nii/mask.nii.gz")
    (source,) = sat_ds_cases(lines(label=["left kidney", "all", "spine"]))
    _, masks = prepared(source, crop_to_foreground=False)
    np.testing.assert_array_equal(masks["all"], body[1].data > 0)
    np.testing.assert_array_equal(masks["spine"], body[1].data == 3)


def convert(folder, body, labels):
    """Writes what the published conversion does."""
    np.save(folder / "0.npy", ((body[0].data - 80) / 40)[None])
    (folder / "masks").mkdir()
    boxes = []
    for value, text in enumerate(labels, start=1):
        inside = np.argwhere(body[1].data == value)
        if not len(inside):
            boxes.append(False)
            continue
        low, high = inside.min(axis=0), inside.max(axis=0) + 1
        boxes.append([*low.tolist(), *high.tolist()])
        window = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
        np.save(folder / f"masks/{text}.npy", (body[1].data == value)[window])
    return boxes


def test_converted_cases_prepare_to_the_same_arrays(lines, body, prepared, tmp_path):
    labels = ["left kidney", "right kidney", "spine", "absent"]
    boxes = convert(tmp_path, body, labels)
    (original,) = sat_ds_cases(lines(label=labels, modality="CT"))
    expected, expected_masks = prepared(original)
    more = {"renorm_image": "0.npy", "renorm_segmentation_dir": "masks", "renorm_y1x1z1_y2x2z2": boxes}
    (source,) = sat_ds_cases(lines(label=labels, modality="CT", chwd=[1, 20, 24, 10], **more))
    found, masks = prepared(source)
    np.testing.assert_allclose(found, expected, atol=2e-3)
    assert set(masks) == set(expected_masks)
    for name, mask in expected_masks.items():
        np.testing.assert_array_equal(masks[name], mask)


def test_a_label_may_hold_the_name_of_its_folder(lines, body, tmp_path):
    boxes = convert(tmp_path, body, ["lumbar vertebrae 1 (l1)"])
    (tmp_path / "masks").rename(tmp_path / "1")
    more = {"renorm_image": "0.npy", "renorm_segmentation_dir": "1", "renorm_y1x1z1_y2x2z2": boxes}
    (source,) = sat_ds_cases(lines(label=["lumbar vertebrae 1 (l1)"], modality="CT", **more))
    assert [dict(one.labels) for one in source.load()[1]] == [{1: "lumbar vertebrae 1 (l1)"}]


@pytest.mark.parametrize("is_drawn", [True, False])
def test_a_label_that_stands_twice_is_what_its_last_place_says(lines, body, tmp_path, is_drawn):
    (box,) = convert(tmp_path, body, ["cervical vertebrae"])
    boxes = [[0, 0, 0, 1, 1, 1], box if is_drawn else False]
    more = {"renorm_image": "0.npy", "renorm_segmentation_dir": "masks", "renorm_y1x1z1_y2x2z2": boxes}
    (source,) = sat_ds_cases(lines(label=["cervical vertebrae"] * 2, modality="CT", **more))
    assert [int(one.data.sum()) for one in source.load()[1]] == [int((body[1].data == 1).sum())] * is_drawn


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"renorm_y1x1z1_y2x2z2": [[0, 0, 0, 99, 1, 1]]}, "is not inside"),
        ({"renorm_y1x1z1_y2x2z2": [[0, 0, 0, 1, 1, 1]]}, "but its box is"),
        ({"renorm_y1x1z1_y2x2z2": []}, "does not hold a box"),
        ({"label": ["../0"], "renorm_y1x1z1_y2x2z2": [[0, 0, 0, 1, 1, 1]]}, "names no file of its folder"),
        ({"label": ["nothing"], "renorm_y1x1z1_y2x2z2": [[0, 0, 0, 1, 1, 1]]}, "No such file"),
    ],
)
def test_converted_cases_that_contradict_themselves_are_refused(lines, body, tmp_path, change, match):
    boxes = convert(tmp_path, body, ["left kidney"])
    line = {"label": ["left kidney"], "renorm_y1x1z1_y2x2z2": boxes, **change}
    (source,) = sat_ds_cases(lines(renorm_image="0.npy", renorm_segmentation_dir="masks", **line))
    with pytest.raises(InputError, match=match):
        list(source.load()[1])


def test_lines_of_no_use_are_refused_with_their_number(lines, tmp_path):
    for more, match in (({"dataset": None}, r"x\.jsonl:1: no dataset"), ({"official_split": "half"}, "split 'half'")):
        with pytest.raises(InputError, match=match):
            list(sat_ds_cases(lines(**more)))
    (tmp_path / "x.jsonl").write_text("{}\nnonsense\n")
    with pytest.raises(InputError, match=r"x\.jsonl:1: no image"):
        list(sat_ds_cases(LayoutOptions(folder=tmp_path / "x.jsonl")))


def test_a_patient_goes_by_a_salted_hash_with_a_salt_that_stays_with_the_user(lines):
    (first,) = sat_ds_cases(lines())
    (second,) = sat_ds_cases(lines())
    (other,) = sat_ds_cases(replace(lines(), salt="another"))
    assert first.patient_id == second.patient_id != other.patient_id
    assert "p1" not in (first.patient_id or "")
    assert salt_file().stat().st_mode & 0o777 == 0o600
    salt_file().write_text("")
    with pytest.raises(InputError, match="an empty salt"):
        sat_ds_cases(lines())


def test_cases_of_one_file_name_are_told_apart_by_their_folders(tmp_path, body, write_grid):
    lines = []
    for folder in ("p1/2003", "p2/2003"):
        write_grid(tmp_path / folder / "SUV.nii.gz", body[0])
        lines.append({"image": f"{folder}/SUV.nii.gz", "mask": "m", "label": ["t"], "modality": "PET", "dataset": "X"})
    (tmp_path / "x.jsonl").write_text("\n".join(map(json.dumps, lines)))
    assert [s.case_id for s in sat_ds_cases(LayoutOptions(folder=tmp_path))] == ["x-p1-2003-suv", "x-p2-2003-suv"]


def test_a_patient_of_several_data_sets_is_one_and_on_one_side(tmp_path):
    line = {"mask": "m.nii.gz", "label": ["liver"], "modality": "CT"}
    lines = [
        {**line, "image": f"{dataset}/{number}.nii.gz", "dataset": dataset, "patient_id": patient, "official_split": split}
        for number in range(3)
        for dataset, patient, split in (
            ("TotalSegmentator_Organs", f"s000{number}", "test"),
            ("TotalSegmentator_v2", f"s000{number}", "unknown"),
            ("MSD_HepaticVessel", f"hepaticvessel_00{number}.nii.gz", "train"),
            ("Couinaud_Liver", f"hepaticvessel_00{number}.nii.gz", "unknown"),
            ("BraTS2023_GLI", f"BraTS-GLI-0000{number}-000", "train"),
            ("BraTS2023_GLI", f"BraTS-GLI-0000{number}-001", "test"),
        )
    ]  # fmt: skip
    for number, one in enumerate(lines):
        one["image"] = f"{number}-{one['image'].replace('/', '-')}"
    (tmp_path / "x.jsonl").write_text("\n".join(map(json.dumps, lines)))
    sources = sat_ds_cases(LayoutOptions(folder=tmp_path / "x.jsonl", salt="s"))
    splits = assign_splits(sources)
    assert len({source.patient_id for source in sources}) == 9
    sides = [splits[source.case_id] for source in sources]
    assert sides == ["test", "test", "train", "train", "test", "test"] * 3


def test_without_patients_the_cases_of_one_image_stay_together(lines, tmp_path):
    sources = []
    for number in range(30):
        for dataset in ("X", "Y"):
            sources += sat_ds_cases(lines(patient_id=None, dataset=dataset, image=f"nii/{number}.nii.gz"))
    splits = assign_splits(sources)
    assert all(splits[f"x-{number}"] == splits[f"y-{number}"] for number in range(30))
    assert len(set(splits.values())) == 3


def test_unions_of_other_parts_than_left_and_right_are_made_as_published(lines, body, prepared):
    labels = ["necrotic brain tumor core", "brain edema", "enhancing brain tumor", "brain tumor"]
    (source,) = sat_ds_cases(lines(label=labels, dataset="BraTS2023_GLI"))
    _, masks = prepared(source, crop_to_foreground=False)
    assert set(masks) == set(labels)
    np.testing.assert_array_equal(masks["brain tumor"], body[1].data > 0)
    (source,) = sat_ds_cases(lines(label=["transition zone", "peripheral zone", "prostate"], dataset="MSD_Prostate"))
    _, masks = prepared(source, crop_to_foreground=False)
    np.testing.assert_array_equal(masks["prostate"], np.isin(body[1].data, (1, 2)))


def test_an_organ_holds_its_tumour_as_published(lines, body, prepared):
    labels = ["kidney", "kidney tumor", "kidney cyst"]
    (source,) = sat_ds_cases(lines(label=labels, dataset="KiTS23"))
    _, masks = prepared(source, crop_to_foreground=False)
    np.testing.assert_array_equal(masks["kidney"], body[1].data > 0)
    np.testing.assert_array_equal(masks["kidney tumor"], body[1].data == 2)
    labels = ["left lung", "right lung", "COVID-19 infection", "lung"]
    (source,) = sat_ds_cases(lines(label=labels, dataset="COVID19"))
    _, masks = prepared(source, crop_to_foreground=False)
    np.testing.assert_array_equal(masks["lung"], body[1].data > 0)
    np.testing.assert_array_equal(masks["left lung"], body[1].data == 1)


def test_a_channel_is_written_behind_the_file_of_several(lines, body, tmp_path):
    image, _ = body
    stack = np.stack([image.data, image.data + 1], axis=-1)
    nibabel.save(nibabel.Nifti1Image(stack, image.affine), tmp_path / "nii/prostate_35.nii.gz")
    found = {}
    for channel in ("T2", "ADC"):
        (source,) = sat_ds_cases(
            lines(
                image=f"nii/prostate_35.nii.gz/{channel}", dataset="MSD_Prostate", modality=f"MRI {channel}",
                label=["transition zone of prostate", "peripheral zone of prostate", "prostate"],
            )
        )  # fmt: skip
        assert source.sequence == channel
        assert all(path.is_file() for path in source.files)
        found[channel] = source.load()[0].data
    np.testing.assert_array_equal(found["ADC"], found["T2"] + 1)
    np.testing.assert_array_equal(found["T2"], image.data)


def test_masks_of_a_stack_make_unions_too(lines, body, tmp_path, prepared):
    stack = np.stack([body[1].data == value for value in (1, 2, 3)]).astype(np.uint8)
    nibabel.save(nibabel.Nifti1Image(stack, body[1].affine), tmp_path / "nii/stack.nii.gz")
    labels = ["left kidney", "right kidney", "spine", "kidney"]
    (source,) = sat_ds_cases(lines(label=labels, mask="nii/stack.nii.gz"))
    _, masks = prepared(source, crop_to_foreground=False)
    assert set(masks) == set(labels)
    np.testing.assert_array_equal(masks["kidney"], np.isin(body[1].data, (1, 2)))


def test_a_union_that_is_not_known_is_listed(lines, resolver, tmp_path):
    sources = sat_ds_cases(lines(label=["zone a", "zone b", "prostate", "seminal vesicle"], dataset="MSD_Prostate"))
    outcome = prepare(sources, resolver=resolver, settings=PrepareSettings(), out=tmp_path / "store")
    assert ("seminal vesicle", "not drawn") in [(one.label, one.reason) for one in outcome.unresolved]
    assert any("seminal vesicle" in line and "not drawn" in line for line in outcome.summary())


def test_every_union_is_of_labels_that_are_drawn():
    for dataset, unions in _UNIONS.items():
        labels = [f"part {number}" for number in range(_NUM_DRAWN[dataset])]
        drawn, made = drawn_labels([*labels, *unions], dataset)
        assert drawn == labels
        beyond = {26} if dataset == "VerSe" else set()
        assert {place for places in made.values() for place in places} - beyond <= set(range(1, len(labels) + 1))

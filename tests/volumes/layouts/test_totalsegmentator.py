import json

import numpy as np
import pytest

from vesalius.errors import InputError, SettingError
from vesalius.volumes.image import LabelMap
from vesalius.volumes.layouts import LayoutOptions
from vesalius.volumes.layouts.totalsegmentator import totalsegmentator_cases


def drawn(body, mask):
    return LabelMap(data=mask.astype(np.int16), affine=body[1].affine, labels={})


def test_masks_may_overlap_and_be_empty(tmp_path, body, write_grid, prepared):
    write_grid(tmp_path / "s1/mri.nii.gz", body[0])
    kidneys = np.isin(body[1].data, (1, 2))
    for name, mask in {"kidney": kidneys, "kidney_left": body[1].data == 1, "spleen": kidneys & False}.items():
        write_grid(tmp_path / f"s1/segmentations/{name}.nii.gz", drawn(body, 255 * mask), dtype=np.uint8)
    (source,) = totalsegmentator_cases(LayoutOptions(folder=tmp_path))
    assert source.modality == "mr"
    _, masks = prepared(source, crop_to_foreground=False)
    assert set(masks) == {"kidney", "kidney left"}
    np.testing.assert_array_equal(masks["kidney"], kidneys)
    assert masks["kidney left"].sum() == (body[1].data == 1).sum()


@pytest.mark.parametrize(
    "labels",
    [
        {"1": "kidney_left", "2": "kidney_right", "3": "spine"},
        {"kidney_left": 1, "kidney_right": 2, "spine": 3},
        {"kidney_left": [1, 9452], "kidney_right": [2, 3947], "spine": [3, 12]},
    ],
)
@pytest.mark.parametrize("place", ["s1/segmentations.json", "s1/any name.json", "class_map.json"])
def test_the_multi_label_form_is_named_by_a_json(tmp_path, body, write_grid, prepared, labels, place):
    write_grid(tmp_path / "s1/CT.nii.gz", body[0])
    write_grid(tmp_path / "s1/segmentations.nii.gz", body[1])
    (tmp_path / place).write_text(json.dumps(labels))
    (source,) = totalsegmentator_cases(LayoutOptions(folder=tmp_path))
    _, masks = prepared(source, crop_to_foreground=False)
    assert set(masks) == {"kidney left", "kidney right", "spine"}
    np.testing.assert_array_equal(masks["spine"], body[1].data == 3)


def test_what_says_how_a_scan_was_made_names_no_label(tmp_path, body, write_grid):
    image = write_grid(tmp_path / "s1/ct.nii.gz", body[0])
    write_grid(tmp_path / "s1/drawn.nii.gz", body[1])
    image.with_name("ct.json").write_text('{"Modality": "CT", "SliceThickness": 3}')
    (tmp_path / "classes.json").write_text('{"1": "spleen"}')
    (source,) = totalsegmentator_cases(LayoutOptions(folder=tmp_path))
    assert dict(source.load()[1][0].labels) == {1: "spleen"}


def test_label_maps_without_names_and_files_of_several_values_are_refused(tmp_path, body, write_grid):
    write_grid(tmp_path / "s1/ct.nii.gz", body[0])
    write_grid(tmp_path / "s1/segmentations.nii.gz", body[1])
    write_grid(tmp_path / "s2/ct.nii.gz", body[0])
    write_grid(tmp_path / "s2/segmentations/liver.nii.gz", body[1])
    write_grid(tmp_path / "s3/ct.nii.gz", body[0])
    first, second, third = totalsegmentator_cases(LayoutOptions(folder=tmp_path))
    with pytest.raises(InputError, match="nothing says what the label values stand for"):
        first.load()
    with pytest.raises(InputError, match=r"liver\.nii\.gz: values 1, 2, 3 in a file of one structure"):
        list(second.load()[1])
    with pytest.raises(InputError, match=r"no segmentations/ and no label map"):
        third.load()


def test_one_case_alone_and_a_table_given_by_hand(tmp_path, body, write_grid):
    write_grid(tmp_path / "one/ct.nii.gz", body[0])
    write_grid(tmp_path / "one/drawn.nii.gz", body[1])
    (tmp_path / "mine.csv").write_text("index,name\n1,spleen\n")
    options = LayoutOptions(folder=tmp_path / "one", labels=tmp_path / "mine.csv")
    (source,) = totalsegmentator_cases(options)
    assert dict(source.load()[1][0].labels) == {1: "spleen"}
    with pytest.raises(SettingError, match="stored_orientation has no effect"):
        totalsegmentator_cases(LayoutOptions(folder=tmp_path / "one", stored_orientation="RAS"))

import json

import nrrd
import numpy as np
import pytest
import SimpleITK

from vesalius.errors import InputError, SettingError
from vesalius.volumes.layouts import LayoutOptions
from vesalius.volumes.layouts.nifti_pairs import folder_cases
from vesalius.volumes.layouts.options import salt_file


@pytest.fixture
def folder(tmp_path, body, write_grid):
    """A folder of two pairs with a table of labels."""
    for name in ("One", "two b"):
        write_grid(tmp_path / f"d/images/{name}.nii.gz", body[0])
        write_grid(tmp_path / f"d/labels/{name}.nii.gz", body[1])
    (tmp_path / "d/labels.tsv").write_text("value\tname\n1\tleft kidney\n2\tright kidney\n3\tspine\n")
    return tmp_path / "d"


def cases(folder, **more):
    return folder_cases(LayoutOptions(folder=folder, **{"modality": "ct", **more}))


def test_every_format_makes_a_pair(folder, body, prepared):
    (plain, _) = cases(folder)
    _, expected = prepared(plain)
    for name in ("One", "two b"):
        for kind in ("images", "labels"):
            path = folder / kind / f"{name}.nii.gz"
            ending = ".MHA" if name == "One" else ".nrrd"
            written = path.with_name(name + ending.lower())
            SimpleITK.WriteImage(SimpleITK.ReadImage(str(path)), str(written), useCompression=True)
            path.unlink()
            written.rename(path.with_name(name + ending))
    for source in cases(folder):
        _, masks = prepared(source)
        for name, mask in expected.items():
            np.testing.assert_array_equal(masks[name], mask)


def test_a_segmentation_of_slicer_names_its_own_overlapping_segments(folder, body, prepared):
    (folder / "labels.tsv").unlink()
    layers = np.stack([np.isin(body[1].data, (1, 2)), body[1].data == 1]).astype(np.uint8)
    space = {
        "space": "RAS", "space origin": body[1].affine[:3, 3], "kinds": ["list", "domain", "domain", "domain"],
        "space directions": np.vstack([[np.nan] * 3, body[1].affine[:3, :3].T]),
    }  # fmt: skip
    segments = {
        "Segment0_Name": "kidney", "Segment0_LabelValue": "1", "Segment0_Layer": "0",
        "Segment1_Name": "left kidney", "Segment1_LabelValue": "1", "Segment1_Layer": "1",
    }  # fmt: skip
    for name in ("One", "two b"):
        (folder / f"labels/{name}.nii.gz").unlink()
        nrrd.write(str(folder / f"labels/{name}.seg.nrrd"), layers, {**space, **segments})
    source, _ = cases(folder)
    _, masks = prepared(source, crop_to_foreground=False)
    np.testing.assert_array_equal(masks["kidney"], layers[0] > 0)
    np.testing.assert_array_equal(masks["left kidney"], layers[1] > 0)


def test_the_table_of_cases_says_patient_split_and_modality(folder):
    (folder / "cases.csv").write_text("case,patient,split,modality\nOne,p1,val,MRI FLAIR\ntwo b,p1,,ct\n")
    first, second = cases(folder, modality=None)
    assert (first.case_id, second.case_id) == ("d-one", "d-two-b")
    assert (first.modality, first.sequence, first.split) == ("mr", "FLAIR", "validation")
    assert (second.modality, second.split) == ("ct", None)
    assert first.patient_id == second.patient_id
    assert salt_file().exists()


def test_names_may_end_in_what_they_are(folder):
    for kind, ending in (("images", "_0000"), ("labels", "_seg")):
        for name in ("One", "two b"):
            path = folder / f"{kind}/{name}.nii.gz"
            path.rename(path.with_name(f"{name}{ending}.nii.gz"))
    (folder / "labels").rename(folder / "Masks")
    assert [source.case_id for source in cases(folder)] == ["d-one", "d-two-b"]


def test_half_a_pair_fails_when_it_is_loaded_and_the_rest_goes_on(folder):
    (folder / "images/One.nii.gz").unlink()
    broken, whole = cases(folder)
    whole.load()
    with pytest.raises(InputError, match=r"One\.nii\.gz: no image named One"):
        broken.load()


@pytest.mark.parametrize(
    ("name", "text", "match"),
    [
        ("labels.json", '{"1": "a"}', "two tables"),
        ("labels.tsv", "value\tname\n1\ta\n1\tb\n", "two rows of value 1"),
        ("labels.tsv", "number\ttext\n1\ta\n", "columns value and name"),
        ("labels.tsv", "value\tname\n1\ta\tb\n", "not as many fields"),
        ("labels.tsv", "value\tname\nx\ta\n", "no whole number"),
        ("labels.tsv", "value\tname\n" + "9" * 40 + "\ta\n", "no whole number"),
        ("cases.tsv", "case\tpatient\nthree\tp\n", "cases without a file: three"),
        ("cases.tsv", "case\tcolour\nOne\tred\n", "unknown columns colour"),
        ("cases.tsv", "case\nOne\nOne\n", "two rows of case 'One'"),
        ("cases.tsv", "case\tsplit\nOne\thalf\n", "split 'half'"),
        ("cases.tsv", "case\tmodality\nOne\tsmell\n", "modality 'smell'"),
        ("dataset.json", "{", "not JSON"),
    ],
)
def test_tables_of_no_use_are_refused_with_their_name(folder, name, text, match):
    (folder / name).write_text(text)
    with pytest.raises(InputError, match=match) as caught:
        cases(folder)
    assert name.split(".")[0] in str(caught.value)


def test_a_label_table_of_two_lists_of_two_is_ambiguous(folder):
    (folder / "labels.tsv").unlink()
    (folder / "labels.json").write_text('{"kidney": [1, 2], "spine": [3, 4]}')
    with pytest.raises(InputError, match="not all"):
        cases(folder)


def test_what_is_missing_or_contradictory_is_refused(folder):
    with pytest.raises(SettingError, match="the modality is not known"):
        cases(folder, modality=None)
    with pytest.raises(SettingError, match="a salt has no effect"):
        cases(folder, salt="s")
    (folder / "cases.tsv").write_text("case\tpatient\nOne\tp\n")
    with pytest.raises(SettingError, match="an empty salt"):
        cases(folder, salt="")
    (folder / "dataset.json").write_text(json.dumps({"modality": "MRI"}))
    with pytest.raises(SettingError, match="--modality ct, but the dataset says mr"):
        cases(folder)
    with pytest.raises(InputError, match="Not a directory"):
        cases(folder / "labels.tsv")
    with pytest.raises(SettingError, match="no letter or digit"):
        LayoutOptions(dataset="—")


def test_a_salt_that_cannot_be_kept_is_said(folder, tmp_path, monkeypatch):
    (folder / "cases.tsv").write_text("case\tpatient\nOne\tp\n")
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "file"))
    with pytest.raises(InputError, match="no salt can be kept there"):
        cases(folder)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home"))
    cases(folder)
    made = salt_file().read_text()
    cases(folder)
    assert salt_file().read_text() == made
    assert [path.name for path in salt_file().parent.iterdir()] == ["salt"]

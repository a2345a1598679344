import json

import numpy as np
import pytest

from vesalius.errors import InputError, SettingError
from vesalius.volumes.geometry import orientation_of, reorient, spacing_mm
from vesalius.volumes.layouts import LayoutOptions
from vesalius.volumes.layouts.cvpr25 import cvpr25_cases
from vesalius.volumes.patients import assign_splits


@pytest.fixture
def npz(tmp_path, body):
    """Writes the body as one npz of the challenge, and its prompts."""

    def write(path="CT/CT_Made/CT_Made_1.npz", prompts=None, orientation="LPS", drop=(), **more):
        image, label_map = (reorient(grid, orientation) for grid in body)
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        arrays = {
            "imgs": image.data.T.astype(np.uint8), "gts": label_map.data.T.astype(np.uint8),
            "spacing": np.array(spacing_mm(image.affine)), **more,
        }  # fmt: skip
        np.savez_compressed(tmp_path / path, **{key: array for key, array in arrays.items() if key not in drop})
        dataset = path.split("/")[-2]
        prompts = prompts or {"1": ["left kidney"], "2": ["right kidney"], "3": "spine", "instance_label": 0}
        (tmp_path / "prompts.json").write_text(json.dumps({dataset: prompts}))
        return LayoutOptions(folder=tmp_path)

    return write


def test_the_published_lines_can_be_listed(shared_data, tmp_path):
    (tmp_path / "x.jsonl").write_text((shared_data / "sat/cvpr25_sample.jsonl").read_text())
    (tmp_path / "prompts.json").write_text(
        json.dumps({"MR_Heart_ACDC": {"1": ["left ventricle"], "instance_label": 0}})
    )
    sources = list(cvpr25_cases(LayoutOptions(folder=tmp_path)))
    assert len(sources) == 12
    assert {source.modality for source in sources} == {"ct", "mr"}
    assert "T1c" in {source.sequence for source in sources}
    with pytest.raises(InputError, match="no prompts for dataset 'MR_ProstateT2'"):
        sources[1].load()


def test_without_lines_every_npz_is_a_case_of_the_folder_it_lies_in(npz):
    npz("CT/CT_Made/a.npz")
    sources = list(cvpr25_cases(npz("CT/CT_Made/b c.npz")))
    assert [source.case_id for source in sources] == ["ct-made-a", "ct-made-b-c"]
    assert {source.dataset for source in sources} == {"CT_Made"}


def test_values_of_an_instance_label_are_one_structure(npz, body, prepared):
    (source,) = cvpr25_cases(npz(prompts={"1": ["kidney", "a kidney"], "instance_label": 1}))
    _, masks = prepared(source, crop_to_foreground=False)
    np.testing.assert_array_equal(masks["kidney"], body[1].data > 0)
    (source,) = cvpr25_cases(npz(prompts={"1": ["kidney"], "2": ["liver"], "instance_label": 1}))
    with pytest.raises(InputError, match="its values count instances"):
        source.load()


@pytest.mark.parametrize("dataset", ["CT_AbdomenAtlas", "CT_TotalSeg_organs", "CT_LungLesion", "CT_AMOS", "CT_Unknown"])
def test_arrays_lie_as_their_dataset_stores_them(npz, body, prepared, dataset):
    stored = {"CT_TotalSeg_organs": "RAS", "CT_LungLesion": "RPS", "CT_AMOS": "LAS"}.get(dataset, "LPS")
    (source,) = cvpr25_cases(npz(f"CT/{dataset}/x.npz", orientation=stored))
    image, _ = source.load()
    assert orientation_of(image.affine) == stored
    assert image.clipped
    _, masks = prepared(source, crop_to_foreground=False)
    np.testing.assert_array_equal(masks["left kidney"], body[1].data == 1)


def test_the_orientation_can_be_said(npz, body, prepared):
    options = npz(orientation="SAR")
    (source,) = cvpr25_cases(LayoutOptions(folder=options.folder, stored_orientation="SAR"))
    _, masks = prepared(source, crop_to_foreground=False)
    np.testing.assert_array_equal(masks["right kidney"], body[1].data == 2)
    with pytest.raises(SettingError, match="none of the 48"):
        LayoutOptions(stored_orientation="LLS")


@pytest.mark.parametrize(
    ("more", "match"),
    [
        ({"drop": ("gts",)}, "a case without label map"),
        ({"drop": ("spacing",)}, "no array spacing"),
        ({"spacing": np.array([1.0, 2.0])}, "not three numbers"),
        ({"spacing": np.array([1.0, 0.0, 3.0])}, "cannot be inverted"),
        ({"gts": np.zeros((3, 4, 5), dtype=np.uint8)}, "the label map has shape"),
        ({"imgs": np.zeros((3, 4), dtype=np.uint8)}, "not a volume"),
        ({"imgs": np.array([{}], dtype=object)}, "pickled array"),
    ],
)
def test_files_of_no_use_are_refused_with_their_name(npz, more, match):
    (source,) = cvpr25_cases(npz(**more))
    with pytest.raises(InputError, match=match) as caught:
        source.load()
    assert "CT_Made_1.npz" in str(caught.value)


def test_prompts_of_no_use_are_refused(npz, tmp_path):
    npz()
    (tmp_path / "prompts.json").unlink()
    with pytest.raises(InputError, match="no file of prompts"):
        list(cvpr25_cases(LayoutOptions(folder=tmp_path)))
    (tmp_path / "mine.txt").write_text('{"CT_Made": ["liver"]}')
    with pytest.raises(InputError, match="no prompts by dataset"):
        list(cvpr25_cases(LayoutOptions(folder=tmp_path, labels=tmp_path / "mine.txt")))
    (source,) = cvpr25_cases(npz(prompts={"1": [""], "instance_label": 0}))
    with pytest.raises(InputError, match="label 1 of CT_Made has no prompt"):
        source.load()


def test_sequences_of_one_subject_are_on_one_side(tmp_path):
    names = [
        f"MR/MR_BraTS-{sequence}/MR_BraTS-{sequence}_bratsgli_{number:04}.npz"
        for number in range(40)
        for sequence in ("T1c", "T1n", "T2f", "T2w")
    ]
    (tmp_path / "x.jsonl").write_text(
        "\n".join(json.dumps({"data": name, "dataset": name.split("/")[1], "modality": "MR"}) for name in names)
    )
    (tmp_path / "prompts.json").write_text('{"MR_BraTS-T1c": {"1": ["brain tumor"], "instance_label": 0}}')
    sources = cvpr25_cases(LayoutOptions(folder=tmp_path))
    splits = assign_splits(sources)
    sides = [splits[source.case_id] for source in sources]
    assert all(len(set(sides[first : first + 4])) == 1 for first in range(0, len(sides), 4))
    assert set(sides) == {"train", "validation", "test"}

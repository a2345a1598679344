"""Real scans, laid out as each layout asks for: volumes and centres as nibabel counts them in the source's own file."""

import json
import shutil

import nibabel
import numpy as np
import pytest

from vesalius.volumes.image import read_image, read_label_map
from vesalius.volumes.layouts import LayoutOptions, layout_of
from vesalius.volumes.prepare import PrepareSettings, prepare_case

LABELS = {1: "anterior hippocampus", 2: "posterior hippocampus"}


@pytest.fixture(scope="module")
def hippocampus(shared_data):
    folder = shared_data / "volumes/hippocampus"
    stem = min(path.name for path in (folder / "images").iterdir())
    return folder / "images" / stem, folder / "labels" / stem


def copied(source, target):
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


def regions_of(source, tied):
    case = prepare_case(source, tied, PrepareSettings(spacing_mm=None, crop_to_foreground=False))
    return {region.label: region for region in case.regions}


def check_against_nibabel(regions, drawn, labels):
    """Every region's volume is nibabel's, and its centre within half a voxel."""
    file = nibabel.load(drawn)
    data = np.asarray(file.dataobj)
    voxel_mm3 = abs(np.linalg.det(file.affine[:3, :3]))
    expected = {text: np.argwhere(data == value) for value, text in labels.items() if (data == value).any()}
    assert set(regions) == set(expected)
    for text, inside in expected.items():
        assert regions[text].num_voxels == len(inside)
        assert regions[text].volume_mm3 == pytest.approx(len(inside) * voxel_mm3, rel=1e-5)
        centre = file.affine[:3, :3] @ inside.mean(axis=0) + file.affine[:3, 3]
        spacing = np.linalg.norm(file.affine[:3, :3], axis=0)
        assert np.abs(np.array(regions[text].centroid_mm) - centre).max() <= spacing.min() / 2


def test_one_scan_is_the_same_in_every_layout(hippocampus, tmp_path, tied, dicom):
    image, drawn = hippocampus
    table = {str(value): text for value, text in LABELS.items()}
    copied(image, tmp_path / "pairs/images/x.nii.gz")
    copied(drawn, tmp_path / "pairs/labels/x.nii.gz")
    (tmp_path / "pairs/labels.json").write_text(json.dumps(table))
    copied(image, tmp_path / "nnunet/imagesTr/x_0000.nii.gz")
    copied(drawn, tmp_path / "nnunet/labelsTr/x.nii.gz")
    described = {"channel_names": {"0": "MRI"}, "labels": {"background": 0, **{t: v for v, t in LABELS.items()}}}
    (tmp_path / "nnunet/dataset.json").write_text(json.dumps(described))
    copied(image, tmp_path / "total/x/mri.nii.gz")
    copied(drawn, tmp_path / "total/x/drawn.nii.gz")
    (tmp_path / "total/labels.json").write_text(json.dumps(table))
    line = {
        "image": "pairs/images/x.nii.gz",
        "mask": "pairs/labels/x.nii.gz",
        "label": [*LABELS.values(), "hippocampus"],
    }
    line |= {"modality": "MRI", "dataset": "MSD_Hippocampus", "official_split": "train", "patient_id": "x"}
    (tmp_path / "x.jsonl").write_text(json.dumps(line))
    dicom_image, label_map = read_image(image), read_label_map(drawn)
    series = dicom.series(tmp_path / "dicom/x", dicom_image)
    dicom.seg(tmp_path / "dicom/seg.dcm", series, {t: label_map.data == v for v, t in LABELS.items()})
    for layout, folder, more in (
        ("nifti-pairs", tmp_path / "pairs", {"modality": "mr"}),
        ("nnunet", tmp_path / "nnunet", {}),
        ("totalsegmentator", tmp_path / "total", {}),
        ("sat-ds", tmp_path / "x.jsonl", {}),
        ("dicom", tmp_path / "dicom", {}),
    ):
        (source,) = layout_of(layout)(LayoutOptions(folder=folder, **more))
        check_against_nibabel(regions_of(source, tied), drawn, LABELS)


def test_totalsegmentator_gives_the_same_in_both_its_forms(shared_data, tmp_path, tied):
    folder = shared_data / "volumes/totalsegmentator"
    for kind, stem, name in (("ct", "example_ct_sm", "example_seg"), ("mri", "example_mr_sm", "example_seg_mr")):
        drawn = folder / f"{name}.nii.gz"
        labels = {value: text for text, (value, _) in json.loads((folder / f"{name}.labels.json").read_text()).items()}
        copied(folder / f"{stem}.nii.gz", tmp_path / f"joined/{kind}/{kind}.nii.gz")
        copied(drawn, tmp_path / f"joined/{kind}/segmentations.nii.gz")
        copied(folder / f"{name}.labels.json", tmp_path / f"joined/{kind}/labels.json")
        (source,) = (
            s
            for s in layout_of("totalsegmentator")(LayoutOptions(folder=tmp_path / "joined"))
            if s.group == f"joined {kind}"
        )
        check_against_nibabel(regions_of(source, tied), drawn, labels)
        if kind == "mri":
            file = nibabel.load(drawn)
            data = np.asarray(file.dataobj)
            copied(folder / f"{stem}.nii.gz", tmp_path / f"split/{kind}/{kind}.nii.gz")
            (tmp_path / f"split/{kind}/segmentations").mkdir()
            for value, text in labels.items():
                mask = nibabel.Nifti1Image((data == value).astype(np.uint8), file.affine)
                nibabel.save(mask, tmp_path / f"split/{kind}/segmentations/{text}.nii.gz")
            (source,) = layout_of("totalsegmentator")(LayoutOptions(folder=tmp_path / "split"))
            check_against_nibabel(regions_of(source, tied), drawn, labels)


def test_the_spine_scans_are_read_as_bids_in_their_dialect(shared_data, tmp_path, tied):
    folder = shared_data / "volumes/spine"
    for subject, suffix, number in (("ct", "ct", "22"), ("mri", "T2w", "6")):
        image = f"sub-{subject}_label-{number}_{suffix}.nii.gz"
        drawn = f"sub-{subject}_seg-vert_label-{number}_msk.nii.gz"
        copied(folder / image, tmp_path / f"rawdata/sub-{subject}/{image}")
        copied(folder / drawn, tmp_path / f"derivatives/sub-{subject}/{drawn}")
    values = {
        subject: [int(v) for v in np.unique(np.asarray(nibabel.load(path).dataobj)) if v]
        for subject in ("ct", "mri")
        for path in (tmp_path / f"derivatives/sub-{subject}").iterdir()
    }
    labels = {value: f"structure {value}" for value in sorted({*values["ct"], *values["mri"]})}
    (tmp_path / "labels.json").write_text(json.dumps({str(value): text for value, text in labels.items()}))
    sources = list(layout_of("bids")(LayoutOptions(folder=tmp_path, labels=tmp_path / "labels.json")))
    assert [(source.modality, source.sequence) for source in sources] == [("ct", None), ("mr", "T2w")]
    for source in sources:
        check_against_nibabel(regions_of(source, tied), source.files[1], labels)

"""One small body, written in every layout: whatever the layout, it has to prepare to the same arrays."""

import json
from collections.abc import Callable
from pathlib import Path

import highdicom
import nibabel
import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sr.codedict import codes
from pydicom.uid import (
    CTImageStorage,
    ExplicitVRLittleEndian,
    RTStructureSetStorage,
    generate_uid,
)

from vesalius.ids import ResolvedLabel, local_concept_id
from vesalius.volumes.geometry import reorient, spacing_mm
from vesalius.volumes.image import Image, LabelMap
from vesalius.volumes.layouts import LayoutOptions
from vesalius.volumes.prepare import PrepareSettings, prepare_case

NAMES = {1: "left kidney", 2: "right kidney", 3: "spine"}


@pytest.fixture(autouse=True)
def own_settings(tmp_path, monkeypatch):
    """No test touches the salt of whoever runs it."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


@pytest.fixture(scope="session")
def body() -> tuple[Image, LabelMap]:
    """Tissue from 0 to 255 in a grid of 1 × 1 × 3 mm, RAS+, with three organs; the air around it is 0."""
    rng = np.random.default_rng(7)
    data = np.zeros((20, 24, 10), dtype=np.float32)
    data[2:18, 3:21, 1:9] = rng.integers(1, 255, size=(16, 18, 8))
    data[2, 3, 1], data[17, 20, 8] = 255, 1
    labels = np.zeros(data.shape, dtype=np.int16)
    labels[4:8, 6:12, 2:6] = 1
    labels[12:16, 6:12, 2:7] = 2
    labels[9:11, 6:8, 1:9] = 3
    affine = np.diag([1.0, 1.0, 3.0, 1.0])
    affine[:3, 3] = (-10, -12, 30)
    return Image(data=data, affine=affine), LabelMap(data=labels, affine=affine, labels=NAMES)


@pytest.fixture(scope="session")
def tied() -> Callable[[str], ResolvedLabel]:
    """Ties every label to a concept of its own, whatever stands between its words."""
    return lambda text: ResolvedLabel(
        concept_id=local_concept_id(text), laterality=None, name=text.replace("_", " ").lower(), tied_by="none"
    )


@pytest.fixture(scope="session")
def prepared(tied):
    """Prepares a source case to its image, and the mask of each structure on the grid of the image."""

    def prepare(source, **settings):
        case = prepare_case(source, tied, PrepareSettings(**settings))
        masks = {}
        for region, mask in zip(case.regions, case.masks, strict=True):
            whole = np.zeros(case.prepared.image.shape, dtype=bool)
            whole[tuple(slice(a, b) for a, b in zip(region.start, region.stop, strict=True))] = mask
            masks[region.name] = whole
        return case.prepared.image, masks

    return prepare


def nifti(path: Path, grid: Image | LabelMap, orientation: str = "RAS", dtype=np.int16) -> Path:
    turned = reorient(grid, orientation)
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(turned.data.astype(dtype), turned.affine), path)
    return path


def mask_of(label_map: LabelMap, value: int) -> LabelMap:
    return LabelMap(data=(label_map.data == value).astype(np.int16), affine=label_map.affine, labels={})


def write_nifti_pairs(folder: Path, image: Image, label_map: LabelMap) -> LayoutOptions:
    nifti(folder / "images/a case.nii.gz", image, "LPS")
    nifti(folder / "labels/a case.nii.gz", label_map, "LPS")
    (folder / "labels.tsv").write_text("value\tname\n" + "".join(f"{v}\t{n}\n" for v, n in NAMES.items()))
    return LayoutOptions(folder=folder, modality="ct")


def write_nnunet(folder: Path, image: Image, label_map: LabelMap) -> LayoutOptions:
    nifti(folder / "imagesTr/a_0000.nii.gz", image, "LAS")
    nifti(folder / "labelsTr/a.nii.gz", label_map, "LAS")
    labels = {"background": 0, **{name: str(value) for value, name in NAMES.items()}}
    description = {"channel_names": {"0": "CT"}, "labels": labels, "numTraining": 1, "file_ending": ".nii.gz"}
    (folder / "dataset.json").write_text(json.dumps(description))
    return LayoutOptions(folder=folder)


def write_totalsegmentator(folder: Path, image: Image, label_map: LabelMap) -> LayoutOptions:
    nifti(folder / "s0001/ct.nii.gz", image)
    for value, name in NAMES.items():
        nifti(
            folder / f"s0001/segmentations/{name.replace(' ', '_')}.nii.gz", mask_of(label_map, value), dtype=np.uint8
        )
    (folder / "meta.csv").write_text("image_id;age;split\ns0001;70;test\n")
    return LayoutOptions(folder=folder)


def write_sat_ds(folder: Path, image: Image, label_map: LabelMap) -> LayoutOptions:
    nifti(folder / "data/nii/X/images/a.nii.gz", image, "PIR")
    nifti(folder / "data/nii/X/masks/a.nii.gz", label_map, "PIR")
    line = {
        "image": "data/nii/X/images/a.nii.gz", "mask": "data/nii/X/masks/a.nii.gz", "label": list(NAMES.values()),
        "modality": "CT", "dataset": "X_CT", "official_split": "train", "patient_id": "a.nii.gz",
    }  # fmt: skip
    (folder / "data/jsonl").mkdir()
    (folder / "data/jsonl/X_CT.jsonl").write_text(json.dumps(line) + "\n\n")
    return LayoutOptions(folder=folder)


def write_cvpr25(folder: Path, image: Image, label_map: LabelMap) -> LayoutOptions:
    turned, drawn = reorient(image, "LPS"), reorient(label_map, "LPS")
    path = folder / "CT/CT_Made/CT_Made_a.npz"
    path.parent.mkdir(parents=True)
    np.savez_compressed(
        path,
        imgs=turned.data.T.astype(np.uint8),
        gts=drawn.data.T.astype(np.uint8),
        spacing=np.array(spacing_mm(turned.affine)),
    )
    line = {"data": "CT/CT_Made/CT_Made_a.npz", "dataset": "CT_Made", "modality": "CT", "label_existance": [True] * 3}
    (folder / "train.jsonl").write_text(json.dumps(line))
    prompts = {str(value): [name, f"the {name}"] for value, name in NAMES.items()}
    (folder / "prompts.json").write_text(json.dumps({"CT_Made": {**prompts, "instance_label": 0}}))
    return LayoutOptions(folder=folder)


def write_bids(folder: Path, image: Image, label_map: LabelMap) -> LayoutOptions:
    nifti(folder / "sub-01/ses-1/ct/sub-01_ses-1_ct.nii.gz", image, "RSA")
    derivatives = folder / "derivatives/drawn"
    nifti(derivatives / "sub-01/ses-1/ct/sub-01_ses-1_desc-organs_dseg.nii.gz", label_map, "RSA")
    table = "index\tname\tcolor\n" + "".join(f"{v}\t{n}\t#ffffff\n" for v, n in NAMES.items())
    (derivatives / "desc-organs_dseg.tsv").write_text(table)
    (folder / "participants.tsv").write_text("participant_id\tage\nsub-01\tn/a\n")
    return LayoutOptions(folder=folder, modality="ct")


def write_dicom(folder: Path, image: Image, label_map: LabelMap) -> LayoutOptions:
    series = write_series(folder / "images", image)
    write_seg(folder / "seg.dcm", series, {name: label_map.data == value for value, name in NAMES.items()})
    return LayoutOptions(folder=folder, salt="secret")


WRITERS = {
    "nifti-pairs": write_nifti_pairs,
    "nnunet": write_nnunet,
    "totalsegmentator": write_totalsegmentator,
    "sat-ds": write_sat_ds,
    "cvpr25": write_cvpr25,
    "bids": write_bids,
    "dicom": write_dicom,
}

PATIENT, PATIENT_ID = "Doebelius^Anna", "BRX-1514-77"


def _file(storage: str, modality: str) -> FileDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = storage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID, dataset.SOPInstanceUID = storage, meta.MediaStorageSOPInstanceUID
    dataset.PatientName, dataset.PatientID, dataset.PatientBirthDate = PATIENT, PATIENT_ID, "15141231"
    dataset.PatientSex, dataset.StudyDate, dataset.StudyTime = "M", "20200101", "120000"
    dataset.AccessionNumber, dataset.ReferringPhysicianName, dataset.StudyID = "ACC-99881", "Oporinus^J", "S1"
    dataset.Modality = modality
    return dataset


def write_series(
    folder: Path, image: Image, *, study: str | None = None, name="{:03d}.dcm", frame=None
) -> list[Dataset]:
    """Writes an image as a CT series, its slices in no order, and returns them in the order of k."""
    folder.mkdir(parents=True, exist_ok=True)
    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ image.affine
    steps = np.linalg.norm(affine[:3, :3], axis=0)
    axes = affine[:3, :3] / steps
    study, series, frame = study or generate_uid(), generate_uid(), frame or generate_uid()
    slices = []
    for k in range(image.data.shape[2]):
        dataset = _file(CTImageStorage, "CT")
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID, dataset.FrameOfReferenceUID = study, series, frame
        dataset.SeriesNumber, dataset.InstanceNumber = 1, k + 1
        dataset.SeriesDescription = "Thorax"
        dataset.Rows, dataset.Columns = image.data.shape[1], image.data.shape[0]
        dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
        dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 16, 15, 1
        dataset.RescaleSlope, dataset.RescaleIntercept = 1, -1024
        dataset.PixelSpacing = [float(steps[1]), float(steps[0])]
        dataset.SliceThickness = float(steps[2])
        dataset.ImageOrientationPatient = [float(f"{v:.8f}") for v in [*axes[:, 0], *axes[:, 1]]]
        dataset.ImagePositionPatient = [float(f"{v:.8f}") for v in (affine @ [0, 0, k, 1])[:3]]
        dataset.PixelData = (image.data[:, :, k].T.astype(np.int16) + 1024).tobytes()
        dataset.save_as(folder / name.format((k * 7) % 997), enforce_file_format=True)
        slices.append(dataset)
    return slices


def write_seg(path: Path, series: list[Dataset], masks: dict[str, np.ndarray], *, kind="BINARY") -> pydicom.Dataset:
    """Writes masks on the grid of a series with highdicom."""
    descriptions = [
        highdicom.seg.SegmentDescription(
            segment_number=number,
            segment_label=name,
            segmented_property_category=codes.SCT.Organ,
            segmented_property_type=codes.SCT.Kidney,
            algorithm_type=highdicom.seg.SegmentAlgorithmTypeValues.MANUAL,
        )
        for number, name in enumerate(masks, start=1)
    ]
    pixels = np.stack([mask.transpose(2, 1, 0) for mask in masks.values()], axis=-1)
    seg = highdicom.seg.Segmentation(
        source_images=series,
        pixel_array=pixels.astype(np.float32) if kind == "FRACTIONAL" else pixels.astype(np.uint8),
        segmentation_type=kind,
        segment_descriptions=descriptions,
        series_instance_uid=generate_uid(),
        series_number=2,
        sop_instance_uid=generate_uid(),
        instance_number=1,
        manufacturer="made",
        manufacturer_model_name="made",
        software_versions="1",
        device_serial_number="1",
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    seg.save_as(path)
    return seg


def write_rtstruct(path: Path, series: list[Dataset], contours: dict[str, list[np.ndarray]]) -> Dataset:
    """Writes closed contours, points in mm LPS."""
    dataset = _file(RTStructureSetStorage, "RTSTRUCT")
    first = series[0]
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = first.StudyInstanceUID, generate_uid()
    referenced = Dataset()
    referenced.SeriesInstanceUID = first.SeriesInstanceUID
    study = Dataset()
    study.RTReferencedSeriesSequence = [referenced]
    frame = Dataset()
    frame.FrameOfReferenceUID = first.FrameOfReferenceUID
    frame.RTReferencedStudySequence = [study]
    dataset.ReferencedFrameOfReferenceSequence = [frame]
    dataset.StructureSetLabel = "made"
    dataset.StructureSetROISequence, dataset.ROIContourSequence = [], []
    for number, (name, drawn) in enumerate(contours.items(), start=1):
        roi, item = Dataset(), Dataset()
        roi.ROINumber, roi.ROIName, roi.ReferencedFrameOfReferenceUID = number, name, first.FrameOfReferenceUID
        item.ReferencedROINumber, item.ContourSequence = number, []
        for points in drawn:
            contour = Dataset()
            contour.ContourGeometricType, contour.NumberOfContourPoints = "CLOSED_PLANAR", len(points)
            contour.ContourData = [f"{v:.6f}" for v in np.asarray(points).ravel()]
            item.ContourSequence.append(contour)
        dataset.StructureSetROISequence.append(roi)
        dataset.ROIContourSequence.append(item)
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)
    return dataset


@pytest.fixture
def writers():
    """Layout → what writes the body in it."""
    return WRITERS


@pytest.fixture
def dicom():
    """Writers of DICOM objects."""

    class Dicom:
        series = staticmethod(write_series)
        seg = staticmethod(write_seg)
        rtstruct = staticmethod(write_rtstruct)
        identifiers = ("doebelius", "brx", "1514-77", "15141231", "acc-99881", "oporinus")

    return Dicom


@pytest.fixture
def write_grid():
    """Writes an image or a label map as NIfTI, in any orientation."""
    return nifti

import warnings

import highdicom
import numpy as np
import pydicom
import pytest
from pydicom.encaps import encapsulate
from pydicom.pixels import get_decoder
from scipy import ndimage

from vesalius.errors import InputError, SettingError
from vesalius.volumes.dicom_contours import fill
from vesalius.volumes.dicom_segments import draw_masks
from vesalius.volumes.layouts import LayoutOptions
from vesalius.volumes.layouts.dicom import dicom_cases
from vesalius.volumes.prepare import PrepareSettings, prepare

LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def square(image, i, j, k, size):
    """Points in mm LPS of a square around whole voxels: `size` voxels from i and j on, in plane k."""
    low, high = -0.5, size - 0.5
    corners = np.array([[low, low], [high, low], [high, high], [low, high]])
    voxels = np.array([[i + a, j + b, k, 1] for a, b in corners])
    return (voxels @ (LPS @ image.affine).T)[:, :3]


def cases(folder, **more):
    return dicom_cases(LayoutOptions(folder=folder, **{"salt": "s", "dataset": "made", **more}))


def test_overlapping_segments_of_any_kind_come_back(tmp_path, body, dicom, prepared):
    series = dicom.series(tmp_path / "x", body[0])
    masks = {"kidney": np.isin(body[1].data, (1, 2)), "left kidney": body[1].data == 1, "spine": body[1].data == 3}
    dicom.seg(tmp_path / "seg.dcm", series, masks)
    (source,) = cases(tmp_path)
    _, found = prepared(source, crop_to_foreground=False)
    assert set(found) == set(masks)
    for name, mask in masks.items():
        np.testing.assert_array_equal(found[name], mask)


def test_overlapping_segments_of_one_name_are_one_structure(tmp_path, body, dicom, prepared):
    series = dicom.series(tmp_path / "x", body[0])
    one = body[1].data == 1
    other = np.roll(one, 1, axis=0)
    spine = body[1].data == 3
    dicom.seg(tmp_path / "seg.dcm", series, {"kidney": one, "spine": spine, "kidney 2": other})
    dataset = pydicom.dcmread(tmp_path / "seg.dcm")
    dataset.SegmentSequence[2].SegmentLabel = "kidney"
    dataset.save_as(tmp_path / "seg.dcm")
    (source,) = cases(tmp_path)
    _, found = prepared(source, crop_to_foreground=False)
    np.testing.assert_array_equal(found["kidney"], one | other)
    np.testing.assert_array_equal(found["spine"], spine)
    maps = draw_masks([("a", one), ("b", other), ("a", other)], body[0].affine, one.shape, labelling="x")
    drawn = [
        np.isin(label_map.data, [value for value, text in label_map.labels.items() if text == "a"])
        for label_map in maps
    ]
    np.testing.assert_array_equal(np.any(drawn, axis=0), one | other)
    assert sum(list(label_map.labels.values()).count("a") for label_map in maps) == 1


def test_fractional_segments_are_cut_at_half(tmp_path, body, dicom, prepared):
    series = dicom.series(tmp_path / "x", body[0])
    values = np.where(body[1].data == 1, 0.6, np.where(body[1].data == 2, 0.4, 0.0))
    dicom.seg(tmp_path / "seg.dcm", series, {"kidney": values}, kind="FRACTIONAL")
    (source,) = cases(tmp_path)
    _, found = prepared(source, crop_to_foreground=False)
    np.testing.assert_array_equal(found["kidney"], body[1].data == 1)


@pytest.mark.parametrize("rotation", range(4))
def test_an_oblique_series_lies_where_highdicom_says(tmp_path, body, dicom, rotation):
    image, label_map = body
    turn = np.eye(4)
    if rotation:
        turn[:3, :3] = np.linalg.qr(np.random.default_rng(rotation).normal(size=(3, 3)))[0]
        turn[:3, :3] *= np.sign(np.linalg.det(turn[:3, :3]))
    image = type(image)(data=image.data, affine=turn @ image.affine)
    series = dicom.series(tmp_path / "x", image)
    dicom.seg(tmp_path / "seg.dcm", series, {"spine": label_map.data == 3})
    (source,) = cases(tmp_path)
    found, (drawn,) = source.load()[0], tuple(source.load()[1])
    np.testing.assert_array_equal(found.data, image.data)
    np.testing.assert_allclose(found.affine, image.affine, atol=1e-4)
    volume = highdicom.seg.segread(tmp_path / "seg.dcm").get_volume(combine_segments=True)
    there = np.argwhere(volume.array == 1)
    world = (np.c_[there, np.ones(len(there))] @ (LPS @ volume.affine).T)[:, :3]
    here = np.argwhere(drawn.data == 1)
    ours = (np.c_[here, np.ones(len(here))] @ drawn.affine.T)[:, :3]
    np.testing.assert_allclose(sorted(ours.round(2).tolist()), sorted(world.round(2).tolist()), atol=0.02)


@pytest.mark.parametrize("kind", ["enhanced", "run-length"])
def test_series_in_one_file_and_compressed_ones_are_the_same_image(tmp_path, body, dicom, kind):
    image, label_map = body
    series = dicom.series(tmp_path / "x", image)
    if kind == "enhanced":
        for path in (tmp_path / "x").iterdir():
            path.unlink()
        uid = pydicom.uid.generate_uid
        for dataset in series:
            dataset.PatientOrientation, dataset.Manufacturer, dataset.ImageType = (
                [],
                "made",
                ["ORIGINAL", "PRIMARY", "AXIAL"],
            )
            dataset.ContentDate, dataset.ContentTime = "20200101", "120000"
            dataset.KVP, dataset.AcquisitionNumber = 120, 1
        made = highdicom.legacy.LegacyConvertedEnhancedCTImage(series, uid(), 3, uid(), 1)
        made.save_as(tmp_path / "x/all.dcm")
        dicom.rtstruct(tmp_path / "rt.dcm", [made], {"a": [square(image, 5, 6, 3, 8)]})
    else:
        for path in (tmp_path / "x").iterdir():
            dataset = pydicom.dcmread(path)
            dataset.compress(pydicom.uid.RLELossless)
            dataset.save_as(path)
        dicom.seg(tmp_path / "seg.dcm", series, {"spine": label_map.data == 3})
    (source,) = cases(tmp_path)
    found, _ = source.load()
    np.testing.assert_array_equal(found.data, image.data)
    np.testing.assert_allclose(found.affine, image.affine, atol=1e-4)


def test_contours_are_filled_with_their_holes(tmp_path, body, dicom, prepared):
    image, _ = body
    contours = {
        "ring": [square(image, 5, 6, k, 8) for k in (3, 4)] + [square(image, 7, 8, k, 3) for k in (3, 4)],
        "two": [square(image, 3, 4, 5, 4), square(image, 12, 4, 5, 4)],
        "over": [square(image, 6, 7, 3, 4)],
    }
    contours["ring"].append(contours["ring"][0])  # said twice, drawn once
    dicom.rtstruct(tmp_path / "rt.dcm", dicom.series(tmp_path / "x", image), contours)
    (source,) = cases(tmp_path)
    _, found = prepared(source, crop_to_foreground=False)
    ring = np.zeros(image.data.shape, dtype=bool)
    ring[5:13, 6:14, 3:5] = True
    ring[7:10, 8:11, 3:5] = False
    np.testing.assert_array_equal(found["ring"], ring)
    two = np.zeros(image.data.shape, dtype=bool)
    two[3:7, 4:8, 5] = two[12:16, 4:8, 5] = True
    np.testing.assert_array_equal(found["two"], two)
    assert found["over"].sum() == 16


def test_a_structure_that_cannot_be_drawn_does_not_take_the_others_with_it(tmp_path, body, dicom):
    image, _ = body
    contours = {
        "couch": [square(image, 5, 6, 40, 8)],
        "cord": [square(image, 5, 6, k, 8) for k in (1, 3, 5)],
        "liver": [square(image, 5, 6, 3, 8)],
    }
    dicom.rtstruct(tmp_path / "rt.dcm", dicom.series(tmp_path / "x", image), contours)
    (source,) = cases(tmp_path)
    (label_map,) = source.load()[1]
    assert set(label_map.labels.values()) == {"liver"}
    assert label_map.undrawn == {"couch", "cord"}
    contours["of Doebelius"] = contours.pop("couch")
    dicom.rtstruct(tmp_path / "rt.dcm", dicom.series(tmp_path / "y", image), contours)
    (source,) = cases(tmp_path)
    with pytest.raises(InputError, match="tells the patient"):
        list(source.load()[1])


def test_contours_of_one_plane_are_one_drawing_whatever_rounding_did(tmp_path, body, dicom, prepared):
    image, _ = body
    outer, inner = square(image, 5, 6, 3, 8), square(image, 7, 8, 3, 3)
    outer[:, 2] += 0.0149
    inner[:, 2] += 0.0151
    dataset = dicom.rtstruct(tmp_path / "rt.dcm", dicom.series(tmp_path / "x", image), {"ring": [outer, inner]})
    empty = pydicom.Dataset()
    empty.ContourGeometricType = "CLOSED_PLANAR"
    dataset.ROIContourSequence[0].ContourSequence.append(empty)
    dataset.save_as(tmp_path / "rt.dcm")
    (source,) = cases(tmp_path)
    _, found = prepared(source, crop_to_foreground=False)
    assert found["ring"].sum() == 64 - 9


@pytest.mark.parametrize("kind", ["SEG", "RTSTRUCT"])
def test_objects_of_one_series_may_be_drawn_on_different_images(tmp_path, body, dicom, kind):
    image, label_map = body
    uid = pydicom.uid.generate_uid()
    for number in (1, 2):
        series, path = dicom.series(tmp_path / f"x{number}", image), tmp_path / f"drawn{number}.dcm"
        if kind == "SEG":
            dicom.seg(path, series, {f"organ {number}": label_map.data == number})
        else:
            dicom.rtstruct(path, series, {f"organ {number}": [square(image, 5, 6, 3, 8)]})
        dataset = pydicom.dcmread(path)
        dataset.SeriesInstanceUID = uid
        dataset.save_as(path)
    found = [[set(one.labels.values()) for one in source.load()[1]] for source in cases(tmp_path)]
    assert found == [[{"organ 1"}], [{"organ 2"}]]


def test_contours_that_name_no_series_are_drawn_on_the_one_of_their_frame_of_reference(tmp_path, body, dicom):
    image, _ = body
    dicom.series(tmp_path / "other", image)
    series = dicom.series(tmp_path / "x", image)
    dataset = dicom.rtstruct(tmp_path / "rt.dcm", series, {"a": [square(image, 5, 6, 3, 8)]})
    del dataset.ReferencedFrameOfReferenceSequence[0].RTReferencedStudySequence
    dataset.save_as(tmp_path / "rt.dcm")
    (source,) = cases(tmp_path)
    assert source.files[0].parent.name == "x"
    source.load()


def test_pixels_without_a_decoder_are_told_as_such(tmp_path, body, dicom):
    """JPEG Lossless, which hospitals send and no package of ours reads."""
    image, label_map = body
    series = dicom.series(tmp_path / "x", image)
    dicom.seg(tmp_path / "seg.dcm", series, {"spine": label_map.data == 3})
    if get_decoder(pydicom.uid.JPEGLosslessSV1).is_available:
        pytest.skip("a decoder is installed")
    for path in (tmp_path / "x").iterdir():
        dataset = pydicom.dcmread(path)
        dataset.file_meta.TransferSyntaxUID = pydicom.uid.JPEGLosslessSV1
        dataset.PixelData = encapsulate([b"\xff\xd8\xff\xd9"])
        dataset["PixelData"].VR = "OB"
        dataset["PixelData"].is_undefined_length = True
        dataset.save_as(path)
    (source,) = cases(tmp_path)
    with pytest.raises(InputError, match=r"no decoder is installed for its pixels \(JPEG Lossless.*pip install"):
        source.load()


def test_a_filled_circle_has_its_area_and_an_edge_belongs_to_one_side():
    angles = np.linspace(0, 2 * np.pi, 400, endpoint=False)
    circle = np.c_[40.3 + 30.2 * np.cos(angles), 35.7 + 30.2 * np.sin(angles)]
    mask = fill([circle], (80, 70))
    assert abs(mask.sum() / (np.pi * 30.2**2) - 1) < 0.005
    np.testing.assert_allclose(ndimage.center_of_mass(mask), (40.3, 35.7), atol=0.1)
    left, right = np.array([[2, 2], [5, 2], [5, 8], [2, 8]]), np.array([[5, 2], [9, 2], [9, 8], [5, 8]])
    both = fill([left.astype(float)], (12, 12)).astype(int) + fill([right.astype(float)], (12, 12))
    assert both.max() == 1
    assert both.sum() == 7 * 6
    outside = np.array([[-50.0, -50], [200, -50], [200, 200], [-50, 200]])
    assert fill([outside], (12, 12)).all()
    assert not fill([], (12, 12)).any()


def test_contours_of_no_use_are_refused(tmp_path, body, dicom):
    image, _ = body
    tilted = square(image, 5, 6, 3, 8)
    tilted[0, 2] += 2
    for number, (drawn, match) in enumerate(
        (
            ([tilted], "across the planes"),
            ([square(image, 5, 6, 40, 8)], "outside the image"),
            ([square(image, 5, 6, k, 8) for k in (1, 3, 5)], "every 2th plane"),
            ([], "no closed contour"),
        )
    ):
        folder = tmp_path / str(number)
        dicom.rtstruct(folder / "rt.dcm", dicom.series(folder / "x", image), {"a": drawn})
        (source,) = cases(folder)
        with pytest.raises(InputError, match=match):
            list(source.load()[1])


def test_no_identifier_leaves_the_files(tmp_path, body, dicom, tied, capfd, caplog):
    """Neither in the store nor in what is said of a case that fails."""
    folder = tmp_path / "in" / "DOEBELIUS_ANNA"
    good = dicom.series(folder / "BRX-1514-77", body[0], name="Doebelius_{:03d}.dcm")
    dicom.seg(folder / "Doebelius_seg.dcm", good, {"spine": body[1].data == 3})
    bad = dicom.series(folder / "BRX-1514-77b", body[0], name="Anna_{:03d}.dcm")
    dicom.seg(folder / "Anna_seg.dcm", bad, {"spine": body[1].data == 3})
    (folder / "BRX-1514-77b/Anna_000.dcm").unlink()
    (folder / "BRX-1514-77b/Anna_014.dcm").unlink()
    (folder / "BRX-1514-77b/Doebelius_broken.dcm").write_bytes(b"\0" * 128 + b"DICM" + b"Doebelius" * 20)
    sources = cases(tmp_path / "in")
    assert len(sources) == 3
    outcome = prepare(sources, resolver=tied, settings=PrepareSettings(), out=tmp_path / "store")
    assert (len(outcome.cases), len(outcome.rejects)) == (1, 2)
    said = [str(outcome), *capfd.readouterr(), caplog.text]
    uids = (good[0].SeriesInstanceUID, good[0].StudyInstanceUID, bad[0].SeriesInstanceUID, good[0].SOPInstanceUID)
    for path in (tmp_path / "store").rglob("*"):
        said.append(path.name)
        if path.is_file():
            said.append(path.read_bytes().decode("latin-1"))
    for text in said:
        for word in (*dicom.identifiers, *uids):
            assert word not in text.lower()
    assert {reject.file for reject in outcome.rejects} < {source.shown_as for source in sources}
    assert all(reject.reason for reject in outcome.rejects)


def test_names_that_tell_a_patient_are_refused(tmp_path, body, dicom):
    folder = tmp_path / "Doebelius Anna"
    series = dicom.series(folder / "x", body[0])
    dicom.seg(folder / "seg.dcm", series, {"liver of BRX-1514-77": body[1].data == 3})
    with pytest.raises(SettingError, match="would tell a patient") as caught:
        cases(folder, dataset=None)
    assert "Doebelius" not in str(caught.value)
    (source,) = cases(folder)
    with pytest.raises(InputError, match="the name of a segment tells the patient"):
        list(source.load()[1])


@pytest.mark.parametrize("name", ["Doebelius_GTV", "GTV (anna)", "ng_tumour", "PTV Ng", "Ohm", "XQ-4471 liver"])
def test_a_part_of_a_name_tells_too_and_so_does_what_only_the_object_says(tmp_path, body, dicom, name):
    series = dicom.series(tmp_path / "x", body[0])
    dicom.seg(tmp_path / "seg.dcm", series, {name: body[1].data == 3})
    dataset = pydicom.dcmread(tmp_path / "seg.dcm")
    dataset.OtherPatientNames, dataset.PatientID = ["Ng^Mai", "Weber-Ohm^Anna^^MR"], "XQ-4471"
    dataset.save_as(tmp_path / "seg.dcm")
    (source,) = cases(tmp_path)
    with pytest.raises(InputError, match="tells the patient"):
        list(source.load()[1])


def test_words_that_only_hold_a_short_name_are_kept(tmp_path, body, dicom):
    series = dicom.series(tmp_path / "x", body[0])
    dicom.seg(tmp_path / "seg.dcm", series, {"lung MR": body[1].data == 3})
    dataset = pydicom.dcmread(tmp_path / "seg.dcm")
    dataset.PatientName = "Ng^Mai^^MR"
    dataset.save_as(tmp_path / "seg.dcm")
    (source,) = cases(tmp_path)
    assert [dict(one.labels) for one in source.load()[1]] == [{1: "lung MR"}]


def test_a_series_of_another_modality_fails_alone_unless_it_is_said(tmp_path, body, dicom):
    series = dicom.series(tmp_path / "x", body[0])
    dicom.seg(tmp_path / "seg.dcm", series, {"spine": body[1].data == 3})
    for path in (tmp_path / "x").iterdir():
        dataset = pydicom.dcmread(path)
        dataset.Modality = "OT"
        dataset.save_as(path)
    (source,) = cases(tmp_path)
    with pytest.raises(InputError, match="its modality is none of CT, MR, PT, US"):
        source.load()
    (source,) = cases(tmp_path, modality="ct")
    source.load()


def test_ids_hang_on_the_salt(tmp_path, body, dicom):
    series = dicom.series(tmp_path / "x", body[0])
    dicom.seg(tmp_path / "seg.dcm", series, {"spine": body[1].data == 3})
    (first,), (again,), (other,) = cases(tmp_path), cases(tmp_path), cases(tmp_path, salt="t")
    assert (first.case_id, first.patient_id) == (again.case_id, again.patient_id)
    assert first.case_id != other.case_id
    assert first.patient_id != other.patient_id


def test_incomplete_series_are_refused(tmp_path, body, dicom):
    image, label_map = body
    whole = dicom.series(tmp_path / "a/x", image)
    dicom.seg(tmp_path / "a/seg.dcm", whole, {"spine": label_map.data == 3})
    files = sorted((tmp_path / "a/x").iterdir())
    held = files[4].read_bytes()
    files[4].unlink()
    (source,) = cases(tmp_path / "a")
    with pytest.raises(InputError, match="a slice is missing"):
        source.load()
    files[4].write_bytes(held)
    twice = pydicom.dcmread(files[4])
    twice.SOPInstanceUID = twice.file_meta.MediaStorageSOPInstanceUID = pydicom.uid.generate_uid()
    twice.save_as(tmp_path / "a/x/twice.dcm")
    (source,) = cases(tmp_path / "a")
    with pytest.raises(InputError, match="several slices at one place"):
        source.load()
    lonely = tmp_path / "lonely"
    dicom.seg(lonely / "seg.dcm", whole, {"spine": label_map.data == 3})
    (source,) = cases(lonely)
    with pytest.raises(InputError, match="the image series of this segmentation is not here"):
        source.load()
    dicom.series(tmp_path / "plain", image)
    with pytest.raises(InputError, match="no SEG or RTSTRUCT among 10 files"):
        cases(tmp_path / "plain")


def outcome_of(folder):
    """Reads all cases; returns what was said against the first that cannot be read."""
    try:
        for source in cases(folder):
            _, label_maps = source.load()
            list(label_maps)
    except (InputError, SettingError) as error:
        return str(error)
    return ""


def test_mutated_dicom_is_read_or_refused(tmp_path, body, dicom, caplog):
    image, label_map = body
    series = dicom.series(tmp_path / "x", image)
    dicom.seg(tmp_path / "seg.dcm", series, {"spine": label_map.data == 3, "all": label_map.data > 0})
    dicom.rtstruct(tmp_path / "rt.dcm", series, {"ring": [square(image, 5, 6, 3, 8)]})
    rng = np.random.default_rng(2)
    paths = [tmp_path / "seg.dcm", tmp_path / "rt.dcm", min((tmp_path / "x").iterdir())]
    for path in paths:
        whole = path.read_bytes()
        for _ in range(12):
            made = bytearray(whole)
            for at in rng.integers(132, min(len(whole), 3000), size=int(rng.integers(1, 5))):
                made[at : at + 4] = rng.bytes(int(rng.integers(0, 6)))
            path.write_bytes(made)
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                said = outcome_of(tmp_path)
            assert not any(word in said.lower() for word in dicom.identifiers)
        path.write_bytes(whole)
    assert not any(word in caplog.text.lower() for word in dicom.identifiers)

"""What holds for every layout."""

import os
import pickle
from typing import get_args, get_type_hints

import numpy as np
import pytest

from vesalius.cli.volumes import prepare
from vesalius.errors import InputError, SettingError
from vesalius.ids import MODALITIES, SPLITS
from vesalius.volumes.layouts import LAYOUTS, LayoutOptions, layout_of

MADE_BY_PACKAGES = {"atlas"}
ON_DISK = sorted(set(LAYOUTS) - MADE_BY_PACKAGES)


def test_every_layout_has_a_fixture(writers):
    assert set(writers) == set(LAYOUTS) - MADE_BY_PACKAGES


@pytest.mark.parametrize("layout", ON_DISK)
def test_the_same_body_prepares_to_the_same_arrays(layout, writers, tmp_path, body, prepared, write_grid):
    write_grid(tmp_path / "plain/images/a.nii.gz", body[0])
    write_grid(tmp_path / "plain/labels/a.nii.gz", body[1])
    (tmp_path / "plain/labels.json").write_text('{"1": "left kidney", "2": "right kidney", "3": "spine"}')
    (plain,) = layout_of("nifti-pairs")(LayoutOptions(folder=tmp_path / "plain", modality="ct"))
    image, masks = prepared(plain)
    folder = tmp_path / "made dataset"
    folder.mkdir()
    (source,) = layout_of(layout)(writers[layout](folder, *body))
    found, found_masks = prepared(source)
    np.testing.assert_allclose(found, image, atol=2e-3)
    assert set(found_masks) == set(masks) == {"left kidney", "right kidney", "spine"}
    for name, mask in masks.items():
        np.testing.assert_array_equal(found_masks[name], mask)


@pytest.mark.parametrize("layout", ON_DISK)
def test_a_case_says_what_the_contract_asks_for(layout, writers, tmp_path, body):
    folder = tmp_path / "made dataset"
    folder.mkdir()
    (source,) = layout_of(layout)(writers[layout](folder, *body))
    assert source.modality in MODALITIES
    assert source.split is None or source.split in SPLITS
    assert source.case_id == source.case_id.lower().replace(" ", "-")
    assert source.files
    assert all(path.is_file() for path in source.files)
    assert source.origins
    image, label_maps = pickle.loads(pickle.dumps(source)).load()
    assert image.data.dtype == np.float32
    assert sum(len(label_map.labels) for label_map in label_maps) == 3


@pytest.mark.parametrize("layout", ON_DISK)
def test_nothing_is_read_before_its_turn(layout, writers, tmp_path, body):
    folder = tmp_path / "made dataset"
    folder.mkdir()
    options = writers[layout](folder, *body)
    (source,) = layout_of(layout)(options)
    for path in source.files:
        if path.suffix in {".gz", ".npz", ".npy"}:
            path.write_bytes(path.read_bytes()[:60])
    if layout == "dicom":
        for path in source.files:
            path.write_bytes(path.read_bytes()[:-30])
    (again,) = layout_of(layout)(options) if layout != "dicom" else (source,)
    assert again.case_id == source.case_id
    with pytest.raises(InputError) as caught:
        list(again.load()[1])
    assert "\n" not in str(caught.value)
    assert caught.value.remedy
    if layout != "dicom":
        assert any(path.name in str(caught.value) for path in source.files)


@pytest.mark.parametrize("layout", ON_DISK)
def test_a_folder_that_is_not_there_or_empty_is_refused(layout, tmp_path):
    with pytest.raises(SettingError, match="no folder"):
        list(layout_of(layout)(LayoutOptions()))
    with pytest.raises(InputError, match="no such folder"):
        list(layout_of(layout)(LayoutOptions(folder=tmp_path / "nowhere")))
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(InputError):
        list(layout_of(layout)(LayoutOptions(folder=empty)))


@pytest.mark.parametrize("layout", sorted(LAYOUTS))
def test_an_option_without_effect_is_refused(layout, tmp_path):
    options = {"noncommercial": True} if layout != "atlas" else {"stored_orientation": "LPS"}
    with pytest.raises(SettingError, match="no effect"):
        list(layout_of(layout)(LayoutOptions(folder=tmp_path if layout != "atlas" else None, **options)))


def test_the_command_line_offers_every_layout():
    assert set(get_args(get_type_hints(prepare)["layout"])) == set(LAYOUTS)


def test_a_layout_that_is_not_there_is_refused():
    with pytest.raises(SettingError, match="no layout 'nifti'"):
        layout_of("nifti")


@pytest.mark.parametrize("layout", ["nnunet", "totalsegmentator", "sat-ds", "cvpr25", "dicom"])
def test_a_modality_that_contradicts_the_dataset_is_refused(layout, writers, tmp_path, body):
    folder = tmp_path / "made"
    folder.mkdir()
    options = writers[layout](folder, *body)
    contradicting = LayoutOptions(folder=options.folder, salt=options.salt, modality="us")
    with pytest.raises(SettingError, match="but the dataset says ct"):
        list(layout_of(layout)(contradicting))


@pytest.mark.parametrize("layout", ON_DISK)
def test_a_folder_that_cannot_be_listed_is_told(layout, writers, tmp_path, body, monkeypatch):
    """Root may list everything, so the system's call is made to refuse each folder in turn."""
    folder = tmp_path / "made dataset"
    folder.mkdir()
    options = writers[layout](folder, *body)
    given = options.folder if options.folder.is_dir() else options.folder.parent
    before = {source.case_id for source in layout_of(layout)(options)}
    for closed in [given, *(path for path in given.rglob("*") if path.is_dir())]:
        for name in ("listdir", "scandir"):
            real = getattr(os, name)

            def listing(path=".", real=real, closed=closed):
                if str(path).rstrip("/") == str(closed):
                    raise PermissionError(13, "Permission denied", str(path))
                return real(path)

            monkeypatch.setattr(os, name, listing)
        try:
            assert {source.case_id for source in layout_of(layout)(options)} == before  # it need not be listed
        except InputError as error:
            told = str(error)
            assert "Permission denied" in told or "cannot be read" in told
            assert "\n" not in told
            assert layout != "dicom" or closed == given or str(closed) not in told
        monkeypatch.undo()

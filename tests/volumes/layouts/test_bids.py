import numpy as np
import pytest

from vesalius.errors import InputError
from vesalius.volumes.layouts import LayoutOptions
from vesalius.volumes.layouts.bids import bids_cases


@pytest.fixture
def dataset(tmp_path, body, write_grid):
    """Writes images and label maps of subjects, and tables."""

    def write(*names, **tables):
        for name in names:
            write_grid(tmp_path / f"{name}.nii.gz", body[1] if name.endswith(("dseg", "msk")) else body[0])
        for name, text in tables.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text)
        return LayoutOptions(folder=tmp_path, salt="s", dataset="d")

    return write


TABLE = "index\tname\n1\tleft hippocampus\n2\tright hippocampus\n3\tthalamus\n"


def labels_of(source):
    return [dict(label_map.labels) for label_map in source.load()[1]]


def test_the_sequence_is_the_suffix_and_subjects_are_patients(dataset, tmp_path):
    options = dataset(
        "sub-01/anat/sub-01_T1w", "derivatives/p/sub-01/anat/sub-01_dseg",
        "sub-02/ses-a/anat/sub-02_ses-a_FLAIR", "derivatives/p/sub-02/ses-a/anat/sub-02_ses-a_dseg",
        "sub-02/ses-b/anat/sub-02_ses-b_FLAIR", "derivatives/p/sub-02/ses-b/anat/sub-02_ses-b_dseg",
        "sub-03/anat/sub-03_T1w",
        **{"derivatives/p/dseg.tsv": TABLE, "participants.tsv": "participant_id\tsplit\nsub-01\ttest\nsub-02\t\n"},
    )  # fmt: skip
    sources = bids_cases(options)
    assert [s.case_id for s in sources] == ["d-sub-01-t1w", "d-sub-02-ses-a-flair", "d-sub-02-ses-b-flair"]
    assert [s.sequence for s in sources] == ["T1w", "FLAIR", "FLAIR"]
    assert [s.split for s in sources] == ["test", None, None]
    assert sources[0].patient_id != sources[1].patient_id == sources[2].patient_id
    assert labels_of(sources[1]) == [{1: "left hippocampus", 2: "right hippocampus", 3: "thalamus"}]


def test_the_nearest_table_whose_entities_fit_names_the_values(dataset):
    options = dataset(
        "sub-01/anat/sub-01_T1w",
        "derivatives/p/sub-01/anat/sub-01_desc-aseg_dseg",
        **{
            "derivatives/p/dseg.tsv": TABLE,
            "derivatives/p/desc-aseg_dseg.tsv": TABLE.replace("thalamus", "caudate"),
            "derivatives/p/desc-other_dseg.tsv": TABLE.replace("thalamus", "putamen"),
            "derivatives/p/sub-01/anat/sub-02_dseg.tsv": TABLE.replace("thalamus", "nothing"),
        },
    )
    (source,) = bids_cases(options)
    assert labels_of(source)[0][3] == "caudate"


def test_several_label_maps_are_labellings_and_those_in_another_space_are_none(dataset):
    options = dataset(
        "sub-01/anat/sub-01_T1w", "sub-01/anat/sub-01_T2w",
        "derivatives/p/sub-01/anat/sub-01_desc-a_dseg", "derivatives/p/sub-01/anat/sub-01_desc-b_dseg",
        "derivatives/p/sub-01/anat/sub-01_space-MNI152NLin2009cAsym_dseg",
        "derivatives/p/sub-01/anat/sub-01_space-T2w_dseg",
        **{"dseg.tsv": TABLE},
    )  # fmt: skip
    first, second = bids_cases(options)
    assert (first.sequence, second.sequence) == ("T1w", "T2w")
    assert [label_map.labelling for label_map in first.load()[1]] == ["sub-01_desc-a_dseg", "sub-01_desc-b_dseg"]
    assert [label_map.labelling for label_map in second.load()[1]] == ["sub-01_space-T2w_dseg"]


def test_a_label_map_of_another_run_is_not_the_images(dataset):
    options = dataset(
        "sub-01/anat/sub-01_run-1_T1w", "sub-01/anat/sub-01_run-2_T1w",
        "derivatives/p/sub-01/anat/sub-01_run-2_dseg", **{"dseg.tsv": TABLE},
    )  # fmt: skip
    (source,) = bids_cases(options)
    assert source.case_id == "d-sub-01-run-2-t1w"


def test_spine_datasets_in_their_own_dialect_are_read(dataset, tmp_path):
    options = dataset("rawdata/sub-v1/sub-v1_ct", "derivatives/sub-v1/sub-v1_seg-vert_msk")
    (tmp_path / "table.json").write_text('{"1": "C1", "2": "C2", "3": "C3"}')
    (source,) = bids_cases(LayoutOptions(folder=options.folder, salt="s", labels=tmp_path / "table.json"))
    assert source.modality == "ct"
    assert labels_of(source) == [{1: "C1", 2: "C2", 3: "C3"}]


def test_without_a_table_or_a_label_map_there_is_no_case(dataset):
    options = dataset("sub-01/anat/sub-01_T1w")
    with pytest.raises(InputError, match="no image with a label map"):
        bids_cases(options)
    dataset("derivatives/p/sub-01/anat/sub-01_dseg")
    (source,) = bids_cases(options)
    with pytest.raises(InputError, match=r"sub-01_dseg\.nii\.gz: nothing says"):
        list(source.load()[1])


def test_a_label_map_on_another_grid_is_refused(dataset, body, write_grid, tmp_path):
    options = dataset("sub-01/anat/sub-01_T1w", **{"dseg.tsv": TABLE})
    moved = body[1].affine + np.eye(4)[:, [3, 0, 1, 2]] * 0.5
    other = type(body[1])(data=body[1].data, affine=np.where(moved == 0, 0, moved), labels={})
    write_grid(tmp_path / "derivatives/p/sub-01/anat/sub-01_dseg.nii.gz", other)
    (source,) = bids_cases(options)
    with pytest.raises(InputError, match="off its image's grid"):
        list(source.load()[1])


def test_a_folder_of_derivatives_is_read_by_itself(dataset):
    options = dataset(
        "sub-01/anat/sub-01_desc-brain_T1w", "sub-01/anat/sub-01_desc-preproc_T1w",
        "sub-01/anat/sub-01_space-MNI152_desc-preproc_T1w", "sub-01/anat/sub-01_desc-aseg_dseg",
        "sub-01/anat/sub-01_space-MNI152_desc-aseg_dseg", "sub-01/anat/sub-01_space-other_dseg",
        **{"desc-aseg_dseg.tsv": TABLE},
    )  # fmt: skip
    sources = bids_cases(options)
    assert [source.case_id for source in sources] == [
        "d-sub-01-desc-preproc-t1w",
        "d-sub-01-space-mni152-desc-preproc-t1w",
    ]
    drawn = [[label_map.labelling for label_map in source.load()[1]] for source in sources]
    assert drawn == [["sub-01_desc-aseg_dseg"], ["sub-01_space-MNI152_desc-aseg_dseg"]]

"""A small case made of code, as it would lie in any of the 48 orientations."""

from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest

from vesalius.ids import CaseId, ResolvedLabel, local_concept_id
from vesalius.volumes.case import SourceCase
from vesalius.volumes.image import Image, LabelMap

LABELS = {1: "left kidney", 2: "right kidney", 7: "spine"}


@pytest.fixture
def body() -> tuple[Image, LabelMap]:
    """A blob of tissue in air with three organs, one at the edge of the field of view."""
    rng = np.random.default_rng(1)
    data = np.full((20, 24, 18), -1000, dtype=np.float32)
    data[3:17, 4:20, :] = rng.normal(40, 20, size=(14, 16, 18))
    labels = np.zeros(data.shape, dtype=np.int16)
    labels[4:8, 6:12, 4:9] = 1
    labels[12:16, 6:12, 4:9] = 2
    labels[9:11, 6:8, :] = 7
    affine = np.diag([1.5, 1.5, 2.0, 1.0])
    affine[:3, 3] = (-15, -20, 30)
    return Image(data=data, affine=affine), LabelMap(data=labels, affine=affine, labels=LABELS)


@pytest.fixture
def resolver() -> Callable[[str], ResolvedLabel]:
    """Ties every label to a concept of its own."""
    return lambda text: ResolvedLabel(
        concept_id=local_concept_id(text).replace("LABEL", "TEST"), laterality=None, name=text, tied_by="name"
    )


@pytest.fixture
def source(tmp_path: Path, body: tuple[Image, LabelMap]) -> Callable[..., SourceCase]:
    """Makes a source case of `body`, or of another image and label maps, with a file that stands for them."""

    def make(name="one", load=None, modality="ct", **more) -> SourceCase:
        image, label_map = body
        path = tmp_path / f"{name}.bin"
        if not path.exists():
            path.write_text(name)
        return SourceCase(
            case_id=CaseId(name),
            dataset="made",
            modality=modality,
            split="train",
            patient_id=None,
            load=load or (lambda: (image, [label_map])),
            origins=(),
            files=(path,),
            **more,
        )

    return make


@pytest.fixture
def write_nifti(tmp_path: Path) -> Callable[..., Path]:
    """Writes an array as NIfTI below the test's folder."""

    def write(name: str, data: np.ndarray, affine: np.ndarray | None = None) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        nibabel.save(nibabel.Nifti1Image(data, np.eye(4) if affine is None else affine), path)
        return path

    return write

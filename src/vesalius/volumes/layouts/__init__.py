"""Layouts: how the files of a dataset lie, one function a layout."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

from vesalius.errors import SettingError
from vesalius.folder import unreadable
from vesalius.volumes.case import SourceCase
from vesalius.volumes.layouts.bids import bids_cases
from vesalius.volumes.layouts.cvpr25 import cvpr25_cases
from vesalius.volumes.layouts.embedded import embedded_cases
from vesalius.volumes.layouts.nifti_pairs import folder_cases
from vesalius.volumes.layouts.nnunet import nnunet_cases
from vesalius.volumes.layouts.options import LayoutOptions
from vesalius.volumes.layouts.sat_ds import sat_ds_cases
from vesalius.volumes.layouts.totalsegmentator import totalsegmentator_cases

Layout = Callable[[LayoutOptions], Iterable[SourceCase]]
"""Options → the cases of the dataset; none is read yet. Refuses an option it has no use for."""


def _dicom_cases(options: LayoutOptions) -> Iterable[SourceCase]:
    from vesalius.volumes.layouts.dicom import dicom_cases  # noqa: PLC0415  its reader is in an extra

    return dicom_cases(options)


LAYOUTS: dict[str, Layout] = {
    "atlas": embedded_cases,
    "nifti-pairs": folder_cases,
    "nnunet": nnunet_cases,
    "totalsegmentator": totalsegmentator_cases,
    "sat-ds": sat_ds_cases,
    "cvpr25": cvpr25_cases,
    "bids": bids_cases,
    "dicom": _dicom_cases,
}
"""Name → layout. ``atlas`` is the data in installed packages, ``nifti-pairs`` a folder of images and label maps."""


def layout_of(name: str) -> Layout:
    """Returns the layout of that name; a file or folder that it cannot look at raises an `InputError`.

    Raises:
        SettingError: there is none.
    """
    if name not in LAYOUTS:
        raise SettingError(f"no layout {name!r}", remedy=f"give one of {', '.join(LAYOUTS)}")
    return partial(_listed, LAYOUTS[name])


def _listed(layout: Layout, options: LayoutOptions) -> list[SourceCase]:
    try:
        return list(layout(options))
    except OSError as error:
        raise unreadable(Path(error.filename or options.folder or ""), error) from error


__all__ = ["LAYOUTS", "Layout", "LayoutOptions", "SourceCase", "layout_of"]

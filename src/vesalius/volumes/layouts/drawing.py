"""From one array of label values to label maps, where labels may overlap."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from vesalius.arrays import Affine, LabelVoxels
from vesalius.volumes.image import LabelMap


def label_maps_of(
    data: LabelVoxels, affine: Affine, labels: Mapping[str, Collection[int]], *, ignored: Collection[int] = ()
) -> list[LabelMap]:
    """Returns as few label maps over one array as hold every label: a value of several labels is in as many of them.

    Args:
        data: `i j k`, label values.
        affine: voxel index → world mm, RAS+.
        labels: label → its values; ``kidney`` may hold the values of ``left kidney`` and ``right kidney``.
        ignored: values that stand for nothing.
    """
    elsewhere = frozenset(value for values in labels.values() for value in values) | frozenset(ignored)
    layers: list[dict[int, str]] = []
    for text, values in labels.items():
        free = next((layer for layer in layers if not layer.keys() & set(values)), None)
        if free is None:
            free = {}
            layers.append(free)
        free.update(dict.fromkeys(values, text))
    return [
        LabelMap(
            data=data,
            affine=affine,
            labels=layer,
            ignored=elsewhere.difference(layer),
        )
        for layer in layers or [{}]
    ]

"""Which crops make a step of stage 2: drawn as published, seeded, and placed exactly."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypedDict

import numpy as np
import torch
from jaxtyping import Bool

from vesalius.arrays import Box
from vesalius.corpus.batch import RegionCrop
from vesalius.errors import InputError, SettingError
from vesalius.ids import CaseId, Modality, Split
from vesalius.volumes.regions import Region
from vesalius.volumes.store import CaseStore


@dataclass(frozen=True, kw_only=True)
class CropSettings:
    """How crops are drawn.

    Attributes:
        size: voxels along i, j and k.
        max_regions: most regions taken from a crop, the drawn one among them.
    """

    size: tuple[int, int, int]
    max_regions: int = 8

    def __post_init__(self) -> None:
        """Refuses values that cannot work."""
        if min(self.size) < 1:
            raise SettingError(f"crop size is {self.size}", remedy="give 1 or more voxels along each axis")
        if self.max_regions < 1:
            raise SettingError(f"max_regions is {self.max_regions}", remedy="give 1 or more")


class CropState(TypedDict):
    """Where a crop sampler stands."""

    step: int


class CropSampler:
    """Draws crops around labelled structures.

    As SAT-Pretrain: a structure with weight √(number of its cases), one of its cases with weight 1/√(size of the case's dataset),
    a crop around a random voxel of it, and further structures that lie in the crop. Departures: the crop takes the
    array's own axes (the published one confused channel and first axis, so that half of its crops missed the structure); other
    structures are those with voxels inside the crop, not those whose boxes touch it; they are drawn without
    replacement. Near a border the crop is moved inside the case as far as it fits; what lies outside is padded.

    Each draw has a generator of its own, seeded by (seed, step).

    Args:
        store: the cases.
        splits: cases of these sides are drawn.
        prompts: gives the texts a region may be asked for with, at least one.
        settings: size and number of regions.
        seed: decides every draw.

    Raises:
        InputError: no case of these sides has a region.
    """

    def __init__(
        self,
        store: CaseStore,
        *,
        splits: Sequence[Split],
        prompts: Callable[[Region], Sequence[str]],
        settings: CropSettings,
        seed: int = 0,
    ) -> None:
        self._store = store
        self._prompts = prompts
        self._settings = settings
        self._seed = seed
        self._step = 0
        rows = [row for row in store.cases if row.split in splits]
        dataset_sizes = Counter(row.dataset for row in rows)
        self._modality: dict[CaseId, Modality] = {row.case_id: row.modality for row in rows}
        self._shape = {row.case_id: row.shape for row in rows}
        self._case_weight = {row.case_id: dataset_sizes[row.dataset] ** -0.5 for row in rows}
        self._regions: dict[CaseId, list[Region]] = {row.case_id: store.regions(row.case_id) for row in rows}
        self._by_key: dict[str, list[Region]] = {}
        for regions in self._regions.values():
            for region in regions:
                self._by_key.setdefault(region.key, []).append(region)
        if not self._by_key:
            raise InputError(f"no regions in the cases of {' and '.join(splits)}", remedy="prepare cases with labels")
        self._keys = sorted(self._by_key)
        weights = np.sqrt([len(self._by_key[key]) for key in self._keys])
        self._key_weights = weights / weights.sum()

    @property
    def keys(self) -> list[str]:
        """The structures there are to draw, sorted."""
        return list(self._keys)

    def state_dict(self) -> CropState:
        """Returns where the sampler stands."""
        return CropState(step=self._step)

    def load_state_dict(self, state: CropState) -> None:
        """Goes to where `state` was taken."""
        self._step = state["step"]

    def draw(self) -> RegionCrop:
        """Returns the next crop; its first region is the one that was drawn."""
        rng = np.random.default_rng([self._seed, 2, self._step])
        self._step += 1
        candidates = self._by_key[self._keys[rng.choice(len(self._keys), p=self._key_weights)]]
        weights = np.array([self._case_weight[region.case_id] for region in candidates])
        drawn = candidates[rng.choice(len(candidates), p=weights / weights.sum())]
        box = self._box_around(drawn, rng)
        regions, masks = self._regions_in(box, drawn, rng)
        image = crop_array(
            self._store.read_image(drawn.case_id, _inside(box, self._shape[drawn.case_id])),
            box=box,
            shape=self._shape[drawn.case_id],
        )
        return RegionCrop(
            image=torch.from_numpy(image),
            masks=torch.from_numpy(masks),
            keys=[region.key for region in regions],
            prompts=[self._one_prompt(region, rng) for region in regions],
            concept_ids=[region.concept_id for region in regions],
            modality=self._modality[drawn.case_id],
            name=f"{drawn.case_id} {box[0]}–{box[1]}",
        )

    def _one_prompt(self, region: Region, rng: np.random.Generator) -> str:
        texts = self._prompts(region)
        return texts[int(rng.integers(len(texts)))]

    def _box_around(self, region: Region, rng: np.random.Generator) -> Box:
        """Returns a box of the crop's size that holds a random voxel of `region`, at a random place within the box."""
        voxels = np.argwhere(self._store.read_mask(region, (region.start, region.stop)))
        voxel = voxels[rng.integers(len(voxels))] + np.array(region.start)
        start = []
        for axis, (size, length) in enumerate(zip(self._settings.size, self._shape[region.case_id], strict=True)):
            free = voxel[axis] - rng.integers(size)
            low, high = min(0, length - size), max(0, length - size)
            start.append(int(np.clip(free, low, high)))
        return (start[0], start[1], start[2]), tuple(a + b for a, b in zip(start, self._settings.size, strict=True))  # type: ignore[return-value]

    def _regions_in(
        self, box: Box, drawn: Region, rng: np.random.Generator
    ) -> tuple[list[Region], Bool[np.ndarray, "n i j k"]]:
        others = [
            region
            for region in self._regions[drawn.case_id]
            if region.key != drawn.key
            and all(a < d and c < b for a, b, c, d in zip(box[0], box[1], region.start, region.stop, strict=True))
        ]
        shape = self._shape[drawn.case_id]
        regions, masks, keys = [], [], set()
        for region in [drawn, *(others[index] for index in rng.permutation(len(others)))]:
            if region.key in keys:
                continue
            mask = crop_array(self._store.read_mask(region, _inside(box, shape)), box=box, shape=shape)
            if mask.any():
                regions.append(region)
                masks.append(mask)
                keys.add(region.key)
            if len(regions) == self._settings.max_regions:
                break
        return regions, np.stack(masks)


def crop_array(inside: np.ndarray, *, box: Box, shape: tuple[int, int, int]) -> np.ndarray:
    """Pads what was read of a case to the whole box: an image with its minimum, a mask with False.

    Args:
        inside: the part of the case that lies in the box.
        box: the box, which may reach beyond the case.
        shape: the case's shape.
    """
    margins = [(max(0, -a), max(0, b - length)) for a, b, length in zip(box[0], box[1], shape, strict=True)]
    if not any(map(any, margins)):
        return np.ascontiguousarray(inside)
    return np.pad(inside, margins, constant_values=False if inside.dtype == bool else inside.min())


def _inside(box: Box, shape: tuple[int, int, int]) -> Box:
    start, stop = box
    return (
        (max(0, start[0]), max(0, start[1]), max(0, start[2])),
        (min(shape[0], stop[0]), min(shape[1], stop[1]), min(shape[2], stop[2])),
    )

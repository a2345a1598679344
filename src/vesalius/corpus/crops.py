"""Which crops make a step of stage 2: drawn as published or so that structures are whole, seeded, and placed exactly."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool

from vesalius.arrays import Box, Voxels
from vesalius.corpus.batch import RegionCrop
from vesalius.errors import InputError, SettingError
from vesalius.ids import CaseId, Split
from vesalius.volumes.regions import Region
from vesalius.volumes.store import CaseStore

MIN_VISIBLE = 0.25
"""The covering sampler takes a region beside the drawn one only if this share of its voxels lies in the crop."""


@dataclass(frozen=True, kw_only=True)
class CropSettings:
    """How crops are drawn.

    Attributes:
        size: voxels along i, j and k.
        max_regions: most regions taken from a crop, the drawn one among them.
        sampler: ``published``: around a random voxel of the structure, with any other structures that have a voxel in
            the crop. ``covering``: so that the structure is whole, where it fits, with others of which enough can be
            seen, the rarer ones first.
        augment: turn, scale, shift and blur crops a little; never mirror them, for left is not right.
    """

    size: tuple[int, int, int]
    max_regions: int = 8
    sampler: Literal["published", "covering"] = "published"
    augment: bool = False

    def __post_init__(self) -> None:
        """Refuses values that cannot work."""
        if min(self.size) < 1:
            raise SettingError(f"crop size is {self.size}", remedy="give 1 or more voxels along each axis")
        if self.max_regions < 1:
            raise SettingError(f"max_regions is {self.max_regions}", remedy="give 1 or more")


class CropSampler:
    """Draws crops around labelled structures.

    As SAT-Pretrain: a structure with weight √(number of its cases), one of its cases with weight 1/√(size of the case's dataset),
    a crop around a random voxel of it, and further structures that lie in the crop. Departures: the crop takes the
    array's own axes (the published one confused channel and first axis, so that half of its crops missed the structure); other
    structures are those with voxels inside the crop, not those whose boxes touch it; they are drawn without
    replacement. Near a border the crop is moved inside the case as far as it fits; what lies outside is padded.

    The covering sampler differs in where the crop lies (anywhere it holds the structure's whole box, along each axis
    where that fits) and in the other structures: those of which `MIN_VISIBLE` lies in the crop, drawn with
    weight 1/√(number of their cases).

    Each draw has a number, and a generator of its own that (seed, number) decides: any process gives the same crop for a
    number, in any order. Nothing is held that grows with the number of draws.

    Args:
        store: the cases.
        splits: cases of these sides are drawn.
        prompts: gives the texts a region may be asked for with, at least one. It is asked once for each key and name.
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
        self._settings = settings
        self._seed = seed
        rows = [row for row in store.cases if row.split in splits]
        dataset_sizes = Counter(row.dataset for row in rows)
        self._rows = {row.case_id: row for row in rows}
        self._case_weight = {row.case_id: dataset_sizes[row.dataset] ** -0.5 for row in rows}
        self._regions: dict[CaseId, list[Region]] = {row.case_id: store.regions(row.case_id) for row in rows}
        self._by_key: dict[str, list[Region]] = {}
        self._texts: dict[tuple[str, str], tuple[str, ...]] = {}
        for regions in self._regions.values():
            for region in regions:
                self._by_key.setdefault(region.key, []).append(region)
                if (region.key, region.name) not in self._texts:
                    self._texts[region.key, region.name] = tuple(prompts(region))
        if not self._by_key:
            raise InputError(f"no regions in the cases of {' and '.join(splits)}", remedy="prepare cases with labels")
        self._keys = sorted(self._by_key)
        weights = np.sqrt([len(self._by_key[key]) for key in self._keys])
        self._key_weights = weights / weights.sum()

    @property
    def keys(self) -> list[str]:
        """The structures there are to draw, sorted."""
        return list(self._keys)

    def case_at(self, number: int) -> CaseId:
        """Returns the case of a draw, without reading it."""
        drawn, _ = self._drawn_at(number)
        return drawn.case_id

    def draw_at(self, number: int) -> RegionCrop:
        """Returns the crop of a draw; its first region is the one that was drawn."""
        drawn, rng = self._drawn_at(number)
        box = self._box_around(drawn, rng)
        image, regions, masks = self._read(drawn, box, rng)
        if self._settings.augment:
            from vesalius.corpus.augment import augmented  # noqa: PLC0415  MONAI takes seconds to import

            image, masks = augmented(image, masks, seed=int(rng.integers(2**31)))
            left = np.flatnonzero(masks.any(axis=(1, 2, 3)))
            regions, masks = [regions[place] for place in left], masks[left]
        return RegionCrop(
            image=torch.from_numpy(image),
            masks=torch.from_numpy(masks),
            keys=[region.key for region in regions],
            prompts=[self._one_prompt(region, rng) for region in regions],
            concept_ids=[region.concept_id for region in regions],
            modality=self._rows[drawn.case_id].modality,
            name=f"{drawn.case_id} {box[0]}–{box[1]}",
        )

    def _drawn_at(self, number: int) -> tuple[Region, np.random.Generator]:
        rng = np.random.default_rng([self._seed, 2, number])
        candidates = self._by_key[self._keys[rng.choice(len(self._keys), p=self._key_weights)]]
        weights = np.array([self._case_weight[region.case_id] for region in candidates])
        return candidates[rng.choice(len(candidates), p=weights / weights.sum())], rng

    def _one_prompt(self, region: Region, rng: np.random.Generator) -> str:
        texts = self._texts[region.key, region.name]
        return texts[int(rng.integers(len(texts)))]

    def _box_around(self, region: Region, rng: np.random.Generator) -> Box:
        """Returns a box of the crop's size that holds a random voxel of `region`, or its whole box where it fits."""
        voxel = self._store.nth_voxel(region, int(rng.integers(region.num_voxels)))
        start = []
        for axis, (size, length) in enumerate(zip(self._settings.size, self._rows[region.case_id].shape, strict=True)):
            first, last = voxel[axis] - size + 1, voxel[axis]
            if self._settings.sampler == "covering" and region.stop[axis] - region.start[axis] <= size:
                first, last = region.stop[axis] - size, region.start[axis]
            free = last - int(rng.integers(last - first + 1))
            start.append(int(np.clip(free, min(0, length - size), max(0, length - size))))
        stop = [a + b for a, b in zip(start, self._settings.size, strict=True)]
        return (start[0], start[1], start[2]), (stop[0], stop[1], stop[2])

    def _read(
        self, drawn: Region, box: Box, rng: np.random.Generator
    ) -> tuple[Voxels, list[Region], Bool[np.ndarray, "n i j k"]]:
        """Reads the crop with as many regions as are wanted; those that prove absent make room for others."""
        others = [
            region
            for region in self._regions[drawn.case_id]
            if region.key != drawn.key
            and all(a < d and c < b for a, b, c, d in zip(*box, region.start, region.stop, strict=True))
        ]
        waiting = [others[index] for index in self._order(others, rng)]
        wanted = [drawn, *waiting[: self._settings.max_regions - 1]]
        del waiting[: self._settings.max_regions - 1]
        image, masks = self._store.read_crop(drawn.case_id, box, wanted)
        is_seen = self._are_seen(wanted, masks)
        is_seen[0] = True
        if is_seen.all():
            return image, wanted, masks
        regions, kept = [wanted[place] for place in np.flatnonzero(is_seen)], list(masks[is_seen])
        for region in waiting:
            if len(regions) == self._settings.max_regions:
                break
            mask = self._store.read_mask_crop(region, box)
            if self._are_seen([region], mask[None])[0]:
                regions.append(region)
                kept.append(mask)
        return image, regions, np.stack(kept)

    def _order(self, others: Sequence[Region], rng: np.random.Generator) -> Sequence[int]:
        if self._settings.sampler == "published" or not others:
            return rng.permutation(len(others)).tolist()
        weights = np.array([len(self._by_key[region.key]) ** -0.5 for region in others])
        return rng.choice(len(others), size=len(others), replace=False, p=weights / weights.sum()).tolist()

    def _are_seen(self, regions: Sequence[Region], masks: Bool[np.ndarray, "n i j k"]) -> Bool[np.ndarray, " n"]:
        num_inside = np.count_nonzero(masks, axis=(1, 2, 3))
        least = 1 if self._settings.sampler == "published" else MIN_VISIBLE * np.array([r.num_voxels for r in regions])
        return np.asarray(num_inside >= least)

"""Reading crops from a case store, against the published way and against nnU-Net's, side by side in one run.

All read the same prepared case, a CT of 512×512×200 voxels with 24 organs: a crop of 288×288×96 voxels and the masks of 8
regions. The published way (SAT) loads the whole image from ``.npy``, paints each mask into a whole volume, and cuts;
nnU-Net reads the crop of image and label map from Blosc2 files, here turned into the same 8 masks. All must end in the
same float32 image and the same 8 boolean masks, bit for bit. All are held to one processor core. Cold: the pages of the
files are dropped from the system's cache before each read, and the bytes are those that came from the disk.
"""

from __future__ import annotations

import argparse
import math
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import blosc2
import nibabel
import numpy as np
import torch

from vesalius.corpus.crop_stream import CropStream
from vesalius.corpus.crops import CropSampler, CropSettings
from vesalius.folder import commit, write_text
from vesalius.ids import CaseId, ResolvedLabel, local_concept_id
from vesalius.train.progress import progress_bar
from vesalius.volumes.case import SourceCase
from vesalius.volumes.image import Image, LabelMap
from vesalius.volumes.prepare import PrepareSettings, prepare
from vesalius.volumes.regions import Region
from vesalius.volumes.store import CaseStore

SHAPE, CROP, NUM_MASKS = (512, 512, 200), (288, 288, 96), 8
AFFINE = np.diag([0.8, 0.8, 1.5, 1.0])
CASE = CaseId("body")
GOAL_DRAWS = 10_000

Crop = tuple[np.ndarray, np.ndarray]
Place = tuple[tuple[int, int, int], list[Region]]


@dataclass
class Reader:
    """One way to read a crop.

    Attributes:
        name: as the table says it.
        files: what it reads.
        read: place → image and masks.
        cold_s: seconds of each cold read.
        warm_s: seconds of each warm read.
        bytes: bytes that each cold read took from the disk.
    """

    name: str
    files: list[Path]
    read: Callable[[Place], Crop]
    cold_s: list[float] = field(default_factory=list)
    warm_s: list[float] = field(default_factory=list)
    bytes: list[int] = field(default_factory=list)


def body() -> tuple[Image, LabelMap]:
    """Returns a CT of a body in air with 24 organs, with the noise of a scan, resampled: no whole Hounsfield units."""
    rng = np.random.default_rng(0)
    i, j, k = np.ogrid[: SHAPE[0], : SHAPE[1], : SHAPE[2]]
    data = np.full(SHAPE, -1000, dtype=np.float32)
    inside = ((i - 256) / 240) ** 2 + ((j - 256) / 170) ** 2 < 1
    data[np.broadcast_to(inside, SHAPE)] = -90
    inner = ((i - 256) / 215) ** 2 + ((j - 256) / 145) ** 2 < 1
    data[np.broadcast_to(inner, SHAPE)] = 35
    labels = np.zeros(SHAPE, dtype=np.int16)
    places = [(a, b, c) for a in (110, 208, 306, 404) for b in (170, 256, 342) for c in (50, 150)]
    for value, centre in enumerate(places, start=1):
        radii = rng.uniform((22, 22, 18), (47, 41, 46))
        organ = sum(((axis - at) / r) ** 2 for axis, at, r in zip((i, j, k), centre, radii, strict=True)) < 1
        organ &= inner
        data[organ], labels[organ] = rng.uniform(-30, 200), value
    data += rng.normal(0, 15, SHAPE).astype(np.float32)
    names = {value: f"organ {value}" for value in range(1, len(places) + 1)}
    return Image(data=data, affine=AFFINE), LabelMap(data=labels, affine=AFFINE, labels=names)


def resolve(text: str) -> ResolvedLabel:
    """Ties a label to a concept of its own."""
    return ResolvedLabel(concept_id=local_concept_id(text), laterality=None, name=text, tied_by="name")


def prepared(folder: Path) -> CaseStore:
    """Returns a store of the one case."""
    image, label_map = body()
    source = SourceCase(
        case_id=CASE, dataset="phantom", modality="ct", split="train", patient_id=None,
        load=lambda: (image, [label_map]), origins=(), files=(),
    )  # fmt: skip
    settings = PrepareSettings(spacing_mm=None, crop_to_foreground=False)
    prepare([source], resolver=resolve, settings=settings, out=folder)
    return CaseStore.open(folder)


def store_reader(store: CaseStore) -> Reader:
    """Returns our way: the chunks that the crop touches, the bits of the 8 regions."""

    def read(place: Place) -> Crop:
        start, regions = place
        stop = tuple(a + b for a, b in zip(start, CROP, strict=True))
        return store.read_crop(CASE, (start, stop), regions)

    assert store.place.path is not None
    return Reader("vesalius", files_below(store.place.path / "cases"), read)


def published_reader(store: CaseStore, folder: Path) -> Reader:
    """Returns the published way: the whole image, each mask painted into a whole volume, stacked, then cut.

    As SAT-Pretrain reads a training crop (`data/dataset.py`), without drawing its place: first the drawn label, then the
    further ones; arrays are copied into tensors.
    """
    folder.mkdir()
    np.save(folder / "image.npy", store.read_image(CASE))
    for region in store.regions(CASE):
        np.save(folder / f"{region.label}.npy", store.read_mask(region, region.box))

    def masks_of(regions: Sequence[Region], shape: Sequence[int]) -> torch.Tensor:
        masks = []
        for region in regions:
            mask = torch.zeros(tuple(shape), dtype=torch.bool)
            box = tuple(slice(a, b) for a, b in zip(*region.box, strict=True))
            mask[box] = torch.tensor(np.load(folder / f"{region.label}.npy", allow_pickle=False))
            masks.append(mask)
        return torch.stack(masks)

    def read(place: Place) -> Crop:
        start, regions = place
        window = tuple(slice(a, a + b) for a, b in zip(start, CROP, strict=True))
        image = torch.tensor(np.load(folder / "image.npy", allow_pickle=False))
        drawn, others = masks_of(regions[:1], image.shape), masks_of(regions[1:], image.shape)
        masks = torch.concat([drawn[:, *window], others[:, *window]])
        return image[window].contiguous().numpy(), masks.numpy()

    return Reader("published (npy)", files_below(folder), read)


def lean_reader(folder: Path) -> Reader:
    """Returns the published way as it could be: the same files and whole arrays, but no copy that is not needed."""

    def read(place: Place) -> Crop:
        start, regions = place
        window = tuple(slice(a, a + b) for a, b in zip(start, CROP, strict=True))
        image = np.load(folder / "image.npy", allow_pickle=False)
        masks = np.empty((len(regions), *CROP), dtype=bool)
        for mask, region in zip(masks, regions, strict=True):
            whole = np.zeros(image.shape, dtype=bool)
            box = tuple(slice(a, b) for a, b in zip(*region.box, strict=True))
            whole[box] = np.load(folder / f"{region.label}.npy", allow_pickle=False)
            mask[:] = whole[window]
        return np.ascontiguousarray(image[window]), masks

    return Reader("npy without copies", files_below(folder), read)


def blosc_reader(store: CaseStore, folder: Path) -> Reader:
    """Returns nnU-Net's way: crop of image and label map from Blosc2 files, zstd 8, mapped into memory, one thread.

    Blocks fill four fifths of 32 KB, chunks four fifths of 1.4 MB, in the proportions of the crop.
    """
    folder.mkdir()
    values = {region.label: int(region.label.split()[1]) for region in store.regions(CASE)}
    labels = np.zeros(SHAPE, dtype=np.int8)
    for region in store.regions(CASE):
        labels[store.read_mask(region)] = values[region.label]
    cparams = {"codec": blosc2.Codec.ZSTD, "clevel": 8}
    for name, array in (("image", store.read_image(CASE)), ("labels", labels)):
        block = _fitting(array.itemsize, 0.8 * 2**15, start=tuple(2 ** int(math.log2(size / 2)) for size in CROP))
        chunk = _grown(block, array.itemsize, 0.8 * 1441792)
        blosc2.asarray(
            array[None], urlpath=str(folder / f"{name}.b2nd"), chunks=(1, *chunk), blocks=(1, *block),
            cparams=cparams, mode="w",
        )  # fmt: skip

    def read(place: Place) -> Crop:
        start, regions = place
        window = (slice(None), *(slice(a, a + b) for a, b in zip(start, CROP, strict=True)))
        image, held = (
            blosc2.open(str(folder / f"{name}.b2nd"), mode="r", dparams={"nthreads": 1}, mmap_mode="r")[window][0]
            for name in ("image", "labels")
        )
        return image, np.stack([held == values[region.label] for region in regions])

    return Reader("nnU-Net (blosc2)", files_below(folder), read)


def _fitting(itemsize: int, limit: float, *, start: tuple[int, ...]) -> tuple[int, ...]:
    block = list(start)
    while math.prod(block) * itemsize > limit:
        axis = max(range(3), key=lambda axis: block[axis] / CROP[axis])
        block[axis] //= 2
    return tuple(block)


def _grown(block: tuple[int, ...], itemsize: int, limit: float) -> tuple[int, ...]:
    chunk = list(block)
    while True:
        axis = min(range(3), key=lambda axis: chunk[axis] / CROP[axis])
        grown = [min(2 * size, SHAPE[at]) if at == axis else size for at, size in enumerate(chunk)]
        if math.prod(grown) * itemsize > limit or grown == chunk:
            return tuple(chunk)
        chunk = grown


def files_below(folder: Path) -> list[Path]:
    """Returns the files of a folder and of those below it."""
    return sorted(path for path in folder.rglob("*") if path.is_file())


def drop_from_cache(files: Sequence[Path]) -> None:
    """Lets the system forget the pages of some files."""
    for path in files:
        handle = os.open(path, os.O_RDONLY)
        os.fsync(handle)
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(handle)


def bytes_from_disk() -> int:
    """Returns how many bytes this process has had from the disk."""
    lines = Path("/proc/self/io").read_text(encoding="ascii").splitlines()
    return int(next(line for line in lines if line.startswith("read_bytes")).split(":")[1])


def draw_places(store: CaseStore, num: int) -> list[Place]:
    """Returns places of crops, each with 8 regions that have voxels there."""
    rng = np.random.default_rng(1)
    places: list[Place] = []
    while len(places) < num:
        i, j, k = (int(rng.integers(size - crop + 1)) for size, crop in zip(SHAPE, CROP, strict=True))
        box = ((i, j, k), (i + CROP[0], j + CROP[1], k + CROP[2]))
        there = [region for region in store.regions(CASE) if store.read_mask(region, box).any()]
        if len(there) >= NUM_MASKS:
            places.append(((i, j, k), [there[index] for index in rng.permutation(len(there))[:NUM_MASKS]]))
    return places


def measure(readers: Sequence[Reader], places: Sequence[Place]) -> None:
    """Reads every place by every reader, cold and then warm, in turn; checks that all give the same."""
    for reader in readers:
        reader.read(places[0])
    with progress_bar("Crops", total=len(places) * len(readers)) as advance:
        for place in places:
            expected: Crop | None = None
            for reader in readers:
                drop_from_cache(reader.files)
                before, began = bytes_from_disk(), time.perf_counter()
                found = reader.read(place)
                reader.cold_s.append(time.perf_counter() - began)
                reader.bytes.append(bytes_from_disk() - before)
                del found
                began = time.perf_counter()
                found = reader.read(place)
                reader.warm_s.append(time.perf_counter() - began)
                if expected is None:
                    expected = found
                elif not all(np.array_equal(a, b) and a.dtype == b.dtype for a, b in zip(found, expected, strict=True)):
                    sys.exit(f"{reader.name} does not give what {readers[0].name} gives at {place[0]}")
                del found
                advance(1, note=reader.name)


def draw_with_workers(store: CaseStore, num: int) -> float:
    """Returns the crops a second that two DataLoader workers give at 96³."""
    sampler = CropSampler(
        store, splits=["train"], prompts=region_name, settings=CropSettings(size=(96, 96, 96), max_regions=8)
    )
    with progress_bar("Two workers", total=num) as advance:
        began = 0.0
        stream = CropStream(sampler, crops_per_step=1, workers=2)
        for number in range(num):
            (crop,) = stream.draw()
            if number == 0:
                began = time.perf_counter()
            if not crop.masks.flatten(1).any(dim=1).all():
                sys.exit(f"crop {number} holds an empty mask")
            advance(1)
    return (num - 1) / (time.perf_counter() - began)


def region_name(region: Region) -> list[str]:
    """Returns the prompt of a region: its name."""
    return [region.name]


def nifti_bytes(store: CaseStore, folder: Path) -> int:
    """Returns the size of the prepared image and its label map as NIfTI, gzipped."""
    folder.mkdir()
    labels = np.zeros(SHAPE, dtype=np.int16)
    for value, region in enumerate(store.regions(CASE), start=1):
        labels[store.read_mask(region)] = value
    for name, array in (("image", store.read_image(CASE)), ("labels", labels)):
        nibabel.save(nibabel.Nifti1Image(array, AFFINE), folder / f"{name}.nii.gz")
    return sum(path.stat().st_size for path in files_below(folder))


def report(readers: Sequence[Reader], sizes: dict[str, int], rate: float | None, *, draws: int, load: float) -> str:
    """Returns the page that tells what was measured."""
    ours = readers[0]
    lines = [
        "# Reading crops", "",
        f"`make bench-volumes`, commit {commit()}, {processor()}, {os.cpu_count()} cores, of which one was used; "
        f"load average {load:.1f}; medians of {len(ours.cold_s)} crops of {'×'.join(map(str, CROP))} with {NUM_MASKS} "
        f"masks from a CT of {'×'.join(map(str, SHAPE))}, read in turn.", "",
        "| | cold, ms | warm, ms | crops/s cold | crops/s warm | MB from disk | on disk, MB |",
        "|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    for reader in readers:
        cold, warm, size = (float(np.median(values)) for values in (reader.cold_s, reader.warm_s, reader.bytes))
        lines.append(
            f"| {reader.name} | {1e3 * cold:.0f} | {1e3 * warm:.0f} | {1 / cold:.1f} | {1 / warm:.1f} "
            f"| {size / 1e6:.1f} | {sizes[reader.name] / 1e6:.1f} |"
        )
    lines.append(f"| nii.gz | | | | | | {sizes['nii.gz'] / 1e6:.1f} |")
    lines += ["", "Against vesalius:", ""]
    for reader in readers[1:]:
        cold, warm, size = against(ours, reader)
        lines.append(f"- {reader.name}: {cold:.1f}× the time cold, {warm:.1f}× warm, {size:.1f}× the bytes.")
    lines += ["", "| goal | measured | |", "|---|---|---|"]
    lines += [f"| {goal} | {found} | {'met' if is_met else 'missed'} |" for goal, found, is_met in goals(readers)]
    if rate is not None:
        lines.append(f"| two DataLoader workers, {GOAL_DRAWS:,} crops of 96×96×96 without a stop | {draws:,} at {rate:.0f} a second "
                     f"| {'met' if draws >= GOAL_DRAWS else 'too few drawn'} |")  # fmt: skip
    lines += [
        "",
        "The published way copies arrays into tensors and paints each mask into a whole volume, as its code does; “npy "
        "without copies” is what the same files could give. Both ways and nnU-Net's end in the same arrays as ours, bit "
        "for bit. Cold: the files' pages were dropped from the system's cache; a disk cache below the system, such as a "
        "virtual machine's host, was not. nnU-Net's file is mapped into memory, and the system reads ahead of what is asked.",
    ]
    return "\n".join(lines) + "\n"


def against(ours: Reader, other: Reader) -> tuple[float, float, float]:
    """Returns how many times our time, cold and warm, and our bytes another way takes."""
    return (
        float(np.median(other.cold_s) / np.median(ours.cold_s)),
        float(np.median(other.warm_s) / np.median(ours.warm_s)),
        float(np.median(other.bytes) / max(np.median(ours.bytes), 1.0)),
    )


def goals(readers: Sequence[Reader]) -> list[tuple[str, str, bool]]:
    """Returns each goal, what was measured, and whether it is met; a ratio holds cold and warm."""
    ours, published, _, nnunet = readers
    cold, warm, size = against(ours, published)
    blosc_cold, blosc_warm, _ = against(ours, nnunet)
    return [
        (
            "10 times the crops a second of the published way",
            f"{cold:.1f}× cold, {warm:.1f}× warm",
            min(cold, warm) >= 10,
        ),
        ("an eighth of its bytes, cold", f"1/{size:.1f}", size >= 8),
        (
            "as fast as nnU-Net's Blosc2, image and label map",
            f"{blosc_cold:.1f}× cold, {blosc_warm:.1f}× warm",
            min(blosc_cold, blosc_warm) >= 1,
        ),
    ]


def processor() -> str:
    """Returns the name of the machine's processor, as far as the system tells it."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def main() -> None:
    """Measures and writes the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--crops", type=int, default=25, help="crops to read by each way")
    parser.add_argument("--draws", type=int, default=GOAL_DRAWS, help="crops to draw by two workers; 0 for none")
    parser.add_argument("--out", type=Path, help="page to write; printed in any case")
    arguments = parser.parse_args()
    cores = os.sched_getaffinity(0)
    blosc2.set_nthreads(1)
    torch.set_num_threads(1)
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as name:
        folder = Path(name)
        store = prepared(folder / "store")
        readers = [
            store_reader(store),
            published_reader(store, folder / "npy"),
            lean_reader(folder / "npy"),
            blosc_reader(store, folder / "blosc2"),
        ]
        sizes = {reader.name: sum(path.stat().st_size for path in reader.files) for reader in readers}
        sizes["nii.gz"] = nifti_bytes(store, folder / "nifti")
        places = draw_places(store, arguments.crops)
        os.sched_setaffinity(0, {min(cores)})
        for task in Path("/proc/self/task").iterdir():
            os.sched_setaffinity(int(task.name), {min(cores)})
        measure(readers, places)
        os.sched_setaffinity(0, cores)
        rate = draw_with_workers(store, arguments.draws) if arguments.draws else None
    page = report(readers, sizes, rate, draws=arguments.draws, load=load)
    sys.stdout.write(page)
    if arguments.out is not None:
        write_text(arguments.out, page)


if __name__ == "__main__":
    main()

"""Named complete configurations. A recipe is a function that returns settings; a new one is a function and a line."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from vesalius.corpus.crops import CropSettings
from vesalius.corpus.mixture import MixturePart
from vesalius.errors import SettingError
from vesalius.eval.retrieval import Candidates
from vesalius.model.region_encoder import UNET_SIZES, unet_size
from vesalius.model.region_model import RegionModelSize
from vesalius.train.config import from_yaml
from vesalius.train.loop import LoopSettings
from vesalius.train.optim import OptimSettings
from vesalius.train.regions import RegionSettings
from vesalius.train.text import TextSettings
from vesalius.train.text_data import TextData
from vesalius.volumes.prepare import PrepareSettings


@dataclass(frozen=True, kw_only=True)
class DemoSettings:
    """Everything that decides a demo.

    Attributes:
        sources: built-in knowledge sources.
        noncommercial_atlases: add atlases under non-commercial or unclear terms.
        prepare: how cases are prepared.
        text: stage 1.
        regions: stage 2.
        candidates: what held-out texts choose among.
        neighbour_names: names whose neighbours the report shows.
        num_map_names: held-out names on the map.
    """

    sources: tuple[str, ...] = ("uberon", "mondo", "handbook")
    noncommercial_atlases: bool = False
    prepare: PrepareSettings
    text: TextSettings
    regions: RegionSettings
    candidates: Candidates = "anatomy"
    neighbour_names: tuple[str, ...] = ()
    num_map_names: int = 1000


PUBLISHED_UNETS = ("unet", "unet-l", "unet-h")
PUBLISHED_WIDTH = 768

OPEN_SOURCES = ("uberon", "handbook")
"""Sources of anatomy in the default graph whose texts our recipes train on."""


def text() -> TextSettings:
    """Returns stage 1 as the demo runs it: MiniLM, all layers, 128 pairs a step."""
    return TextSettings(
        data=TextData(sources=OPEN_SOURCES),
        train_layers=6,
        train_embeddings=True,
        loop=LoopSettings(
            num_steps=96,
            validate_every=32,
            checkpoint_every=24,
            optim=OptimSettings(learning_rate=1.5e-4),
        ),
    )


PUBLISHED_MIXTURE = (
    MixturePart(sources=("umls_def",), kinds=("definition",), weight=0.1, as_written=True),
    MixturePart(sources=("umls_kg",), kinds=("relation",), weight=0.02, as_written=True),
    MixturePart(sources=("website_knowledge_lab2def_gpt",), kinds=("definition",), weight=1.0, as_written=True),
    MixturePart(sources=("website_knowledge_lab2def_gpt",), kinds=("relation",), weight=0.5, as_written=True),
    MixturePart(sources=("supplementary_lab2def_gpt",), kinds=("definition", "synonym"), weight=1.0, as_written=True),
    MixturePart(sources=("supplementary_lab2def_gpt",), kinds=("relation",), weight=1.0, as_written=True),
)
"""What SAT-Pretrain's stage 1 draws from, with the weights of its released script; sources are called as its files are.

A source that a graph lacks is refused: leave its part out in a ``config.yaml``.
"""


def sat_text() -> TextSettings:
    """Returns stage 1 as SAT-Pretrain runs it: its mixture, its schedule, BioLORD-2023-C with the last three layers open.

    Kept: the mixture (`PUBLISHED_MIXTURE`), 128 independent pairs a step, 100,000 steps, warm-up over 10,000, peak 1e-5,
    cosine to zero, AdamW without decay or clipping, one learning rate for everything, texts to 256 tokens and of longer ones with
    probability 0.5 a random window, logit scale from 1/0.07 within 1 to 100.

    Repaired, because the fault could only cost: tokens are the encoder's own (published: BERT's special tokens for MPNet);
    positives are found by concept, and ancestors, descendants and other fillers of a relation are masked (published: only
    identical strings count); targets are weighted to a sum of one; no dropout; a window keeps the special tokens, begins with a whole
    word, and is drawn in training alone; a web definition given as a text is read whole; ``NA`` is a name; the last step is run.
    Held-out concepts are not drawn (published: nothing is held out).

    Source: arXiv 2312.17183, and the released script and code at https://github.com/zhaoziheng/SAT-Pretrain.
    """
    return TextSettings(
        init="hub:FremyCompany/BioLORD-2023-C",
        data=TextData(sources=(), max_length=256, window_share=0.5, neighbourhood_size=1, mixture=PUBLISHED_MIXTURE),
        train_layers=3,
        train_embeddings=False,
        logit_scale_learning_rate_scale=1.0,
        loop=LoopSettings(
            num_steps=100_000,
            validate_every=2_000,
            checkpoint_every=2_000,
            optim=OptimSettings(learning_rate=1e-5, warmup_share=0.1, max_grad_norm=math.inf),
            keep="last",
        ),
    )


def text_tiny() -> TextSettings:
    """Returns stage 1 to see that it works: ten steps of 16 pairs, in seconds."""
    return TextSettings(
        data=TextData(batch_size=16, neighbourhood_size=4), train_layers=2, train_embeddings=True, loop=_ten_steps()
    )


def sat_text_tiny() -> TextSettings:
    """Returns `sat_text` in small: UBERON's definitions, synonyms and relations as a mixture, MiniLM, ten steps of 16 pairs."""
    full = sat_text()
    return replace(
        full,
        init="minilm",
        data=replace(full.data, batch_size=16, max_length=12, mixture=TINY_MIXTURE),
        train_layers=1,
        loop=replace(_shortened(full.loop, num_steps=10), optim=replace(full.loop.optim, learning_rate=1e-3)),
    )


TINY_MIXTURE = (
    MixturePart(sources=("uberon",), kinds=("definition", "synonym"), weight=1.0),
    MixturePart(sources=("uberon",), kinds=("relation",), weight=0.5),
)


def _ten_steps() -> LoopSettings:
    return LoopSettings(num_steps=10, validate_every=5, checkpoint_every=3, optim=OptimSettings(learning_rate=1e-3))


def regions() -> RegionSettings:
    """Returns stage 2 as the demo runs it: a small U-Net on whole brains at 2 mm, up to 64 regions a step."""
    return RegionSettings(
        network=RegionModelSize(unet=UNET_SIZES["unet-tiny"], width=256),
        crops=CropSettings(size=(80, 96, 80), max_regions=64),
        crops_per_step=1,
        text=TextData(sources=OPEN_SOURCES, batch_size=32),
        train_layers=6,
        train_embeddings=False,
        text_learning_rate_scale=0.01,
        loop=LoopSettings(
            num_steps=36,
            validate_every=18,
            checkpoint_every=12,
            optim=OptimSettings(learning_rate=1e-3, weight_decay=0.01),
            keep="last",
        ),
    )


def sat_regions() -> RegionSettings:
    """Returns stage 2 as SAT-Pretrain runs it: UNET and a shared space of 768, crops of 288×288×96, beside the pairs of `sat_text`.

    Kept: crops around a random voxel of a structure that is drawn with weight √(its cases), from a case drawn with weight
    1/√(its dataset's cases), with up to 7 other structures (SAT-DS; the challenge's data: 3, so `crops.max_regions` 4); 2
    crops and 128 pairs on each of 2 GPUs, so 4 and 256 a step; a region update and then a text update (raw and projected text
    losses added), 100,000 of each, so 200,000 steps here; warm-up over a tenth, peak 1e-5, cosine to zero, AdamW without
    decay or clipping, one learning rate for everything. A region's positive is the prompt it was drawn with; others of its
    structure are left out of the denominator, whatever their modality. Departure: which two regions are one structure is
    decided by concept and side (published: by the first prompt of a label), so that two
    datasets' names for one are not pushed apart.

    Repaired, because the fault could only cost: the crop is taken along the array's own axes (published: 29 of 60 held no
    voxel of the structure); other structures are those with voxels in the crop (published: boxes that touch it, 55 of 524
    were empty), and none comes twice (published: 59 of 60 crops held a duplicate); label maps are resampled by nearest
    neighbour (published: linearly, 3.4 % of the challenge's voxels lost); log-sum-exp in fp32 is finite at any logit scale
    (published: NaN from 89); one process is enough (published: a constant loss or a crash); crops may have any size
    (published: multiples of 32); SAT-DS has a modality like all data (published: never ran); a case that cannot be read
    stops the run and is named (published: loops for ever); the last step is run and saved; validation asks for held-out
    concepts (published: retrieval on training batches, too kind where true logits are negative); seed and crop size have
    their effect; a stopped run goes on where it was (published: data from the start, no random states); device and paths
    are the user's. No dropout. Of the text stage: see `sat_text`.

    Behind a setting: the GELU behind the region projection, which confines embeddings to one orthant (`network.last_gelu`,
    off here; a checkpoint that has it brings it along); `updates`; `positives` (``structure`` counts all regions of a structure
    as positives and leaves relatives out); `memory`, regions of earlier steps for prompts to choose among (off here). Not taken
    over: one logit scale for raw and shared features (ours are two); the option of hard negatives, which has no effect there.

    Source: arXiv 2312.17183, and the released script and code at https://github.com/zhaoziheng/SAT-Pretrain.
    """
    text = sat_text()
    return RegionSettings(
        network=RegionModelSize(unet=UNET_SIZES["unet"], width=PUBLISHED_WIDTH),
        crops=CropSettings(size=(288, 288, 96), max_regions=8),
        crops_per_step=4,
        text=replace(text.data, batch_size=256),
        train_layers=3,
        train_embeddings=False,
        text_learning_rate_scale=1.0,
        loop=replace(text.loop, num_steps=200_000, validate_every=4_000, checkpoint_every=4_000),
        updates="alternating",
        positives="own",
    )


def regions_tiny() -> RegionSettings:
    """Returns stage 2 to see that it works: ten steps of two small crops, in seconds."""
    return RegionSettings(
        network=RegionModelSize(unet=UNET_SIZES["unet-tiny"], width=16),
        crops=CropSettings(size=(24, 24, 16), max_regions=4),
        crops_per_step=2,
        text=TextData(batch_size=8, neighbourhood_size=1),
        train_layers=1,
        train_embeddings=False,
        text_learning_rate_scale=0.1,
        loop=replace(_ten_steps(), keep="last"),
        crop_workers=0,
    )


def sat_regions_tiny() -> RegionSettings:
    """Returns `sat_regions` in small: the network, crops and steps of `regions_tiny`, the pairs of `sat_text_tiny`."""
    full, tiny, text = sat_regions(), regions_tiny(), sat_text_tiny()
    return replace(
        full,
        network=tiny.network,
        crops=tiny.crops,
        crops_per_step=2,
        text=replace(text.data, batch_size=8),
        train_layers=1,
        loop=replace(text.loop, validate_every=5),
        crop_workers=0,
    )


def demo() -> DemoSettings:
    """Returns the demo: ten minutes on two cores."""
    return DemoSettings(
        prepare=PrepareSettings(spacing_mm=(2.0, 2.0, 2.0)),
        text=text(),
        regions=regions(),
        neighbour_names=(
            "hip joint",
            "gluteus maximus",
            "subclavian vein",
            "globus pallidus",
            "atrioventricular node",
            "adrenal cortex",
            "pylorus",
            "thoracic vertebra 12",
            "rib 6",
            "ophthalmic nerve",
            "deep femoral artery",
            "visceral pleura",
        ),
    )


def demo_quick() -> DemoSettings:
    """Returns the demo with few steps, to see that everything works: the same code and data, no gain to speak of."""
    full = demo()
    return replace(
        full,
        text=replace(
            full.text, data=replace(full.text.data, batch_size=32), loop=_shortened(full.text.loop, num_steps=8)
        ),
        regions=replace(full.regions, loop=_shortened(full.regions.loop, num_steps=6)),
        num_map_names=200,
    )


def _shortened(loop: LoopSettings, *, num_steps: int) -> LoopSettings:
    return replace(loop, num_steps=num_steps, validate_every=num_steps, checkpoint_every=max(1, num_steps // 2))


DEMO_RECIPES: dict[str, Callable[[], DemoSettings]] = {"demo": demo, "demo-quick": demo_quick}
TEXT_RECIPES: dict[str, Callable[[], TextSettings]] = {
    "text": text, "sat-text": sat_text, "text-tiny": text_tiny, "sat-text-tiny": sat_text_tiny,
}  # fmt: skip
REGION_RECIPES: dict[str, Callable[[], RegionSettings]] = {
    "regions": regions, "sat-regions": sat_regions, "regions-tiny": regions_tiny, "sat-regions-tiny": sat_regions_tiny,
}  # fmt: skip


def with_unet(settings: RegionSettings, name: str) -> RegionSettings:
    """Returns `settings` with the U-Net of that name, and the dimension inside the region projection that SAT-Pretrain gives it.

    Published are 1,792 → 768 → 768 for UNET, and 3,584 → 1,536 → 768 for UNET-L and UNET-H.

    Raises:
        SettingError: there is no such U-Net.
    """
    unet = unet_size(name)
    hidden = unet.channels[-1] if settings.network.width == PUBLISHED_WIDTH and name in PUBLISHED_UNETS else None
    return replace(settings, network=replace(settings.network, unet=unet, region_hidden_width=hidden))


Settings = TypeVar("Settings")


def resolved(
    kind: type[Settings],
    recipes: Mapping[str, Callable[[], Settings]],
    *,
    recipe: str,
    config: Path | None,
    overrides: Mapping[str, Any],
) -> Settings:
    """Returns the settings of a recipe, or of a ``config.yaml``, with overrides put in.

    Args:
        kind: the settings' class.
        recipes: name → recipe.
        recipe: which of them.
        config: a file to read instead.
        overrides: dotted path of a field → value; None leaves the field as it is.

    Raises:
        SettingError: there is no such recipe, or a value cannot work.
        InputError: `config` cannot be read.
    """
    if config is not None:
        settings = from_yaml(kind, config)
    elif recipe in recipes:
        settings = recipes[recipe]()
    else:
        raise SettingError(f"unknown recipe {recipe!r}", remedy=f"known are: {', '.join(recipes)}")
    for path, value in overrides.items():
        if value is not None:
            settings = _with(settings, path.split("."), value)
    return settings


def _with(settings: Any, path: Sequence[str], value: Any) -> Any:
    """Returns a copy of nested dataclasses with one field changed."""
    first, *rest = path
    return replace(settings, **{first: _with(getattr(settings, first), rest, value) if rest else value})

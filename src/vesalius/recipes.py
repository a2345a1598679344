"""Named complete configurations. A recipe is a function that returns settings; a new one is a function and a line."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from vesalius.corpus.crops import CropSettings
from vesalius.errors import SettingError
from vesalius.eval.retrieval import Candidates
from vesalius.train.config import from_yaml
from vesalius.train.loop import LoopSettings
from vesalius.train.optim import OptimSettings
from vesalius.train.regions import RegionSettings
from vesalius.train.text import TextData, TextSettings
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

    sources: tuple[str, ...] = ("uberon", "mondo")
    noncommercial_atlases: bool = False
    prepare: PrepareSettings
    text: TextSettings
    regions: RegionSettings
    candidates: Candidates = "anatomy"
    neighbour_names: tuple[str, ...] = ()
    num_map_names: int = 1000


def text() -> TextSettings:
    """Returns stage 1 as the demo runs it: MiniLM, all layers, 128 pairs a step."""
    return TextSettings(
        data=TextData(),
        train_layers=6,
        train_embeddings=True,
        loop=LoopSettings(
            num_steps=96,
            validate_every=32,
            checkpoint_every=24,
            optim=OptimSettings(learning_rate=1.5e-4),
        ),
    )


def regions() -> RegionSettings:
    """Returns stage 2 as the demo runs it: a small U-Net on whole brains at 2 mm, up to 64 regions a step."""
    return RegionSettings(
        size="unet-tiny",
        width=256,
        crops=CropSettings(size=(80, 96, 80), max_regions=64),
        crops_per_step=1,
        text=TextData(batch_size=32),
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
TEXT_RECIPES: dict[str, Callable[[], TextSettings]] = {"text": text}
REGION_RECIPES: dict[str, Callable[[], RegionSettings]] = {"regions": regions}


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

"""`vesalius demo`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from rich.console import Console

from vesalius.cli.tables import print_regions, print_retrieval


def demo(
    *,
    out: Path = Path("runs/demo"),
    quick: bool = False,
    noncommercial_atlases: bool = False,
    candidates: Literal["anatomy", "all"] = "anatomy",
    config: Path | None = None,
) -> None:
    """Walk the whole line on data that ships in installed packages: ten minutes on two cores. Call it again to go on.

    Args:
        out: folder to write; holds report.html at the end.
        quick: few steps, to see that everything works.
        noncommercial_atlases: add atlases under non-commercial or unclear terms.
        candidates: what held-out texts choose among: preferred names of anatomy, or all names and synonyms of all concepts.
        config: config.yaml of an earlier demo, to repeat it; the other settings have no effect beside it.
    """
    from dataclasses import replace

    from vesalius import demo as whole_line
    from vesalius import recipes
    from vesalius.errors import SettingError
    from vesalius.train.config import from_yaml

    if config is not None:
        if quick or noncommercial_atlases or candidates != "anatomy":
            raise SettingError("--config decides everything", remedy="leave out the other settings")
        settings, recipe = from_yaml(recipes.DemoSettings, config), str(config)
    else:
        recipe = "demo-quick" if quick else "demo"
        settings = replace(
            recipes.DEMO_RECIPES[recipe](), noncommercial_atlases=noncommercial_atlases, candidates=candidates
        )
    results = whole_line.run_demo(settings, out, recipe=recipe)
    console = Console()
    print_retrieval(console, results["retrieval"])
    print_regions(console, results["regions"])
    console.print(whole_line.REGION_CAVEAT, style="dim")
    print(f"report: {out / 'report.html'}")
    print(f"encoder: {out / 'encoder'}")

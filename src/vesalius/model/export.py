"""What goes with an encoder that is handed out: its model card."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from vesalius.folder import Origin, version, write_text

DISCLAIMER = "Research software, not a medical device: not for diagnosis, treatment or any clinical decision."


def write_model_card(
    folder: Path, *, title: str, origins: Sequence[Origin], results: Mapping[str, Sequence[str]] | None
) -> None:
    """Writes ``README.md`` into a sentence-transformers folder: use, results, all data and their terms.

    Args:
        folder: the folder.
        title: first heading.
        origins: everything the weights were made from.
        results: table: column → cells; None leaves the section out.
    """
    blocks = [
        "---\nlibrary_name: sentence-transformers\npipeline_tag: sentence-similarity\n"
        "tags: [anatomy, medical-imaging, ontology, text-encoder]\nlicense: other\n"
        "license_name: see-data-and-terms\n---",
        f"# {title}",
        f"**{DISCLAIMER}**",
        f"Made by Vesalius {version()}. It turns names, synonyms and definitions of anatomical structures into unit-norm vectors; "
        "texts of one structure lie close together.",
        "```python\nfrom sentence_transformers import SentenceTransformer\n\n"
        f'encoder = SentenceTransformer("{folder.name}")\n'
        'print(encoder.similarity(encoder.encode("left kidney"), encoder.encode("the organ left of the spine that makes urine")))\n```',
    ]
    if results is not None:
        blocks += ["## Results on held-out concepts", _table(results)]
    blocks += [
        "## Data and terms",
        "The weights were made from these; whether and how they may be passed on follows from all of their terms together.",
        _table({
            "source": [origin.name for origin in origins],
            "version": [origin.version for origin in origins],
            "terms": [origin.licence for origin in origins],
            "attribution": [origin.attribution for origin in origins],
        }),
    ]  # fmt: skip
    write_text(folder / "README.md", "\n\n".join(blocks) + "\n")


def _table(columns: Mapping[str, Sequence[str]]) -> str:
    rows = [list(columns), ["---"] * len(columns), *map(list, zip(*columns.values(), strict=True))]
    return "\n".join(
        "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in row) + " |" for row in rows
    )

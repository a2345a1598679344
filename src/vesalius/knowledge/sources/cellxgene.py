"""UBERON and MONDO as the package cellxgene-ontology-guide carries them.

Source: https://github.com/chanzuckerberg/cellxgene-ontology-guide, ``ontology-assets``: JSON, Zstandard-compressed,
``{id: {label, description, synonyms, ancestors: {id: distance}, deprecated, replaced_by}}``. Its ``synonyms`` are the exact ones
(``hasExactSynonym``); its ancestors join ``is_a`` and ``part_of`` without telling them apart, so that the ones at distance 1
become ``is_a_or_part_of``. It carries no xrefs.
"""

from __future__ import annotations

import json
from importlib import metadata
from pathlib import Path
from typing import Any

from vesalius.errors import InputError
from vesalius.folder import Origin, sha256_of
from vesalius.knowledge.concept import Scope
from vesalius.knowledge.predicates import IS_A_OR_PART_OF
from vesalius.knowledge.staging import Staging

PACKAGE = "cellxgene-ontology-guide"
_DATA = "cellxgene_ontology_guide/data"


def stage_uberon(staging: Staging) -> tuple[Origin, ...]:
    """Stages UBERON: every live concept with name, exact synonyms, definition and direct parents; every obsolete one.

    Raises:
        InputError: the package is not installed, or its data is not what this reader knows.
    """
    return _stage(
        "UBERON",
        staging,
        licence="CC-BY-3.0",
        attribution="Uberon multi-species anatomy ontology, https://uberon.org",
    )


def stage_mondo(staging: Staging) -> tuple[Origin, ...]:
    """Stages MONDO: every live disease with name, exact synonyms, definition and direct parents; every obsolete one.

    Raises:
        InputError: as for `stage_uberon`.
    """
    return _stage(
        "MONDO",
        staging,
        licence="CC-BY-4.0",
        attribution="Mondo Disease Ontology, https://mondo.monarchinitiative.org",
    )


def _stage(prefix: str, staging: Staging, *, licence: str, attribution: str) -> tuple[Origin, ...]:
    path, release = _asset(prefix)
    staging.file = path.name
    entries = _decode(path)
    own = {key: entry for key, entry in entries.items() if key.startswith(f"{prefix}:")}
    live = {key: entry for key, entry in own.items() if not entry["deprecated"]}
    for key in sorted(own.keys() - live.keys()):
        replaced_by = own[key].get("replaced_by")
        staging.obsolete(
            key, name=own[key]["label"].strip() or None, replaced_by=[replaced_by] if replaced_by else (), line=None
        )
    for key in sorted(live):
        entry = live[key]
        name = entry["label"].strip()
        if not name:
            raise InputError(f"{key} is live but has no name", where=path, remedy=f"reinstall {PACKAGE}")
        staging.concept(key, name, line=None)
        for text in dict.fromkeys(map(str.strip, entry.get("synonyms") or ())):
            if text and text != name:
                staging.synonym(key, text, Scope.EXACT, line=None)
        described = (entry.get("description") or "").strip()
        if described:
            staging.definition(key, described, line=None)
        for parent, distance in sorted(entry["ancestors"].items()):
            if distance == 1 and parent in live:
                staging.relation(key, IS_A_OR_PART_OF, parent, line=None)
    return (
        Origin(
            name=staging.source,
            version=f"{release} ({PACKAGE} {metadata.version(PACKAGE)})",
            licence=licence,
            attribution=attribution,
            sha256={path.name: sha256_of(path)},
        ),
    )


def _asset(prefix: str) -> tuple[Path, str]:
    """Returns the newest file of the ontology and its release."""
    try:
        distribution = metadata.distribution(PACKAGE)
    except metadata.PackageNotFoundError as error:
        raise InputError(
            f"the package {PACKAGE}, which carries {prefix}, is not installed", remedy="pip install 'vesalius[demo]'"
        ) from error
    index = Path(str(distribution.locate_file(f"{_DATA}/latest_ontology_info.json")))
    try:
        release = json.loads(index.read_text(encoding="utf-8"))["ontologies"][prefix]["version"]
    except (OSError, ValueError, KeyError) as error:
        raise InputError(
            f"does not name the release of {prefix}", where=index, remedy=f"reinstall {PACKAGE}"
        ) from error
    return index.with_name(f"{prefix}-ontology-{release}.json.zst"), release


def _decode(path: Path) -> dict[str, dict[str, Any]]:
    import zstandard  # noqa: PLC0415  comes with the package that carries the file

    try:
        with path.open("rb") as file, zstandard.ZstdDecompressor().stream_reader(file) as stream:
            return json.loads(stream.read())
    except (OSError, ValueError, zstandard.ZstdError) as error:
        raise InputError(f"cannot be read ({error})", where=path, remedy=f"reinstall {PACKAGE}") from error

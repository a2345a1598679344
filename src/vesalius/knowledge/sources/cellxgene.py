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
from vesalius.ids import ConceptId, concept_id
from vesalius.knowledge.concept import Concept, Definition, Predicate, Relation, Scope, Synonym
from vesalius.knowledge.graph import Graph

PACKAGE = "cellxgene-ontology-guide"
_DATA = "cellxgene_ontology_guide/data"


def read_uberon() -> Graph:
    """Returns UBERON: every live concept with name, exact synonyms, definition and direct parents.

    Raises:
        InputError: the package is not installed, or its data is not what this reader knows.
    """
    return _read("UBERON", licence="CC-BY-3.0", attribution="Uberon multi-species anatomy ontology, https://uberon.org")


def read_mondo() -> Graph:
    """Returns MONDO: every live disease with name, exact synonyms, definition and direct parents.

    Raises:
        InputError: as for `read_uberon`.
    """
    return _read(
        "MONDO", licence="CC-BY-4.0", attribution="Mondo Disease Ontology, https://mondo.monarchinitiative.org"
    )


def _read(prefix: str, *, licence: str, attribution: str) -> Graph:
    source = prefix.lower()
    path, release = _asset(prefix)
    entries = _decode(path)
    live = {key: entry for key, entry in entries.items() if not entry["deprecated"] and key.startswith(f"{prefix}:")}
    concepts = []
    relations = []
    for key in sorted(live):
        entry = live[key]
        name = entry["label"].strip()
        if not name:
            raise InputError(f"{key} is live but has no name", where=path, remedy=f"reinstall {PACKAGE}")
        subject = concept_id(key)
        others = [text for text in dict.fromkeys(map(str.strip, entry.get("synonyms") or ())) if text and text != name]
        described = (entry.get("description") or "").strip()
        concepts.append(
            Concept(
                concept_id=subject,
                name=name,
                source=source,
                synonyms=tuple(Synonym(text=text, scope=Scope.EXACT, source=source) for text in others),
                definitions=(Definition(text=described, source=source),) if described else (),
            )
        )
        relations += [
            Relation(subject=subject, predicate=Predicate.IS_A_OR_PART_OF, object=ConceptId(parent), source=source)
            for parent, distance in sorted(entry["ancestors"].items())
            if distance == 1 and parent in live
        ]
    origin = Origin(
        name=source,
        version=f"{release} ({PACKAGE} {metadata.version(PACKAGE)})",
        licence=licence,
        attribution=attribution,
        sha256={path.name: sha256_of(path)},
    )
    return Graph(concepts, relations, [origin])


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

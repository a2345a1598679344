"""UMLS: a Metathesaurus folder, staged in SQL.

Source: UMLS Reference Manual, Metathesaurus Rich Release Format (https://www.ncbi.nlm.nih.gov/books/NBK9685/): rows of fields, each
closed by ``|``, no quoting, no escapes. A quotation mark is data.

- **Names.** MRCONSO in one language. All atoms of a CUI are its exact names; the preferred one is the Metathesaurus's own: TS=P
  before S, STT=PF before others, ISPREF=Y before N, then the first in the file. Codes (``SAB:CODE``, or
  the code alone where it begins so, as those of GO and HPO do) are xrefs.
- **Relations.** A row of MRREL reads *CUI2 RELA CUI1*, so that CUI2 is the subject; where RELA is empty, REL stands in for it
  (`umls_relations`). The Metathesaurus holds every relation from both ends; it is kept once, in one direction.
- **Selection.** A definition or relation of a concept without a name that is taken is left out. One of a CUI that MRCONSO does
  not hold at all is staged, and found dangling when sources are merged.
- **Sources.** A row is marked ``umls/SAB``. Its licence is the vocabulary's restriction level (SRL of MRSAB); the Metathesaurus itself
  is one more source, ``umls``.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vesalius.errors import SettingError
from vesalius.folder import Origin, sha256_of
from vesalius.knowledge.database import open_database
from vesalius.knowledge.licences import is_excluded
from vesalius.knowledge.sources.options import SourceOptions
from vesalius.knowledge.sources.rrf import RrfReader
from vesalius.knowledge.sources.umls_relations import NO_PREDICATE, RELATIONS_IN_SQL, load_predicates
from vesalius.knowledge.staging import STAGED, Staging
from vesalius.tables import parquet

RESTRICTIONS = {
    "0": "no restriction beyond the UMLS licence",
    "1": "no translations or derivatives without permission",
    "2": "as 1, and no use in operational records",
    "3": "as 2, internal research and development only",
    "4": "as 3, SNOMED terms",
    "9": "SNOMED CT terms",
}
"""SRL of MRSAB → what it says, in short; the UMLS licence agreement, Appendix 1, is what holds."""

DOMAIN_BY_TREE: dict[str, str | None] = {
    "A1.2": "anatomy", "A1.4.2": "anatomy", "A2.1.4.1": "anatomy", "A2.1.5.1": "anatomy", "A2.1.5.2": "anatomy",
    "A1.2.2": "disease", "A2.2": None, "B2.2.1.2": "disease", "B2.3": "disease",
}  # fmt: skip
"""Branch of the semantic network → domain of its concepts; the longest branch decides, others are ``other``. A finding (A2.2)
is of no domain that forbids anything: phenotypes of HP are called diseases there and findings here."""


@dataclass(frozen=True, kw_only=True)
class _Vocabulary:
    abbreviation: str
    version: str
    licence: str
    attribution: str


def stage_umls(path: Path, staging: Staging, options: SourceOptions) -> tuple[Origin, ...]:
    """Stages a Metathesaurus folder (MRCONSO, MRDEF, MRREL, MRSTY, MRSAB; ``.RRF`` or ``.RRF.gz``, or in parts ``.RRF.aa.gz`` …).

    Returns:
        The Metathesaurus, and every vocabulary that rows come from or that its licence excludes.

    Raises:
        InputError: a table is missing, truncated, not UTF-8, or has rows of the wrong number of fields.
        SettingError: a language, vocabulary or semantic type is not in it; DuckDB does not take the memory or threads.
    """
    database = staging.folder / "umls.duckdb"
    with open_database(database, memory_limit=options.memory, threads=options.threads) as connection:
        reader = RrfReader(path, staging, connection)
        reader.check("MRSAB")
        vocabularies = _vocabularies(reader, options)
        excluded = {
            name for name, found in vocabularies.items() if is_excluded(found.licence, options.exclude_licences)
        }
        taken = sorted(vocabularies.keys() - excluded)
        reader.load("chosen", {"sab": "VARCHAR"}, ((name,) for name in taken))
        options.note("MRSTY")
        _types(reader, options.umls.semantic_types)
        options.note("MRCONSO")
        _names(reader, options)
        options.note("MRDEF")
        _definitions(reader, suppressed=options.umls.suppressed)
        options.note("MRREL")
        _relations(reader, suppressed=options.umls.suppressed)
        with_rows = _with_rows(reader)
        hashes = {part.name: sha256_of(part) for parts in reader.parts.values() for part in parts}
    reader.clear()
    database.unlink(missing_ok=True)
    release = next((found.version for name, found in vocabularies.items() if name == "MTH"), path.resolve().name)
    whole = Origin(
        name=staging.source,
        version=release,
        licence="UMLS-Metathesaurus-License",
        attribution="UMLS Metathesaurus, U.S. National Library of Medicine, https://www.nlm.nih.gov/research/umls",
        sha256=hashes,
    )
    return (
        whole,
        *(
            Origin(
                name=f"{staging.source}/{name}",
                version=found.version,
                licence=found.licence,
                attribution=found.attribution,
            )
            for name, found in sorted(vocabularies.items())
            if name in with_rows or name in excluded
        ),
    )


def _vocabularies(reader: RrfReader, options: SourceOptions) -> dict[str, _Vocabulary]:
    """Returns the vocabularies to take by abbreviation, excluded ones among them."""
    found = {
        rsab: _Vocabulary(
            abbreviation=rsab,
            version=vsab or rsab,
            licence=f"UMLS-SRL-{srl} ({RESTRICTIONS.get(srl, 'see the UMLS licence')})",
            attribution=f"{name or rsab}, in the UMLS Metathesaurus",
        )
        for rsab, vsab, srl, name in reader.rows(
            f"SELECT rsab, vsab, srl, son FROM {reader.table('MRSAB')} WHERE rsab IS NOT NULL "
            "ORDER BY curver = 'Y', rsab"
        )
    }
    for wanted in options.umls.vocabularies:
        if wanted not in found:
            near = difflib.get_close_matches(wanted, found, n=3) or sorted(found)[:10]
            raise SettingError(
                f"--umls-vocabularies {wanted} is not in MRSAB", remedy=f"there are: {', '.join(near)}, …"
            )
    chosen = options.umls.vocabularies or tuple(found)
    return {name: found[name] for name in chosen}


def _types(reader: RrfReader, wanted: Sequence[str]) -> None:
    """Makes ``typed`` (cui, domain): the concepts of the wanted semantic types."""
    rank = " ".join(
        f"WHEN stn = '{branch}' OR starts_with(stn, '{branch}.') THEN nullif('{domain or ''}', '')"
        for branch, domain in sorted(DOMAIN_BY_TREE.items(), key=lambda item: -len(item[0]))
    )
    reader.make(
        "sty",
        f"SELECT cui, tui, stn, sty, CASE {rank} ELSE 'other' END AS domain, line FROM {reader.table('MRSTY')} "
        "WHERE cui IS NOT NULL OR tui IS NOT NULL",
    )
    reader.refuse("sty", "MRSTY", "cui IS NULL", "'no CUI'")
    conditions = []
    for number, text in enumerate(wanted):
        reader.load(f"wanted_{number}", {"text": "VARCHAR"}, [(text,)])
        asked = f"(SELECT text FROM wanted_{number})"
        condition = (
            f"(tui = {asked} OR lower(sty) = lower({asked}) OR stn = {asked} OR starts_with(stn, {asked} || '.'))"
        )
        if not reader.rows(f"SELECT 1 FROM sty WHERE {condition} LIMIT 1"):
            names = [name for (name,) in reader.rows("SELECT DISTINCT sty FROM sty WHERE sty IS NOT NULL ORDER BY 1")]
            near = difflib.get_close_matches(text, names, n=3, cutoff=0.3) or names[:5]
            raise SettingError(
                f"--umls-semantic-types {text} is no name, TUI or tree number in MRSTY",
                remedy=f"there are: {'; '.join(near)}, …",
            )
        conditions.append(condition)
    chosen = f"WHERE cui IN (SELECT cui FROM sty WHERE {' OR '.join(conditions)})" if conditions else ""
    reader.make("typed", f"SELECT cui, min(domain) AS domain FROM sty {chosen} GROUP BY cui")
    reader.drop("sty")


def _names(reader: RrfReader, options: SourceOptions) -> None:
    """Makes ``known`` (cui, whether it is taken) and stages concepts, synonyms and xrefs."""
    umls = options.umls
    unsuppressed = "" if umls.suppressed else " AND suppress = 'N'"
    of_type = " AND cui IN (SELECT cui FROM typed)" if umls.semantic_types else ""
    reader.load("language", {"lat": "VARCHAR"}, [(umls.language,)])
    reader.make(
        "atoms",
        "SELECT cui, sab, trim(str) AS text, nullif(code, 'NOCODE') AS code, "
        "((CASE WHEN ts = 'P' THEN 0 ELSE 4 END + CASE WHEN stt = 'PF' THEN 0 ELSE 2 END "
        "+ CASE WHEN ispref = 'Y' THEN 0 ELSE 1 END)::BIGINT << 40) | line AS preference, line, "
        f"coalesce(lat = (SELECT lat FROM language) AND sab IN (SELECT sab FROM chosen){unsuppressed}{of_type} "
        "AND trim(str) <> '', false) AS is_taken "
        f"FROM {reader.table('MRCONSO')} WHERE cui IS NOT NULL OR sab IS NOT NULL",
    )
    reader.refuse("atoms", "MRCONSO", "cui IS NULL", "'no CUI'")
    reader.make("known", "SELECT cui, bool_or(is_taken) AS is_taken FROM atoms GROUP BY cui")
    if not reader.rows("SELECT 1 FROM known WHERE is_taken LIMIT 1"):
        raise SettingError(
            f"no name of MRCONSO is left: language {umls.language}, the vocabularies and semantic types asked for",
            where=reader.files["MRCONSO"], remedy="ask for others, or for more",
        )  # fmt: skip
    reader.make(
        "preferred",
        "SELECT cui, text AS name, sab, line FROM atoms "
        "SEMI JOIN (SELECT min(preference) AS preference FROM atoms WHERE is_taken GROUP BY cui) USING (preference)",
    )
    reader.stage(
        "concepts", "MRCONSO",
        "SELECT 'UMLS:' || cui AS concept_id, name, domain, sab, line FROM preferred LEFT JOIN typed USING (cui)",
    )  # fmt: skip
    reader.stage(
        "synonyms", "MRCONSO",
        "SELECT 'UMLS:' || cui AS concept_id, text, 'exact' AS scope, atoms.sab, atoms.line FROM atoms "
        "SEMI JOIN (SELECT min(line) AS line FROM atoms WHERE is_taken GROUP BY cui, text) USING (line) "
        "JOIN preferred USING (cui) WHERE text <> name",
    )  # fmt: skip
    reader.drop("preferred")
    reader.stage(
        "xrefs", "MRCONSO",
        "SELECT 'UMLS:' || cui AS concept_id, CASE WHEN starts_with(code, sab || ':') OR (sab = 'HPO' AND starts_with(code, 'HP:')) "
        "THEN code ELSE sab || ':' || code END AS target, sab, min(line) AS line FROM atoms "
        "WHERE is_taken AND code IS NOT NULL AND sab <> 'MTH' GROUP BY cui, sab, code",
    )  # fmt: skip
    reader.drop("atoms")


def _definitions(reader: RrfReader, *, suppressed: bool) -> None:
    unsuppressed = "" if suppressed else " AND suppress = 'N'"
    reader.make(
        "defining",
        f"SELECT cui, trim(def) AS text, sab, line FROM {reader.table('MRDEF')} "
        f"WHERE sab IN (SELECT sab FROM chosen) AND trim(def) <> ''{unsuppressed}",
    )
    reader.refuse("defining", "MRDEF", "cui IS NULL", "'no CUI'")
    reader.stage(
        "definitions", "MRDEF",
        'SELECT \'UMLS:\' || cui AS concept_id, text, []::VARCHAR[] AS "references", sab, line '
        "FROM defining LEFT JOIN known USING (cui) WHERE coalesce(is_taken, true)",
    )  # fmt: skip
    reader.drop("defining")


def _relations(reader: RrfReader, *, suppressed: bool) -> None:
    unsuppressed = "" if suppressed else " AND suppress = 'N'"
    reader.make(
        "read_relations",
        f"SELECT cui1, cui2, rel, rela, sab, line FROM {reader.table('MRREL')} "
        "WHERE (cui1 <> cui2 OR cui1 IS NULL OR cui2 IS NULL) "
        f"AND sab IN (SELECT sab FROM chosen){unsuppressed}",
    )
    reader.refuse("read_relations", "MRREL", "cui1 IS NULL OR cui2 IS NULL", "'no CUI1 or no CUI2'")
    reader.refuse("read_relations", "MRREL", NO_PREDICATE, "'RELA ' || rela || ' has no letter or digit'")
    load_predicates(reader)
    reader.stage("relations", "MRREL", RELATIONS_IN_SQL)


def _with_rows(reader: RrfReader) -> set[str]:
    tables = " UNION ALL ".join(
        f"SELECT source FROM {parquet(reader.staging.path(table))}"
        for table in STAGED
        if reader.staging.path(table).exists()
    )
    prefix = len(reader.staging.source) + 1
    return {source[prefix:] for (source,) in reader.rows(f"SELECT DISTINCT source FROM ({tables})")}

"""One small writer a format, and what each format can carry, so that what is written can be read back."""

import csv
import io
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from xml.sax.saxutils import escape

import duckdb
import pytest

from vesalius.knowledge.sources import KINDS
from vesalius.knowledge.sources.name_ids import name_id
from vesalius.knowledge.sources.options import SourceOptions
from vesalius.knowledge.staging import Staging

PROPERTIES = {"part_of": "BFO:0000050", "develops_from": "RO:0002202", "adjacent_to": "RO:0002220"}
OBO_PURL = "http://purl.obolibrary.org/obo/"
OIO = "http://www.geneontology.org/formats/oboInOwl#"
COLUMNS = {
    "concepts": "concept_id, name",
    "obsolete": "concept_id, name, replaced_by",
    "synonyms": "concept_id, text, scope",
    "definitions": 'concept_id, text, list_sort("references")',
    "relations": "subject, predicate, object",
    "xrefs": "concept_id, target",
    "rejects": "reason, content",
}


@dataclass(frozen=True, kw_only=True)
class Said:
    """One concept of a test, or an obsolete one."""

    id: str
    name: str
    synonyms: tuple[tuple[str, str], ...] = ()
    definitions: tuple[tuple[str, tuple[str, ...]], ...] = ()
    xrefs: tuple[str, ...] = ()
    is_obsolete: bool = False
    replaced_by: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Content:
    """What a test writes: concepts, and relations between live ones."""

    concepts: tuple[Said, ...]
    relations: tuple[tuple[str, str, str], ...] = ()

    def rows(self) -> dict[str, set]:
        """What a reader stages of it, place and order left out."""
        live = [said for said in self.concepts if not said.is_obsolete]
        return {
            "concepts": {(said.id, said.name) for said in live},
            "obsolete": {(said.id, said.name, said.replaced_by) for said in self.concepts if said.is_obsolete},
            "synonyms": {(said.id, *synonym) for said in live for synonym in said.synonyms},
            "definitions": {(said.id, text, tuple(sorted(refs))) for said in live for text, refs in said.definitions},
            "relations": set(self.relations),
            "xrefs": {(said.id, target) for said in live for target in said.xrefs},
            "rejects": set(),
        }


@dataclass(frozen=True, kw_only=True)
class Form:
    """One way to write a kind of source."""

    kind: str
    suffix: str
    write: Callable[[Content], str | bytes | dict[str, str]]
    carries: Callable[[Content], Content] = lambda content: content
    spec: str | None = None

    def file(self, content: Content, folder: Path) -> tuple[Path, SourceOptions]:
        written = self.write(content)
        path = folder / f"source{self.suffix}"
        if isinstance(written, dict):
            path.mkdir(exist_ok=True)
            for name, text in written.items():
                (path / name).write_text(text, encoding="utf-8")
        else:
            path.write_bytes(written if isinstance(written, bytes) else written.encode())
        if self.spec is None:
            return path, SourceOptions()
        spec = folder / "spec.yaml"
        spec.write_text(self.spec, encoding="utf-8")
        return path, SourceOptions(spec=spec)


class Recorded(Staging):
    """Checks rows as any staging does, and keeps them in memory: quick enough for many small files."""

    def __init__(self, file, *, keep_going=False):
        super().__init__(Path(), "test", file=file, keep_going=keep_going)
        self.rows = {table: set() for table in COLUMNS}

    def _write(self, table, values, line):
        if table not in COLUMNS:
            return
        columns = [
            column.strip() for column in COLUMNS[table].replace('list_sort("references")', "references").split(",")
        ]
        row = [tuple(value) if isinstance(value := values[column], list) else value for column in columns]
        if table == "definitions":
            row[2] = tuple(sorted(row[2]))
        self.rows[table].add(tuple(row))

    def close(self, *, write=True):
        pass


def record(kind, path, options=None, *, keep_going=False):
    """Returns what the reader of `kind` says of a file, as `Content.rows` does, and its origins."""
    with Recorded(path.name, keep_going=keep_going) as staging:
        origins = KINDS[kind](path, staging, options or SourceOptions())
    return staging.rows, origins


def stage(kind, path, folder, options=None, *, keep_going=False):
    """Returns what the reader of `kind` stages of a file, as `Content.rows` does, and its origins."""
    folder.mkdir(exist_ok=True)
    with Staging(folder, "test", file=path.name, keep_going=keep_going) as staging:
        origins = KINDS[kind](path, staging, options or SourceOptions())
    return staged_rows(folder), origins


def staged_rows(folder):
    with duckdb.connect() as connection:
        return {
            table: {
                tuple(tuple(value) if isinstance(value, list) else value for value in row)
                for row in connection.execute(f"SELECT {columns} FROM '{folder / table}.parquet'").fetchall()
            }
            for table, columns in COLUMNS.items()
        }


def staged_lines(folder, table):
    with duckdb.connect() as connection:
        return [
            line
            for (line,) in connection.execute(f"SELECT line FROM '{folder / table}.parquet' ORDER BY row").fetchall()
        ]


# OBO


def _obo_escaped(text, *characters):
    for character in ("\\", *characters):
        text = text.replace(character, f"\\{character}")
    return text.replace("\n", "\\n").replace("\t", "\\t")


def _obo_xref(text):
    return _obo_escaped(text, ",", '"', "]", "[")


def write_obo(content):
    lines = ["format-version: 1.4", "data-version: 2026-05-01", "ontology: test", ""]
    for said in content.concepts:
        lines += ["[Term]", f"id: {said.id}", f"name: {_obo_escaped(said.name, '!', '{', '}')}"]
        lines += [
            f'def: "{_obo_escaped(text, chr(34))}" [{", ".join(map(_obo_xref, references))}] {{source="X:1"}} ! a "comment"'
            for text, references in said.definitions
        ]
        lines += [
            f'synonym: "{_obo_escaped(text, chr(34))}" {scope.upper()} [X:9 "described, \\"so\\"]"] ! {{comment}}'
            for text, scope in said.synonyms
        ]
        lines += [f'xref: {target} {{source="A \\"quoted\\" source"}}' for target in said.xrefs]
        lines += ["is_obsolete: true"] * said.is_obsolete
        lines += [f"replaced_by: {other}" for other in said.replaced_by]
        for subject, predicate, target in content.relations:
            if subject == said.id:
                lines.append(
                    f"is_a: {target} ! its name" if predicate == "is_a" else f"relationship: {predicate} {target}"
                )
        lines.append("")
    for predicate, identifier in PROPERTIES.items():
        lines += ["[Typedef]", f"id: {predicate}", f"name: {predicate.replace('_', ' ')}", f"xref: {identifier}", ""]
    return "\n".join(lines)


# OWL


def iri(curie):
    return OBO_PURL + curie.replace(":", "_")


def _xml(text):
    return escape(text)


def write_rdf(content, *, doctype="", purl=OBO_PURL):
    def about(curie):
        return purl + curie.replace(":", "_")

    lines = [
        "<?xml version='1.0' encoding='UTF-8'?>", doctype, "<rdf:RDF",
        ' xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#" xmlns:rdfs="http://www.w3.org/2000/01/rdf-schema#"',
        f' xmlns:owl="http://www.w3.org/2002/07/owl#" xmlns:obo="{OBO_PURL}" xmlns:oboInOwl="{OIO}">',
        '<owl:Ontology rdf:about="http://example.org/test"><owl:versionIRI rdf:resource="http://example.org/test/2026-05-01"/>',
        '<dcterms:license xmlns:dcterms="http://purl.org/dc/terms/" rdf:resource="https://creativecommons.org/licenses/by/4.0/"/>',
        "</owl:Ontology>",
    ]  # fmt: skip
    for predicate, identifier in PROPERTIES.items():
        label = predicate.replace("_", " ")
        lines.append(
            f'<owl:ObjectProperty rdf:about="{about(identifier)}"><rdfs:label>{label}</rdfs:label></owl:ObjectProperty>'
        )
    for said in content.concepts:
        lines.append(f'<owl:Class rdf:about="{about(said.id)}"><rdfs:label>{_xml(said.name)}</rdfs:label>')
        for text, scope in said.synonyms:
            tag = f"oboInOwl:has{scope.capitalize()}Synonym"
            lines.append(f"<{tag}>{_xml(text)}</{tag}>")
        lines += [f"<obo:IAO_0000115>{_xml(text)}</obo:IAO_0000115>" for text, _ in said.definitions]
        lines += [f"<oboInOwl:hasDbXref>{_xml(target)}</oboInOwl:hasDbXref>" for target in said.xrefs]
        if said.is_obsolete:
            lines.append(
                '<owl:deprecated rdf:datatype="http://www.w3.org/2001/XMLSchema#boolean">true</owl:deprecated>'
            )
        lines += [f'<obo:IAO_0100001 rdf:resource="{about(other)}"/>' for other in said.replaced_by]
        for subject, predicate, target in content.relations:
            if subject == said.id and predicate == "is_a":
                lines.append(f'<rdfs:subClassOf rdf:resource="{about(target)}"/>')
            elif subject == said.id:
                lines.append(
                    f'<rdfs:subClassOf><owl:Restriction><owl:onProperty rdf:resource="{about(PROPERTIES[predicate])}"/>'
                    f'<owl:someValuesFrom rdf:resource="{about(target)}"/></owl:Restriction></rdfs:subClassOf>'
                )
        lines.append("</owl:Class>")
        for text, references in said.definitions:
            if references:
                lines.append(
                    f'<owl:Axiom><owl:annotatedSource rdf:resource="{about(said.id)}"/>'
                    f'<owl:annotatedProperty rdf:resource="{about("IAO:0000115")}"/>'
                    f"<owl:annotatedTarget>{_xml(text)}</owl:annotatedTarget>"
                    + "".join(f"<oboInOwl:hasDbXref>{_xml(each)}</oboInOwl:hasDbXref>" for each in references)
                    + "</owl:Axiom>"
                )
    return "\n".join([*lines, "</rdf:RDF>"])


PROTEGE = f'<!DOCTYPE rdf:RDF [\n<!ENTITY obo "{OBO_PURL}" >\n<!ENTITY nothing "" >\n]>'


def write_functional(content):
    def quoted(text):
        return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'

    def annotation(subject, prop, value, notes=""):
        return f"AnnotationAssertion({notes}{prop} {subject} {value})"

    lines = [
        f"Prefix(obo:=<{OBO_PURL}>)", f"Prefix(oio:=<{OIO}>)", "Prefix(owl:=<http://www.w3.org/2002/07/owl#>)",
        "Prefix(xsd:=<http://www.w3.org/2001/XMLSchema#>)", "Prefix(rdfs:=<http://www.w3.org/2000/01/rdf-schema#>)",
        "Ontology(<http://example.org/test> <http://example.org/test/2026-05-01>",
    ]  # fmt: skip
    for predicate, identifier in PROPERTIES.items():
        lines.append(f"Declaration(ObjectProperty(<{iri(identifier)}>))")
        lines.append(annotation(f"<{iri(identifier)}>", "rdfs:label", quoted(predicate.replace("_", " "))))
    for said in content.concepts:
        subject = f"<{iri(said.id)}>"
        lines += [f"Declaration(Class({subject}))", annotation(subject, "rdfs:label", quoted(said.name) + "@en")]
        lines += [
            annotation(subject, f"oio:has{scope.capitalize()}Synonym", quoted(text)) for text, scope in said.synonyms
        ]
        for text, references in said.definitions:
            notes = "".join(f"Annotation(oio:hasDbXref {quoted(each)}) " for each in references)
            lines.append(annotation(subject, "obo:IAO_0000115", quoted(text) + "^^xsd:string", notes))
        lines += [annotation(subject, "oio:hasDbXref", quoted(target)) for target in said.xrefs]
        if said.is_obsolete:
            lines.append(annotation(subject, "owl:deprecated", '"true"^^xsd:boolean'))
        lines += [annotation(subject, "obo:IAO_0100001", f"<{iri(other)}>") for other in said.replaced_by]
    for subject, predicate, target in content.relations:
        filler = f"<{iri(target)}>"
        if predicate != "is_a":
            filler = f"ObjectSomeValuesFrom(<{iri(PROPERTIES[predicate])}> {filler})"
        lines.append(f"SubClassOf(<{iri(subject)}> {filler})")
    return "\n".join([*lines, ")"])


# OBO Graph JSON


def write_obograph(content):
    nodes = [
        {"id": iri(identifier), "lbl": predicate.replace("_", " "), "type": "PROPERTY", "propertyType": "OBJECT"}
        for predicate, identifier in PROPERTIES.items()
    ]
    for said in content.concepts:
        meta = {
            "synonyms": [{"pred": f"has{scope.capitalize()}Synonym", "val": text} for text, scope in said.synonyms],
            "xrefs": [{"val": target} for target in said.xrefs],
            "basicPropertyValues": [{"pred": iri("IAO:0100001"), "val": iri(other)} for other in said.replaced_by],
            "deprecated": said.is_obsolete,
        }
        for text, references in said.definitions:
            meta["definition"] = {"val": text, "xrefs": list(references)}
        nodes.append({"id": iri(said.id), "lbl": said.name, "type": "CLASS", "meta": meta})
    edges = [
        {"sub": iri(subject), "pred": "is_a" if predicate == "is_a" else iri(PROPERTIES[predicate]), "obj": iri(target)}
        for subject, predicate, target in content.relations
    ]
    meta = {"version": "http://example.org/test/2026-05-01"}
    return json.dumps(
        {"graphs": [{"id": "http://example.org/test", "meta": meta, "nodes": nodes, "edges": edges}]}, indent=1
    )


# SAT


def _by_name(content, *, cui=False):
    """The content as a format carries it that knows live concepts by name alone."""
    live = [said for said in content.concepts if not said.is_obsolete]
    ids = {said.id: f"UMLS:{_cui(said.id)}" if cui else name_id(said.name) for said in live}
    concepts = tuple(
        replace(
            said, id=ids[said.id], name=" ".join(said.name.split()), xrefs=(),
            synonyms=tuple((text, "exact") for text, scope in said.synonyms if scope == "exact"),
            definitions=tuple((text, ()) for text, _ in said.definitions),
        )
        for said in live
    )  # fmt: skip
    return Content(concepts=concepts, relations=tuple((ids[s], p, ids[o]) for s, p, o in content.relations))


def _cui(curie):
    return "C" + curie.split(":")[1]


def _csv(header, rows, delimiter=","):
    file = io.StringIO(newline="")
    writer = csv.writer(file, delimiter=delimiter, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return file.getvalue()


def write_sat_definitions(content):
    rows = [
        (_cui(said.id), said.name, text)
        for said in content.concepts if not said.is_obsolete for text, _ in said.definitions
    ]  # fmt: skip
    return _csv(("cui", "name", "definition"), rows)


def carried_by_sat_definitions(content):
    carried = _by_name(content, cui=True)
    names = {f"UMLS:{_cui(said.id)}": said.name for said in content.concepts}
    concepts = tuple(replace(said, name=names[said.id], synonyms=()) for said in carried.concepts if said.definitions)
    return Content(concepts=concepts)


def write_sat_relations(content):
    names = {said.id: said.name for said in content.concepts}
    rows = [
        (names[subject], names[target], predicate.replace("_", " ")) for subject, predicate, target in content.relations
    ]
    return _csv(("source", "target", "edge"), rows)


def carried_by_sat_relations(content):
    carried = _by_name(content)
    related = {end for subject, _, target in carried.relations for end in (subject, target)}
    return Content(
        concepts=tuple(replace(said, synonyms=(), definitions=()) for said in carried.concepts if said.id in related),
        relations=carried.relations,
    )


def write_sat_json(content, *, as_lists=True):
    names = {said.id: said.name for said in content.concepts}
    entries = {}
    for said in content.concepts:
        if said.is_obsolete:
            continue
        texts = [text for text, _ in said.definitions]
        entries[said.name] = {
            "cleaned_definition": texts if as_lists else "".join(texts[:1]),
            "relations": [
                [predicate.replace("_", " "), [names[target]] if as_lists else names[target]]
                for subject, predicate, target in content.relations
                if subject == said.id
            ],
            "synonyms": [text for text, scope in said.synonyms if scope == "exact"],
        }
        if not texts:
            del entries[said.name]["cleaned_definition"]
    return json.dumps(entries, indent=1)


# UMLS


def _rrf_text(text):
    return text.replace("|", "/").replace("\n", " ").strip()


def write_umls(content):
    """Returns file name → text of a Metathesaurus folder of one vocabulary."""
    live = [said for said in content.concepts if not said.is_obsolete]
    names, sources = [], []
    for said in live:
        texts = [said.name, *(text for text, scope in said.synonyms if scope == "exact")]
        for number, text in enumerate(map(_rrf_text, texts)):
            status = "P|L1|PF|S1|Y" if number == 0 else "S|L2|VO|S2|N"
            names.append(f"{_cui(said.id)}|ENG|{status}|A{len(names)}||||TEST|PT|NOCODE|{text}|0|N||")
        sources += [f"{_cui(said.id)}|A1|AT1||TEST|{_rrf_text(text)}|N||" for text, _ in said.definitions]
    rela = {"is_a": "isa"}
    relations = [
        f"{_cui(target)}|A1|CUI|RO|{_cui(subject)}|A2|CUI|{rela.get(predicate, predicate)}|R1||TEST|TEST|||N||"
        for subject, predicate, target in content.relations
    ]
    vocabulary = "C1|C2|TEST2026|TEST|A test|TEST|1||||||0|1|1|||||ENG|UTF-8|Y|Y|TEST|cite|"
    tables = {
        "MRSAB": [vocabulary], "MRSTY": [f"{_cui(said.id)}|T023|A1.2.3.1|Body Part|AT1||" for said in live],
        "MRCONSO": names, "MRDEF": sources, "MRREL": relations,
    }  # fmt: skip
    return {f"{table}.RRF": "".join(f"{row}\n" for row in rows) for table, rows in tables.items()}


def carried_by_umls(content):
    carried = _by_name(content, cui=True)
    concepts = []
    for said, written in zip(
        carried.concepts, (said for said in content.concepts if not said.is_obsolete), strict=True
    ):
        name = _rrf_text(written.name)
        synonyms = {(_rrf_text(text), scope) for text, scope in said.synonyms} - {(name, "exact"), ("", "exact")}
        definitions = tuple((text, ()) for described, _ in said.definitions if (text := _rrf_text(described)))
        concepts.append(replace(said, name=name, synonyms=tuple(synonyms), definitions=definitions))
    relations = {
        (min(s, o), p, max(s, o)) if p == "adjacent_to" else (s, p, o) for s, p, o in carried.relations if s != o
    }
    return Content(concepts=tuple(concepts), relations=tuple(relations))


# Tables

TABLE = ("concept_id", "name", "synonym", "scope", "definition", "references", "xref", "predicate", "object")
SPEC = """\
source: test
version: 2026-05
licence: CC-BY-4.0
attribution: made for tests
format: {format}
separator: "¦"
concept: {{id: concept_id, name: name}}
synonyms: [{{text: synonym, scope: {{column: scope}}}}]
definitions: [{{text: definition, references: references}}]
xrefs: [{{target: xref}}]
relations: [{{predicate: predicate, object: object}}]
"""


def table_rows(content):
    names = {said.id: said.name for said in content.concepts}

    def row(concept, **cells):
        return {**dict.fromkeys(TABLE, ""), "concept_id": concept, "name": names[concept], "scope": "related", **cells}

    for said in content.concepts:
        if not said.is_obsolete:
            yield row(said.id)
            yield from (row(said.id, synonym=text, scope=scope) for text, scope in said.synonyms)
            yield from (row(said.id, definition=text, references="¦".join(refs)) for text, refs in said.definitions)
            if said.xrefs:
                yield row(said.id, xref="¦".join(said.xrefs))
    yield from (row(subject, predicate=predicate, object=target) for subject, predicate, target in content.relations)


def write_csv_table(content, delimiter=","):
    return _csv(TABLE, [tuple(row.values()) for row in table_rows(content)], delimiter)


def write_json_table(content):
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in table_rows(content))


def write_parquet_table(content):
    import tempfile

    with tempfile.TemporaryDirectory() as folder, duckdb.connect() as connection:
        file = Path(folder) / "rows.jsonl"
        file.write_text(write_json_table(content), encoding="utf-8")
        connection.execute(
            "COPY (SELECT * FROM read_json($file, format := 'newline_delimited', columns := $schema)) "
            f"TO '{folder}/t.parquet' (FORMAT parquet)",
            {"file": str(file), "schema": dict.fromkeys(TABLE, "VARCHAR")},
        )
        return (Path(folder) / "t.parquet").read_bytes()


def live_only(content):
    return replace(content, concepts=tuple(said for said in content.concepts if not said.is_obsolete))


FORMS: dict[str, Form] = {
    "umls": Form(kind="umls", suffix="", write=write_umls, carries=carried_by_umls),
    "obo": Form(kind="obo", suffix=".obo", write=write_obo),
    "owl rdf": Form(kind="owl", suffix=".owl", write=write_rdf),
    "owl protégé": Form(kind="owl", suffix=".owl", write=lambda content: write_rdf(content, doctype=PROTEGE, purl="&obo;")),
    "owl functional": Form(kind="owl", suffix=".ofn", write=write_functional),
    "obograph": Form(kind="obograph", suffix=".json", write=write_obograph),
    "sat-definitions": Form(
        kind="sat-definitions", suffix=".csv", write=write_sat_definitions, carries=carried_by_sat_definitions
    ),
    "sat-relations": Form(kind="sat-relations", suffix=".csv", write=write_sat_relations, carries=carried_by_sat_relations),
    "sat-json lists": Form(kind="sat-json", suffix=".json", write=write_sat_json, carries=_by_name),
    "sat-json texts": Form(
        kind="sat-json", suffix=".json", write=lambda content: write_sat_json(content, as_lists=False), carries=_by_name
    ),
    "table csv": Form(
        kind="table", suffix=".csv", write=write_csv_table, carries=live_only, spec=SPEC.format(format="csv")
    ),
    "table tsv": Form(
        kind="table", suffix=".txt", write=lambda content: write_csv_table(content, "\t"), carries=live_only,
        spec=SPEC.format(format="tsv"),
    ),
    "table jsonl": Form(
        kind="table", suffix=".jsonl", write=write_json_table, carries=live_only, spec=SPEC.format(format="jsonl")
    ),
    "table parquet": Form(
        kind="table", suffix=".parquet", write=write_parquet_table, carries=live_only, spec=SPEC.format(format="parquet")
    ),
}  # fmt: skip
"""Every way to write a source; a kind without one here fails the contract test."""

SMALL = Content(
    concepts=(
        Said(
            id="UBERON:0002113",
            name="kidney",
            synonyms=(("ren", "exact"), ("renal organ", "related")),
            definitions=(("A paired organ of the urinary tract.", ("MESH:D007668",)),),
            xrefs=("FMA:7203",),
        ),
        Said(id="UBERON:0000062", name="organ"),
        Said(id="UBERON:0001008", name="renal system", definitions=(("Makes urine.", ()),)),
        Said(id="UBERON:0000003", name="obsolete kidney", is_obsolete=True, replaced_by=("UBERON:0002113",)),
    ),
    relations=(("UBERON:0002113", "is_a", "UBERON:0000062"), ("UBERON:0002113", "part_of", "UBERON:0001008")),
)


class Bench:
    """What tests of sources need, in one hand, since test modules cannot import each other."""

    forms = FORMS
    small = SMALL
    said = Said
    content = Content
    record = staticmethod(record)
    stage = staticmethod(stage)
    lines = staticmethod(staged_lines)
    staged_rows = staticmethod(staged_rows)


@pytest.fixture(scope="session")
def bench() -> Bench:
    return Bench()

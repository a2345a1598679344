"""UBERON's own file and its relations built with the built-in sources, against counts made without the readers."""

import gzip
import json
import re
import subprocess
import sys
from collections import Counter, defaultdict
from functools import cache
from importlib import metadata
from pathlib import Path

import duckdb
import pytest
import zstandard

from vesalius.knowledge.store import read_graph
from vesalius.knowledge.stored import StoredGraph

ORDER = ("uberon", "mondo", "uberon_basic", "uberon_relations")
SCOPES = ("exact", "narrow", "broad", "related")
SPEC = """
licence: CC-BY-3.0
attribution: Uberon multi-species anatomy ontology, https://uberon.org
relations:
  - {subject: subject_id, predicate: relation, object: object_id}
"""


def unescaped(text):
    return re.sub(r"\\(.)", lambda found: {"n": "\n", "t": "\t", "W": " "}.get(found[1], found[1]), text).strip()


@pytest.fixture(scope="module")
def text(shared_data):
    return gzip.decompress((shared_data / "knowledge" / "uberon_basic.obo.gz").read_bytes()).decode()


@pytest.fixture(scope="module")
def stanzas(text):
    """Tag → values of each [Term] of the file, read line by line with a few patterns."""
    found = []
    for block in re.split(r"\n\n(?=\[)", text)[1:]:
        if block.startswith("[Term]"):
            tags = {}
            for line in block.splitlines()[1:]:
                tag, _, value = line.partition(": ")
                tags.setdefault(tag, []).append(value)
            found.append(tags)
    return found


@pytest.fixture(scope="module")
def built(shared_data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("real")
    (folder / "relations.yaml").write_text(SPEC)
    data = shared_data / "knowledge"
    sources = [
        "uberon",
        "mondo",
        f"obo={data}/uberon_basic.obo.gz",
        f"table={data}/uberon_relations.tsv,{folder}/relations.yaml",
    ]
    # In a process of its own: checking every shape of a build of this size takes minutes.
    command = "import sys; from vesalius.cli import main; sys.exit(main(sys.argv[1:]))"
    arguments = ["knowledge", "build", *sources, "--out", str(folder / "graph")]
    subprocess.run([sys.executable, "-c", command, *arguments], check=True, capture_output=True)
    return folder / "graph"


@pytest.fixture(scope="module")
def built_in():
    """Source → id → what the installed package's file says, decompressed and parsed here."""
    folder = Path(str(metadata.distribution("cellxgene-ontology-guide").locate_file("cellxgene_ontology_guide/data")))
    found = {}
    for prefix in ("UBERON", "MONDO"):
        path = max(folder.glob(f"{prefix}-ontology-*.json.zst"))
        with path.open("rb") as file, zstandard.ZstdDecompressor().stream_reader(file) as stream:
            held = json.loads(stream.read())
        found[prefix.lower()] = {key: entry for key, entry in held.items() if key.startswith(f"{prefix}:")}
    return found


@pytest.fixture(scope="module")
def became(built_in, stanzas):
    """Id → the live id it stands for, and whether it was replaced; the package's releases are newer than the file's."""
    entries = {**built_in["uberon"], **built_in["mondo"]}
    successors = {
        key: [entry["replaced_by"]] if entry.get("replaced_by") else []
        for key, entry in entries.items()
        if entry["deprecated"]
    }
    live = {key for key, entry in entries.items() if not entry["deprecated"]}
    for tags in stanzas:
        key = tags["id"][0]
        if "is_obsolete" not in tags and key not in successors:
            live.add(key)
        elif "is_obsolete" in tags and key not in entries:
            successors.setdefault(key, [value.split()[0] for value in tags.get("replaced_by", ())])
    for tags in stanzas:
        for other in tags.get("alt_id", ()):
            if other not in live:
                successors.setdefault(other, [tags["id"][0]])
    found = {key: (key, False) for key in live}
    for key in successors:
        ends, seen, waiting = set(), {key}, [key]
        while waiting:
            for following in successors.get(waiting.pop(), ()):
                if following in live:
                    ends.add(following)
                elif following not in seen:
                    seen.add(following)
                    waiting.append(following)
        if len(ends) == 1:
            found[key] = (ends.pop(), True)
    return found


@pytest.fixture(scope="module")
def names(built_in, stanzas, became):
    """Live id → its preferred name: the package's before the file's."""
    found = {tags["id"][0]: unescaped(tags["name"][0]) for tags in stanzas if "is_obsolete" not in tags}
    for entries in built_in.values():
        found |= {key: entry["label"].strip() for key, entry in entries.items() if not entry["deprecated"]}
    return {key: name for key, name in found.items() if became.get(key) == (key, False)}


def stored(folder, table, columns):
    with duckdb.connect() as connection:
        return connection.execute(f"SELECT {columns} FROM '{folder}/{table}.parquet'").fetchall()


def compare(found, expected, *columns):
    """Checks that the rows are those expected, each once; first their numbers by source and whatever else is in `columns`."""
    for places in ((-1,), columns):
        assert Counter(tuple(row[place] for place in places) for row in found) == Counter(
            tuple(row[place] for place in places) for row in expected
        )
    assert len(found) == len(set(found))
    assert set(found) == expected


def test_concepts_are_the_live_ones_once_each_by_the_newest_name(built, names):
    found = stored(built, "concepts", "concept_id, name")
    assert len(found) == len(names) == len(dict(found))
    assert dict(found) == names


def test_synonyms_by_scope_and_source_are_those_an_independent_count_finds(built, built_in, stanzas, became, names):
    rows = [
        (source, 1, key, text.strip(), "exact")
        for source, entries in built_in.items()
        for key, entry in entries.items()
        if not entry["deprecated"]
        for text in entry.get("synonyms") or ()
    ]
    for tags in stanzas:
        key = tags["id"][0]
        if "is_obsolete" not in tags and key in became:
            rows.append(("uberon_basic", 5 if became[key][1] else 0, key, unescaped(tags["name"][0]), "exact"))
            for value in tags.get("synonym", ()):
                found = re.match(r'"((?:[^"\\]|\\.)*)" (EXACT|NARROW|BROAD|RELATED)', value)
                strength = 4 if became[key][1] else 1 + SCOPES.index(found[2].lower())
                rows.append(("uberon_basic", strength, key, unescaped(found[1]), found[2].lower()))
    said = defaultdict(list)
    for number, (source, strength, key, text, scope) in enumerate(rows):
        concept, is_replaced = became[key]
        if text and text != names[concept]:
            kept = "related" if is_replaced else scope
            said[concept, text].append((ORDER.index(source), strength, number, kept, source))
    expected = {(*key, *min(rows)[3:]) for key, rows in said.items()}
    assert {scope for _, _, scope, _ in expected} == set(SCOPES)
    compare(stored(built, "synonyms", "concept_id, text, scope, source"), expected, 2, 3)


def test_definitions_by_source_are_those_an_independent_count_finds(built, built_in, stanzas, became):
    expected = {
        (key, entry["description"].strip(), source)
        for source, entries in built_in.items()
        for key, entry in entries.items()
        if not entry["deprecated"] and (entry.get("description") or "").strip()
    }
    for tags in stanzas:
        if "is_obsolete" not in tags and became.get(tags["id"][0]) == (tags["id"][0], False):
            for value in tags.get("def", ()):
                text = unescaped(re.match(r'"((?:[^"\\]|\\.)*)"', value)[1])
                expected |= {(tags["id"][0], text, "uberon_basic")} if text else set()
    assert {source for *_, source in expected} == {"uberon", "mondo", "uberon_basic"}
    compare(stored(built, "definitions", "concept_id, text, source"), expected, 2)


def test_xrefs_by_source_and_prefix_are_those_an_independent_count_finds(built, built_in, stanzas, became):
    said = defaultdict(list)

    def add(source, key, target):
        if key in became and became[key][0] != target:
            said[became[key][0], target].append((ORDER.index(source), source))

    for source, entries in built_in.items():
        for key in (key for key, entry in entries.items() if entry["deprecated"]):
            add(source, key, key)
    for tags in stanzas:
        key = tags["id"][0]
        if "is_obsolete" in tags:
            add("uberon_basic", key, key)
            continue
        for value in tags.get("xref", ()):
            add("uberon_basic", key, unescaped(value.split(" ")[0]))
        for other in tags.get("alt_id", ()):
            add("uberon_basic", other, other)
    expected = {(*key, key[1].split(":")[0], min(rows)[1]) for key, rows in said.items()}
    compare(stored(built, "xrefs", "concept_id, target, split_part(target, ':', 1), source"), expected, 2, 3)


def test_relations_by_predicate_and_source_are_those_an_independent_count_finds(
    built, text, shared_data, built_in, stanzas, became
):
    said = defaultdict(list)

    def add(source, subject, predicate, other):
        ends = became.get(subject, (None,))[0], became.get(other, (None,))[0]
        if all(ends) and ends[0] != ends[1]:
            said[ends[0], predicate, ends[1]].append((ORDER.index(source), source))

    for source, entries in built_in.items():
        for key, entry in entries.items():
            for other, distance in () if entry["deprecated"] else entry["ancestors"].items():
                if distance == 1 and other in entries and not entries[other]["deprecated"]:
                    add(source, key, "is_a_or_part_of", other)
    for tags in stanzas:
        for predicate, other in () if "is_obsolete" in tags else relations_of(tags):
            if predicate not in metadata_tags(text):
                word = re.sub(r"\W+", "_", predicate.removeprefix("BFO:").removeprefix("RO:"))
                add("uberon_basic", tags["id"][0], word, other)
    lines = (shared_data / "knowledge" / "uberon_relations.tsv").read_text().splitlines()[1:]
    assert len(lines) == 373
    for line in lines:
        predicate, subject, _, other, *_ = line.split("\t")
        add("uberon_relations", subject, predicate, other)
    expected = {
        (*key, min(rows)[1])
        for key, rows in said.items()
        if key[1] != "is_a_or_part_of" or not {(key[0], "is_a", key[2]), (key[0], "part_of", key[2])} & said.keys()
    }
    assert sum(source == "uberon_relations" for *_, source in expected) == 373
    compare(stored(built, "relations", "subject, predicate, object, source"), expected, 1, 3)


def relations_of(tags):
    """Returns predicate and object of every relation that a stanza states."""
    said = [("is_a", value.split(" ")[0]) for value in tags.get("is_a", ())]
    said += [tuple(value.split(" ")[:2]) for value in tags.get("relationship", ())]
    for value in tags.get("intersection_of", ()):
        parts = re.sub(r" !.*| \{.*", "", value).split(" ")
        said.append(tuple(parts) if len(parts) == 2 else ("is_a", parts[0]))
    return said


@cache
def metadata_tags(text):
    """Returns the properties that the file itself says are no relations."""
    return {
        re.match(r"id: (\S+)", block)[1]
        for block in text.split("[Typedef]\n")[1:]
        if "\nis_metadata_tag: true" in block.split("\n\n")[0]
    }


@pytest.mark.slow
def test_a_graph_opened_lazily_says_what_the_graph_in_memory_says(tmp_path):
    build(["uberon"], tmp_path / "graph")
    whole, opened = read_graph(tmp_path / "graph"), StoredGraph(tmp_path / "graph")
    assert len(opened) == len(whole)
    ids = [concept.concept_id for concept in whole][::997]
    assert opened.concepts(ids) == [whole[concept_id] for concept_id in ids]
    assert opened.named("Liver") == whole.named("liver")
    assert [drawn.relation for drawn in opened.relations_of(ids)] == [
        r for concept_id in ids for r in whole.relations_of(concept_id)
    ]

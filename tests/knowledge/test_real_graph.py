"""UBERON's own file and its relations built with the built-in sources, against counts made without the readers."""

import gzip
import re
import subprocess
import sys
from collections import Counter

import duckdb
import pytest

from vesalius.knowledge.store import read_graph
from vesalius.knowledge.stored import StoredGraph

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


def count(folder, table, *columns, where="true"):
    listed = ", ".join(columns)
    rows = duckdb.execute(
        f"SELECT {listed}, count(*) FROM '{folder}/{table}.parquet' WHERE {where} GROUP BY ALL"
    ).fetchall()
    return {row[0] if len(row) == 2 else row[:-1]: row[-1] for row in rows}


@pytest.fixture(scope="module")
def live(stanzas):
    """What the built-in UBERON, the newer release, says of every id."""
    from vesalius.knowledge.sources.cellxgene import _asset, _decode

    return _decode(_asset("UBERON")[0])


def test_obsolete_concepts_are_gone_and_each_id_is_there_once(built, stanzas, live):
    ids = {row[0] for row in duckdb.execute(f"SELECT concept_id FROM '{built}/concepts.parquet'").fetchall()}
    gone = {key for key, entry in live.items() if entry["deprecated"]}
    gone |= {tags["id"][0] for tags in stanzas if "is_obsolete" in tags and tags["id"][0] not in live}
    assert not ids & gone
    wanted = {key for key, entry in live.items() if not entry["deprecated"] and key.startswith("UBERON:")}
    wanted |= {tags["id"][0] for tags in stanzas if "is_obsolete" not in tags} - gone
    assert {concept for concept in ids if not concept.startswith("MONDO:")} == wanted


def test_synonyms_by_scope_and_source_are_those_an_independent_count_finds(built, stanzas, live):
    seen, expected = set(), Counter()
    known = {}
    for key, entry in live.items():
        if key.startswith("UBERON:") and not entry["deprecated"]:
            known[key] = entry["label"].strip()
            for text in entry.get("synonyms") or ():
                if text.strip() and text.strip() != known[key] and (key, text.strip()) not in seen:
                    seen.add((key, text.strip()))
                    expected["uberon", "exact"] += 1
    order = ("EXACT", "NARROW", "BROAD", "RELATED")
    for tags in stanzas:
        key = tags["id"][0]
        if "is_obsolete" in tags or (key in live and live[key]["deprecated"]):
            continue
        rows = [("EXACT", tags["name"][0].strip())]
        for value in tags.get("synonym", ()):
            found = re.match(r'"((?:[^"\\]|\\.)*)" (EXACT|NARROW|BROAD|RELATED)', value)
            rows.append((found[2], unescaped(found[1])))
        best = {}
        for scope, text in rows:
            if text and text != known.get(key, tags["name"][0].strip()) and (key, text) not in seen:
                best[text] = min(best.get(text, 9), order.index(scope))
        for text, scope in best.items():
            seen.add((key, text))
            expected["uberon_basic", order[scope].lower()] += 1
    found = count(built, "synonyms", "source", "scope", where="source LIKE 'uberon%'")
    followed = {key: n for key, n in found.items() if key not in expected}
    assert {key: n for key, n in found.items() if key in expected and key[1] != "related"} == {
        key: n for key, n in expected.items() if key[1] != "related"
    }, followed


def test_relations_by_predicate_are_those_an_independent_count_finds(built, text, stanzas, live):
    became = {}
    for key in live:
        end, seen = key, set()
        while end in live and live[end]["deprecated"] and end not in seen:
            seen.add(end)
            end = live[end].get("replaced_by")
        if end in live and not live[end]["deprecated"]:
            became[key] = end
    for tags in stanzas:
        if "is_obsolete" not in tags and tags["id"][0] not in live:
            became[tags["id"][0]] = tags["id"][0]
    tags_only = {
        re.match(r"id: (\S+)", block)[1]
        for block in text.split("[Typedef]\n")[1:]
        if "\nis_metadata_tag: true" in block.split("\n\n")[0]
    }
    wanted = set()
    for tags in stanzas:
        if "is_obsolete" in tags:
            continue
        said = [("is_a", value.split(" ")[0]) for value in tags.get("is_a", ())]
        said += [tuple(value.split(" ")[:2]) for value in tags.get("relationship", ())]
        for value in tags.get("intersection_of", ()):
            parts = re.sub(r" !.*| \{.*", "", value).split(" ")
            said.append(tuple(parts) if len(parts) == 2 else ("is_a", parts[0]))
        for predicate, other in said:
            ends = became.get(tags["id"][0]), became.get(other)
            if all(ends) and ends[0] != ends[1] and predicate not in tags_only:
                wanted.add((ends[0], re.sub(r"\W+", "_", predicate.removeprefix("BFO:").removeprefix("RO:")), ends[1]))
    found = set(
        duckdb.execute(
            f"SELECT subject, predicate, object FROM '{built}/relations.parquet' WHERE source = 'uberon_basic'"
        ).fetchall()
    )
    assert Counter(row[1] for row in found) == Counter(row[1] for row in wanted)
    assert found == wanted


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
    for draw in opened.draws:
        at = {"name": opened.names_at, "synonym": opened.synonyms_at, "definition": opened.definitions_at}.get(
            draw.kind
        )
        numbers = [draw.first + draw.num - 1, draw.first, draw.first]
        if at is None:
            drawn = opened.relations_at(numbers)
            assert [found.subject_name for found in drawn] == [whole[found.relation.subject].name for found in drawn]
        else:
            drawn = at(numbers)
            assert [found.name for found in drawn] == [whole[found.concept_id].name for found in drawn]
        assert drawn[1] == drawn[2]

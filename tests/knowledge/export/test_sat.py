import io
import json
from collections import defaultdict

import pytest

from vesalius.errors import FolderError, SettingError
from vesalius.folder import Origin
from vesalius.ids import ConceptId
from vesalius.knowledge.build import build
from vesalius.knowledge.concept import Concept, Definition, Relation, Scope, Synonym
from vesalius.knowledge.export.sat import (
    READ_AS_MISSING,
    SUPPLEMENTS,
    UMLS_DEFINITIONS,
    UMLS_RELATIONS,
    WEBSITE,
    export_sat,
)
from vesalius.knowledge.graph import Graph
from vesalius.knowledge.predicates import Predicate
from vesalius.knowledge.store import read_graph


def ignore(_file):
    pass


def origins(*names):
    return [Origin(name=name, version="1", licence="CC0-1.0", attribution="tests") for name in names]


def concept(identifier, name, source, *, definitions=(), synonyms=()):
    return Concept(
        concept_id=ConceptId(identifier),
        name=name,
        source=source,
        synonyms=tuple(Synonym(text=text, scope=Scope(scope), source=source) for text, scope in synonyms),
        definitions=tuple(Definition(text=text, source=source) for text in definitions),
    )


def relation(subject, predicate, object_, source):
    return Relation(
        subject=ConceptId(subject), predicate=Predicate(predicate), object=ConceptId(object_), source=source
    )


@pytest.fixture
def exported(store_graph, tmp_path):
    """A graph of a UMLS source, a web source without synonyms and a source with them, exported."""
    missing = [concept(f"UMLS:N{n:02d}", text, "umls", definitions=[text]) for n, text in enumerate(READ_AS_MISSING)]
    graph = Graph(
        [
            *missing,
            concept("UMLS:C01", 'Heart, "the"\nmuscle', "umls", definitions=["Pumps, beats", "A muscle"]),
            concept("UMLS:C02", "Ünder-arm", "umls", synonyms=[("axilla", "exact")]),
            concept("W:1", "ulnar canal", "web", definitions=["One.", "Two."]),
            concept("W:2", "hand", "web"),
            concept(
                "S:1",
                "rib 9",
                "extra",
                definitions=["First.", "Second."],
                synonyms=[("ninth rib", "exact"), ("rib", "broad")],
            ),
            concept("S:2", "alone", "extra"),
        ],
        [
            *(relation("UMLS:C01", "part_of", c.concept_id, "umls") for c in missing),
            relation("UMLS:C02", "attached_to", "UMLS:C01", "umls"),
            relation("W:1", "located_in", "W:2", "web"),
            relation("S:1", "protects", "W:2", "extra"),
        ],
        origins("umls", "web", "extra"),
    )
    out = tmp_path / "out"
    export_sat(store_graph(graph), out, advance=ignore)
    return out


def published_reader(out):
    """What the published data set makes of the four files at its start, written anew from its described rules."""
    pandas = pytest.importorskip("pandas")
    definitions = pandas.read_csv(out / UMLS_DEFINITIONS)
    definitions = definitions.drop_duplicates()
    pools = {
        "umls_def": [
            [name.lower(), text]
            for name, text in zip(definitions.iloc[:, 1], definitions.iloc[:, 2], strict=True)
            if isinstance(name, str)
        ]
    }
    relations = pandas.read_csv(out / UMLS_RELATIONS)
    relations = relations.drop_duplicates()
    pools["umls_kg"] = [
        [source.lower(), edge, target.lower()]
        for source, target, edge in zip(*(relations.iloc[:, place] for place in range(3)), strict=True)
    ]
    with (out / WEBSITE).open(encoding="ascii") as file:
        website = json.load(file)
    pools["web_def"] = [[key.lower(), text] for key, entry in website.items() for text in entry["cleaned_definition"]]
    pools["web_kg"] = [[key.lower(), r[0], r[1].lower()] for key, entry in website.items() for r in entry["relations"]]
    with (out / SUPPLEMENTS).open(encoding="ascii") as file:
        supplements = json.load(file)
    pools["sup_def"] = [
        [key.lower(), entry["cleaned_definition"]]
        for key, entry in supplements.items()
        if "cleaned_definition" in entry
    ]
    pools["sup_def"] += [
        [key.lower(), text] for key, entry in supplements.items() if "synonyms" in entry for text in entry["synonyms"]
    ]
    pools["sup_kg"] = [
        [key.lower(), r[0], r[1].lower()] for key, entry in supplements.items() for r in entry["relations"]
    ]
    return pools


def test_the_published_reader_reads_every_pair_and_all_are_texts(exported):
    pools = published_reader(exported)
    assert ['heart, "the"\nmuscle', "Pumps, beats"] in pools["umls_def"]
    assert ['heart, "the"\nmuscle', "A muscle"] in pools["umls_def"]
    assert ["ünder-arm", "attached to", 'heart, "the"\nmuscle'] in pools["umls_kg"]
    assert pools["web_def"] == [["rib 9", "Second."], ["ulnar canal", "One."], ["ulnar canal", "Two."]]
    assert pools["web_kg"] == [["ulnar canal", "located in", "hand"]]
    assert pools["sup_def"] == [["rib 9", "First."], ["rib 9", "ninth rib"]]
    assert pools["sup_kg"] == [["rib 9", "protects", "hand"]]
    assert all(isinstance(text, str) for pool in pools.values() for row in pool for text in row)


def test_names_that_read_as_missing_come_through_as_the_trainer_lower_cases_them(exported):
    pools = published_reader(exported)
    wanted = {text.lower() for text in READ_AS_MISSING}
    assert {name for name, text in pools["umls_def"] if text.lower() in wanted} == wanted
    assert {target for _, edge, target in pools["umls_kg"] if edge == "part of"} == wanted


def test_the_list_of_words_that_read_as_missing_is_the_one_pandas_has():
    pandas = pytest.importorskip("pandas")
    text = "".join(f'x,"{word}"\n' for word in READ_AS_MISSING)
    assert pandas.read_csv(io.StringIO(f"a,b\n{text}"))["b"].isna().all()
    from pandas._libs.parsers import STR_NA_VALUES

    assert set(READ_AS_MISSING) == set(STR_NA_VALUES) - {""}


def test_columns_and_entries_have_the_published_form(exported):
    assert (exported / UMLS_DEFINITIONS).read_text().splitlines()[0].replace('"', "") == "cui,name,definition"
    assert (exported / UMLS_RELATIONS).read_text().splitlines()[0].replace('"', "") == "source,target,edge"
    website = json.loads((exported / WEBSITE).read_text())
    assert all(isinstance(entry["cleaned_definition"], list) and "relations" in entry for entry in website.values())
    supplements = json.loads((exported / SUPPLEMENTS).read_text())
    assert all("relations" in entry for entry in supplements.values())
    assert supplements["rib 9"]["cleaned_definition"] == "First."
    assert supplements["alone"] == {"relations": []}
    assert "C01," in (exported / UMLS_DEFINITIONS).read_text().replace('"', "")


def test_what_no_file_carries_is_counted_and_licences_lie_beside(exported):
    manifest = json.loads((exported / "manifest.json").read_text())
    assert manifest["left_out"] == {"inexact synonyms": 1, "synonyms of the UMLS": 1, "xrefs": 0}
    assert "**web**, 1: CC0-1.0. tests" in (exported / "LICENCES.md").read_text()
    assert sorted(path.name for path in exported.iterdir()) == sorted(
        [UMLS_DEFINITIONS, UMLS_RELATIONS, WEBSITE, SUPPLEMENTS, "LICENCES.md", "manifest.json"]
    )


def carried(graph):
    """Name → what the JSON formats carry of it."""
    found = defaultdict(lambda: {"definitions": set(), "synonyms": set(), "relations": set()})
    for each in graph:
        found[each.name]["definitions"] |= {definition.text for definition in each.definitions}
        found[each.name]["synonyms"] |= {synonym.text for synonym in each.synonyms}
    for each in graph.relations:
        found[graph[each.subject].name]["relations"].add((each.predicate, graph[each.object].name))
    return dict(found)


def test_the_published_sample_survives_export_and_reading_back(shared_data, tmp_path):
    build([f"sat-json={shared_data / 'sat' / 'supplementary_sample.json'}"], tmp_path / "graph")
    export_sat(tmp_path / "graph", tmp_path / "out", advance=ignore)
    build([f"sat-json={tmp_path / 'out' / SUPPLEMENTS}"], tmp_path / "again")
    before, after = read_graph(tmp_path / "graph"), read_graph(tmp_path / "again")
    assert carried(before) == carried(after)
    assert {each.concept_id: each.name for each in before} == {each.concept_id: each.name for each in after}
    export_sat(tmp_path / "again", tmp_path / "twice", advance=ignore)
    assert (tmp_path / "twice" / SUPPLEMENTS).read_bytes() == (tmp_path / "out" / SUPPLEMENTS).read_bytes()


def test_all_four_files_read_back_as_what_they_carry(exported, tmp_path):
    kinds = {"sat-definitions": UMLS_DEFINITIONS, "sat-relations": UMLS_RELATIONS, "sat-json": WEBSITE}
    build(
        [*(f"{kind}={exported / file}" for kind, file in kinds.items()), f"sat-json={exported / SUPPLEMENTS}"],
        tmp_path / "g",
    )
    found = carried(read_graph(tmp_path / "g"))
    assert found["rib 9"] == {
        "definitions": {"First.", "Second."}, "synonyms": {"ninth rib"}, "relations": {("protects", "hand")},
    }  # fmt: skip
    assert found["ulnar canal"]["definitions"] == {"One.", "Two."}
    assert ("attached_to", 'Heart, "the"\nmuscle') in found["Ünder-arm"]["relations"]


def test_an_export_replaces_an_earlier_one_and_nothing_else(exported, store_graph, tmp_path):
    graph = tmp_path / "graph"
    export_sat(graph, exported, advance=ignore)
    taken = tmp_path / "thesis"
    taken.mkdir()
    (taken / "chapter.txt").write_text("years of work")
    with pytest.raises(SettingError, match="no earlier export"):
        export_sat(graph, taken, advance=ignore)
    assert (taken / "chapter.txt").read_text() == "years of work"


def test_a_damaged_graph_leaves_no_export(exported, tmp_path):
    (tmp_path / "graph" / "relations.parquet").write_bytes(b"rubbish")
    with pytest.raises(FolderError, match="damaged table"):
        export_sat(tmp_path / "graph", tmp_path / "new", advance=ignore)
    assert not (tmp_path / "new").exists()
    with pytest.raises(FolderError, match="no graph folder"):
        export_sat(tmp_path / "nothing", tmp_path / "new", advance=ignore)

"""Random graphs, written in every format and read back, on what the format can carry."""

import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vesalius.knowledge.sources.name_ids import folded

NASTY = st.text(
    st.one_of(
        st.sampled_from("\"'\\{}[]()<>&!:;,|#=@^* \n\taZ0-_é中𝔸\u2028\u00a0\u200b\u0301ß"),
        st.characters(blacklist_categories=("Cc", "Cs", "Cn"), blacklist_characters="\ufffe\uffff¦"),
    ),
    min_size=1,
    max_size=24,
).map(str.strip).filter(bool)  # fmt: skip
PIECES = st.sampled_from(
    [
        '"',
        "\\",
        '\\"',
        "\\n",
        "{",
        '{source="x"}',
        "] [",
        " ! ",
        "&amp;",
        "<b>",
        "]]>",
        "<!--",
        '","',
        "left kidney",
        "NA",
        "é",
        "¿",
        "\n",
    ]
)
TEXTS = st.one_of(NASTY, st.lists(PIECES, min_size=1, max_size=5).map("".join).map(str.strip).filter(bool))
REFERENCES = st.text('abcXYZ019.:/_-()#%é\\,]"', min_size=1, max_size=12).map(lambda text: f"X:{text}")
IDS = st.integers(0, 10**7 - 1).map(lambda number: f"UBERON:{number:07d}")
PREDICATES = st.sampled_from(["is_a", "part_of", "develops_from", "adjacent_to"])


@st.composite
def contents(draw, bench):
    names = draw(st.lists(TEXTS, min_size=1, max_size=5, unique_by=folded))
    ids = draw(st.lists(IDS, min_size=len(names), max_size=len(names), unique=True))
    gone = draw(st.lists(st.booleans(), min_size=len(names), max_size=len(names)))
    gone[0] = False
    live = [each for each, is_obsolete in zip(ids, gone, strict=True) if not is_obsolete]
    concepts = []
    for identifier, name, is_obsolete in zip(ids, names, gone, strict=True):
        scoped = st.tuples(TEXTS, st.sampled_from(["exact", "narrow", "broad", "related"]))
        described = st.tuples(TEXTS, st.lists(REFERENCES, max_size=3, unique=True).map(tuple))
        concepts.append(
            bench.said(
                id=identifier,
                name=name,
                synonyms=() if is_obsolete else tuple(draw(st.lists(scoped, max_size=3))),
                definitions=() if is_obsolete else tuple(draw(st.lists(described, max_size=1))),
                xrefs=()
                if is_obsolete
                else tuple(draw(st.lists(st.sampled_from(["FMA:7203", "MESH:D007668"]), max_size=2))),
                is_obsolete=is_obsolete,
                replaced_by=tuple(draw(st.lists(st.sampled_from(live), max_size=1))) if is_obsolete else (),
            )
        )
    ends = st.sampled_from(live)
    relations = draw(st.lists(st.tuples(ends, PREDICATES, ends), max_size=4))
    return bench.content(concepts=tuple(concepts), relations=tuple(relations))


FORMS = (
    "umls", "obo", "owl rdf", "owl protégé", "owl functional", "obograph", "sat-definitions", "sat-relations", "sat-json lists",
    "sat-json texts", "table csv", "table tsv", "table jsonl", "table parquet",
)  # fmt: skip


def test_every_form_is_tried(bench):
    assert set(FORMS) == set(bench.forms)


@pytest.mark.parametrize("name", sorted(set(FORMS) - {"umls"}))
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(data=st.data())
def test_a_random_graph_written_is_read_back(bench, name, data):
    content = data.draw(contents(bench))
    form = bench.forms[name]
    with tempfile.TemporaryDirectory() as folder:
        path, options = form.file(content, Path(folder))
        rows, _ = bench.record(form.kind, path, options)
    assert rows == form.carries(content).rows()


@settings(max_examples=3, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(data=st.data())
def test_a_random_graph_written_as_metathesaurus_is_read_back(bench, data):
    content = data.draw(contents(bench))
    form = bench.forms["umls"]
    with tempfile.TemporaryDirectory() as folder:
        path, options = form.file(content, Path(folder))
        rows, _ = bench.stage(form.kind, path, Path(folder) / "staged", options)
    assert rows == form.carries(content).rows()

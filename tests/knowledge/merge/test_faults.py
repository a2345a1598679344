import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vesalius.errors import InputError, SettingError
from vesalius.knowledge.merge import cycles
from vesalius.knowledge.merge.obsolete import release_date


def test_what_the_newest_release_gave_up_is_gone_whichever_comes_first(bench):
    bench.obo("old", "id: A:1\nname: kidney", "id: A:2\nname: organ", version="2020-01-01")
    bench.obo("new", "id: A:1\nname: obsolete kidney\nis_obsolete: true", "id: A:2\nname: organ", version="2026-01-01")
    assert {concept.concept_id for concept in bench.build().graph} == {"A:2"}


def test_what_the_newest_release_took_up_again_is_live(bench):
    bench.obo("old", "id: A:1\nname: kidney\nis_obsolete: true", version="2020-01-01")
    bench.obo("new", "id: A:1\nname: kidney", version="2026-01-01")
    assert {concept.concept_id for concept in bench.build().graph} == {"A:1"}


def test_without_days_the_first_source_decides(bench):
    bench.obo("one", "id: A:1\nname: kidney\nis_obsolete: true", "id: A:2\nname: organ")
    bench.obo("two", "id: A:1\nname: kidney")
    assert {concept.concept_id for concept in bench.build().graph} == {"A:2"}


def test_a_release_that_has_only_the_date_of_its_header_is_as_new_as_that(bench):
    bench.obo("old", "id: A:1\nname: kidney", "id: A:2\nname: organ", version="2020-01-01")
    bench.obo("new", "id: A:1\nname: obsolete kidney\nis_obsolete: true", "id: A:2\nname: organ")
    path = bench.folder / "new.obo"
    path.write_text(path.read_text().replace("format-version: 1.4", "format-version: 1.4\ndate: 03:09:2024 15:12"))
    built = bench.build()
    assert {concept.concept_id for concept in built.graph} == {"A:2"}
    assert [origin.version for origin in built.graph.origins] == ["2020-01-01", "2024-09-03 15:12"]


def test_a_replaced_concept_is_followed_along_the_chain(bench):
    bench.obo(
        "old",
        'id: A:1\nname: ren\nsynonym: "nephros" EXACT []\ndef: "Old words." []\nxref: FMA:7203\nrelationship: part_of A:9',
        "id: A:8\nname: pelvis\nrelationship: part_of A:1",
        "id: A:9\nname: body",
        version="2020-01-01",
    )
    bench.obo(
        "new",
        "id: A:1\nname: obsolete ren\nis_obsolete: true\nreplaced_by: A:2",
        "id: A:2\nname: obsolete too\nis_obsolete: true\nreplaced_by: A:3",
        'id: A:3\nname: kidney\ndef: "New words." []',
        version="2026-01-01",
    )
    built = bench.build()
    kidney = built.graph["A:3"]
    assert built.relations == {("A:3", "part_of", "A:9"), ("A:8", "part_of", "A:3")}
    assert {(s.text, str(s.scope)) for s in kidney.synonyms} == {("ren", "related"), ("nephros", "related")}
    assert [d.text for d in kidney.definitions] == ["New words."]
    assert {xref.target for xref in kidney.xrefs} == {"A:1", "A:2", "FMA:7203"}


@pytest.mark.parametrize("replaced", ["A:2", "A:1", "OTHER:7"])
def test_a_replacement_that_ends_nowhere_drops_the_concept(bench, replaced):
    bench.obo(
        "a",
        f"id: A:1\nname: x\nis_obsolete: true\nreplaced_by: {replaced}",
        "id: A:2\nname: y\nis_obsolete: true\nreplaced_by: A:1",
        "id: A:3\nname: organ\nrelationship: part_of A:1",
    )
    built = bench.build()
    assert {concept.concept_id for concept in built.graph} == {"A:3"}
    assert built.relations == set()


FAULTS = {
    "a duplicated id": (("id: A:1\nname: ren", "id: A:1\nname: kidney"), r"a\.obo:\d+: A:1 is stated a second time"),
    "a dangling relation": (("id: A:1\nname: ren\nis_a: A:99",), r"a\.obo:\d+: A:1 is_a A:99: no source states A:99"),
    "an is_a cycle": (
        ("id: A:1\nname: a\nis_a: A:2", "id: A:2\nname: b\nis_a: A:3", "id: A:3\nname: c\nis_a: A:1"),
        r"a\.obo:\d+: A:1 is_a A:2 closes an is_a cycle \(and 2 more rows like it\)",
    ),
    "a concept above itself": (("id: A:1\nname: a\nis_a: A:1",), r"a\.obo:\d+: A:1 is_a A:1 closes"),
    "an unknown replacement": (
        ("id: A:1\nname: a\nis_obsolete: true\nreplaced_by: A:99",),
        r"a\.obo:\d+: A:1 is replaced by A:99, which no source knows",
    ),
}
LIVE = "id: A:5\nname: organ\nis_a: A:6", "id: A:6\nname: structure"


@pytest.mark.parametrize("fault", FAULTS)
def test_a_row_that_cannot_be_merged_is_named_with_file_and_line_and_nothing_is_written(bench, fault):
    stanzas, message = FAULTS[fault]
    bench.obo("a", *LIVE, *stanzas)
    with pytest.raises(InputError, match=message):
        bench.build()
    assert [path.name for path in bench.folder.iterdir()] == ["a.obo"]


@pytest.mark.parametrize("fault", FAULTS)
def test_keep_going_leaves_the_row_out_and_says_why(bench, fault):
    stanzas, _ = FAULTS[fault]
    bench.obo("a", *LIVE, *stanzas)
    built = bench.build(keep_going=True)
    rejects = built.rows("rejects", "reason, content, source, file, line")
    assert rejects
    assert all(
        reason and content and (source, file) == ("a", "a.obo") and line > 3
        for reason, content, source, file, line in rejects
    )
    assert ("A:5", "is_a", "A:6") in built.relations
    assert built.manifest["merged"]["rejects"] == len(rejects)


def test_the_line_of_a_fault_is_the_line_of_its_row(bench):
    bench.obo("a", *LIVE, "id: A:1\nname: ren\nis_a: A:99")
    line = (bench.folder / "a.obo").read_text().splitlines().index("is_a: A:99") + 1
    with pytest.raises(InputError, match=rf"a\.obo:{line}:"):
        bench.build()


def test_a_failed_build_leaves_the_older_graph(bench):
    bench.obo("a", *LIVE)
    before = bench.build()
    bench.obo("b", "id: A:1\nname: ren\nis_a: A:99")
    with pytest.raises(InputError):
        bench.build()
    assert type(before)(before.folder).graph == before.graph


def test_relations_to_an_ontology_that_is_not_given_are_counted_and_left_out(bench):
    bench.obo("a", *LIVE, "id: A:1\nname: ren\nis_a: BFO:0000040")
    built = bench.build()
    assert built.relations == {("A:5", "is_a", "A:6")}
    assert built.manifest["merged"]["foreign"] == 1


def test_a_cycle_through_two_sources_is_no_fault_of_either(bench):
    bench.obo("a", "id: A:1\nname: a\nis_a: A:2", "id: A:2\nname: b")
    bench.obo("b", "id: A:1\nname: a", "id: A:2\nname: b\nis_a: A:1")
    assert bench.build().relations == {("A:1", "is_a", "A:2"), ("A:2", "is_a", "A:1")}


def test_a_concept_merged_into_its_parent_leaves_no_loop(bench):
    bench.obo("old", "id: A:1\nname: a\nis_a: A:3", "id: A:3\nname: c", version="2020-01-01")
    bench.obo("new", "id: A:1\nname: a\nis_obsolete: true\nreplaced_by: A:3", "id: A:3\nname: c", version="2026-01-01")
    built = bench.build()
    assert built.relations == set()
    assert built.conflicts == []


def test_a_cycle_that_a_replacement_closes_is_noted_and_leaves_what_was_not_moved(bench):
    bench.obo(
        "old", "id: A:1\nname: a\nis_a: A:2", "id: A:2\nname: b\nis_a: A:3", "id: A:3\nname: c", version="2020-01-01"
    )
    bench.obo("new", "id: A:1\nname: a\nis_obsolete: true\nreplaced_by: A:3", "id: A:3\nname: c", version="2026-01-01")
    built = bench.build()
    assert built.relations == {("A:2", "is_a", "A:3")}
    assert built.conflicts == [("is_a cycle by replacement", "A:1 is_a A:2", ["A:1", "A:2"])]


def test_many_relations_are_thinned_out_before_python_walks_them(bench, monkeypatch):
    monkeypatch.setattr(cycles, "SMALL", 0)
    chain = [f"id: A:{n}\nname: n{n}\nis_a: A:{n + 1}" for n in range(10, 20)]
    bench.obo("a", *chain, "id: A:20\nname: end", *FAULTS["an is_a cycle"][0])
    with pytest.raises(InputError, match="2 more rows"):
        bench.build()


@settings(deadline=None)
@given(st.dictionaries(st.integers(0, 6), st.lists(st.integers(0, 6), max_size=3), max_size=7))
def test_strong_groups_are_what_reaches_each_other(above):
    above = {(0, node): [(0, over) for over in overs] for node, overs in above.items()}
    group = cycles.strong_groups(above)

    def reached(node):
        found, waiting = set(), [node]
        while waiting:
            for over in above.get(waiting.pop(), ()):
                if over not in found:
                    found.add(over)
                    waiting.append(over)
        return found

    for one in group:
        for other in group:
            together = one == other or (other in reached(one) and one in reached(other))
            assert (group[one] == group[other]) == together


def test_settings_without_effect_are_refused(bench):
    from vesalius.knowledge.sources.options import UmlsOptions

    bench.obo("a", *LIVE, licence="CC-BY-4.0")
    with pytest.raises(SettingError, match="matches no source – the licences are: CC-BY-4"):
        bench.build(exclude_licences=("GPL*",))
    with pytest.raises(SettingError, match="every source is excluded"):
        bench.build(exclude_licences=("*",))
    with pytest.raises(SettingError, match="no effect without a umls source"):
        bench.build(umls=UmlsOptions(language="GER"))
    with pytest.raises(SettingError, match="memory such as 6GB"):
        bench.build(memory="much")
    bench.sources *= 2
    with pytest.raises(SettingError, match="named twice"):
        bench.build()


@pytest.mark.parametrize(
    ("version", "day"),
    [
        ("v2026-04-01 (cellxgene-ontology-guide 1.11.1)", "2026-04-01"),
        ("uberon/releases/2024-09-03/uberon-basic.owl", "2024-09-03"),
        ("2024AA", "2024-05-01"), ("2023AB", "2023-11-01"), ("20240903", "2024-09-03"), ("1.2", None),
        ("MSH2025_2025_01_15", "2025-01-15"), ("SNOMEDCT_US_2025_03_01", "2025-03-01"), ("20241399", None), ("120240903", None),
    ],
)  # fmt: skip
def test_the_day_of_a_release_is_read_from_its_version(version, day):
    assert release_date(version) == day

import duckdb
import pytest

from vesalius.cli import main
from vesalius.cli.knowledge import COMMANDS
from vesalius.knowledge.store import COLUMNS, write_graph

REN = """format-version: 1.4
property_value: dcterms:license CC-BY-4.0

[Term]
id: A:1
name: left kidney
def: "The [left] filter." [PMID:1]
synonym: "left ren" EXACT []
synonym: "kidneys" BROAD []
xref: FMA:7205
is_a: A:2

[Term]
id: A:2
name: kidney

[Term]
id: A:3
name: obsolete left ren
is_obsolete: true
replaced_by: A:1
"""


@pytest.fixture
def run(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "160")
    (tmp_path / "a.obo").write_text(REN)

    def run(*arguments):
        code = main(["knowledge", *arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    assert run("build", "obo=a.obo", "--out", "graph")[0] == 0
    return run


@pytest.mark.parametrize("name", ["left kidney", "Left_REN", "A:1", "A:3", "FMA:7205"])
def test_show_finds_a_concept_by_name_id_and_id_elsewhere(run, name):
    code, out, _ = run("show", "graph", name)
    assert code == 0
    for part in (
        "left kidney",
        "A:1",
        "exact",
        "left ren",
        "broad",
        "kidneys",
        "The [left] filter.",
        "PMID:1",
        "is a",
        "FMA:7205",
    ):
        assert part in out


def test_show_lists_relations_both_ways(run):
    _, out, _ = run("show", "graph", "kidney")
    assert "its kinds" in out
    assert "left kidney" in out


def test_show_says_nothing_twice_and_takes_sides_together(run, tmp_path):
    terms = [("1", "left rib"), ("2", "right rib"), ("3", "spine"), ("4", "skin")]
    said = {"1": ["right_of B:3", "part_of B:3"], "2": ["part_of B:3"], "3": ["left_of B:1"], "4": ["surrounds B:1"]}
    text = "format-version: 1.4\nproperty_value: dcterms:license CC-BY-4.0\n"
    for key, name in terms:
        text += f"\n[Term]\nid: B:{key}\nname: {name}\n"
        text += "".join(f"relationship: {relation}\n" for relation in said[key])
    (tmp_path / "b.obo").write_text(text)
    assert run("build", "obo=b.obo", "--out", "ribs")[0] == 0
    _, rib, _ = run("show", "ribs", "left rib")
    assert [line.split("  ")[1] for line in rib.splitlines()[1:] if line.strip()] == [
        "is part of",
        "lies right of",
        "… surrounds it",
    ]
    _, spine, _ = run("show", "ribs", "spine")
    assert "rib (left, right)" in spine


def test_a_near_miss_brings_suggestions_in_one_line(run):
    code, _, err = run("show", "graph", "left kidny")
    assert (code, err.count("\n")) == (2, 1)
    assert "did you mean: left kidney" in err


def test_stats_counts_by_source_scope_and_predicate_and_draws_a_picture(run, tmp_path):
    code, out, _ = run("stats", "graph", "--picture", "x.png")
    assert code == 0
    for part in ("concepts", "exact", "is_a"):
        assert part in out
    assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")


def test_diff_counts_and_lists_what_changed(run, tmp_path):
    (tmp_path / "b.obo").write_text(
        REN.replace("name: kidney", "name: ren").replace("is_a: A:2\n", "") + "\n[Term]\nid: A:9\nname: ureter\n"
    )
    run("build", "obo=b.obo", "--out", "other")
    code, out, _ = run("diff", "graph", "other", "--details")
    assert code == 0
    for part in ("~ concept  A:2 kidney → ren", "+ concept  A:9  ureter", "- relation  A:1  is_a  A:2"):
        assert part in out
    code, out, _ = run("diff", "graph", "graph", "--details")
    assert not {"+", "-", "~"} & {line[:1] for line in out.splitlines()}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["build", "obx=a.obo", "--out", "x"],
            "unknown kind of source 'obx' – known are: handbook, uberon, mondo, umls=PATH, obo=PATH",
        ),
        (["build", "obo=nowhere.obo", "--out", "x"], "nowhere.obo: no such file or folder"),
        (["build", "obo=", "--out", "x"], "names no file"),
        (["build", "umls=.", "--out", "x"], "no MRSAB.RRF"),
        (["build", "obo=a.obo", "--out", "x", "--umls-language", "GER"], "no effect without a umls source"),
        (["build", "obo=a.obo", "--out", "x", "--memory", "much"], "memory such as 6GB"),
        (["build", "obo=a.obo", "--out", "x", "--exclude-licence", "GPL*"], "matches no source"),
        (["diff", "graph", "nowhere"], "no graph folder here"),
        (["stats", "nowhere"], "no graph folder here"),
    ],
)
def test_what_a_user_can_cause_is_one_line_and_nothing_is_left(run, tmp_path, arguments, message):
    code, _, err = run(*arguments)
    line = [text for text in err.splitlines() if text.startswith("vesalius:")]
    assert code == 2
    assert len(line) == 1
    assert message in line[0]
    assert {path.name for path in tmp_path.iterdir()} == {"a.obo", "graph"}


def test_a_damaged_table_is_named(run, tmp_path):
    (tmp_path / "graph" / "names.parquet").write_bytes(b"rubbish")
    code, _, err = run("show", "graph", "kidney")
    assert code == 2
    assert "build it again" in err


def test_every_command_has_help(capsys):
    for command in COMMANDS:
        assert main(["knowledge", command, "--help"]) == 0


def test_a_graph_in_memory_and_a_built_one_have_the_same_tables(graph, tmp_path):
    write_graph(graph, tmp_path / "graph")
    for table, columns in COLUMNS.items():
        described = duckdb.execute(f"DESCRIBE SELECT * FROM '{tmp_path}/graph/{table}.parquet'").fetchall()
        assert {row[0]: row[1] for row in described} == dict(columns)

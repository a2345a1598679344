import gzip
import json

import duckdb
import pytest

from vesalius.errors import InputError, SettingError
from vesalius.knowledge.sources.options import SourceOptions

LABELS = "licence: CC0-1.0\nconcept: {name: name}\nsynonyms: [{text: label, scope: exact}]\n"


@pytest.fixture
def read(bench, tmp_path):
    def read(text, spec, *, name="test.csv", **options):
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        yaml = tmp_path / "spec.yaml"
        yaml.write_text(spec, encoding="utf-8")
        return bench.record("table", path, SourceOptions(spec=yaml), **options)

    return read


def test_labels_of_a_dataset_become_further_names_told_by_name_or_by_id(read):
    rows, _ = read("name,label\nleft kidney,kidney_left\nLeft kidney,Kidney_L\n", LABELS)
    assert rows["concepts"] == {("NAME:left-kidney", "left kidney")}
    assert rows["synonyms"] == {("NAME:left-kidney", "kidney_left", "exact"), ("NAME:left-kidney", "Kidney_L", "exact")}
    spec = "licence: CC0-1.0\nconcept: {id: cid, prefix: UBERON}\nsynonyms: [{text: label}]\n"
    rows, _ = read("cid,label\nUBERON:0004538,kidney_left\n0004539,kidney_right\n", spec)
    assert not rows["concepts"]
    assert rows["synonyms"] == {
        ("UBERON:0004538", "kidney_left", "related"),
        ("UBERON:0004539", "kidney_right", "related"),
    }


def test_constants_prefixes_and_several_values_in_a_cell(read):
    spec = """
licence: CC0-1.0
separator: ";"
concept: {id: id, name: name}
xrefs: [{target: fma, prefix: FMA}]
relations:
  - {predicate: {constant: part of}, object: wholes}
  - {subject_name: borders, predicate: {constant: borders}}
"""
    rows, _ = read("id,name,fma,wholes,borders\nX:1,one,7;FMA:8; ,X:2;X:3,some gland;\n", spec)
    assert rows["xrefs"] == {("X:1", "FMA:7"), ("X:1", "FMA:8")}
    assert rows["relations"] == {
        ("X:1", "part_of", "X:2"),
        ("X:1", "part_of", "X:3"),
        ("NAME:some-gland", "borders", "X:1"),
    }
    assert rows["concepts"] == {("X:1", "one"), ("NAME:some-gland", "some gland")}


SSSOM = """#curie_map:
#  FMA: "http://purl.obolibrary.org/obo/FMA_"
#license: https://creativecommons.org/publicdomain/zero/1.0/
subject_id	subject_label	predicate_id	object_id
UBERON:1	one	skos:exactMatch	FMA:7
"""


def test_metadata_before_the_header_as_sssom_writes_it_is_passed_over(read):
    spec = "licence: CC0-1.0\nconcept: {id: subject_id, name: subject_label}\nxrefs: [{target: object_id}]\n"
    rows, _ = read(SSSOM, spec, name="test.sssom.tsv")
    assert rows["concepts"] == {("UBERON:1", "one")}
    assert rows["xrefs"] == {("UBERON:1", "FMA:7")}
    with pytest.raises(InputError, match=r"test\.tsv:4: no column 'mapped' – the file has: 'subject_id'"):
        read(SSSOM, spec.replace("object_id", "mapped"), name="test.tsv")


def test_a_header_may_begin_with_the_sign_of_a_comment(read):
    spec = "licence: CC0-1.0\nconcept: {name: '#name'}\nsynonyms: [{text: label}]\n"
    rows, _ = read("#made by hand\n#name,label\nkidney,Kid\n", spec)
    assert rows["synonyms"] == {("NAME:kidney", "Kid", "related")}
    with pytest.raises(InputError, match=r"test\.csv:1: no column 'name' – the file has: '#name', 'label'"):
        read("#name,label\nkidney,Kid\n", LABELS)


def test_json_lines_may_hold_lists_numbers_and_lack_keys(read):
    lines = [
        {"id": "X:1", "name": "one", "also": ["uno", 1]},
        {"id": "X:2", "name": "two"},
        {"id": "X:3", "name": "three", "also": None},
    ]
    spec = "licence: CC0-1.0\nconcept: {id: id, name: name}\nsynonyms: [{text: also, scope: exact}]\n"
    text = "\n".join(map(json.dumps, lines)) + "\n\n"
    rows, _ = read(gzip.compress(text.encode()), spec, name="test.jsonl.gz")
    assert rows["synonyms"] == {("X:1", "uno", "exact"), ("X:1", "1", "exact")}
    assert {identifier for identifier, _ in rows["concepts"]} == {"X:1", "X:2", "X:3"}


def test_parquet_may_hold_lists(read, bench, tmp_path):
    path = tmp_path / "odd [name]*.parquet"
    with duckdb.connect() as connection:
        connection.execute(
            f"COPY (SELECT 'X:1' AS id, 'one' AS name, ['uno', 'ein'] AS also) TO '{path}' (FORMAT parquet)"
        )
    spec = "licence: CC0-1.0\nconcept: {id: id, name: name}\nsynonyms: [{text: also}]\n"
    rows, _ = read(path.read_bytes(), spec, name="odd [name]*.parquet")
    assert {text for _, text, _ in rows["synonyms"]} == {"uno", "ein"}


def test_a_full_disk_is_not_blamed_on_a_parquet_file(read, monkeypatch):
    def refuse(*_, **__):
        raise duckdb.IOException('IO Error: Could not write file "staging.duckdb": No space left on device')

    monkeypatch.setattr("vesalius.knowledge.staging.open_database", refuse)
    with pytest.raises(duckdb.IOException, match="No space left"):
        read(b"PAR1", LABELS, name="test.parquet")


def test_quotes_can_be_data(read):
    spec = "licence: CC0-1.0\nquote: none\nconcept: {id: id, name: name}\n"
    rows, _ = read('id\tname\nX:1\t"5 inch\n', spec, name="test.tsv")
    assert rows["concepts"] == {("X:1", '"5 inch')}


def test_the_yaml_names_source_and_terms_and_is_among_the_files_read(read):
    spec = (
        "source: mine\nversion: '2'\nlicence: https://creativecommons.org/publicdomain/zero/1.0/\nattribution: Us\n"
        + "concept: {name: n}\n"
    )
    _, (origin,) = read("n\nx\n", spec)
    assert (origin.name, origin.version, origin.licence, origin.attribution) == ("mine", "2", "CC0-1.0", "Us")
    assert set(origin.sha256) == {"test.csv", "spec.yaml"}


def test_relations_of_older_uberon_releases_are_read(bench, shared_data, tmp_path):
    path = shared_data / "knowledge" / "uberon_relations.tsv"
    spec = tmp_path / "spec.yaml"
    spec.write_text("licence: CC-BY-3.0\nrelations: [{subject: subject_id, predicate: relation, object: object_id}]\n")
    rows, _ = bench.record("table", path, SourceOptions(spec=spec))
    lines = [line.split("\t") for line in path.read_text().splitlines()[1:]]
    assert rows["relations"] == {(line[1], line[0], line[3]) for line in lines}
    assert len(rows["relations"]) == len(lines) == 373


SPECS = {
    "an unknown key": ("licens: CC0-1.0\n", r"spec\.yaml: unknown key 'licens' in 'the file' – known are: .*licence"),
    "no licence": ("concept: {name: name}\n", r"spec\.yaml: 'licence' is missing"),
    "an unknown key within": (
        LABELS + "xrefs: [{targt: label}]\n",
        r"unknown key 'targt' in 'xrefs' – known are: target, prefix",
    ),
    "a missing key within": (LABELS + "xrefs: [{prefix: X}]\n", r"'target' is missing in 'xrefs'"),
    "no YAML": ("licence: [\n", r"spec\.yaml:2: no YAML"),
    "an empty YAML": ("", r"spec\.yaml: the file is empty"),
    "a list": ("- a\n", r"'the file' is no mapping"),
    "no concept": ("licence: x\nsynonyms: [{text: label}]\n", r"'concept' is missing"),
    "a concept without column": ("licence: x\nconcept: {prefix: X}\n", r"'concept' names no column"),
    "an unknown scope": (
        "licence: x\nconcept: {name: name}\nsynonyms: [{text: label, scope: exakt}]\n",
        r"unknown scope 'exakt' – known are: exact",
    ),
    "no column": ("licence: x\n", r"no column is named"),
    "an unknown format": (LABELS + "format: xlsx\n", r"unknown format 'xlsx' – known are: csv, tsv, jsonl, parquet"),
    "a number": (LABELS + "version: 2\n", r"'version' is 2, no text – put it in quotes"),
    "a mapping for a list": ("licence: x\nconcept: {name: name}\nsynonyms: {text: label}\n", r"'synonyms' is no list"),
    "a relation of nothing": (
        "licence: x\nconcept: {name: name}\nrelations: [{predicate: label}]\n",
        r"neither subject nor object",
    ),
    "a long quote": (LABELS + "quote: xx\n", r"quote 'xx' is not one character"),
    "a cell of two kinds": (
        "licence: x\nconcept: {name: {column: a, constant: b}}\n",
        r"'name' is neither a column nor a constant",
    ),
}


@pytest.mark.parametrize("name", SPECS)
def test_a_bad_yaml_is_refused_with_what_is_known(read, name):
    spec, message = SPECS[name]
    with pytest.raises(InputError, match=message):
        read("name,label\na,b\n", spec)


BAD_FILES = {
    "a missing column": (
        "test.csv",
        "name,lable\na,b\n",
        LABELS,
        r"test\.csv:1: no column 'label' – the file has: 'name', 'lable'",
    ),
    "a missing key": ("test.jsonl", '{"name": "a"}\n', LABELS, r"test\.jsonl: no row has the key 'label'"),
    "no JSON": ("test.jsonl", '{"name": "a", "label": "b"}\n{', LABELS, r"test\.jsonl:2: no JSON"),
    "a list": ("test.jsonl", '["a"]\n', LABELS, r"test\.jsonl:1: list, not an object"),
    "a truth value": (
        "test.jsonl",
        '{"name": "a", "label": true}\n',
        LABELS,
        r"test\.jsonl:1: column 'label' holds bool, no text",
    ),
    "no Parquet": ("test.parquet", "name,label\n", LABELS, r"test\.parquet: no Parquet file"),
    "a Parquet cut off": ("test.parquet", b"PAR1\0\0", LABELS, r"test\.parquet: no Parquet file"),
    "an ending of no format": ("test.xlsx", "name,label\n", LABELS, r"test\.xlsx: its ending names no format"),
    "no name": ("test.csv", "name,label\n ,b\n", LABELS, r"test\.csv:2: no name in column 'name'"),
    "two names of one id": (
        "test.csv",
        "id,name\nX:1,a\nX:1,b\n",
        "licence: x\nconcept: {id: id, name: name}\n",
        r"test\.csv:3: X:1 is called 'b' here, and 'a'",
    ),
    "an id that is none": (
        "test.csv",
        "id,name\none,a\n",
        "licence: x\nconcept: {id: id, name: name}\n",
        r"test\.csv:2: 'one' is not a concept id",
    ),
    "an unknown scope": (
        "test.csv",
        "name,label,scope\na,b,EXAKT\n",
        "licence: x\nconcept: {name: name}\nsynonyms: [{text: label, scope: {column: scope}}]\n",
        r"test\.csv:2: unknown scope 'EXAKT'",
    ),
    "an open quote": ("test.csv", 'name,label\na,"b\n', LABELS, r"test\.csv:2: a quote that is not closed"),
    "Latin-1": ("test.csv", b"name,label\na,\xe9\n", LABELS, r"test\.csv:2: not UTF-8"),
    "a gzip cut off": (
        "test.csv.gz",
        gzip.compress(b"name,label\n" + b"a,b\n" * 50)[:-9],
        LABELS,
        r"test\.csv\.gz:\d+: the gzip is cut off",
    ),
    "nothing": ("test.csv", "", LABELS, r"test\.csv: the file is empty"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_bad_files_are_refused_by_file_and_line(read, name):
    file, text, spec, message = BAD_FILES[name]
    with pytest.raises(InputError, match=message):
        read(text, spec, name=file)


def test_of_a_row_only_what_is_wrong_is_left_out(read):
    spec = """
licence: CC0-1.0
concept: {id: id, name: name}
synonyms: [{text: one, scope: {column: kind}}, {text: other, scope: exact}]
definitions: [{text: says}]
relations: [{predicate: {constant: part of}, object: whole}]
"""
    text = "id,name,one,kind,other,says,whole\nX:1,ren,kidney,sideways,renal organ,It filters.,X:2\n"
    rows, _ = read(text, spec, keep_going=True)
    assert rows["synonyms"] == {("X:1", "renal organ", "exact")}
    assert rows["definitions"] == {("X:1", "It filters.", ())}
    assert rows["relations"] == {("X:1", "part_of", "X:2")}
    ((reason, *_),) = rows["rejects"]
    assert "unknown scope 'sideways'" in reason


def test_a_key_that_stands_twice_is_refused_with_its_line(read):
    with pytest.raises(InputError, match=r"test\.jsonl:2: the key 'name' stands twice"):
        read('{"name": "a", "label": "b"}\n{"name": "c", "name": "d", "label": "e"}\n', LABELS, name="test.jsonl")


def test_a_field_beyond_what_is_read_is_called_what_it_is(read):
    with pytest.raises(InputError, match=r"test\.csv:2: a field of more than 131,072 characters"):
        read('name,label\nleft kidney,"' + "x" * 140_000 + '"\n', LABELS)


def test_a_table_without_yaml_is_refused(bench, tmp_path):
    with pytest.raises(SettingError, match="write table=FILE,YAML"):
        bench.record("table", tmp_path / "test.csv")


def test_a_date_that_no_calendar_has_is_refused_with_the_file(read):
    with pytest.raises(InputError, match=r"spec\.yaml: no YAML"):
        read("name,label\n", "version: 2026-02-30\n" + LABELS)


def test_an_integer_of_too_many_digits_is_refused_with_its_line(read):
    text = '{"name": "a", "label": "b"}\n{"name": "c", "label": ' + "9" * 5000 + "}\n"
    with pytest.raises(InputError, match=r"test\.jsonl:2: no JSON .*too many digits"):
        read(text, LABELS, name="test.jsonl")

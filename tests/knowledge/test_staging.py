import duckdb
import pytest

from vesalius.errors import InputError
from vesalius.knowledge.concept import Scope
from vesalius.knowledge.staging import STAGED, Staging


def staged(folder, table):
    return duckdb.execute(f"SELECT * EXCLUDE (source, row) FROM '{folder}/{table}.parquet'").fetchall()


def test_every_statement_is_a_row_with_its_file_and_line(tmp_path):
    with Staging(tmp_path, "s", file="a.obo") as staging:
        staging.concept("A:1", " kidney ", line=3, domain="anatomy")
        staging.obsolete("A:2", replaced_by=("A:1",), line=4)
        staging.synonym("A:1", 'ren "x"\n', Scope.BROAD, line=5)
        staging.definition("A:1", "Ünïcode.", references=("PMID:1",), line=6)
        staging.relation("A:1", "partOf", "A:3", line=7)
        staging.xref("A:1", "no curie", line=None)
    assert staged(tmp_path, "concepts") == [("A:1", "kidney", "anatomy", "a.obo", 3)]
    assert staged(tmp_path, "obsolete") == [("A:2", None, ["A:1"], "a.obo", 4)]
    assert staged(tmp_path, "synonyms") == [("A:1", 'ren "x"', "broad", "a.obo", 5)]
    assert staged(tmp_path, "definitions") == [("A:1", "Ünïcode.", ["PMID:1"], "a.obo", 6)]
    assert staged(tmp_path, "relations") == [("A:1", "part_of", "A:3", "a.obo", 7)]
    assert staged(tmp_path, "xrefs") == [("A:1", "no curie", "a.obo", None)]
    assert staged(tmp_path, "rejects") == []
    assert {path.stem for path in tmp_path.iterdir()} == set(STAGED)


BAD = {
    "an empty name": lambda staging: staging.concept("A:1", "  ", line=3),
    "no CURIE": lambda staging: staging.concept("kidney", "kidney", line=3),
    "a NUL": lambda staging: staging.synonym("A:1", "a\0b", Scope.EXACT, line=3),
    "half a surrogate pair": lambda staging: staging.definition("A:1", "a\ud800b", line=3),
    "no predicate": lambda staging: staging.relation("A:1", "--", "A:2", line=3),
    "a bad object": lambda staging: staging.relation("A:1", "is_a", "A 2", line=3),
}


@pytest.mark.parametrize("fault", BAD)
def test_a_row_that_cannot_be_taken_is_named_or_collected(tmp_path, fault):
    with pytest.raises(InputError, match=r"a\.obo:3: "), Staging(tmp_path, "s", file="a.obo") as staging:
        BAD[fault](staging)
    assert not list(tmp_path.iterdir())
    with Staging(tmp_path, "s", file="a.obo", keep_going=True) as staging:
        BAD[fault](staging)
    ((reason, content, file, line),) = staged(tmp_path, "rejects")
    assert reason
    assert content
    assert (file, line) == ("a.obo", 3)

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vesalius.errors import InputError
from vesalius.knowledge.merge.names import in_sql
from vesalius.knowledge.names import normalise
from vesalius.knowledge.predicates import predicate, words


@given(
    st.lists(st.text(st.characters(max_codepoint=127, exclude_characters="\0"), max_size=12), min_size=1, max_size=30)
)
def test_ascii_names_are_normalised_in_sql_as_in_python(texts):
    found = duckdb.execute(f"SELECT {in_sql('text')} FROM (SELECT unnest(?::VARCHAR[]) AS text)", [texts]).fetchall()
    assert [text for (text,) in found] == [normalise(text) for text in texts]


@pytest.mark.parametrize("text", ["attachesTo", "attaches to", "Attaches_To", " attaches  to "])
def test_a_predicate_is_snake_case(text):
    assert predicate(text) == "attaches_to"


def test_a_predicate_keeps_its_punctuation():
    assert predicate("forms a half-circle around (Via the neck)") == "forms_a_half-circle_around_(via_the_neck)"


def test_a_predicate_of_no_letters_is_refused():
    with pytest.raises(InputError, match="is no predicate"):
        predicate("--")


@pytest.mark.parametrize(
    ("said", "read"),
    [
        ("is_a", "is a"), ("part_of", "is part of"), ("attaches_to", "attaches to"), ("innervated_by", "is innervated by"),
        ("finding_site_of", "is the finding site of"), ("regional_part_of", "is regional part of"), ("supplies", "supplies"),
        ("has_member", "has member"),
    ],
)  # fmt: skip
def test_a_predicate_reads_inside_a_sentence(said, read):
    assert words(said) == read

"""Notes at the end of definitions."""

import duckdb
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from vesalius.knowledge.definitions import statement, statement_in_sql


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("A mucosa that is part of a cecum [Automatically generated definition].", "A mucosa that is part of a cecum."),
        ("The lower jaw. [WP,unvetted].", "The lower jaw."),
        ("The lower jaw.[WP] [FMA,modified]", "The lower jaw."),
        ("Fibres that join [in man] both sides.", "Fibres that join [in man] both sides."),
        ("No note at all", "No note at all"),
        ("[WP].", "[WP]."),
        ("One [within [another]].", "One [within [another]]."),
        ("Closed]", "Closed]"),
        ("", ""),
    ],
)
def test_notes_at_the_end_are_left_out(text, says):
    assert statement(text) == says


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet="ab [].\né", max_size=20))
@example("a [b]\n")
def test_sql_says_the_same(text):
    ((said,),) = duckdb.execute(f"SELECT {statement_in_sql('$1')}", [text]).fetchall()
    assert said == statement(text)


def test_a_long_text_of_brackets_takes_no_time():
    assert statement("a" + "[]" * 200_000) == "a."
    assert statement("a" + "[]" * 200_000 + "x]").endswith("x]")

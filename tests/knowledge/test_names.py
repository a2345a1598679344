import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vesalius.errors import InputError
from vesalius.knowledge.merge.names import in_sql
from vesalius.knowledge.names import folded_words, normalise, split_laterality
from vesalius.knowledge.predicates import predicate, words


@given(
    st.lists(st.text(st.characters(max_codepoint=127, exclude_characters="\0"), max_size=12), min_size=1, max_size=30)
)
def test_ascii_names_are_normalised_in_sql_as_in_python(texts):
    found = duckdb.execute(f"SELECT {in_sql('text')} FROM (SELECT unnest(?::VARCHAR[]) AS text)", [texts]).fetchall()
    assert [text for (text,) in found] == [normalise(text) for text in texts]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Haemorrhages of the oesophagus", "hemorrhage esophagus"), ("segments VIII", "segment 8"), ("7th rib", "rib 7"),
        ("vertebrae_Th05", "vertebra t5"), ("L 1", "l1"), ("arteries, branches, axes", "artery branch ax"),
        ("pancreas pelvis atlas gluteus process", "pancreas pelvis atlas gluteus process"), ("(Left) Hippocampus*", "left hippocampus"),
        ("GTVp", "gtvp"), ("Th-12", "t12"), ("thalami vertebrae", "thalamus vertebra"),
         ("ctx_lh_G-1", "ctx lh g1"), ("--", ""), ("", ""),
    ],
)  # fmt: skip
def test_words_are_folded_to_one_spelling(text, words):
    assert sorted(folded_words(text)) == sorted(words.split())


@given(st.text(max_size=12))
def test_any_text_has_folded_words(text):
    assert all(word and word.isalnum() for word in folded_words(text))


def test_lt_and_rt_name_a_side_at_either_end():
    assert split_laterality("Rt. kidney") == ("kidney", "right")
    assert split_laterality("kidney lt") == ("kidney", "left")
    assert split_laterality("kidney lt pole") == ("kidney lt pole", None)


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
        ("has_member", "has member"), ("regional_part", "has as regional part"), ("arterial_supply", "has its arterial supply from"),
    ],
)  # fmt: skip
def test_a_predicate_reads_inside_a_sentence(said, read):
    assert words(said) == read

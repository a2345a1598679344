import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vesalius.knowledge.sentences import published_text, sentence, sentence_parts, sentences


def test_a_relation_is_said_in_both_published_templates():
    assert (
        published_text("located_between", "Flexor Retinaculum", asked="subject") == "located between flexor retinaculum"
    )
    assert published_text("located_between", "Ulnar canal", asked="object") == "ulnar canal located between"


def test_a_known_predicate_has_several_sentences_and_the_last_names_both_ends():
    listed = sentences("part_of", asked="subject")
    said = [sentence(template, subject="left kidney", object="urinary system") for template in listed]
    assert "It belongs to the urinary system." in said
    assert said[-1] == "The left kidney is part of the urinary system."


@pytest.mark.parametrize(
    ("predicate", "said"),
    [
        ("attaches_to", "It attaches to femur."),
        ("situated_behind", "It is situated behind femur."),
        ("inferior_to", "It lies below femur."),
        ("innervated_by", "The femur innervates it."),
        ("bordered_by", "It is bordered by femur."),
        ("anteroinferior_to", "It is anteroinferior to femur."),
        ("continuous_distally_with", "It is continuous distally with femur."),
        ("left_medial_to", "It is left medial to femur."),
    ],
)
def test_any_predicate_reads_as_a_sentence(predicate, said):
    assert sentence(sentences(predicate, asked="subject")[0], subject="x", object="femur") == said


def test_an_article_is_not_said_twice():
    template = "The {subject} lies in the {object}."
    assert sentence(template, subject="heart", object="the thorax") == "The heart lies in the thorax."


names = st.text(min_size=1, max_size=12) | st.sampled_from(["{object}", "{subject}", "a {0} b", "{"])
predicates = st.sampled_from(["part_of", "is_a", "adjacent_to", "attaches_to", "x", "1"])


@settings(max_examples=40, deadline=None)
@given(names, names, predicates, st.sampled_from(["subject", "object"]))
def test_a_sentence_holds_the_named_end_as_it_is_written(subject, object_, predicate, asked):
    named = (object_ if asked == "subject" else subject).removeprefix("the ")
    for template in sentences(predicate, asked=asked):
        said = sentence(template, subject=subject, object=object_)
        assert named in said or said[:1] + named[1:] in said or said.startswith(named[:1].upper())


@given(predicates, st.sampled_from(["subject", "object"]))
def test_parts_make_the_template_again(predicate, asked):
    for template in sentences(predicate, asked=asked):
        before, one, between, other, after = sentence_parts(template)
        holes = [f"{{{hole}}}" if hole else "" for hole in (one, other)]
        assert f"{before}{holes[0]}{between}{holes[1]}{after}" == template
        assert {"subject": "object", "object": "subject"}[asked] in (one, other)

import pytest

from vesalius.errors import InputError
from vesalius.knowledge.concept import Scope
from vesalius.knowledge.handbook.spellings import (
    DatasetLabel,
    LabelIndex,
    coverage,
    read_labels,
    read_unresolved,
)


def spelled(text, dataset, scope="exact"):
    return {"text": text, "dataset": dataset, "scope": scope}


@pytest.fixture
def index(handbook, line):
    return LabelIndex(
        handbook(
            line(
                "UBERON:1",
                "kidney",
                sides={},
                spellings=[spelled("ren", "SAT-DS"), spelled("Nieren-Teil", "X", "broad")],
            ),
            line("UBERON:2", "left atrium", laterality="left", spellings=[spelled("atrium", ["A", "B"])]),
            line("UBERON:3", "ventricle of brain", spellings=[spelled("ventricle", "BRAIN/ventricles")]),
            line(
                "UBERON:4", "ventricle of heart", abbreviations=["VH"], spellings=[spelled("ventricle", "SAT-DS/heart")]
            ),
            line(
                "UBERON:5", "superior rectus", sides={"spellings": [spelled("m_{s}sup", "X"), spelled("SR({S})", "X")]}
            ),
            line(
                "UBERON:6",
                "a gyrus",
                sides={},
                synonyms=[{"text": "gyrus", "scope": "broad"}],
                spellings=[spelled("SupraMarginal", "A")],
            ),
        )
    )


@pytest.mark.parametrize(
    ("label", "dataset", "concept"),
    [
        ("Kidney", None, "UBERON:1"),
        ("kidney_left", None, "VES:left-kidney"),
        ("Right Ren", "SAT-DS/any", "VES:right-kidney"),
        ("left_ren", "another", "VES:left-kidney"),
        ("atrium_left", "A", "UBERON:2"),
        ("atrium_right", "A", None),
        ("atrium", "A", "UBERON:2"),
        ("ventricle", "BRAIN/ventricles", "UBERON:3"),
        ("ventricle", "SAT-DS/heart", "UBERON:4"),
        ("ventricle", "another", None),
        ("ventricle", None, None),
        ("vh", None, "UBERON:4"),
        ("m_lsup", "X", "VES:left-superior-rectus"),
        ("sr(r)", "X", "VES:right-superior-rectus"),
        ("SupraMarginal_L", "A", "VES:left-a-gyrus"),
        ("supra_marginal", "A", "UBERON:6"),
        ("supramarginal", "A", "UBERON:6"),
        ("ctx-lh-kidney", None, "VES:left-kidney"),
        ("left ventricle of brain", None, None),
        ("gyrus", None, None),
        ("", None, None),
        ("left", None, None),
    ],
)  # fmt: skip
def test_a_label_means_what_its_dataset_means(index, label, dataset, concept):
    match = index.find(label, dataset)
    assert (match and match.concept_id) == concept


def test_a_part_of_a_concept_says_so(index):
    match = index.find("nieren teil", "X")
    assert match is not None
    assert (match.scope, match.tied_by) == (Scope.BROAD, "spelling")


def test_a_spelling_that_means_two_things_in_one_dataset_is_found(handbook, line):
    index = LabelIndex(
        handbook(
            line("UBERON:1", "one", spellings=[spelled("x", "A")]),
            line("UBERON:2", "two", spellings=[spelled("X", "A")]),
        )
    )
    assert list(index.ambiguous()) == [("A", "x", ["UBERON:1", "UBERON:2"])]
    assert index.find("x", "A") is None


def test_coverage_counts_what_resolves_what_is_excused_and_what_is_missing(handbook, line, tmp_path):
    (tmp_path / "labels.tsv").write_text("label\tdatasets\none\tA|B\nBackground\tA\n\"Ammon's\tA\n")
    (tmp_path / "unresolved.tsv").write_text("label\tdataset\treason\nBackground\t*\tno structure\n")
    found = coverage(handbook(line("UBERON:1", "one")), read_labels(tmp_path / "labels.tsv"), read_unresolved(tmp_path))
    assert {label.dataset for label in found.matches} == {"A", "B"}
    assert list(found.excused.values()) == ["no structure"]
    assert found.missing == (DatasetLabel(label="\"Ammon's", dataset="A"),)


@pytest.mark.parametrize("text", ["label\tdatasets\n\tA\n", "label\nx\n", "label\tdatasets\nx\t\n"])
def test_a_table_of_labels_without_labels_or_datasets_is_refused(tmp_path, text):
    (tmp_path / "labels.tsv").write_text(text)
    with pytest.raises(InputError, match=r"labels\.tsv:2: a row lacks"):
        read_labels(tmp_path / "labels.tsv")


def test_a_table_that_is_no_text_or_not_there_is_refused(tmp_path):
    (tmp_path / "labels.tsv").write_bytes(b"label\tdatasets\n\xff\xfe\tA\n")
    with pytest.raises(InputError, match="not UTF-8"):
        read_labels(tmp_path / "labels.tsv")
    with pytest.raises(InputError, match="No such file"):
        read_labels(tmp_path / "nothing.tsv")


def test_an_excuse_without_a_reason_is_refused(tmp_path):
    (tmp_path / "unresolved.tsv").write_text("label\tdataset\treason\nBackground\t*\t\n")
    with pytest.raises(InputError, match=r"unresolved\.tsv:2"):
        read_unresolved(tmp_path)

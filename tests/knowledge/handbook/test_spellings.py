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


@pytest.fixture
def loose(handbook, line):
    return LabelIndex(
        handbook(
            line("UBERON:1", "seminal vesicle"),
            line("UBERON:2", "upper lobe of left lung", laterality="left"),
            line("UBERON:3", "rib 1", sides={}),
            line("UBERON:4", "vertebra T5"),
            line("UBERON:5", "L4/L5 intervertebral disc"),
            line("UBERON:6", "ventral anterior nucleus"),
            line("UBERON:7", "liver tumour"),
            line("UBERON:8", "right ventricle", laterality="right"),
            line("UBERON:9", "optic nerve", sides={}, spellings=[spelled("supraMarginal bit", "A", "broad")]),
            line("UBERON:10", "liver segment 8"),
            line("UBERON:11", "bony pelvis", synonyms=[{"text": "pelvic bones", "scope": "exact"}]),
            line("UBERON:12", "hip bone", synonyms=[{"text": "bone of the pelvic", "scope": "exact"}]),
        )
    )


@pytest.mark.parametrize(
    ("label", "concept"),
    [
        ("Seminal_Vesicles", "UBERON:1"),
        ("SeminalVesicles", "UBERON:1"),
        ("seminalvesicle", "UBERON:1"),
        ("lung lobe upper left", "UBERON:2"),
        ("lung lobe upper right", None),
        ("Rib01_L", "VES:left-rib-1"),
        ("left first rib", "VES:left-rib-1"),
        ("1st rib (right)", "VES:right-rib-1"),
        ("rib_R_1", "VES:right-rib-1"),
        ("ribs L1", "VES:left-rib-1"),
        ("vertebrae_Th05", "UBERON:4"),
        ("vertebra_T_5", "UBERON:4"),
        ("Intervertebral disk L4-L5", "UBERON:5"),
        ("anterior ventral nucleus", None),
        ("nucleus ventral anterior", "UBERON:6"),
        ("Tumors of the liver", "UBERON:7"),
        ("Ventricle_R", "UBERON:8"),
        ("Ventricle_L", None),
        ("OpticNrv_L", "VES:left-optic-nerve"),
        ("Lt. optic nerve", "VES:left-optic-nerve"),
        ("bit supramarginal", "UBERON:9"),
        ("Segment VIII liver", "UBERON:10"),
        ("Segment VII liver", None),
        ("pelvic bone", None),
        ("of the", None),
        ("*", None),
    ],
)  # fmt: skip
def test_a_label_of_other_order_number_or_spelling_means_the_same(loose, label, concept):
    match = loose.find(label)
    assert (match and match.concept_id) == concept


def test_a_loose_label_that_is_a_part_still_says_so(loose):
    match = loose.find("bit supramarginal")
    assert match is not None
    assert match.scope is Scope.BROAD


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

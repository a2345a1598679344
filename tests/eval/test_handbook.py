"""The handbook against a case made of boxes, prepared as real ones are."""

import json

import numpy as np
import pytest

from vesalius.eval.handbook import evaluate_handbook
from vesalius.ids import CaseId, ConceptId, ResolvedLabel
from vesalius.knowledge.handbook.expand import Handbook
from vesalius.knowledge.handbook.parse import KEYS, parse_line
from vesalius.volumes.case import SourceCase
from vesalius.volumes.image import Image, LabelMap
from vesalius.volumes.prepare import PrepareSettings, prepare
from vesalius.volumes.store import CaseStore

BOXES = {
    "aorta": ((9, 9, 8), (11, 11, 12), 150),
    "liver": ((13, 9, 8), (17, 13, 12), 60),
    "spleen": ((3, 9, 8), (5, 11, 10), 50),
    "lung": ((9, 9, 14), (12, 12, 17), -700),
    "bowel": ((5, 9, 8), (8, 12, 10), 20),
    "cut": ((9, 0, 2), (12, 3, 5), 40),
}
"""Start and stop on a grid of 2 mm, RAS+, and the density."""


def entry(concept, name, **more):
    record = {
        "concept_id": concept, "name": name, "definition": f"What is called {name}.", "region": "abdomen",
        "system": "general", "reviewed": {"references": ["a book"], "read": 1}, "since": "0.1", **more,
    }  # fmt: skip
    line = json.dumps({key: record[key] for key in KEYS if key in record})
    return parse_line(line, where="a.jsonl:1")


def handbook(**more):
    """Five concepts; `more` is what is said of each by name."""
    return Handbook(entry(f"X:{n}", name, **more.get(name, {})) for n, name in enumerate(BOXES, start=1))


@pytest.fixture
def store(tmp_path):
    data = np.full((20, 20, 20), 0, dtype=np.float32)
    data[0] = -1000
    labels = np.zeros(data.shape, dtype=np.int16)
    for value, (start, stop, density) in enumerate(BOXES.values(), start=1):
        window = tuple(slice(a, b) for a, b in zip(start, stop, strict=True))
        labels[window], data[window] = value, density
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    image = Image(data=data, affine=affine)
    label_map = LabelMap(data=labels, affine=affine, labels=dict(enumerate(BOXES, start=1)))
    (tmp_path / "file").write_text("stands for the image")
    source = SourceCase(
        case_id=CaseId("boxes"), dataset="made", modality="ct", split=None, patient_id=None,
        load=lambda: (image, [label_map]), origins=(), files=(tmp_path / "file",),
    )  # fmt: skip
    ids = {name: ConceptId(f"X:{n}") for n, name in enumerate(BOXES, start=1)}

    def resolve(text):
        return ResolvedLabel(concept_id=ids[text], laterality=None, name=text, tied_by="name")

    settings = PrepareSettings(spacing_mm=(2.0, 2.0, 2.0), crop_to_foreground=False)
    outcome = prepare([source], resolver=resolve, settings=settings, out=tmp_path / "store")
    assert not outcome.rejects, outcome.rejects[0].reason
    return CaseStore.open(tmp_path / "store")


def found(agreement, kind):
    return {(f.subject, f.object): (f.measured, f.agrees, f.stated) for f in agreement.findings if f.kind == kind}


def test_place_is_measured_along_the_patient_s_axes(store):
    book = handbook(
        spleen={"relations": [["left_of", "X:2"], ["superior_to", "X:4"]]},
        liver={"relations": [["anterior_to", "X:1"]]},
    )
    agreement = evaluate_handbook(book, store)
    assert found(agreement, "left_of") == {("spleen", "liver"): (22.0, True, True)}
    assert found(agreement, "superior_to") == {("spleen", "lung"): (-13.0, False, True)}
    assert found(agreement, "anterior_to") == {("liver", "aorta"): (2.0, True, True)}


def test_what_follows_is_measured_and_told_apart(store):
    book = handbook(spleen={"relations": [["left_of", "X:1"]]}, aorta={"relations": [["left_of", "X:2"]]})
    agreement = evaluate_handbook(book, store)
    assert {pair: stated for pair, (_, _, stated) in found(agreement, "left_of").items()} == {
        ("spleen", "aorta"): True,
        ("aorta", "liver"): True,
        ("spleen", "liver"): False,
    }
    row = next(row for row in agreement.table() if row["kind"] == "left_of")
    assert (row["num"], row["agree"], row["num_stated"]) == (3, 3, 2)


def test_a_region_that_the_border_may_cut_is_left_out(store):
    book = handbook(cut={"relations": [["inferior_to", "X:1"]], "size": {"volume_ml": [0.1, 0.2]}})
    agreement = evaluate_handbook(book, store)
    assert agreement.num_cut == 1
    assert agreement.unmeasured == 1
    assert found(agreement, "superior_to") == found(agreement, "volume_ml") == {}


def test_contact_is_the_smallest_distance(store):
    book = handbook(
        bowel={"relations": [["adjacent_to", "X:1"], ["adjacent_to", "X:2"]]},
        cut={"relations": [["adjacent_to", "X:4"]]},
    )
    contacts = found(evaluate_handbook(book, store), "adjacent_to")
    assert contacts["aorta", "bowel"] == (4.0, True, True)
    assert contacts["liver", "bowel"] == (12.0, False, True)
    assert ("lung", "cut") not in contacts, "a cut region may touch beyond the border"


def test_volume_and_density_are_those_of_one_structure(store):
    ct = {"text": "Grey.", "density_hu": [30, 40], "enhanced_hu": [55, 65]}
    book = handbook(
        liver={"size": {"volume_ml": [0.5, 0.6]}, "appearance": {"ct": ct}},
        spleen={"size": {"volume_ml": [100, 200]}, "appearance": {"ct": ct}},
        lung={"appearance": {"ct": {"density_hu": [-900, -600]}}},
    )
    agreement = evaluate_handbook(book, store)
    assert found(agreement, "volume_ml") == {
        ("liver", "0.5 to 0.6"): (0.5, True, True),
        ("spleen", "100 to 200"): (0.1, False, True),
    }
    densities = found(agreement, "density_hu")
    assert densities == {("liver", "55 to 65"): (60.0, True, True), ("spleen", "55 to 65"): (50.0, False, True)}
    assert ("lung", "-900 to -600") not in densities, "preparation clips it"


def test_without_contrast_medium_the_plain_range_counts(store):
    ct = {"density_hu": [50, 70], "enhanced_hu": [100, 200]}
    names = {"aorta": "a vein", "liver": "liver"}
    concepts = (
        entry(f"X:{n}", names.get(name, name), **({"appearance": {"ct": ct}} if name == "liver" else {}))
        for n, name in enumerate(BOXES, start=1)
    )
    assert found(evaluate_handbook(Handbook(concepts), store), "density_hu") == {
        ("liver", "50 to 200"): (60.0, True, True)
    }
    plain = Handbook(
        entry(
            f"X:{n}",
            {"aorta": "x", "spleen": "aorta"}.get(name, name),
            **({"appearance": {"ct": ct}} if name == "liver" else {}),
        )
        for n, name in enumerate(BOXES, start=1)
    )
    assert found(evaluate_handbook(plain, store), "density_hu") == {("liver", "50 to 70"): (60.0, True, True)}


def test_the_report_reads_as_json(store):
    book = handbook(spleen={"relations": [["superior_to", "X:4"]]})
    agreement = evaluate_handbook(book, store)
    assert json.loads(json.dumps(agreement.as_json()))["disagreements"][0]["subject"] == "spleen"
    rows = {row["kind"]: row for row in agreement.table()}
    assert rows["superior_to"] == {
        "kind": "superior_to", "num": 1, "agree": 0, "num_stated": 1, "agree_stated": 0, "num_statements": 1,
    }  # fmt: skip
    assert rows["left_of"]["num"] == 0


def test_a_store_without_a_known_region_measures_nothing(store):
    agreement = evaluate_handbook(Handbook([entry("Y:1", "something else")]), store)
    assert (agreement.num_cases, agreement.findings) == (0, ())

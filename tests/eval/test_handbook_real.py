"""The shipped handbook against real scans."""

import json

import pytest

from vesalius.eval.handbook import evaluate_handbook
from vesalius.knowledge.handbook.expand import Handbook
from vesalius.knowledge.handbook.files import read_entries
from vesalius.knowledge.resolve import Resolver
from vesalius.volumes.layouts import LayoutOptions, layout_of
from vesalius.volumes.prepare import PrepareSettings, prepare
from vesalius.volumes.store import CaseStore


@pytest.fixture(scope="module")
def agreement(shared_data, handbook_graph, tmp_path_factory):
    """Of the abdomen CT with 61 labelled structures."""
    folder, scans = tmp_path_factory.mktemp("handbook"), shared_data / "volumes" / "totalsegmentator"
    for kind, file in (("images", "example_ct"), ("labels", "example_seg_fast_force_split")):
        (folder / "scan" / kind).mkdir(parents=True)
        (folder / "scan" / kind / "one.nii.gz").symlink_to(scans / f"{file}.nii.gz")
    labels = json.loads((scans / "example_seg_fast_force_split.labels.json").read_text())
    (folder / "scan" / "labels.json").write_text(json.dumps({value: name for value, (name, _) in labels.items()}))
    cases = layout_of("nifti-pairs")(LayoutOptions(folder=folder / "scan", modality="ct"))
    resolver = Resolver(handbook_graph, dataset="TotalSegmentator/total")
    prepare(cases, resolver=resolver, settings=PrepareSettings(spacing_mm=None), out=folder / "store")
    return evaluate_handbook(Handbook(read_entries()), CaseStore.open(folder / "store"))


def test_what_the_handbook_says_of_place_and_contact_is_so(agreement):
    wrong = [
        finding
        for finding in agreement.findings
        if not finding.agrees and finding.kind not in ("volume_ml", "density_hu")
    ]
    assert wrong == []
    assert sum(finding.kind in ("left_of", "superior_to", "anterior_to") for finding in agreement.findings) > 150
    assert sum(finding.kind == "adjacent_to" for finding in agreement.findings) > 30


def test_most_volumes_and_densities_lie_in_the_stated_ranges(agreement):
    for kind, least in (("volume_ml", 15), ("density_hu", 15)):
        found = [finding for finding in agreement.findings if finding.kind == kind]
        assert len(found) >= least
        assert sum(finding.agrees for finding in found) >= 0.9 * len(found)

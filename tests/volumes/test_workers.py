"""Preparation by other processes: what they are given can be pickled, and what kills one of them stops no other."""

import os
from functools import partial

import numpy as np
import pytest

from vesalius.errors import InputError, SettingError
from vesalius.ids import CaseId
from vesalius.knowledge.resolve import Resolver
from vesalius.volumes.case import SourceCase
from vesalius.volumes.layouts import LayoutOptions, layout_of
from vesalius.volumes.prepare import PrepareSettings, prepare
from vesalius.volumes.store import CaseStore
from vesalius.volumes.workers import Dask, Here, Processes, workers_of

SETTINGS = PrepareSettings(spacing_mm=None)


@pytest.fixture
def sources(tmp_path, write_nifti):
    """Three cases on disk and one that kills the process that reads it."""
    rng = np.random.default_rng(0)
    for name in ("a", "b", "c"):
        labels = np.zeros((9, 8, 7), dtype=np.int16)
        labels[2:5, 2:6, 1:4] = 1
        write_nifti(f"data/images/{name}.nii.gz", rng.normal(40, 20, labels.shape).astype(np.float32))
        write_nifti(f"data/labels/{name}.nii.gz", labels)
    (tmp_path / "data/labels.tsv").write_text("value\tname\n1\tliver 0\n")
    listed = list(layout_of("nifti-pairs")(LayoutOptions(folder=tmp_path / "data", modality="ct")))
    deadly = SourceCase(
        case_id=CaseId("deadly"), dataset="data", modality="ct", split=None, patient_id=None,
        load=partial(os._exit, 9), origins=(), files=(tmp_path / "data/labels.tsv",),
    )  # fmt: skip
    return [listed[0], deadly, *listed[1:]]


def same(one, other):
    assert [row.case_id for row in one.cases] == [row.case_id for row in other.cases]
    for row in one.cases:
        np.testing.assert_array_equal(one.read_image(row.case_id), other.read_image(row.case_id))
        assert one.regions(row.case_id) == other.regions(row.case_id)


@pytest.fixture
def expected(sources, graph, tmp_path):
    prepare([sources[0], *sources[2:]], resolver=Resolver(graph), settings=SETTINGS, out=tmp_path / "here")
    return CaseStore.open(tmp_path / "here")


def test_a_pool_gives_what_one_process_gives_and_loses_only_the_case_that_kills(sources, expected, graph, tmp_path):
    done = []
    outcome = prepare(
        sources, resolver=Resolver(graph), settings=SETTINGS, out=tmp_path / "pool", workers=Processes(num=2),
        progress=lambda *at: done.append(at),
    )  # fmt: skip
    same(CaseStore.open(tmp_path / "pool"), expected)
    ((case_id, reason),) = ((reject.case_id, reject.reason) for reject in outcome.rejects)
    assert case_id == "deadly"
    assert "killed" in reason
    assert [at[1:] for at in done] == [(number, 4) for number in (1, 2, 3, 4)]


def test_a_local_dask_cluster_of_two_workers_gives_the_same(sources, expected, graph, tmp_path):
    from distributed import LocalCluster

    alive = [sources[0], *sources[2:]]
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None, host="127.0.0.1") as cluster:
        workers = Dask(address=cluster.scheduler_address)
        prepare(alive, resolver=Resolver(graph), settings=SETTINGS, out=tmp_path / "dask", workers=workers)
        again = prepare(alive, resolver=Resolver(graph), settings=SETTINGS, out=tmp_path / "dask", workers=workers)
    same(CaseStore.open(tmp_path / "dask"), expected)
    assert again.num_kept == 3


def test_a_scheduler_that_does_not_answer_is_told(sources, graph, tmp_path):
    with pytest.raises(InputError, match="no Dask scheduler answers"):
        prepare(
            sources[:1], resolver=Resolver(graph), settings=SETTINGS, out=tmp_path / "none",
            workers=Dask(address="tcp://127.0.0.1:9", timeout_s=1.0),
        )  # fmt: skip


def test_workers_are_chosen_by_one_setting():
    assert workers_of(num=None, dask=None) == workers_of(num=1, dask=None) == Here()
    assert workers_of(num=3, dask=None) == Processes(num=3)
    assert workers_of(num=None, dask="tcp://x:1") == Dask(address="tcp://x:1")
    with pytest.raises(SettingError, match="both"):
        workers_of(num=2, dask="tcp://x:1")
    with pytest.raises(SettingError, match="0 workers"):
        workers_of(num=0, dask=None)

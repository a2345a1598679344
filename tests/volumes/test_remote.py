"""A store in an object store: S3 as moto gives it, Google's as far as a fake of its JSON API goes."""

import logging
from importlib import util
from pathlib import Path

import numpy as np
import pytest

from vesalius.errors import FolderError, InputError
from vesalius.volumes.place import Place
from vesalius.volumes.prepare import PrepareSettings, prepare
from vesalius.volumes.store import CaseStore

SETTINGS = PrepareSettings(spacing_mm=None)


@pytest.fixture(scope="module")
def s3():
    """An empty bucket on this machine, and the environment that leads there."""
    import s3fs
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        for name, value in {"ACCESS_KEY_ID": "a", "SECRET_ACCESS_KEY": "b", "DEFAULT_REGION": "us-east-1"}.items():
            patch.setenv(f"AWS_{name}", value)
        s3fs.S3FileSystem.clear_instance_cache()
        s3fs.S3FileSystem().mkdir("cases-here")
        yield "s3://cases-here/some/store"
        s3fs.S3FileSystem.clear_instance_cache()
    server.stop()


@pytest.fixture(scope="module")
def gs():
    """The same for Google's; tensorstore reads its address once a process."""
    import gcsfs

    spec = util.spec_from_file_location("fake_gcs", Path(__file__).with_name("fake_gcs.py"))
    fake = util.module_from_spec(spec)
    spec.loader.exec_module(fake)
    with fake.FakeGcs().running() as server, pytest.MonkeyPatch.context() as patch:
        patch.setenv("STORAGE_EMULATOR_HOST", server.url)
        patch.setenv("TENSORSTORE_GCS_HTTP_URL", server.url)
        patch.setenv("GOOGLE_AUTH_TOKEN_FOR_TESTING", "none")
        gcsfs.GCSFileSystem.clear_instance_cache()
        yield "gs://cases-here/some/store"
        gcsfs.GCSFileSystem.clear_instance_cache()


@pytest.fixture(params=["s3", "gs"])
def address(request):
    return request.getfixturevalue(request.param) + f"/{request.node.name.split('[')[0]}"


def test_a_store_there_is_the_store_here(address, source, resolver, tmp_path):
    sources = [source("one"), source("two")]
    prepare(sources, resolver=resolver, settings=SETTINGS, out=tmp_path / "here")
    prepare(sources, resolver=resolver, settings=SETTINGS, out=address)
    there, here = CaseStore.open(address), CaseStore.open(tmp_path / "here")
    assert there.cases == here.cases
    assert there.sha256 == here.sha256
    for row in here.cases:
        box = ((-2, 3, 1), (9, 30, 8))
        regions = here.regions(row.case_id)
        assert there.regions(row.case_id) == regions
        for one, other in zip(
            here.read_crop(row.case_id, box, regions), there.read_crop(row.case_id, box, regions), strict=True
        ):
            np.testing.assert_array_equal(one, other)


def test_what_is_done_there_is_kept_and_what_is_half_done_is_done_again(address, source, resolver):
    sources = [source("one"), source("two")]
    prepare(sources, resolver=resolver, settings=SETTINGS, out=address)
    assert prepare(sources, resolver=resolver, settings=SETTINGS, out=address).num_kept == 2
    place = Place.of(address)
    place.remove("cases/two.zarr/zarr.json")  # as a killed upload leaves it
    outcome = prepare(sources, resolver=resolver, settings=SETTINGS, out=address)
    assert (outcome.num_kept, len(outcome.cases)) == (1, 2)
    assert place.names("cases") == ["one.zarr", "two.zarr"]
    with pytest.raises(FolderError, match="not among those"):
        prepare(sources[:1], resolver=resolver, settings=SETTINGS, out=address)


def test_a_store_that_is_not_there_is_told_with_its_address(address):
    with pytest.raises(FolderError, match=r"^(s3|gs)://cases-here.*no cases folder here"):
        CaseStore.open(address)


@pytest.mark.parametrize("address", ["s3://", "gs:///", "http://x/y"])
def test_what_is_no_address_is_refused(address):
    with pytest.raises(InputError, match="no address of a store"):
        Place.of(address)

import gzip
import resource

import pytest

from vesalius.errors import FolderError, InputError
from vesalius.knowledge.sources import text_file
from vesalius.knowledge.sources.text_file import read_lines, read_whole, unpacked

READERS = {
    "lines": lambda path: list(read_lines(path)),
    "whole": read_whole,
    "unpacked": lambda path: unpacked(path).__enter__().read_text(),
}


@pytest.mark.parametrize("reader", READERS)
def test_a_small_gzip_of_much_is_refused_by_its_name(tmp_path, monkeypatch, reader):
    monkeypatch.setattr(text_file, "FREE_EXPANSION_BYTES", 100_000)
    path = tmp_path / "bomb.obo.gz"
    path.write_bytes(gzip.compress(b"0123456789\n" * 100_000))
    assert path.stat().st_size * text_file.MAX_EXPANSION < 1_100_000
    with pytest.raises(InputError, match=r"bomb\.obo\.gz: the gzip expands to more than"):
        READERS[reader](path)


@pytest.mark.parametrize("reader", ["lines", "whole"])
def test_ordinary_text_expands_as_far_as_it_likes(tmp_path, monkeypatch, reader):
    monkeypatch.setattr(text_file, "FREE_EXPANSION_BYTES", 0)
    text = "\n".join(f"line {number**3}" for number in range(20_000))
    (tmp_path / "a.gz").write_bytes(gzip.compress(text.encode()))
    assert READERS[reader](tmp_path / "a.gz") in (text, list(enumerate(text.splitlines(), start=1)))


def test_no_room_for_what_is_unpacked_is_not_blamed_on_the_source(tmp_path):
    """No file may grow beyond 4 kB, which the system reports as a full disk does."""
    path = tmp_path / "a.owl.gz"
    path.write_bytes(gzip.compress(b"x" * 100_000))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.raises(FolderError, match=r"/a\.owl: cannot be written .*make room") as told, unpacked(path):
            pass
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert str(path) not in str(told.value)

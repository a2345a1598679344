"""A file is written whole or not at all, and where it cannot be, one line says so."""

import contextlib
import errno
import os
import resource

import numpy as np
import pytest

from vesalius.cli import main
from vesalius.errors import FolderError
from vesalius.folder import writing, writing_folder
from vesalius.predict.embed import write_embeddings
from vesalius.tables import read_table, write_table


@contextlib.contextmanager
def no_file_above(num_bytes):
    """The system refuses to write files any larger, as it does on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_table_that_finds_no_room_leaves_the_old_one(tmp_path):
    path, schema = tmp_path / "a.parquet", {"text": "VARCHAR"}
    write_table(path, [["old"]], schema=schema)
    with (
        no_file_above(4000),
        pytest.raises(FolderError, match=r"rows\.json: cannot be written .File too large.*make room"),
    ):
        write_table(path, [[os.urandom(500).hex()] for _ in range(20)], schema=schema)
    with no_file_above(100), pytest.raises(FolderError, match=r"a\.parquet: cannot be written .*make room"):
        write_table(path, [["new"]], schema=schema)
    assert names_in(tmp_path) == ["a.parquet"]
    assert read_table(path, schema=schema) == [("old",)]


def test_embeddings_that_find_no_room_leave_nothing(tmp_path):
    embeddings = np.random.default_rng(0).normal(size=(40, 64)).astype(np.float32)
    for name in ("e.npy", "e.parquet"):
        with no_file_above(4000), pytest.raises(FolderError, match=r"cannot be written .* – make room"):
            write_embeddings(tmp_path / name, ["liver"] * 40, embeddings, modality=None)
    assert names_in(tmp_path) == []


def test_a_folder_that_finds_no_room_leaves_the_old_one(tmp_path):
    (tmp_path / "f").mkdir()
    (tmp_path / "f/old").write_text("old")
    with (
        no_file_above(4000),
        pytest.raises(FolderError, match="cannot be written"),
        writing_folder(tmp_path / "f") as made,
    ):
        (made / "new").write_bytes(bytes(9000))
    assert names_in(tmp_path) == ["f"]
    assert (tmp_path / "f/old").read_text() == "old"


def test_a_place_that_is_no_folder_or_is_one_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file/a.txt", tmp_path / "file/f"):
        for write in (writing, writing_folder):
            with pytest.raises(FolderError, match="cannot be written"), write(path):
                pass
    (tmp_path / "folder").mkdir()
    with (
        pytest.raises(FolderError, match=r"folder: cannot be written \(Is a directory\)"),
        writing(tmp_path / "folder"),
    ):
        pass
    assert names_in(tmp_path) == ["file", "folder"]


def test_what_goes_wrong_while_writing_is_not_taken_for_a_full_disk(tmp_path):
    with pytest.raises(FileNotFoundError), writing(tmp_path / "a"):
        (tmp_path / "missing").read_text()
    assert names_in(tmp_path) == []


def test_another_folder_that_is_opened_as_a_file_is_not_taken_for_the_place(tmp_path):
    (tmp_path / "folder").mkdir()
    with pytest.raises(IsADirectoryError), writing(tmp_path / "a"):
        (tmp_path / "folder").read_text()
    assert names_in(tmp_path) == ["folder"]


def test_no_room_for_temporary_files_is_told_of_their_folder(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/tmp/made")

    monkeypatch.setattr("tempfile.TemporaryDirectory", refuse)
    with pytest.raises(FolderError, match=r"^/tmp/made: cannot be written .No space left.* – make room"):
        write_table(tmp_path / "a.parquet", [["a"]], schema={"text": "VARCHAR"})
    assert names_in(tmp_path) == []


def test_no_right_and_no_room_are_one_line_wherever_they_come_up(tmp_path, monkeypatch, capsys):
    def refuse(*_):
        raise PermissionError(13, "Permission denied", "/data/x")

    monkeypatch.setattr("vesalius.volumes.store.read_tables", refuse)
    assert main(["volumes", "stats", str(tmp_path)]) == 2
    assert capsys.readouterr().err == "vesalius: /data/x: Permission denied – make room there, or check your rights\n"

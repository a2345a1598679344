import gzip

import pytest

from vesalius.knowledge.sources import KINDS


@pytest.fixture(params=sorted(KINDS))
def forms(bench, request):
    found = [form for form in bench.forms.values() if form.kind == request.param]
    assert found, f"the kind {request.param} has no writer in tests/knowledge/sources/conftest.py"
    return found


def test_every_kind_stages_what_was_written_with_source_and_line(bench, forms, tmp_path):
    for form in forms:
        path, options = form.file(bench.small, tmp_path)
        rows, origins = bench.stage(form.kind, path, tmp_path / "staged", options)
        assert rows == form.carries(bench.small).rows()
        assert rows["concepts"]
        assert origins[0].name == "test"
        assert path.is_dir() or path.name in origins[0].sha256
        for table in ("concepts", "relations"):
            assert all(line is not None and line >= 1 for line in bench.lines(tmp_path / "staged", table))


def test_every_kind_reads_gzip(bench, forms, tmp_path):
    for form in forms:
        path, options = form.file(bench.small, tmp_path)
        if path.suffix == ".parquet" or path.is_dir():
            continue  # compressed within; a folder's files are packed one by one
        packed = tmp_path / f"{path.name}.gz"
        packed.write_bytes(gzip.compress(path.read_bytes()))
        rows, _ = bench.record(form.kind, packed, options)
        assert rows == form.carries(bench.small).rows()

import numpy as np
import pytest

from vesalius.cli import main
from vesalius.errors import InputError, SettingError
from vesalius.predict.embed import embed_prompts, read_prompts, write_embeddings
from vesalius.tables import read_table
from vesalius.train.convert import UNTRAINED, convert
from vesalius.train.sources import open_source


def test_prompts_are_embedded_to_npy_and_parquet(write_published, tmp_path):
    path, base, _ = write_published()
    source = open_source(path, base=str(base))
    convert(source, "run", out=tmp_path / "run")
    texts = ["left kidney", "liver", "left kidney"]
    (tmp_path / "prompts.txt").write_text("\n".join(texts) + "\n")
    arguments = ["embed", str(tmp_path / "run"), "--prompts", str(tmp_path / "prompts.txt")]
    assert main([*arguments, "--modality", "ct", "--out", str(tmp_path / "x.npy")]) == 0
    assert main([*arguments, "--normalise", "--out", str(tmp_path / "x.parquet")]) == 0
    prompts = np.load(tmp_path / "x.npy")
    expected = embed_prompts(source.encoder(), texts, prompts=source.prompts(), modality="ct")
    np.testing.assert_allclose(prompts, expected, atol=1e-5)
    assert prompts.dtype == np.float32
    rows = read_table(
        tmp_path / "x.parquet", schema={"prompt": "VARCHAR", "modality": "VARCHAR", "embedding": "FLOAT[]"}
    )
    assert [row[0] for row in rows] == texts
    assert {row[1] for row in rows} == {None}
    raw = embed_prompts(source.encoder(), texts)
    norms = np.linalg.norm(raw, axis=1, keepdims=True)
    np.testing.assert_allclose(np.array([row[2] for row in rows]), raw / norms, atol=1e-5)


@pytest.mark.parametrize(("atlas_loss", "warned"), [(True, False), (False, True)])
def test_prompts_of_a_projection_that_was_never_trained_are_warned_of(
    write_published, tmp_path, capsys, atlas_loss, warned
):
    path, base, _ = write_published(atlas_loss=atlas_loss)
    done = convert(open_source(path, base=str(base)), "run", out=tmp_path / "run")
    assert done.warnings == ([UNTRAINED] if warned else [])
    (tmp_path / "prompts.txt").write_text("liver\n")
    arguments = ["embed", str(tmp_path / "run"), "--prompts", str(tmp_path / "prompts.txt")]
    assert main([*arguments, "--out", str(tmp_path / "raw.npy")]) == 0
    assert "never trained" not in " ".join(capsys.readouterr().err.split())
    assert main([*arguments, "--modality", "ct", "--out", str(tmp_path / "ct.npy")]) == 0
    assert (f"warning: {UNTRAINED}" in " ".join(capsys.readouterr().err.split())) == warned


def test_a_modality_needs_a_projection(write_published, tmp_path):
    path, base, _ = write_published(num_modalities=4)
    source = open_source(path, base=str(base))
    with pytest.raises(SettingError, match="without text projection"):
        embed_prompts(source.encoder(), ["liver"], modality="ct")
    with pytest.raises(SettingError, match="no embedding of modality 'microscopy'"):
        embed_prompts(source.encoder(), ["liver"], prompts=source.prompts(), modality="microscopy")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"\n", "blank line"),
        (b"liver\n\nheart\n", "line 2: blank line"),
        (b"\xff\xfe\x00", "no UTF-8"),
    ],
)
def test_rubbish_in_a_prompts_file_is_refused_with_its_place(tmp_path, content, message):
    path = tmp_path / "prompts.txt"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_prompts(path)


def test_a_prompts_file_may_come_from_any_system(tmp_path):
    path = tmp_path / "prompts.txt"
    path.write_bytes("\ufeffliver\r\nNiere, links\u2028x\r\n".encode())
    assert read_prompts(path) == ["liver", "Niere, links\u2028x"]


def test_a_name_that_says_no_format_is_refused(tmp_path):
    with pytest.raises(SettingError, match=r"end it in \.npy or \.parquet"):
        write_embeddings(tmp_path / "x.csv", ["liver"], np.zeros((1, 2), dtype=np.float32), modality=None)

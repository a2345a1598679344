import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from vesalius.cli import main
from vesalius.errors import InputError
from vesalius.eval.cases import case_figure, stats_figure, store_stats
from vesalius.ids import CaseId, ConceptId, ResolvedLabel
from vesalius.volumes.case import SourceCase
from vesalius.volumes.image import Image, LabelMap
from vesalius.volumes.prepare import PrepareSettings, prepare
from vesalius.volumes.store import CaseStore


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Two cases stored towards ASR, with a big and a small region."""
    folder = tmp_path_factory.mktemp("look")
    values = np.zeros((40, 36, 20), dtype=np.int16)
    values[5:20, 8:28, 4:16] = 1
    values[30:34, 10:14, 8:12] = 2
    data = np.random.default_rng(0).normal(40, 90, values.shape).astype(np.float32)
    affine = np.diag([1.0, 1.0, 2.0, 1.0])
    label_map = LabelMap(data=values, affine=affine, labels={1: "liver", 2: "spleen"})
    sources = []
    for name in ("one", "two"):
        (folder / name).write_text(name)
        sources.append(
            SourceCase(
                case_id=CaseId(name), dataset="made", modality="mr", split="train", patient_id="p", sequence="T1w",
                load=lambda: (Image(data=data, affine=affine), [label_map]), origins=(), files=(folder / name,),
            )
        )  # fmt: skip
    prepare(
        sources,
        resolver=lambda text: ResolvedLabel(
            concept_id=ConceptId(f"T:{text}"), laterality=None, name=text, tied_by="name"
        ),
        settings=PrepareSettings(spacing_mm=(2.0, 1.0, 1.0), orientation="ASR"),
        out=folder / "store",
    )
    return CaseStore.open(folder / "store")


def texts(figure):
    return [text.get_text() for text in figure.texts]


def test_a_case_is_drawn_with_the_names_of_its_regions(store):
    figure = case_figure(store, CaseId("one"))
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    assert np.asarray(canvas.buffer_rgba())[..., :3].std() > 10
    assert {"1  liver", "2  spleen", "one   made, mr T1w, train"} <= set(texts(figure))
    assert "and 1 smaller regions" in texts(case_figure(store, CaseId("one"), num=1))
    assert "1  spleen" in texts(case_figure(store, CaseId("one"), names=["spleen"]))
    with pytest.raises(InputError, match="no region named 'heart'"):
        case_figure(store, CaseId("one"), names=["heart"])


def test_a_store_is_counted(store):
    stats = store_stats(store)
    assert stats.groups == {("made", "mr T1w", "train"): (2, 1, 4)}
    (liver, spleen) = stats.structures
    assert (liver.name, liver.num, liver.num_cut) == ("liver", 2, 0)
    assert liver.volumes_ml == pytest.approx((7.2,) * 3, rel=0.05)
    assert spleen.volumes_ml == pytest.approx((0.128,) * 3, rel=0.3)
    assert len(stats_figure(stats).axes) == 2


def test_the_commands_draw_and_count(store, tmp_path, capsys):
    assert main(["volumes", "show", str(store.place), "one", "--out", str(tmp_path / "a.png")]) == 0
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    assert main(["volumes", "stats", str(store.place), "--out", str(tmp_path / "b.png")]) == 0
    assert (tmp_path / "b.png").read_bytes().startswith(b"\x89PNG")
    assert "T:liver" in capsys.readouterr().out
    assert main(["volumes", "show", str(store.place), "nobody"]) == 2
    assert "no case 'nobody'" in capsys.readouterr().err

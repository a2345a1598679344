import json
import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import safetensors.torch
import torch
from sentence_transformers import SentenceTransformer

from vesalius import recipes
from vesalius.corpus.crops import CropSettings
from vesalius.errors import FolderError, InputError, SettingError
from vesalius.ids import MODALITIES, CaseId
from vesalius.knowledge.resolve import Resolver
from vesalius.knowledge.split import split_concepts
from vesalius.model.region_encoder import UNET_SIZES, UNetSize
from vesalius.model.region_model import RegionModel, RegionModelSize
from vesalius.model.text_encoder import TextEncoder, bundled_minilm
from vesalius.predict.embed import embed_prompts, encode_texts
from vesalius.train.convert import OWN_TOKENS, UNTRAINED, convert
from vesalius.train.region_file import read_region_weights, write_region_weights
from vesalius.train.run import load_region_model, read_run, train_regions, with_network_of
from vesalius.train.sources import open_source
from vesalius.volumes.case import SourceCase
from vesalius.volumes.image import Image, LabelMap
from vesalius.volumes.prepare import PrepareSettings, prepare
from vesalius.volumes.store import CaseStore

TEXTS = ["left kidney", "liver", "the 12th rib (right)"]

CLEAN = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "vesalius":
            raise ImportError("vesalius is not here")

sys.meta_path.insert(0, Blocked())
import json
import numpy
from sentence_transformers import SentenceTransformer
texts = json.loads(sys.argv[1])
for folder, out in zip(sys.argv[2::2], sys.argv[3::2]):
    numpy.save(out, SentenceTransformer(folder, device="cpu", local_files_only=True).encode(texts))
assert not any(name.split(".")[0] == "vesalius" for name in sys.modules)
"""


def _in_a_clean_process(texts, *folders, tmp_path):
    outs = [tmp_path / f"clean-{number}.npy" for number in range(len(folders))]
    pairs = [str(part) for pair in zip(folders, outs, strict=True) for part in pair]
    command = [sys.executable, "-c", CLEAN, json.dumps(texts), *pairs]
    subprocess.run(command, check=True, capture_output=True, cwd=tmp_path, env={"PATH": ""})
    return [np.load(out) for out in outs]


def _equal(before, after):
    assert before.keys() == after.keys()
    for key in before:
        assert torch.equal(before[key], after[key]), key


def test_published_features_and_prompts_come_out_of_a_process_without_vesalius(shared_data, tmp_path):
    sat = shared_data / "sat"
    golden = np.load(sat / "golden.npz")
    texts = json.loads((sat / "golden.json").read_text())["texts"]
    source = open_source(sat / "multimodal.pth", base=str(sat / "biolord_tiny"))
    assert source.description == "pretraining checkpoint, text tower biolord, stage 2, step 123"
    convert(source, "sentence-transformers", out=tmp_path / "raw", features="raw")
    done = convert(source, "sentence-transformers", out=tmp_path / "prompts")
    assert [path.name for path in done.written] == list(MODALITIES)
    raw, *prompts = _in_a_clean_process(texts, tmp_path / "raw", *done.written, tmp_path=tmp_path)
    np.testing.assert_allclose(raw, golden["text"], atol=1e-5)
    for row, found in enumerate(prompts):
        np.testing.assert_allclose(found[row], golden["prompt"][row], atol=1e-5)


def test_exported_folders_of_every_tower_agree_without_vesalius(write_published, tmp_path):
    folders, expected = [], []
    for tower in ("biolord", "medcpt", "pubmedbert"):
        path, base, _ = write_published(f"{tower}.pth", tower=tower, num_modalities=4)
        source = open_source(path, base=str(base))
        with torch.no_grad():
            features = encode_texts(source.encoder(), TEXTS, max_length=38)
            expected += [features, source.prompts()(features, ["pet"] * 3)]
        raw, pet = tmp_path / f"{tower}-raw", tmp_path / f"{tower}-pet"
        convert(source, "sentence-transformers", out=raw, features="raw")
        convert(source, "sentence-transformers", out=pet, modality="pet")
        folders += [raw, pet]
        modules = json.loads((pet / "modules.json").read_text())
        assert {kind["type"].split(".")[0] for kind in modules} == {"sentence_transformers"}
        again = TextEncoder.load(pet)
        with torch.no_grad():
            torch.testing.assert_close(encode_texts(again, TEXTS, max_length=38), expected[-1], atol=1e-5, rtol=1e-5)
    for found, wanted in zip(_in_a_clean_process(TEXTS, *folders, tmp_path=tmp_path), expected, strict=True):
        np.testing.assert_allclose(found, wanted.numpy(), atol=1e-5)


def test_the_model_card_says_recipe_data_terms_and_results(write_published, tmp_path):
    path, base, _ = write_published()
    convert(open_source(path, base=str(base)), "sentence-transformers", out=tmp_path / "out", modality="ct")
    card = (tmp_path / "out" / "README.md").read_text()
    for part in ("multimodal.pth", "stage 2, step 7", "the authors' own terms", "arXiv 2312.17183", "BioLORD-2023-C"):
        assert part in card
    for heading in ("## Recipe", "## Results", "## Data and terms"):
        assert heading in card
    assert 'SentenceTransformer("out")' in card


@pytest.mark.parametrize(("tower", "features"), [("biolord", "raw"), ("pubmedbert", "prompts")])
def test_onnx_agrees_for_any_batch_and_length(write_published, tmp_path, tower, features):
    import onnxruntime
    from tokenizers import Tokenizer

    path, base, _ = write_published(tower=tower, num_layers=1)
    source = open_source(path, base=str(base))
    modality = "mr" if features == "prompts" else None
    convert(source, "onnx", out=tmp_path / "out", features=features, modality=modality)
    session = onnxruntime.InferenceSession(str(tmp_path / "out" / "model.onnx"))
    tokenizer = Tokenizer.from_file(str(tmp_path / "out" / "tokenizer.json"))
    expected = embed_prompts(source.encoder(), TEXTS, prompts=source.prompts(), modality=modality)
    for row, text in enumerate(TEXTS):
        tokens = tokenizer.encode(text)
        inputs = {"input_ids": [tokens.ids] * (row + 1), "attention_mask": [tokens.attention_mask] * (row + 1)}
        (found,) = session.run(None, inputs)
        assert found.shape == (row + 1, 16)
        np.testing.assert_allclose(found[row], expected[row], atol=1e-5)


def test_everything_through_a_run_and_safetensors_is_the_identity(write_published, tmp_path):
    path, base, content = write_published(num_modalities=4, hidden=7)
    convert(open_source(path, base=None), "safetensors", out=tmp_path / "direct.safetensors")
    convert(open_source(tmp_path / "direct.safetensors", base=str(base)), "run", out=tmp_path / "run")
    convert(open_source(tmp_path / "run", base=None), "safetensors", out=tmp_path / "again.safetensors")
    for name in ("direct", "again"):
        file = tmp_path / f"{name}.safetensors"
        _equal(content["model_state_dict"], safetensors.torch.load_file(file))
        assert open_source(file, base=None).description == "pretraining checkpoint, text tower biolord, stage 2, step 7"
    origins = open_source(tmp_path / "again.safetensors", base=None).facts().origins
    assert [origin.name for origin in origins] == ["SAT-Pretrain", "FremyCompany/BioLORD-2023-C"]


def _own_run(tmp_path):
    """A run as `train regions` writes it, with random weights: MiniLM, two scales, no GELU at the end."""
    run = tmp_path / "own"
    model = RegionModel(
        TextEncoder.load(bundled_minilm()), size=RegionModelSize(unet=UNetSize(channels=(2, 3)), width=8)
    )
    model.text_logit_scale.log_logit_scale.data.fill_(1.5)
    write_region_weights(run, model, region_keys=["UBERON:1"])
    model.encoder.save(run / "encoder")
    (run / "config.yaml").write_text("loop: made\n")
    (run / "metrics.jsonl").write_text('{"step": 4, "validation/name_mrr": 0.25}\n{"step": 5, "loss": 1.0}\n')
    origin = {"name": "uberon", "version": "t", "licence": "CC-BY-3.0", "attribution": "a", "sha256": {}}
    manifest = {"kind": "run", "schema": 2, "stage": "regions", "sources": [origin], "inputs": {}}
    (run / "manifest.json").write_text(json.dumps(manifest))
    return run, model


def test_a_run_of_our_own_keeps_both_scales_and_its_shape_through_safetensors(tmp_path):
    run, model = _own_run(tmp_path)
    source = open_source(run, base=None)
    convert(source, "safetensors", out=tmp_path / "own.safetensors")
    back = open_source(tmp_path / "own.safetensors", base=str(run / "encoder"))
    assert back.description == "pretraining checkpoint, text tower bert_mean, stage 2, step 4"
    assert [origin.name for origin in back.facts().origins] == ["uberon"]
    again = back.model()
    assert again.size.last_gelu is False
    _equal(model.state_dict(), again.state_dict())


def test_the_card_of_a_run_has_its_settings_and_its_last_validation(tmp_path):
    run, _ = _own_run(tmp_path)
    convert(open_source(run, base=None), "sentence-transformers", out=tmp_path / "out", modality="ct")
    card = (tmp_path / "out" / "README.md").read_text()
    for part in ("loop: made", "Validation after step 4", "| name_mrr | 0.250 |", "| uberon | t | CC-BY-3.0 | a |"):
        assert part in card


def test_a_run_of_another_tower_is_refused_by_name_for_the_segmentation_code(tmp_path):
    run, _ = _own_run(tmp_path)
    with pytest.raises(SettingError, match="a text tower of kind bert_mean"):
        convert(open_source(run, base=None), "sat", out=tmp_path / "x.pth")
    assert not (tmp_path / "x.pth").exists()


def test_the_segmentation_codes_file_has_its_names_and_shapes(write_published, tmp_path):
    path, _, content = write_published(width=768, hidden=768, num_layers=1, channels=(2,))
    done = convert(open_source(path, base=None), "sat", out=tmp_path / "sat.pth")
    assert len(done.warnings) == 1
    assert "microscopy" in done.warnings[0]
    found = torch.load(tmp_path / "sat.pth", weights_only=True)["model_state_dict"]
    expected = {
        key: value
        for key, value in content["model_state_dict"].items()
        if "atlas_tower" not in key and "temperature" not in key
    }
    expected["module.modality_embed.weight"] = expected["module.modality_embed.weight"][:4]
    _equal(expected, found)
    again = open_source(tmp_path / "sat.pth", base=None)
    assert again.description.endswith("stage 2, step 7, text side only")
    assert again.prompts().modalities == MODALITIES[:4]


def test_tokens_that_are_not_the_published_ones_are_told_and_come_back(write_published, tmp_path):
    path, base, _ = write_published(width=768, hidden=768, num_layers=1, channels=(2,), num_modalities=4)
    source = open_source(path, base=str(base))
    convert(source, "run", out=tmp_path / "run")
    assert convert(open_source(tmp_path / "run", base=None), "sat", out=tmp_path / "published.pth").warnings == []
    for file in base.glob("tokenizer*"):
        shutil.copy(file, tmp_path / "run" / "encoder")
    run = open_source(tmp_path / "run", base=None)
    assert (source.tokens, run.tokens) == ("published", "own")
    assert convert(run, "sat", out=tmp_path / "sat.pth").warnings == [OWN_TOKENS]
    assert convert(run, "safetensors", out=tmp_path / "x.safetensors").warnings == []
    expected = embed_prompts(run.encoder(), TEXTS)
    assert not np.allclose(embed_prompts(source.encoder(), TEXTS), expected, atol=1e-3)
    for name in ("sat.pth", "x.safetensors"):
        again = open_source(tmp_path / name, base=str(base))
        np.testing.assert_allclose(embed_prompts(again.encoder(), TEXTS), expected, atol=1e-5)


def test_a_stage_1_checkpoint_gives_raw_features_and_warns_of_more(write_published, tmp_path):
    path, base, _ = write_published("textual_only.pth", atlas_loss=False)
    source = open_source(path, base=str(base))
    raw = convert(source, "sentence-transformers", out=tmp_path / "raw")
    assert (raw.written, raw.warnings) == ([tmp_path / "raw"], [])
    assert not list((tmp_path / "raw").glob("*Dense"))
    assert convert(source, "sentence-transformers", out=tmp_path / "ct", modality="ct").warnings == [UNTRAINED]
    assert convert(source, "run", out=tmp_path / "run").warnings == [UNTRAINED]
    assert read_run(tmp_path / "run")["stage"] == "text"
    with pytest.raises(FolderError, match="a run of stage 'text'"):
        load_region_model(tmp_path / "run")


@pytest.mark.parametrize("atlas_loss", [True, False])
def test_a_text_side_alone_is_no_run_because_its_projection_would_be_lost(write_published, tmp_path, atlas_loss):
    path, base, _ = write_published(width=768, hidden=768, num_layers=1, channels=(2,), atlas_loss=atlas_loss)
    convert(open_source(path, base=None), "sat", out=tmp_path / "sat.pth")
    with pytest.raises(SettingError, match=r"would lose its text projection.*convert to sentence-transformers"):
        convert(open_source(tmp_path / "sat.pth", base=str(base)), "run", out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_stage_2_file_with_a_text_tower_alone_is_a_text_run(write_published, tmp_path):
    def tower_alone(content):
        state = content["model_state_dict"]
        content["model_state_dict"] = {key: value for key, value in state.items() if "text_tower" in key}

    path, base, _ = write_published(change=tower_alone)
    source = open_source(path, base=str(base))
    assert source.stage == 2
    convert(source, "run", out=tmp_path / "run")
    assert read_run(tmp_path / "run")["stage"] == "text"


def test_an_encoder_folder_with_damaged_weights_is_refused(write_published, tmp_path):
    path, base, _ = write_published()
    convert(open_source(path, base=str(base)), "sentence-transformers", out=tmp_path / "raw", features="raw")
    weights = tmp_path / "raw" / "model.safetensors"
    whole, tensors = weights.read_bytes(), safetensors.torch.load_file(weights)
    name = next(name for name in tensors if "word_embeddings" in name)
    narrow = safetensors.torch.save({**tensors, name: tensors[name][:, :8].contiguous()}, metadata={"format": "pt"})
    for content in (whole[:1000], whole[:-10], b"", narrow):
        weights.write_bytes(content)
        with pytest.raises(InputError, match=r"raw: cannot be loaded \(.*check that the folder is complete") as caught:
            convert(open_source(tmp_path / "raw", base=None), "run", out=tmp_path / "run")
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_a_sentence_transformers_folder_converts_to_raw_features_and_a_run(tmp_path):
    source = open_source(bundled_minilm(), base=None)
    convert(source, "sentence-transformers", out=tmp_path / "raw")
    features = SentenceTransformer(str(tmp_path / "raw"), device="cpu").encode(TEXTS)
    np.testing.assert_allclose(features, embed_prompts(source.encoder(), TEXTS), atol=1e-5)
    convert(source, "run", out=tmp_path / "run")
    assert read_run(tmp_path / "run")["stage"] == "text"


@pytest.mark.parametrize(
    ("to", "more", "message"),
    [
        ("sat", {"modality": "ct"}, "--modality has no effect with --to sat"),
        ("safetensors", {"features": "raw"}, "--features has no effect"),
        ("run", {"modality": "ct"}, "--modality has no effect"),
        ("onnx", {"modality": "ct", "features": "raw"}, "no effect on raw features"),
        ("sentence-transformers", {"modality": "microscopy"}, "no embedding of modality 'microscopy'"),
        ("sentence-transformers", {}, "weights only, no vocabulary.*hub:FremyCompany"),
        ("onnx", {"features": "raw"}, "weights only"),
        ("run", {}, "weights only"),
        ("keras", {}, "unknown format 'keras'"),
        ("sat", {}, "width 16"),
    ],
)
def test_settings_that_cannot_work_are_refused_and_nothing_is_written(write_published, tmp_path, to, more, message):
    path, _, _ = write_published(num_modalities=4)
    with pytest.raises(SettingError, match=message):
        convert(open_source(path, base=None), to, out=tmp_path / "out", **more)
    assert not (tmp_path / "out").exists()


def test_one_onnx_file_holds_one_modality(write_published, tmp_path):
    path, base, _ = write_published()
    with pytest.raises(SettingError, match="one file holds one modality"):
        convert(open_source(path, base=str(base)), "onnx", out=tmp_path / "x.onnx")


def test_an_output_that_is_in_use_is_refused(write_published, tmp_path):
    path, base, _ = write_published()
    source = open_source(path, base=str(base))
    for to in ("safetensors", "run", "sentence-transformers", "onnx"):
        with pytest.raises(InputError, match=r"is a folder|is no empty folder"):
            convert(source, to, out=tmp_path)
    with pytest.raises(InputError, match="is no empty folder"):
        convert(source, "run", out=path)
    assert path.is_file()


def test_what_is_no_source_is_refused(write_published, tmp_path):
    with pytest.raises(InputError, match="no such file or folder"):
        open_source(tmp_path / "nowhere", base=None)
    with pytest.raises(FolderError, match="no run folder here"):
        open_source(tmp_path, base=None)
    with pytest.raises(SettingError, match="--base has no effect on a folder"):
        open_source(bundled_minilm(), base="x")
    path, base, _ = write_published()
    convert(open_source(path, base=str(base)), "run", out=tmp_path / "run")
    with pytest.raises(SettingError, match="a run is a run already"):
        convert(open_source(tmp_path / "run", base=None), "run", out=tmp_path / "again")
    with pytest.raises(SettingError, match="text projection, which prompts need"):
        convert(open_source(bundled_minilm(), base=None), "onnx", out=tmp_path / "x", modality="ct")
    convert(open_source(path, base=str(base)), "sentence-transformers", out=tmp_path / "raw", features="raw")
    with pytest.raises(SettingError, match="without text projection"):
        convert(open_source(tmp_path / "raw", base=None), "sat", out=tmp_path / "x")


@pytest.fixture
def store(tmp_path, graph):
    """One case with two regions."""
    data = np.random.default_rng(0).normal(size=(24, 20, 16)).astype(np.float32)
    labels = np.zeros(data.shape, dtype=np.int16)
    labels[4:10, 4:12, 4:9] = 1
    labels[14:20, 6:14, 6:11] = 2
    (tmp_path / "one.bin").write_text("one")
    names = {1: "liver 0", 2: "spleen 1"}
    source = SourceCase(
        case_id=CaseId("one"), dataset="made", modality="ct", split="train", patient_id=None, origins=(),
        load=lambda: (Image(data=data, affine=np.eye(4)), [LabelMap(data=labels, affine=np.eye(4), labels=names)]),
        files=(tmp_path / "one.bin",),
    )  # fmt: skip
    settings = PrepareSettings(spacing_mm=(1.0, 1.0, 1.0))
    prepare([source], resolver=Resolver(graph), settings=settings, out=tmp_path / "cases")
    return CaseStore.open(tmp_path / "cases")


def test_training_goes_on_from_the_imported_weights_of_both_towers(write_published, tmp_path, graph, store):
    path, base, content = write_published(channels=(4, 6), num_modalities=5)
    convert(open_source(path, base=str(base)), "run", out=tmp_path / "init")
    recipe = recipes.regions()
    recipe = replace(
        recipe, crops=CropSettings(size=(24, 16, 16)), text=replace(recipe.text, batch_size=4, max_length=32),
        train_layers=1,
        loop=replace(recipe.loop, num_steps=1, optim=replace(recipe.loop.optim, learning_rate=1e-9, weight_decay=0.0)),
    )  # fmt: skip
    with pytest.raises(SettingError, match="network of another shape"):
        train_regions(
            graph, split_concepts(graph), store, recipe, init=tmp_path / "init", out=tmp_path / "out", hashes={}
        )
    with pytest.raises(SettingError, match="network of another shape"):
        with_network_of(tmp_path / "init", recipe, asked=True)
    settings = with_network_of(tmp_path / "init", recipe, asked=False)
    assert settings.network.unet == UNetSize(channels=(4, 6), in_channels=3)
    assert settings.network.last_gelu
    train_regions(
        graph, split_concepts(graph), store, settings, init=tmp_path / "init", out=tmp_path / "out", hashes={}
    )
    trained = open_source(tmp_path / "out", base=None).published()
    started = content["model_state_dict"]
    for key, value in started.items():
        torch.testing.assert_close(trained[key], value, atol=1e-6, rtol=0, msg=key)
    moved = {key.split(".")[1] for key, value in started.items() if not torch.equal(trained[key], value)}
    assert {"atlas_tower", "projection_layer"} <= moved
    model, keys = load_region_model(tmp_path / "out")
    assert model.size == settings.network
    assert len(keys) == 2
    sources = [origin["name"] for origin in read_run(tmp_path / "out")["sources"]]
    assert "SAT-Pretrain" in sources


def test_a_text_run_leaves_the_network_to_the_recipe(tmp_path):
    convert(open_source(bundled_minilm(), base=None), "run", out=tmp_path / "run")
    assert with_network_of(tmp_path / "run", recipes.regions(), asked=True) == recipes.regions()
    assert recipes.regions().network.unet == UNET_SIZES["unet-tiny"]


def test_training_from_what_is_no_run_says_how_to_make_one(write_published):
    path, _, _ = write_published()
    for init in (path, bundled_minilm()):
        with pytest.raises(FolderError, match=f"vesalius convert {init} --to run --out NEW"):
            with_network_of(init, recipes.regions(), asked=False)


def test_damaged_region_weights_are_refused(tmp_path):
    run, _ = _own_run(tmp_path)
    whole = (run / "regions.safetensors").read_bytes()
    (run / "regions.safetensors").write_bytes(whole[:100])
    with pytest.raises(FolderError, match="cannot be read"):
        read_region_weights(run)
    (run / "regions.safetensors").write_bytes(whole)
    network = (run / "network.yaml").read_text()
    (run / "network.yaml").write_text(network.replace("width: 8", "width: 9"))
    with pytest.raises(FolderError, match=r"does not fit network\.yaml"):
        load_region_model(run)
    (run / "network.yaml").unlink()
    with pytest.raises(FolderError, match=r"a run without network\.yaml"):
        load_region_model(run)

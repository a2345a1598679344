import json
import os
import pickle
import zipfile

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from transformers import AutoConfig, AutoModel

from vesalius.errors import InputError, SettingError
from vesalius.ids import MODALITIES
from vesalius.model.sat import check_sat_file, published_tensors, region_model, segmentation_tensors
from vesalius.model.sat_file import read_sat_file
from vesalius.model.sat_text import text_tower
from vesalius.predict.embed import encode_texts

TEXTS = ["left kidney", "liver", "The RIGHT rib (12th), of a heart", "the kidney of the left"]


def _model(path, base):
    file = read_sat_file(path)
    check_sat_file(file)
    return region_model(file, text_tower(file, str(base)))


def _rewritten(path, target, old, new):
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as made:
        for member in source.infolist():
            data = source.read(member)
            made.writestr(member.filename, data.replace(old, new) if member.filename.endswith("data.pkl") else data)
    assert target.read_bytes() != path.read_bytes()
    return target


@pytest.mark.parametrize(("name", "stage", "step"), [("multimodal.pth", 2, 123), ("textual_only.pth", 1, 77)])
def test_the_published_outputs_are_reproduced(shared_data, name, stage, step):
    sat = shared_data / "sat"
    golden = np.load(sat / "golden.npz")
    texts = json.loads((sat / "golden.json").read_text())["texts"]
    file = read_sat_file(sat / name)
    assert file.describe() == f"pretraining checkpoint, text tower biolord, stage {stage}, step {step}"
    model = _model(sat / name, sat / "biolord_tiny")
    tokens = model.encoder.tokenise(texts, max_length=256)
    for ids, reference, mask in zip(tokens, golden["input_ids"], golden["attention_mask"], strict=True):
        assert ids == reference[mask.astype(bool)].tolist()
    assert model.encoder.pad_id == 0
    with torch.no_grad():
        features = encode_texts(model.encoder, texts, max_length=256)
        prompts = model.aligner.prompt_projection(features, MODALITIES)
        projected = model.aligner.prompt_projection.projection(features)
        image, masks = torch.from_numpy(golden["image"][0]), torch.from_numpy(golden["mask"][0])
        regions = model.aligner.region_projection(model.regions(image, masks))
        scale = model.aligner.logit_scale()
    for found, reference in ((features, "text"), (projected, "projected"), (prompts, "prompt")):
        np.testing.assert_allclose(found.numpy(), golden[reference], atol=1e-5)
    np.testing.assert_allclose(regions.numpy(), golden["region"][0], atol=1e-4)
    assert scale.item() == pytest.approx(golden["logit_scale"].item(), abs=1e-4)


@pytest.mark.parametrize("name", ["multimodal.pth", "textual_only.pth"])
def test_published_samples_come_out_as_they_went_in_under_either_name_of_numpys_scalar(shared_data, tmp_path, name):
    sat = shared_data / "sat"
    old = _rewritten(sat / name, tmp_path / name, b"numpy._core.multiarray", b"numpy.core.multiarray")
    model = _model(old, sat / "biolord_tiny")
    scalars = {np.dtype, np._core.multiarray.scalar, np.dtypes.Float64DType}
    with torch.serialization.safe_globals(list(scalars)):
        before = torch.load(sat / name, weights_only=True)["model_state_dict"]
    _assert_equal(before, published_tensors(model.encoder, model))


def _assert_equal(before, after):
    assert before.keys() == after.keys()
    for key in before:
        assert torch.equal(before[key], after[key]), key


def _published_text_features(state, base, tower):
    """The published forward pass in plain words: [CLS] tokens [SEP], zeros behind, pooling of the tower's kind."""
    network = AutoModel.from_config(AutoConfig.from_pretrained(base)).eval()
    prefix = f"module.text_tower.{tower}."
    network.load_state_dict({key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)})
    vocabulary = json.loads((base / "tokenizer.json").read_text())["model"]["vocab"]
    pieces = {
        "left kidney": ["left", "kid", "##ney"],
        "liver": ["liver"],
        "The RIGHT rib (12th), of a heart": ["the", "right", "rib", "(", "12", "##th", ")", ",", "of", "a", "heart"],
        "the kidney of the left": ["the", "kid", "##ney", "of", "the", "left"],
    }
    rows = [[vocabulary[token] for token in ["[CLS]", *pieces[text], "[SEP]"]] for text in TEXTS]
    ids = torch.zeros(len(rows), max(map(len, rows)), dtype=torch.long)
    for row, tokens in enumerate(rows):
        ids[row, : len(tokens)] = torch.tensor(tokens)
    mask = (ids > 0).long()
    output = network(input_ids=ids, attention_mask=mask)
    hidden = output.last_hidden_state
    if tower == "biolord":
        return (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
    return hidden[:, 0] if tower == "medcpt" else output.pooler_output


def _published_region_features(state, image, mask, *, num_stages, num_convs):
    features, pooled, weights = image[None], [], mask[None].float()
    for stage in range(num_stages):
        for conv in range(num_convs):
            place = f"module.atlas_tower.encoder.stages.{stage}.0.convs.{conv}."
            weight, bias = state[f"{place}conv.weight"], state[f"{place}conv.bias"]
            features = F.conv3d(features, weight, bias, stride=2 if stage and not conv else 1, padding=1)
            features = F.instance_norm(features, weight=state[f"{place}norm.weight"], bias=state[f"{place}norm.bias"])
            features = F.leaky_relu(features, 0.01)
        if stage:
            weights = F.max_pool3d(weights, 2)
        pooled.append(torch.stack([(features[0] * one).sum((1, 2, 3)) / one.sum() for one in weights[0]]))
    hidden = torch.cat(pooled, dim=1)
    for layer in (0, 2):
        name = f"module.atlas_tower.projection_layer.{layer}."
        hidden = F.gelu(F.linear(hidden, state[f"{name}weight"], state[f"{name}bias"]))
    return hidden


@pytest.mark.parametrize(
    ("tower", "sizes"),
    [
        ("biolord", {"width": 16, "channels": (4, 6, 8), "num_modalities": 5}),
        ("medcpt", {"width": 24, "channels": (5, 3), "num_convs": 3, "num_modalities": 4, "hidden": 9}),
        ("pubmedbert", {"width": 8, "channels": (2, 3, 4, 5), "num_convs": 1, "num_modalities": 5, "num_layers": 1}),
    ],
)
@torch.no_grad()
def test_a_checkpoint_of_any_tower_and_size_gives_what_its_layout_says(write_published, tower, sizes):
    path, base, content = write_published(tower=tower, **sizes)
    state = content["model_state_dict"]
    model = _model(path, base)
    features = encode_texts(model.encoder, TEXTS, max_length=model.encoder.max_length)
    reference = _published_text_features(state, base, tower)
    torch.testing.assert_close(features, reference, atol=1e-5, rtol=0)

    hidden = F.gelu(
        F.linear(reference, state["module.projection_layer.0.weight"], state["module.projection_layer.0.bias"])
    )
    projected = F.linear(hidden, state["module.projection_layer.2.weight"], state["module.projection_layer.2.bias"])
    modalities = MODALITIES[: sizes["num_modalities"]][-2:] * 2
    rows = state["module.modality_embed.weight"][[MODALITIES.index(modality) for modality in modalities]]
    torch.testing.assert_close(
        model.aligner.prompt_projection(features, modalities), projected + rows, atol=1e-5, rtol=1e-5
    )

    image, mask = torch.randn(3, 16, 16, 8), torch.rand(2, 16, 16, 8) > 0.8
    found = model.aligner.region_projection(model.regions(image, mask))
    expected = _published_region_features(
        state, image, mask, num_stages=len(sizes["channels"]), num_convs=sizes.get("num_convs", 2)
    )
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    _assert_equal(state, published_tensors(model.encoder, model))


def test_long_texts_are_cut_to_what_the_positions_hold(write_published):
    path, base, _ = write_published()
    encoder = text_tower(read_sat_file(path), str(base))
    (tokens,) = encoder.tokenise(["liver " * 300], max_length=encoder.max_length)
    assert len(tokens) == encoder.max_length == 38
    assert tokens[0] != tokens[-1]
    assert encode_texts(encoder, ["liver " * 300], max_length=encoder.max_length).isfinite().all()


@pytest.mark.parametrize("change", ["half", "old format", "base"])
def test_half_precision_and_the_older_file_format_are_read(write_published, change):
    def halved(content):
        state = content["model_state_dict"]
        content["model_state_dict"] = {key: tensor.half() for key, tensor in state.items()}

    path, base, content = write_published(change=halved if change == "half" else lambda _: None)
    if change == "old format":
        torch.save(content, path, _use_new_zipfile_serialization=False)
    if change == "base":
        config = json.loads((base / "config.json").read_text())
        (base / "config.json").write_text(json.dumps({**config, "dtype": "float16"}))
    model = _model(path, base)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    expected = {key: tensor.float() for key, tensor in content["model_state_dict"].items()}
    _assert_equal(expected, published_tensors(model.encoder, model))
    assert model.aligner.project_texts(encode_texts(model.encoder, TEXTS, max_length=38), ["ct"] * 4).isfinite().all()


def test_numpys_old_and_new_scalars_load_and_nothing_else_of_numpy(write_published, tmp_path):
    path, _, _ = write_published()
    assert read_sat_file(path).step == 7
    old = _rewritten(path, tmp_path / "old.pth", b"numpy._core.multiarray", b"numpy.core.multiarray")
    assert read_sat_file(old).step == 7
    other = _rewritten(path, tmp_path / "other.pth", b"numpy._core.multiarray\nscalar", b"numpy.ma.core\narray")
    with pytest.raises(InputError, match=r"numpy\.ma\.core\.array"):
        read_sat_file(other)


def test_a_numpy_object_is_no_number(write_published):
    def objects(content):
        content["lr"] = np.array([{"a": 1}], dtype=object)

    path, _, _ = write_published(change=objects)
    with pytest.raises(InputError, match="only running code could make"):
        read_sat_file(path)


class Malicious:
    def __reduce__(self):
        return os.mkdir, (os.environ["VESALIUS_TEST_TRAP"],)


@pytest.mark.parametrize("how", ["torch", "pickle", "optimizer"])
def test_code_in_a_checkpoint_is_not_run(write_published, tmp_path, monkeypatch, how):
    trap = tmp_path / "trap"
    monkeypatch.setenv("VESALIUS_TEST_TRAP", str(trap))
    if how == "pickle":
        path = tmp_path / "bare.pth"
        path.write_bytes(pickle.dumps({"model_state_dict": Malicious()}, protocol=2))
    else:
        place = "optimizer_state_dict" if how == "optimizer" else "model_state_dict"
        path, _, _ = write_published(change=lambda content: content.update({place: Malicious()}))
    with pytest.raises(InputError, match=r"holds the Python object \w+\.mkdir.*nothing was run"):
        read_sat_file(path)
    assert not trap.exists()


def _without(key):
    return lambda content: content["model_state_dict"].pop(key)


def _with(key, value):
    return lambda content: content["model_state_dict"].update({key: value})


BLOCK = "module.atlas_tower.encoder.stages.1.0.convs.0."


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.pop("model_state_dict"), "without 'model_state_dict'"),
        (lambda c: c.update(model_state_dict=[1, 2]), "without 'model_state_dict'"),
        (_with("module.backbone.encoder.stages.0.weight", torch.ones(2)), "a segmentation checkpoint"),
        (_with("module.text_tower.medcpt.pooler.bias", torch.ones(2)), "text towers biolord, medcpt"),
        (_with("module.stranger.weight", torch.ones(2)), "stranger.weight has no place"),
        (_with("module.text_tower.biolord.stranger", torch.ones(2)), "stranger has no place"),
        (_with("module.temperature", "warm"), "is no tensor of weights"),
        (_with("module.temperature", torch.tensor(3)), "is no tensor of weights"),
        (_with("module.temperature", torch.ones(3)), r"temperature has shape \(3,\)"),
        (_without("module.temperature"), "temperature is missing"),
        (_without("module.projection_layer.0.weight"), "projection_layer.0.weight is missing"),
        (_without("module.text_tower.biolord.encoder.layer.0.output.dense.bias"), "layer.0.output.dense.bias is missing"),
        (_with("module.projection_layer.2.weight", torch.ones(16, 5)), r"projection_layer.2.weight has shape \(16, 5\)"),
        (_with("module.projection_layer.0.weight", torch.ones(12, 5)), r"projection_layer.0.weight has shape \(12, 5\)"),
        (_with("module.modality_embed.weight", torch.ones(6, 16)), "6 modalities"),
        (_with("module.modality_embed.weight", torch.ones(0, 16)), r"has shape \(0, 16\)"),
        (_with("module.modality_embed.weight", torch.ones(16)), "where 2 axes are expected"),
        (_with(f"{BLOCK}all_modules.1.bias", torch.ones(6)), f"two different values of {BLOCK[7:]}norm.bias"),
        (_with("module.atlas_tower.projection_layer.0.weight", torch.ones(12, 7)), r"has shape \(12, 7\)"),
        (_with("module.text_tower.biolord.encoder.layer.1.output.dense.weight", torch.ones(16, 7)), r"\(16, 7\)"),
        (_with("module.atlas_tower.encoder.stages.4.0.convs.0.conv.weight", torch.ones(4, 8, 3, 3, 3)), "numbered through"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_by_name(write_published, change, message):
    path, _, _ = write_published(change=change)
    with pytest.raises(InputError, match=message) as caught:
        check_sat_file(read_sat_file(path))
    assert str(path) in str(caught.value)
    assert caught.value.remedy


def test_an_unknown_text_tower_is_refused(write_published):
    def rename(content):
        state = content["model_state_dict"]
        content["model_state_dict"] = {key.replace(".biolord.", ".clip."): value for key, value in state.items()}

    path, _, _ = write_published(change=rename)
    with pytest.raises(InputError, match="text tower 'clip'"):
        check_sat_file(read_sat_file(path))


def test_a_truncated_file_is_refused(write_published):
    path, _, _ = write_published()
    whole = path.read_bytes()
    for length in (10, len(whole) // 2, len(whole) - 5):
        path.write_bytes(whole[:length])
        with pytest.raises(InputError, match="truncated"):
            read_sat_file(path)


@pytest.mark.parametrize("content", [b"", b"rubbish", b"\x80\x02}q\x00.", b"\x80\x02K\x01.", b"\x80\x02N}a."])
def test_a_file_that_is_no_checkpoint_is_refused(tmp_path, content):
    path = tmp_path / "x.pth"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"no PyTorch checkpoint|without 'model_state_dict'"):
        read_sat_file(path)
    path.rename(tmp_path / "x.safetensors")
    with pytest.raises(InputError, match="no safetensors file"):
        read_sat_file(tmp_path / "x.safetensors")


def test_position_ids_are_ignored(write_published):
    ids = torch.arange(40)[None]
    path, base, content = write_published(change=_with("module.text_tower.biolord.embeddings.position_ids", ids))
    model = _model(path, base)
    del content["model_state_dict"]["module.text_tower.biolord.embeddings.position_ids"]
    _assert_equal(content["model_state_dict"], published_tensors(model.encoder, model))


def test_without_losses_the_norms_tell_the_stage(write_published):
    def bare(content):
        del content["text_loss"], content["atlas_loss"]

    def untrained(content):
        bare(content)
        for key, value in content["model_state_dict"].items():
            if key.endswith(("norm.weight", "all_modules.1.weight")):
                value.fill_(1)

    assert read_sat_file(write_published(change=bare)[0]).stage == 2
    assert read_sat_file(write_published(change=untrained)[0]).stage == 1
    assert read_sat_file(write_published(atlas_loss=False)[0]).stage == 1


def test_a_base_that_is_another_model_is_refused(write_published, tmp_path):
    path, base, _ = write_published()
    file = read_sat_file(path)
    with pytest.raises(InputError, match="no model folder"):
        text_tower(file, str(tmp_path / "nowhere"))
    _, other, _ = write_published("other.pth", width=24)
    with pytest.raises(InputError, match="hidden_size is 24 there, but 16"):
        text_tower(file, str(other))
    _, bert, _ = write_published("bert.pth", tower="medcpt")
    with pytest.raises(InputError, match="model_type is 'bert' there"):
        text_tower(file, str(bert))
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps({**config, "num_attention_heads": 2}))
    with pytest.raises(InputError, match="num_attention_heads is 2 there, but 4"):
        text_tower(file, str(base))
    (base / "config.json").write_text("{")
    with pytest.raises(InputError, match="cannot be loaded"):
        text_tower(file, str(base))


def test_a_base_with_another_vocabulary_is_refused(write_published, tmp_path):
    path, base, _ = write_published()
    tokenizer = json.loads((base / "tokenizer.json").read_text())
    tokenizer["model"]["vocab"]["extra"] = 99
    (base / "tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(InputError, match="ids up to 99"):
        text_tower(read_sat_file(path), str(base))


def test_a_modality_without_an_embedding_is_refused(write_published):
    path, base, _ = write_published(num_modalities=4)
    model = _model(path, base)
    with pytest.raises(SettingError, match="no embedding of modality 'microscopy'"):
        model.aligner.project_texts(torch.randn(1, 16), ["microscopy"])


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({}, "biolord text tower of width 16"),
        ({"tower": "medcpt", "width": 768}, "kind medcpt"),
        ({"tower": "pubmedbert"}, "kind pubmedbert"),
        ({"width": 768, "hidden": 12}, "projection_layer.0.weight of shape"),
        ({"width": 768, "hidden": 768, "num_modalities": 3}, "3 modalities"),
    ],
)
def test_what_the_segmentation_code_cannot_load_is_refused_by_name(write_published, sizes, message):
    _, _, content = write_published(num_layers=1, **sizes)
    with pytest.raises(SettingError, match=message):
        segmentation_tensors(content["model_state_dict"])

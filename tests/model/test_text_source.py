"""Encoders by name: sentence-transformers folders, and plain transformers with the pooling each needs."""

import shutil

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
from transformers import AutoConfig, AutoModel, AutoTokenizer, BertConfig, BertModel, RobertaConfig, RobertaModel

from vesalius.errors import InputError, SettingError
from vesalius.model.sat_text import TOWER_KINDS
from vesalius.model.text_encoder import TextEncoder
from vesalius.model.text_source import HUB, load_text_encoder, pooling_for
from vesalius.predict.embed import embed_prompts, embed_texts, encode_texts

TEXTS = ["kidney", "the left kidney of the liver", "heart , rib 12"]


@pytest.fixture
def plain(write_published, tmp_path):
    """Writes a plain transformer of random weights, as the hub's folders are: config, weights, tokenizer."""

    def write(tower):
        _, base, _ = write_published(f"{tower}.pth", tower=tower)
        torch.manual_seed(1)
        AutoModel.from_config(AutoConfig.from_pretrained(base)).save_pretrained(base)
        return base

    return write


@pytest.mark.parametrize(("tower", "pooling"), [("biolord", "mean"), ("medcpt", "cls"), ("pubmedbert", "pooler")])
@torch.no_grad()
def test_a_plain_transformer_gives_what_its_library_gives_under_its_pooling(plain, tower, pooling):
    folder = plain(tower)
    network, tokenizer = AutoModel.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    expected = []
    for text in TEXTS:
        out = network(**tokenizer([text], return_tensors="pt"))
        pooled = {
            "mean": out.last_hidden_state[0].mean(dim=0), "cls": out.last_hidden_state[0, 0], "pooler": out.pooler_output[0],
        }  # fmt: skip
        expected.append(pooled[pooling])
    encoder = load_text_encoder(folder, pooling=pooling)
    torch.testing.assert_close(encode_texts(encoder, TEXTS, max_length=30), torch.stack(expected), rtol=1e-5, atol=1e-6)


def test_a_plain_transformer_is_saved_as_a_folder_that_knows_its_pooling(plain, tmp_path):
    encoder = load_text_encoder(plain("pubmedbert"), pooling="pooler")
    encoder.save(tmp_path / "saved")
    again = load_text_encoder(tmp_path / "saved")
    assert (embed_texts(again, TEXTS, max_length=30) == embed_texts(encoder, TEXTS, max_length=30)).all()


def test_no_more_tokens_are_read_than_there_are_positions(plain):
    assert load_text_encoder(plain("medcpt"), pooling="cls").max_length == 40
    assert load_text_encoder(plain("biolord"), pooling="mean").max_length == 38


def test_no_more_tokens_are_read_than_positions_follow_the_padding_tokens(plain, tmp_path):
    folder = plain("medcpt")
    config = RobertaConfig(
        vocab_size=60, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        max_position_embeddings=40, pad_token_id=1,
    )  # fmt: skip
    RobertaModel(config).save_pretrained(folder)
    modules = [Transformer(str(folder)), Pooling(16, pooling_mode="mean")]
    SentenceTransformer(modules=modules, device="cpu").save(str(tmp_path / "saved"), create_model_card=False)
    encoder = TextEncoder.load(tmp_path / "saved")
    assert encoder.max_length == 38
    assert np.isfinite(embed_prompts(encoder, ["liver " * 300])).all()


@pytest.mark.parametrize("pooling", ["mean", "pooler"])
def test_weights_of_half_precision_become_those_of_full(plain, tmp_path, pooling):
    folder = plain("pubmedbert")
    expected = embed_texts(load_text_encoder(folder, pooling=pooling), TEXTS, max_length=30)
    AutoModel.from_pretrained(folder).bfloat16().save_pretrained(folder)
    encoder = load_text_encoder(folder, pooling=pooling)
    assert {parameter.dtype for parameter in encoder.parameters()} == {torch.float32}
    np.testing.assert_allclose(embed_texts(encoder, TEXTS, max_length=30), expected, atol=0.02)
    encoder.save(tmp_path / "saved")
    again = TextEncoder.load(tmp_path / "saved")
    assert (embed_texts(again, TEXTS, max_length=30) == embed_texts(encoder, TEXTS, max_length=30)).all()


def test_a_plain_transformer_without_a_pooling_is_refused(plain):
    with pytest.raises(
        SettingError, match=r"does not say .* name the pooling it was trained with: mean, cls or pooler"
    ):
        load_text_encoder(plain("medcpt"))


def test_a_pooling_beside_a_models_own_is_refused(tiny_encoder):
    assert isinstance(load_text_encoder(tiny_encoder), TextEncoder)
    with pytest.raises(SettingError, match="pooling 'cls' has no effect"):
        load_text_encoder(tiny_encoder, pooling="cls")


def test_a_pooler_that_would_be_random_is_refused(tiny_encoder, tmp_path):
    config = BertConfig(vocab_size=60, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16)
    shutil.copytree(tiny_encoder, tmp_path / "plain")
    (tmp_path / "plain" / "modules.json").unlink()
    BertModel(config, add_pooling_layer=False).save_pretrained(tmp_path / "plain")
    with pytest.raises(SettingError, match="its files hold no pooler"):
        load_text_encoder(tmp_path / "plain", pooling="pooler")


def test_folders_that_hold_no_encoder_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"no encoder folder \(no modules.json, no config.json\).*hub:OWNER/NAME"):
        load_text_encoder(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(InputError, match="cannot be loaded"):
        load_text_encoder(tmp_path, pooling="mean")
    (tmp_path / "modules.json").write_text("rubbish")
    with pytest.raises(InputError, match="cannot be loaded"):
        load_text_encoder(tmp_path)


def test_what_is_known_of_hub_models_is_what_their_towers_pool_by():
    for name in ("medcpt", "pubmedbert"):
        assert pooling_for(HUB + TOWER_KINDS[name].hub, None) == TOWER_KINDS[name].pooling
    assert pooling_for("hub:ncbi/MedCPT-Query-Encoder", "mean") == "mean"
    with pytest.raises(SettingError, match="name the pooling"):
        pooling_for("hub:owner/unknown", None)

import pytest
import torch
from sentence_transformers import SentenceTransformer
from transformers import AutoConfig, AutoModel

from vesalius.errors import InputError
from vesalius.model.packed import ARCHITECTURES, equal_runs, last_hidden_states
from vesalius.model.text_encoder import TextEncoder

OTHER = "electra"


def _network(model_type):
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 24}
    config = AutoConfig.for_model(
        model_type, vocab_size=50, max_position_embeddings=40, initializer_range=0.5, pad_token_id=1, **sizes
    )
    return AutoModel.from_config(config).eval().double()


def _texts(lengths, *, with_padding_id=False):
    torch.manual_seed(1)
    texts = [torch.randint(2, 50, (length,)) for length in lengths]
    if with_padding_id:
        texts[-1][2] = 1
    return texts


def _padded(network, texts):
    ids = torch.nn.utils.rnn.pad_sequence(texts, batch_first=True, padding_value=1)
    mask = torch.nn.utils.rnn.pad_sequence([torch.ones_like(text) for text in texts], batch_first=True)
    return network(input_ids=ids, attention_mask=mask).last_hidden_state[mask.bool()]


@pytest.mark.parametrize("with_padding_id", [False, True])
@pytest.mark.parametrize("model_type", [*ARCHITECTURES, OTHER])
def test_tokens_behind_one_another_have_the_states_and_gradients_of_a_padded_batch(model_type, with_padding_id):
    network = _network(model_type)
    lengths = [1, 3, 3, 8, 30]
    texts = _texts(lengths, with_padding_id=with_padding_id)
    found = last_hidden_states(network, torch.cat(texts), lengths)
    expected = _padded(network, texts)
    torch.testing.assert_close(found, expected, atol=1e-12, rtol=1e-10)
    weights = torch.randn_like(expected)
    used = [parameter for name, parameter in network.named_parameters() if "pooler" not in name]
    gradients = [torch.autograd.grad((states * weights).sum(), used) for states in (found, expected)]
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-10, rtol=1e-8)


def test_the_order_of_the_texts_and_their_neighbours_are_irrelevant():
    network = _network("mpnet")
    texts = _texts([5, 2, 5, 2, 9])
    whole = last_hidden_states(network, torch.cat(texts), [5, 2, 5, 2, 9]).split([5, 2, 5, 2, 9])
    for text, found in zip(texts, whole, strict=True):
        torch.testing.assert_close(last_hidden_states(network, text, [len(text)]), found, atol=1e-12, rtol=1e-10)


def test_frozen_layers_leave_nothing_behind_for_the_way_back():
    network = _network("bert").requires_grad_(requires_grad=False)
    network.encoder.layer[2].requires_grad_(requires_grad=True)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(
        lambda tensor: kept.append(tensor.shape) or tensor, lambda held: held
    ):
        states = last_hidden_states(network, torch.cat(_texts([4, 7])), [4, 7])
    num_kept = len(kept)
    assert states.requires_grad
    network.encoder.layer[0].requires_grad_(requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(
        lambda tensor: kept.append(tensor.shape) or tensor, lambda held: held
    ):
        last_hidden_states(network, torch.cat(_texts([4, 7])), [4, 7])
    assert len(kept) - num_kept > 2 * num_kept


def test_runs_are_of_neighbours_of_equal_length():
    assert equal_runs([2, 2, 5, 2]) == [(2, 2), (1, 5), (1, 2)]
    assert equal_runs([]) == []


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_an_encoder_gives_the_features_of_a_padded_batch(tiny_encoder, pooling):
    encoder = TextEncoder(SentenceTransformer(str(tiny_encoder), device="cpu"))
    encoder.pooling_mode = pooling
    texts = _texts([3, 3, 6, 20])
    ids = torch.nn.utils.rnn.pad_sequence(texts, batch_first=True)
    mask = torch.nn.utils.rnn.pad_sequence([torch.ones_like(text) for text in texts], batch_first=True)
    with torch.no_grad():
        found, expected = encoder.encode(torch.cat(texts), [3, 3, 6, 20]), encoder(ids, mask)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-6)
    with pytest.raises(InputError, match="without tokens"):
        encoder.encode(texts[0], [0, 3])

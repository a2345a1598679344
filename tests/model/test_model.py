import math

import pytest
import torch
import torch.nn.functional as F
from sentence_transformers import SentenceTransformer

from vesalius.errors import InputError
from vesalius.model.aligner import LogitScale
from vesalius.model.loss import contrastive_loss
from vesalius.model.text_encoder import TextEncoder, bundled_minilm
from vesalius.predict.embed import embed_texts, encode_texts


@pytest.fixture(scope="module")
def minilm():
    return TextEncoder.load(bundled_minilm())


def _loss(left, right, *, scale=10.0, positives=None, ignored=None):
    positives = torch.eye(len(left), dtype=torch.bool) if positives is None else positives
    return contrastive_loss(left, right, logit_scale=torch.tensor(scale), positives=positives, ignored=ignored)


@pytest.mark.parametrize("num", [2, 7, 128])
def test_the_loss_of_indistinguishable_embeddings_is_log_n(num):
    same = F.normalize(torch.ones(num, 5), dim=-1)
    assert _loss(same, same).item() == pytest.approx(math.log(num), abs=1e-5)


def test_batch_order_is_irrelevant_to_the_loss():
    torch.manual_seed(0)
    left, right = (F.normalize(torch.randn(12, 6), dim=-1) for _ in range(2))
    positives = torch.eye(12, dtype=torch.bool)
    positives[0, 3] = positives[3, 0] = True
    order = torch.randperm(12)
    shuffled = _loss(left[order], right[order], positives=positives[order][:, order])
    assert shuffled.item() == pytest.approx(_loss(left, right, positives=positives).item(), abs=1e-6)


def test_ignored_pairs_have_no_gradient():
    left = F.normalize(torch.randn(3, 4), dim=-1)
    right = F.normalize(torch.randn(3, 4), dim=-1).requires_grad_()
    ignored = torch.zeros(3, 3, dtype=torch.bool)
    ignored[:2, 2] = True
    ignored[2, :2] = True
    _loss(left[:2], right, positives=torch.eye(3, dtype=torch.bool)[:2], ignored=ignored[:2]).backward()
    assert right.grad[2].abs().max() == 0


def _plain_loss(left, right, scale, positives, ignored):
    logits = (scale * left @ right.T).masked_fill(ignored, -torch.inf)
    losses = []
    for values, right_ones in ((logits, positives), (logits.T, positives.T)):
        counted = right_ones.any(dim=1)
        chances = (values[counted].softmax(dim=1) * right_ones[counted]).sum(dim=1)
        losses.append(-chances.log().mean())
    return sum(losses) / 2


@pytest.mark.parametrize("max_logits", [1, 100, 2**22])
def test_blocks_of_rows_give_the_loss_and_the_gradients_of_all_logits_at_once(monkeypatch, max_logits):
    monkeypatch.setattr("vesalius.model.loss.MAX_LOGITS", max_logits)
    torch.manual_seed(0)
    inputs = [F.normalize(torch.randn(num, 6), dim=-1).requires_grad_() for num in (30, 20)]
    inputs.append(torch.tensor(9.0, requires_grad=True))
    positives = torch.rand(30, 20) < 0.06
    ignored = (torch.rand(30, 20) < 0.2) & ~positives
    assert positives.any(dim=1).sum() < 30, "some rows have no positive"
    found = contrastive_loss(*inputs[:2], logit_scale=inputs[2], positives=positives, ignored=ignored)
    expected = _plain_loss(*inputs, positives, ignored)
    torch.testing.assert_close(found, expected, atol=0, rtol=1e-6)
    for ours, theirs in zip(
        torch.autograd.grad(3 * found, inputs), torch.autograd.grad(3 * expected, inputs), strict=True
    ):
        torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-5)
    with torch.no_grad():
        again = contrastive_loss(*inputs[:2], logit_scale=inputs[2], positives=positives, ignored=ignored)
    assert again == found


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_loss_of_half_precision_at_the_largest_scale_is_that_of_its_values_in_full(dtype):
    torch.manual_seed(0)
    left, right = (F.normalize(torch.randn(40, 8), dim=-1).to(dtype) for _ in range(2))
    eye = torch.eye(40, dtype=torch.bool)
    found = contrastive_loss(left, right, logit_scale=torch.tensor(100.0), positives=eye)
    expected = _plain_loss(left.double(), right.double(), 100.0, eye, ~eye & False)
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)
    with torch.autocast("cpu", torch.bfloat16):
        inside = contrastive_loss(left, right, logit_scale=torch.tensor(100.0), positives=eye)
    assert inside == found


def test_the_loss_is_finite_at_the_largest_scale_in_half_precision():
    left = F.normalize(torch.randn(64, 16), dim=-1).bfloat16().requires_grad_()
    loss = _loss(left, -left.detach(), scale=100.0)
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(left.grad).all()


def test_grouped_texts_have_the_features_of_one_padded_batch(minilm):
    texts = ["liver", "the left kidney, an organ behind the peritoneum", "T12", "liver"]
    grouped = embed_texts(minilm, texts, max_length=64)
    reference = SentenceTransformer(str(bundled_minilm()), device="cpu").encode(texts)
    torch.testing.assert_close(torch.from_numpy(grouped), torch.from_numpy(reference), atol=1e-5, rtol=1e-5)
    assert encode_texts(minilm, [], max_length=8).shape == (0, minilm.width)


def test_a_saved_encoder_gives_the_same_features(minilm, tmp_path):
    minilm.save(tmp_path / "encoder")
    again = SentenceTransformer(str(tmp_path / "encoder"), device="cpu").encode(["portal vein"])
    torch.testing.assert_close(
        torch.from_numpy(again), torch.from_numpy(embed_texts(minilm, ["portal vein"], max_length=64))
    )


def test_a_weight_is_kept_once(minilm):
    tensors = list(minilm.state_dict().values())
    assert len({tensor.data_ptr() for tensor in tensors}) == len(tensors)


@pytest.mark.parametrize(("beyond", "limit"), [(5.0, 100.0), (-0.5, 1.0)])
def test_a_multiplier_brought_back_to_its_range_has_a_gradient(beyond, limit):
    scale = LogitScale()
    scale.log_logit_scale.data.fill_(beyond)
    scale.keep_in_range()
    scale().backward()
    assert scale().item() == pytest.approx(limit)
    assert scale.log_logit_scale.grad.item() == pytest.approx(limit)


def test_a_folder_without_an_encoder_is_refused(tmp_path):
    with pytest.raises(InputError, match="no sentence-transformers folder"):
        TextEncoder.load(tmp_path)

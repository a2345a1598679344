import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from vesalius.model import pooling
from vesalius.model.pooling import halve, mean_over_masks

GRIDS = st.tuples(*[st.integers(1, 9)] * 3)


def repeat_multiply_sum(features, masks):
    weights = masks.to(features.dtype)[:, None]
    return (features.repeat(len(masks), 1, 1, 1, 1) * weights).sum((2, 3, 4)) / weights.sum((2, 3, 4)).clamp(min=1)


def value_and_gradient(pool, features, masks):
    features = features.detach().requires_grad_()
    means = pool(features, masks)
    direction = torch.linspace(-1, 2, means.numel(), dtype=means.dtype).view(means.shape)
    return means, *torch.autograd.grad((means * direction).sum(), features)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last_3d], ids=str)
@given(grid=GRIDS, num_masks=st.integers(1, 5), share=st.sampled_from([0.0, 0.1, 0.6, 1.0]), seed=st.integers(0, 9))
@settings(max_examples=20, deadline=None)
def test_means_and_gradients_are_those_of_repeat_multiply_sum(layout, grid, num_masks, share, seed):
    torch.manual_seed(seed)
    features = torch.randn(1, 3, *grid).contiguous(memory_format=layout)[0]
    masks = torch.rand(num_masks, *grid) < share
    found, expected = (value_and_gradient(pool, features, masks) for pool in (mean_over_masks, repeat_multiply_sum))
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-6)


def test_a_map_in_many_pieces_has_the_same_means(monkeypatch):
    features, masks = torch.randn(4, 7, 6, 5, dtype=torch.float64), torch.rand(3, 7, 6, 5) > 0.4
    whole = value_and_gradient(mean_over_masks, features, masks)
    monkeypatch.setattr(pooling, "_PIECE_BYTES", {"cpu": 200})
    torch.testing.assert_close(value_and_gradient(mean_over_masks, features, masks), whole, rtol=1e-12, atol=1e-12)


def test_a_map_of_any_layout_has_the_same_means_and_gradient():
    features, masks = torch.randn(5, 4, 3, 7).transpose(0, 2)[:, ::2], torch.rand(2, 2, 5, 7) > 0.4
    found, expected = (value_and_gradient(pool, features, masks) for pool in (mean_over_masks, repeat_multiply_sum))
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)


def test_a_mean_over_many_voxels_is_right_to_a_millionth():
    torch.manual_seed(0)
    features, masks = torch.rand(4, 60, 60, 61), torch.ones(1, 60, 60, 61, dtype=torch.bool)
    exact = features.double().mean((1, 2, 3))[None]
    torch.testing.assert_close(mean_over_masks(features, masks).double(), exact, rtol=1e-6, atol=0)


def test_the_mean_over_a_mask_is_the_mean_of_its_voxels():
    features, masks = torch.randn(4, 3, 5, 2), torch.rand(6, 3, 5, 2) > 0.5
    masks[:, 0, 0, 0] = True
    masks[5] = False
    found = mean_over_masks(features, masks)
    for row in range(5):
        torch.testing.assert_close(found[row], features[:, masks[row]].mean(dim=1))
    assert found[5].abs().max() == 0


def test_means_have_the_gradient_of_finite_differences():
    features = torch.randn(2, 3, 2, 4, dtype=torch.float64, requires_grad=True)
    masks = torch.rand(3, 3, 2, 4) > 0.5
    assert torch.autograd.gradcheck(lambda given: mean_over_masks(given, masks), (features,))


def test_means_of_half_precision_are_summed_in_float32():
    features = torch.ones(2, 20, 20, 20, dtype=torch.bfloat16)
    means = mean_over_masks(features, torch.ones(1, 20, 20, 20, dtype=torch.bool))
    assert means.dtype == torch.float32
    assert torch.equal(means, torch.ones(1, 2))


def test_only_the_masks_and_their_sizes_are_kept_for_the_gradient():
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(
        lambda tensor: kept.append((tensor.dtype, tuple(tensor.shape))) or tensor, lambda tensor: tensor
    ):
        mean_over_masks(torch.randn(2, 3, 3, 3, requires_grad=True), torch.ones(1, 3, 3, 3, dtype=torch.bool))
    assert kept == [(torch.bool, (1, 27)), (torch.float32, (1, 1))]


@given(grid=GRIDS, seed=st.integers(0, 9))
@settings(max_examples=20, deadline=None)
def test_halved_masks_are_those_of_max_pooling(grid, seed):
    torch.manual_seed(seed)
    masks = torch.rand(2, *grid) > 0.8
    before = masks.clone()
    expected = F.max_pool3d(masks.float()[None], kernel_size=2, ceil_mode=True)[0].bool()
    assert torch.equal(halve(masks), expected)
    assert torch.equal(masks, before)

"""The region encoder against the published form, as plain modules: convolution, norm, leaky ReLU; repeat, multiply, sum."""

import pytest
import torch
import torch.nn.functional as F

from vesalius.errors import SettingError
from vesalius.model import blocks
from vesalius.model.blocks import NEGATIVE_SLOPE, pool_and_convolve
from vesalius.model.region_encoder import UNET_SIZES, RegionEncoder, UNetSize

SIZES = {
    "as published": UNetSize(channels=(4, 6, 8), in_channels=3),
    "one convolution a stage": UNetSize(channels=(4, 5), convs_per_stage=1),
    "three convolutions a stage": UNetSize(channels=(3, 5), convs_per_stage=3, in_channels=3),
}


def plain(encoder, image, masks):
    """Works the features out without any of the encoder's own code, from its weights."""
    features = image.expand(1, encoder.size.in_channels, *image.shape[-3:])
    weights, means = masks.to(image.dtype), []
    for index, stage in enumerate(encoder.stages):
        for block in stage[0].convs:
            features = F.leaky_relu(block.norm(block.conv(features)), NEGATIVE_SLOPE)
        if index > 0:
            weights = F.max_pool3d(weights[None], kernel_size=2, ceil_mode=True)[0]
        products = features.repeat(len(masks), 1, 1, 1, 1) * weights[:, None]
        means.append(products.sum((2, 3, 4)) / weights.sum((1, 2, 3)).clamp(min=1)[:, None])
    return torch.cat(means, dim=1)


def make(size, *, shape=(9, 12, 7), dtype=torch.float64, **how):
    """Gives an encoder whose affine parameters are not at their start, an image, and overlapping, empty and full masks."""
    torch.manual_seed(0)
    encoder = RegionEncoder(size, **how).to(dtype)
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    masks = torch.rand(5, *shape) > 0.7
    masks[1], masks[2] = False, True
    return encoder, torch.randn(shape, dtype=dtype), masks


def gradients(encoder, features, *others):
    torch.manual_seed(1)
    return torch.autograd.grad((features * torch.randn_like(features)).sum(), [*others, *encoder.parameters()])


@pytest.mark.parametrize("checkpointing", [False, True], ids=["kept", "made again"])
@pytest.mark.parametrize("shape", [(9, 12, 7), (24, 5, 17)], ids=str)
@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
def test_features_and_all_gradients_are_those_of_plain_modules(size, shape, checkpointing):
    encoder, image, masks = make(size, shape=shape, checkpointing=checkpointing)
    ours, theirs = encoder(image, masks), plain(encoder, image, masks)
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(gradients(encoder, ours), gradients(encoder, theirs), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("numbers", [1, 400, 2000])
@pytest.mark.parametrize("shape", [(9, 12, 7), (24, 5, 17)], ids=str)
def test_maps_taken_in_slabs_give_the_same_gradients(monkeypatch, shape, numbers):
    encoder, image, masks = make(SIZES["as published"], shape=shape)
    whole = gradients(encoder, encoder(image, masks))
    monkeypatch.setattr(blocks, "_SLAB", numbers)
    torch.testing.assert_close(gradients(encoder, encoder(image, masks)), whole, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
def test_an_image_may_have_gradients_and_channels_of_its_own(size):
    encoder, image, masks = make(size)
    image = image.repeat(size.in_channels, 1, 1, 1)
    image = (image * torch.linspace(1, 2, size.in_channels, dtype=image.dtype)[:, None, None, None]).requires_grad_()
    found, expected = (gradients(encoder, f(image, masks), image) for f in (encoder, lambda a, b: plain(encoder, a, b)))
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)


def test_float32_is_as_near_as_rounding_allows():
    encoder, image, masks = make(UNET_SIZES["unet-tiny"], shape=(33, 20, 18), dtype=torch.float32)
    torch.testing.assert_close(encoder(image, masks), plain(encoder, image, masks), rtol=1e-5, atol=1e-5)


class Block(torch.nn.Module):
    """One step of the encoder: its parameters can be exchanged by `functional_call`."""

    def __init__(self, *, masks, with_next):
        super().__init__()
        self.norm = torch.nn.InstanceNorm3d(2, affine=True).double()
        self.conv = torch.nn.Conv3d(2, 3, 3, stride=2, padding=1).double() if with_next else None
        self.masks = masks

    def forward(self, features):
        given = pool_and_convolve(features, norm=self.norm, masks=self.masks, conv=self.conv)
        return tuple(tensor for tensor in given if tensor is not None)


@pytest.mark.parametrize(("with_masks", "with_next"), [(False, True), (True, False), (True, True)])
def test_a_block_has_the_gradient_of_finite_differences(with_masks, with_next):
    torch.manual_seed(0)
    block = Block(masks=torch.rand(3, 3 * 4 * 3) > 0.5 if with_masks else None, with_next=with_next)
    names, values = zip(*block.named_parameters(), strict=True)
    features = torch.randn(1, 2, 3, 4, 3, dtype=torch.float64).contiguous(memory_format=torch.channels_last_3d)

    def run(features, *values):
        return torch.func.functional_call(block, dict(zip(names, values, strict=True)), (features,))

    values = [value.detach() + 0.3 for value in values]
    assert torch.autograd.gradcheck(run, tuple(given.requires_grad_() for given in (features, *values)))


def test_one_map_is_kept_for_each_convolution_and_none_with_gradients_off():
    size = UNetSize(channels=(8, 8), in_channels=3)
    encoder, image, masks = make(size, shape=(16, 16, 16), dtype=torch.float32)
    kept = []

    def pack(tensor):
        if (
            tensor.is_floating_point()
            and tensor.numel() >= 8 * 8**3
            and tensor.shape[1:2] == (8,)
            and tensor.shape[0] == 1
        ):
            kept.append(tuple(tensor.shape[2:]))
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        encoder(image, masks)
        assert kept == [(16, 16, 16)] * 2 + [(8, 8, 8)] * 2
        kept.clear()
        with torch.no_grad():
            features = encoder(image, masks)
    assert kept == []
    assert features.grad_fn is None
    torch.testing.assert_close(features, encoder(image, masks).detach())


def test_with_gradients_off_the_image_is_left_as_it_was():
    encoder, image, masks = make(UNetSize(channels=(4, 4)))
    before = image.clone()
    with torch.no_grad():
        encoder(image, masks)
    assert torch.equal(image, before)


@pytest.mark.parametrize("checkpointing", [False, True], ids=["kept", "made again"])
def test_under_autocast_features_stay_near_and_gradients_have_the_parameters_precision(checkpointing):
    encoder, image, masks = make(
        UNetSize(channels=(4, 6), in_channels=3), dtype=torch.float32, checkpointing=checkpointing
    )
    with torch.autocast("cpu", torch.bfloat16):
        features = encoder(image, masks)
    assert features.dtype == torch.float32
    torch.testing.assert_close(features, plain(encoder, image, masks), rtol=0.1, atol=0.05)
    assert all(found.dtype == torch.float32 and found.isfinite().all() for found in gradients(encoder, features))


def test_parameters_have_the_published_names():
    names = set(RegionEncoder(UNetSize(channels=(4, 6), in_channels=3)).state_dict())
    assert names == {
        f"stages.{stage}.0.convs.{conv}.{name}"
        for stage in (0, 1)
        for conv in (0, 1)
        for name in ("conv.weight", "conv.bias", "norm.weight", "norm.bias")
    }


def test_other_regions_do_not_change_a_region():
    encoder = RegionEncoder(UNET_SIZES["unet-tiny"])
    image, masks = torch.randn(33, 32, 40), torch.rand(3, 33, 32, 40) > 0.7
    torch.testing.assert_close(encoder(image, masks)[1:2], encoder(image, masks[1:2]), atol=1e-5, rtol=1e-4)


def test_no_masks_give_no_features():
    encoder, image, _ = make(UNetSize(channels=(4, 6)))
    features = encoder(image, torch.zeros(0, *image.shape, dtype=torch.bool))
    assert features.shape == (0, 10)
    assert all(found.abs().max() == 0 for found in gradients(encoder, features))


def test_an_image_of_one_voxel_at_the_coarsest_stage_is_refused():
    encoder, image, masks = make(UNetSize(channels=(4, 6, 8)), shape=(4, 4, 3))
    with pytest.raises(SettingError, match="more than 4 voxels"):
        encoder(image, masks)

"""Random windows of long texts."""

import numpy as np
import pytest

from vesalius.errors import SettingError
from vesalius.model.text_encoder import TextEncoder
from vesalius.train.text_data import TextData, TextStream
from vesalius.train.windows import random_windows

LONG = "The liver, the spleen, the kidney, the lung and heart number 12."


@pytest.fixture
def encoder(tiny_encoder):
    return TextEncoder.load(tiny_encoder)


def windows(encoder, texts, share=1.0, seed=0, max_length=8):
    rng = np.random.default_rng(seed)
    return random_windows(texts, encoder, max_length=max_length, share=share, rng=rng)


def test_a_window_is_full_begins_with_a_word_and_keeps_the_special_tokens(encoder):
    whole = encoder.tokenise([LONG], max_length=100)[0]
    inside = whole[1:-1]
    read = set()
    for seed in range(60):
        (text,) = windows(encoder, [LONG], seed=seed)
        assert LONG.endswith(text)
        tokens = encoder.tokenise([text], max_length=8)[0]
        assert len(tokens) == 8
        assert (tokens[0], tokens[-1]) == (whole[0], whole[-1])
        places = [at for at in range(len(inside)) if inside[at : at + 6] == tokens[1:-1]]
        assert places
        read.add(places[0])
    assert read == set(range(len(inside) - 5))


def test_short_texts_stay_and_of_long_ones_the_share_is_cut(encoder):
    assert windows(encoder, ["the liver", "", "liver spleen kidney lung heart brain"]) == [
        "the liver", "", "liver spleen kidney lung heart brain",
    ]  # fmt: skip
    assert windows(encoder, [LONG] * 20, share=0.0) == [LONG] * 20
    num_kept = sum(text == LONG for text in windows(encoder, [LONG] * 400, share=0.5))
    assert 180 <= num_kept <= 250  # half, and of the others those that begin at the beginning


def test_windows_are_drawn_anew_each_step_and_again_the_same(graph, sides, encoder):
    data = TextData(batch_size=8, max_length=6, window_share=1.0, neighbourhood_size=1)
    one, other = (TextStream(graph, sides, data, seed=0, encoder=encoder) for _ in range(2))
    batches = [one.draw() for _ in range(4)]
    other.load_state_dict({**one.state_dict(), "epoch": 0, "position": 8, "step": 1})
    assert other.draw().left == batches[1].left
    plain = TextStream(graph, sides, TextData(batch_size=8, max_length=6, neighbourhood_size=1), seed=0)
    for batch in batches:
        full = plain.draw()
        assert all(whole.endswith(window) for whole, window in zip(full.left, batch.left, strict=True))
        assert (full.positives == batch.positives).all()
        assert full.left != batch.left


@pytest.mark.parametrize("share", [-0.1, 1.5])
def test_senseless_shares_are_refused(share):
    with pytest.raises(SettingError, match="window_share"):
        TextData(window_share=share)

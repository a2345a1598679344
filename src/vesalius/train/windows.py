"""Random windows of texts that are longer than an encoder reads."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vesalius.model.text_encoder import TextEncoder


def random_windows(
    texts: Sequence[str], encoder: TextEncoder, *, max_length: int, share: float, rng: np.random.Generator
) -> list[str]:
    """Returns `texts`; of those longer than `max_length`, a share begins at a random word, so that a window of them is read.

    As SAT-Pretrain truncates; repaired: a window begins with a whole word, is always closed by the special tokens (the published one
    could drop the first of them), and only training draws one.

    Args:
        texts: the texts.
        encoder: what tokenises.
        max_length: tokens that are read of a text, special tokens included.
        share: probability that a longer text gives a window and not its beginning.
        rng: decides which, and where.
    """
    num_read = max_length - len(encoder.tokenise([""], max_length=max_length)[0])
    windows = []
    for text, starts in zip(texts, encoder.word_starts(texts), strict=True):
        if len(starts) > num_read and rng.random() < share:
            windows.append(text[starts[int(rng.integers(len(starts) - num_read + 1))] :])
        else:
            windows.append(text)
    return windows

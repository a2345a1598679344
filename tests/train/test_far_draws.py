"""The billionth draw of texts costs what the first one does."""

import time
import tracemalloc

import pytest

from vesalius.corpus.mixture import MixturePart
from vesalius.train.text_data import TextData, TextStream

MIXTURE = TextData(
    sources=(), batch_size=8, neighbourhood_size=1, mixture=(MixturePart(sources=("uberon",), kinds=("definition",)),)
)


@pytest.mark.parametrize("data", [TextData(batch_size=8), MIXTURE], ids=["neighbourhoods", "mixture"])
def test_a_billion_draws_cost_no_more_than_ten(graph, sides, data):
    TextStream(graph, sides, data, seed=0).draw()
    peaks = []
    for step in (10, 10**9):
        tracemalloc.start()
        began = time.perf_counter()
        stream = TextStream(graph, sides, data, seed=0)
        stream.load_state_dict({**stream.state_dict(), "step": step})
        assert len(stream.draw().left) == 8
        assert time.perf_counter() - began < 2
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.2 * peaks[0] + 1e4
    assert stream.state_dict()["step"] == 10**9 + 1

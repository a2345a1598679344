"""A mixture of pairs: so much of this source, so much of that."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TypedDict

import numpy as np

from vesalius.corpus.pair_index import Run
from vesalius.corpus.pair_table import PairTable
from vesalius.corpus.pairs import PairKind, TextPair
from vesalius.errors import SettingError
from vesalius.ids import Split
from vesalius.knowledge.sentences import End, RelationForm

PUBLISHED_FORM: tuple[RelationForm, ...] = ("published",)
_ENDS: tuple[End, End] = ("object", "subject")


@dataclass(frozen=True, kw_only=True)
class MixturePart:
    """Rows that are pooled and drawn alike.

    Attributes:
        sources: the sources of the rows.
        kinds: what the rows are; several kinds are one pool.
        weight: times the number of rows, rounded to a whole number, is the part's share of the mixture.
        forms: the forms a relation may have, each drawn equally often; without effect on other kinds.
        as_written: whether to draw the rows as each source wrote them: its own names and edges, and rows that another source has
            too. Only the published formats keep such rows.
    """

    sources: tuple[str, ...]
    kinds: tuple[PairKind, ...]
    weight: float = 1.0
    forms: tuple[RelationForm, ...] = PUBLISHED_FORM
    as_written: bool = False

    def __post_init__(self) -> None:
        """Refuses values that cannot work."""
        if not 0 < self.weight < math.inf:
            raise SettingError(f"weight is {self.weight}", remedy="give a finite value above 0, or leave the part out")
        if not self.sources or not self.kinds:
            raise SettingError("a part of a mixture without sources or kinds", remedy="name at least one of each")
        if "relation" in self.kinds and not self.forms:
            raise SettingError("relations without a form", remedy="give published, sentence, or both")
        if self.as_written and self.forms != PUBLISHED_FORM:
            raise SettingError("forms has no effect on rows as they were written", remedy="leave one of the two out")


class MixtureState(TypedDict):
    """Where a mixture stands: enough to draw the same steps again."""

    step: int


class MixtureSampler:
    """Draws pairs independently: first a part by its share, then a row of the part, each equally likely.

    As SAT-Pretrain draws (`Uni_Mod_Dataset`): a part's share is the rounded product of its weight and its number of rows, a
    relation asks for its object or its subject with equal chance, names and both ends of a relation are lower-cased,
    synonyms and edges stand as they are. A part `as_written` has the rows of its files, each as often as published;
    any other part has what the graph says, once, definitions without their notes (`knowledge.definitions`). The share counts the
    rows of `side`; a row of another side that is drawn is drawn again. Step `n` draws from a generator seeded by (seed, n): no order
    is held, whatever the number of steps.

    Args:
        table: the rows.
        parts: the mixture.
        batch_size: pairs a step.
        side: the side of the split to draw from; None draws from all, as published.
        seed: decides every draw.

    Raises:
        SettingError: a part has no row to draw, or all shares round to nothing.
    """

    def __init__(
        self,
        table: PairTable,
        *,
        parts: Sequence[MixturePart],
        batch_size: int,
        side: Split | None = "train",
        seed: int = 0,
    ) -> None:
        self._table = table
        self._parts = [_Pool(part, _runs(table, part), side) for part in parts]
        pools = np.array([pool.share for pool in self._parts], dtype=np.float64)
        if not pools.sum():
            raise SettingError("every share of the mixture rounds to 0", remedy="raise the weights")
        self.shares: list[float] = (pools / pools.sum()).tolist()
        self._batch_size = batch_size
        self._side: Split | None = side
        self._seed = seed
        self._state = MixtureState(step=0)

    @property
    def num_pairs(self) -> int:
        """Number of different rows to draw from."""
        return sum(pool.num_drawn for pool in self._parts)

    def state_dict(self) -> MixtureState:
        """Returns where the sampler stands."""
        return MixtureState(**self._state)

    def load_state_dict(self, state: MixtureState) -> None:
        """Goes to where `state` was taken."""
        self._state = MixtureState(**state)

    def draw(self) -> list[TextPair]:
        """Returns the pairs of the next step; one may be drawn twice."""
        rng = np.random.default_rng([self._seed, 2, self._state["step"]])
        self._state["step"] += 1
        chosen = rng.choice(len(self._parts), size=self._batch_size, p=self.shares)
        return [self._pair(self._parts[place], rng) for place in chosen]

    def _pair(self, pool: _Pool, rng: np.random.Generator) -> TextPair:
        run, row = pool.row(int(rng.integers(pool.num_rows)))
        while not self._may_draw(run, row):
            run, row = pool.row(int(rng.integers(pool.num_rows)))
        asked = _ENDS[rng.integers(2)] if run.kind == "relation" else None
        if run.is_written:
            return self._table.written_pair(row, asked=asked)
        if asked is None:
            return self._table.text_pair(run.kind, row)
        form = pool.part.forms[rng.integers(len(pool.part.forms))]
        return self._table.relation_pair(row, asked=asked, form=form, choice=float(rng.random()))

    def _may_draw(self, run: Run, row: int) -> bool:
        if self._side is None:
            return True
        if run.is_written:
            return self._table.is_written_on(self._side, row)
        return self._table.is_on(self._side, run.kind, row)


class _Pool:
    """The runs of a part as one range of numbers."""

    def __init__(self, part: MixturePart, runs: Sequence[Run], side: Split | None) -> None:
        self.part = part
        self._runs = [run for run in runs if side is None or run.num_by_side[side]]
        self._ends = list(accumulate(run.num for run in self._runs))
        self.num_rows = self._ends[-1] if self._ends else 0
        self.num_drawn = sum(run.num if side is None else run.num_by_side[side] for run in self._runs)
        if not self.num_drawn:
            raise SettingError(
                f"nothing of kind {', '.join(part.kinds)} from {', '.join(part.sources)} to draw",
                where="mixture",
                remedy="as they were written, only the kinds sat-definitions, sat-relations and sat-json keep rows"
                if part.as_written
                else "leave the part out, or build the graph with that source",
            )  # fmt: skip
        self.share = round(part.weight * self.num_drawn)

    def row(self, place: int) -> tuple[Run, int]:
        """Returns run and row of a number below `num_rows`."""
        run = bisect_right(self._ends, place)
        begin = self._ends[run - 1] if run else 0
        return self._runs[run], self._runs[run].first + place - begin


def _runs(table: PairTable, part: MixturePart) -> list[Run]:
    known = {run.source for run in table.runs}
    for source in part.sources:
        if source not in known:
            raise SettingError(
                f"the graph has no texts of {source!r}",
                where="mixture",
                remedy=f"leave the part out, or name one of: {', '.join(sorted(known))}",
            )
    return [
        run
        for run in table.runs
        if run.source in part.sources and run.kind in part.kinds and run.is_written == part.as_written
    ]

"""Small handbooks, made of whole entries."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from vesalius.knowledge.handbook.expand import Handbook
from vesalius.knowledge.handbook.parse import KEYS, parse_line

Line = Callable[..., str]


def _line(concept_id: str, name: str, **more: Any) -> str:
    entry = {
        "concept_id": concept_id, "name": name, "definition": f"What is called {name}.", "region": "abdomen",
        "system": "general", "reviewed": {"references": ["a book"], "read": 1}, "since": "0.1", **more,
    }  # fmt: skip
    if concept_id.startswith("VES:"):
        entry.setdefault("parent", "UBERON:0000062")
    return json.dumps(
        {key: entry[key] for key in (*(key for key in KEYS if key in entry), *(entry.keys() - set(KEYS)))}
    )


@pytest.fixture
def line() -> Line:
    """Makes a line of the handbook: an id, a name, and whatever else an entry may hold."""
    return _line


@pytest.fixture
def handbook() -> Callable[..., Handbook]:
    """Makes a handbook of lines, below a root that VES: concepts may hang on."""

    def make(*lines: str, **more: Any) -> Handbook:
        whole = [_line("UBERON:0000062", "organ"), *lines]
        return Handbook((parse_line(text, where=f"a.jsonl:{n}") for n, text in enumerate(whole, start=1)), **more)

    return make

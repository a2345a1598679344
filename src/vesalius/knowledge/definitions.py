"""What a definition says, apart from what its editors noted behind it.

Ontologies write behind many definitions, in square brackets, where they are from or how they came about: ``A mucosa that is part of a
cecum [Automatically generated definition].``, ``… [WP,unvetted].`` (every sixth of UBERON). The graph keeps them as they stand; who
trains or asks leaves the notes out.
"""

from __future__ import annotations

from vesalius.tables import literal

_NOTED = r"(?s)^(.*?[^ .\]])[ .]*(?:\[[^\[\]]*\][ .]*)+$"


def statement(text: str) -> str:
    """Returns a definition without the notes in square brackets at its end; what is nothing but notes stays."""
    end = whole = len(text.rstrip(" ."))
    while text.endswith("]", 0, end) and (begin := text.rfind("[", 0, end)) >= 0 and text.find("]", begin, end - 1) < 0:
        end = begin
        while text.endswith((" ", "."), 0, end):
            end -= 1
    return text if end in {0, whole} or text[end - 1] == "]" else f"{text[:end]}."


def statement_in_sql(column: str) -> str:
    """Returns the SQL expression of `statement`."""
    return f"regexp_replace({column}, {literal(_NOTED)}, '\\1.')"

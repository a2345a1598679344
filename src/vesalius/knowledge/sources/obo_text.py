r"""The text of an OBO file: stanzas, clauses, and what stands in a clause.

Source: https://owlcollab.github.io/oboformat/doc/GO.format.obo-1_2.html and
https://owlcollab.github.io/oboformat/doc/obo-syntax.html (1.4). More is read than 1.4 allows where files in the field
have it: a definition or synonym without its list of xrefs, a synonym without scope (1.2: related), ``\`` at the end of a line.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from vesalius.errors import InputError
from vesalius.knowledge.sources.text_file import read_lines

_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
_MEANING = {"n": "\n", "t": "\t", "W": " "}
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*+)"', re.DOTALL)
_LISTED = re.compile(r'\[((?:[^\]"\\]|\\.|"(?:[^"\\]|\\.)*+")*+)\]', re.DOTALL)
_ITEM = re.compile(r'((?:[^,"\\]|\\.)+)(?:"(?:[^"\\]|\\.)*")?', re.DOTALL)
_MODIFIERS = re.compile(
    r'(?<!\\)\{\s*([^\s={}"\\]+\s*=\s*"(?:[^"\\]|\\.)*"\s*(?:,\s*[^\s={}"\\]+\s*=\s*"(?:[^"\\]|\\.)*"\s*)*)\}\s*$',
    re.DOTALL,
)
_MODIFIER = re.compile(r'([^\s=,"]+)\s*=\s*"((?:[^"\\]|\\.)*)"', re.DOTALL)
_TAG = re.compile(r"([^\s:\[\]{}<>\"]+):(?:\s+|$)")
_STANZA = re.compile(r"\[([A-Za-z]+)\]\s*(?:!.*)?")
_BEHIND_WORDS = re.compile(r"[\[{!]")
_SPACE = re.compile(r"\s+")


@dataclass(frozen=True, kw_only=True, slots=True)
class Clause:
    """One ``tag: value`` of a stanza; `value` is as written, with escapes, modifiers and comment."""

    tag: str
    value: str
    line: int


@dataclass(kw_only=True, slots=True)
class Stanza:
    """The header (`kind` ``header``) or one ``[Term]``, ``[Typedef]``, ``[Instance]`` with its clauses."""

    kind: str
    line: int
    clauses: list[Clause] = field(default_factory=list)

    def first(self, tag: str) -> Clause | None:
        """Returns the first clause of that tag, or None."""
        return next((clause for clause in self.clauses if clause.tag == tag), None)

    def all(self, *tags: str) -> Iterator[Clause]:
        """Yields the clauses of these tags in the order of the file."""
        return (clause for clause in self.clauses if clause.tag in tags)


@dataclass(frozen=True, kw_only=True, slots=True)
class Quoted:
    """A clause value that begins with a quoted text: the text, the words behind it, the xrefs in brackets."""

    text: str
    words: tuple[str, ...]
    references: tuple[str, ...]


def read_stanzas(path: Path) -> Iterator[Stanza]:
    """Yields the header and then every stanza; one at a time is held in memory.

    Raises:
        InputError: the file cannot be read (`read_lines`), or is no OBO file; the message names the line.
    """
    stanza = Stanza(kind="header", line=1)
    for number, line in _joined(path):
        text = line.strip()
        if not text or text.startswith("!"):
            continue
        if text.startswith("["):
            opened = _STANZA.fullmatch(text)
            if opened is None:
                raise InputError(
                    f"{text[:60]!r} opens no stanza", where=f"{path}:{number}", remedy="write [Term] or [Typedef]"
                )
            _check(path, stanza)
            yield stanza
            stanza = Stanza(kind=opened[1], line=number)
            continue
        tagged = _TAG.match(text)
        if tagged is None:
            raise InputError(
                f"{text[:60]!r} is no 'tag: value'", where=f"{path}:{number}", remedy="is this an OBO file?"
            )
        stanza.clauses.append(Clause(tag=tagged[1], value=text[tagged.end() :], line=number))
    _check(path, stanza)
    yield stanza


def _joined(path: Path) -> Iterator[tuple[int, str]]:
    r"""Yields the lines, one that ends in a lone ``\`` joined with the next."""
    waiting = ""
    first = 0
    for number, line in read_lines(path):
        first = first if waiting else number
        if line.endswith("\\") and (len(line) - len(line.rstrip("\\"))) % 2:
            waiting += line[:-1]
            continue
        yield first, waiting + line
        waiting = ""
    if waiting:
        raise InputError("the last line ends in '\\'", where=f"{path}:{first}", remedy="is the file cut off?")


def _check(path: Path, stanza: Stanza) -> None:
    if stanza.kind == "header":
        if stanza.first("format-version") is None:
            raise InputError("no 'format-version:' before the first stanza", where=path, remedy="is this an OBO file?")
    elif stanza.first("id") is None:
        raise InputError(f"[{stanza.kind}] has no 'id:'", where=f"{path}:{stanza.line}", remedy="is the file cut off?")


def unescape(text: str) -> str:
    r"""Returns `text` with escapes resolved: ``\n`` a line break, ``\t`` a tab, ``\W`` a blank, any other its own character."""
    if "\\" not in text:
        return text
    return _ESCAPED.sub(lambda match: _MEANING.get(match[1], match[1]), text)


def modifiers(value: str) -> dict[str, str]:
    """Returns the trailing modifiers (``{source="FMA:7088", gci_filler="…"}``) of a value."""
    found = _MODIFIERS.search(_without_comment(value))
    return {key: unescape(text) for key, text in _MODIFIER.findall(found[1])} if found else {}


def plain(value: str) -> str:
    """Returns a text without quotes, such as a name: no trailing modifiers, no comment, escapes resolved.

    A ``!`` begins a comment only behind white space.
    """
    return unescape(_MODIFIERS.sub("", _without_comment(value))).strip()


def tokens(value: str, *, num: int) -> tuple[str, ...]:
    """Returns the first `num` words of a value, such as predicate and id of a ``relationship``; fewer where it has fewer."""
    words = []
    for word in value.split(maxsplit=num):
        if len(words) == num or word[0] in '!{"':
            break
        words.append(unescape(word))
    return tuple(words)


def quoted(value: str) -> Quoted:
    """Returns what a ``def`` or ``synonym`` holds.

    Raises:
        InputError: it does not begin with a quote, or the quote or the list of xrefs is not closed.
    """
    text = _QUOTED.match(value)
    if text is None:
        raise InputError("the quote is not closed" if value.startswith('"') else "does not begin with a quoted text")
    rest = value[text.end() :]
    opening = _opening(rest)
    if opening is None:
        words, references = _MODIFIERS.sub("", _without_comment(rest)), ()
    else:
        listed = _LISTED.match(rest, opening)
        if listed is None:
            raise InputError("the list of xrefs is not closed")
        words, references = rest[:opening], tuple(_references(listed[1]))
    return Quoted(text=unescape(text[1]), words=tuple(words.split()), references=references)


def _opening(rest: str) -> int | None:
    """Returns where the list of xrefs opens, or None where modifiers, a comment or the end come first."""
    found = _BEHIND_WORDS.search(rest)
    return found.start() if found and found[0] == "[" else None


def _references(listed: str) -> Iterator[str]:
    for item in _ITEM.findall(listed):
        reference = unescape(_SPACE.sub(" ", item).strip())
        if reference:
            yield reference


def _without_comment(value: str) -> str:
    """Returns `value` without its trailing comment; a ``!`` within quotes begins none."""
    if "!" not in value:
        return value
    at = 0
    while at < len(value):
        text = _QUOTED.match(value, at)
        if text is not None:
            at = text.end()
        elif value[at] == "\\":
            at += 2
        elif value[at] == "!" and (at == 0 or value[at - 1].isspace()):
            return value[:at]
        else:
            at += 1
    return value

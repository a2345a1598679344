"""An OWL file made safe to parse: which serialization it is, no external entity, no explosion, no endless nesting.

XML is read by expat first. A document type is checked and then written out of the file, its entities expanded, so that the parser
behind sees none. Entities as Protégé declares them (an address under a short name) are expanded however often they occur; all
others, such as those that refer to further entities, may together add up to `MAX_EXPANSION_BYTES`.
"""

from __future__ import annotations

import contextlib
import re
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NoReturn, TextIO
from xml.parsers import expat
from xml.sax.saxutils import escape, quoteattr

from vesalius.errors import InputError
from vesalius.knowledge.sources.text_file import read_lines, read_whole, unpacked

MAX_EXPANSION_BYTES = 10_000_000
"""What the references to entities of a file may add up to."""

MAX_DEPTH = 256
"""Elements, or parentheses of functional syntax, within one another; real ontologies stay below 50."""

Serialization = Literal["rdf", "owx", "ofn"]

_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*:[^\s&<>%]{0,250}")
_REFERENCE = re.compile(r"&([^\s#;&][^\s;&]{0,200});")
_TURTLE_SUBJECT = re.compile(r"<[^\s<>]*:/[^\s<>]*>")
_CHUNK_BYTES = 2**16
_RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
_OWL = "http://www.w3.org/2002/07/owl#"
_ROOTS: dict[str, Serialization] = {f"{_RDF} RDF": "rdf", f"{_OWL} Ontology": "owx"}
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*+"|<[^<>\s]*>|#[^\n]*|[()]', re.DOTALL)
_PREFIX = re.compile(r"Prefix\(\s*([^\s=:]*:)\s*=\s*<([^<>]*)>\s*\)")
_DECLARATION = re.compile(r"Declaration\(\s*Class\(\s*(?:<([^<>\s]*)>|([^\s():]*:)([^\s()]*))\s*\)")


@dataclass(frozen=True, kw_only=True)
class OwlFile:
    """A file that can be given to an OWL parser.

    Attributes:
        path: its bytes, without gzip and document type.
        serialization: RDF/XML (``rdf``), OWL/XML (``owx``) or functional syntax (``ofn``).
        lines: IRI → line at which the original first describes or declares it.
    """

    path: Path
    serialization: Serialization
    lines: Mapping[str, int]


@contextlib.contextmanager
def safe_owl(path: Path) -> Iterator[OwlFile]:
    """Yields the file, checked.

    Raises:
        InputError: it cannot be read, is in none of the three serializations, is no well-formed XML, refers to anything outside
            itself, or expands or nests beyond the limits; the message names the line.
    """
    with unpacked(path) as plain:
        if _is_xml(path, plain):
            with _safe_xml(path, plain) as safe:
                yield safe
        else:
            yield _safe_functional(path, plain)


def _is_xml(path: Path, plain: Path) -> bool:
    for number, line in _lines(path, plain):
        text = line.lstrip()
        if not text or text.startswith("#"):
            continue
        if text.startswith("<") and not _TURTLE_SUBJECT.match(text):
            return True
        if re.match(r"(?:Prefix|Ontology)\s*(?:\(|$)", text):
            return False
        if re.match(r"(?:Prefix|Ontology):|@prefix|PREFIX\b|@base|<", text):
            raise InputError(
                "Manchester or Turtle syntax", where=f"{path}:{number}",
                remedy="convert it to RDF/XML or functional syntax (ROBOT: robot convert)",
            )  # fmt: skip
        raise InputError(
            f"{text[:40]!r} begins no OWL file",
            where=f"{path}:{number}",
            remedy="give RDF/XML, OWL/XML or functional syntax",
        )
    raise InputError("the file is empty", where=path, remedy="check the path")


def _lines(path: Path, plain: Path) -> Iterator[tuple[int, str]]:
    """Yields the lines of `plain`; messages name `path`, which it came from."""
    with _naming(path, plain):
        yield from read_lines(plain)


@contextlib.contextmanager
def _naming(path: Path, plain: Path) -> Iterator[None]:
    """Lets messages name `path` where they would name `plain`."""
    try:
        yield
    except InputError as error:
        where = str(error.where).replace(str(plain), str(path), 1)
        raise InputError(error.what, where=where, remedy=error.remedy) from error


@contextlib.contextmanager
def _safe_xml(path: Path, plain: Path) -> Iterator[OwlFile]:
    entities = _DocumentType(path)
    entities.read(plain)
    if not entities.found:
        document = _Document(path, target=None)
        document.read(plain)
        yield OwlFile(path=plain, serialization=document.serialization, lines=document.lines)
        return
    entities.check_references(_lines(path, plain))
    with tempfile.TemporaryDirectory() as folder:
        expanded = Path(folder) / "expanded.owl"
        with expanded.open("w", encoding="utf-8") as target:
            document = _Document(path, target=target)
            document.read(plain)
        yield OwlFile(path=expanded, serialization=document.serialization, lines=document.lines)


class _Parser:
    """An expat parser that reads UTF-8 whatever the file declares, and names file and line in what it raises."""

    def __init__(self, path: Path, *, namespaces: bool) -> None:
        self._path = path
        self._expat = (
            expat.ParserCreate("UTF-8", namespace_separator=" ") if namespaces else expat.ParserCreate("UTF-8")
        )
        self._done = False

    def read(self, plain: Path) -> None:
        try:
            with plain.open("rb") as file:
                while not self._done and (piece := file.read(_CHUNK_BYTES)):
                    self._expat.Parse(piece, False)
                if not self._done:
                    self._expat.Parse(b"", True)
        except expat.ExpatError as error:
            self._refuse_not_well_formed(error)

    def _refuse_not_well_formed(self, error: expat.ExpatError) -> NoReturn:
        message = expat.ErrorString(error.code) or ""
        if "amplification" in message:
            raise _exploding(self._path, error.lineno) from error
        raise InputError(
            f"no well-formed XML ({message})", where=f"{self._path}:{error.lineno}",
            remedy="is the file cut off, or not an OWL file?",
        ) from error  # fmt: skip

    def _refuse(self, what: str, remedy: str) -> NoReturn:
        raise InputError(what, where=f"{self._path}:{self._expat.CurrentLineNumber}", remedy=remedy)


class _DocumentType(_Parser):
    """What stands before the first element: the entities the file declares."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, namespaces=False)
        self.found = False
        self._values: dict[str, str] = {}
        self._sizes: dict[str, int] = {}
        self._expat.StartDoctypeDeclHandler = self._start
        self._expat.EntityDeclHandler = self._entity
        self._expat.AttlistDeclHandler = self._attributes
        self._expat.StartElementHandler = self._element

    def _start(self, *doctype: Any) -> None:
        self.found = True
        _, system_id, public_id, _ = doctype
        if system_id is not None or public_id is not None:
            self._refuse(f"an external document type ({system_id or public_id})", _REMOVE)

    def _entity(self, name: str, is_parameter: object, value: str | None, *external: Any) -> None:
        if value is None:
            _, system_id, public_id, _ = external
            self._refuse(f"an external entity: {name} ({system_id or public_id})", _REMOVE)
        if is_parameter:
            self._refuse(f"a parameter entity: %{name}", _REMOVE)
        self._values.setdefault(name, value)

    def _attributes(self, *_: object) -> None:
        self._refuse("attributes declared in the document type", _REMOVE)

    def _element(self, *_: object) -> None:
        self._done = True
        self._expat.StartElementHandler = None

    def check_references(self, lines: Iterator[tuple[int, str]]) -> None:
        """Refuses the file where its references to entities other than addresses add up to too much."""
        counted = {name: self._size(name, ()) for name, value in self._values.items() if not _ADDRESS.fullmatch(value)}
        total = 0
        for number, line in lines:
            if "&" in line:
                for name in _REFERENCE.findall(line):
                    total += counted.get(name, 0)
                if total > MAX_EXPANSION_BYTES:
                    raise _exploding(self._path, number)

    def _size(self, name: str, within: tuple[str, ...]) -> int:
        """Returns the bytes of an entity with all it refers to, at most just beyond the limit."""
        if name not in self._values or name in within:
            return 0  # predefined, or a circle, which expat refuses
        if name not in self._sizes:
            value = self._values[name]
            size = len(value.encode())
            if len(within) > MAX_DEPTH:
                size = MAX_EXPANSION_BYTES + 1
            for inner in _REFERENCE.findall(value):
                size = min(size + self._size(inner, (*within, name)), MAX_EXPANSION_BYTES + 1)
            self._sizes[name] = size
        return self._sizes[name]


_REMOVE = "entities may stand only for text within the file; take it out"


def _exploding(path: Path, line: int) -> InputError:
    return InputError(
        f"entities expand to more than {MAX_EXPANSION_BYTES // 10**6} MB", where=f"{path}:{line}",
        remedy="expand them in the file if they are meant",
    )  # fmt: skip


class _Document(_Parser):
    """The elements: checked for depth, noted by line, and written to `target` where there is one."""

    def __init__(self, path: Path, *, target: TextIO | None) -> None:
        super().__init__(path, namespaces=target is None)
        self._target = target
        self._depth = 0
        self._root: Serialization | None = None
        self.lines: dict[str, int] = {}
        self._about = f"{_RDF} about" if target is None else "rdf:about"
        self._expat.StartElementHandler = self._element
        self._expat.EndElementHandler = self._end
        if target is not None:
            self._expat.CharacterDataHandler = lambda text: target.write(escape(text, {"\r": "&#13;"}))

    @property
    def serialization(self) -> Serialization:
        """RDF/XML or OWL/XML, by the root element."""
        assert self._root is not None
        return self._root

    def _element(self, name: str, attributes: dict[str, str]) -> None:
        if self._depth == 0:
            self._root = self._named(name, attributes)
        self._depth += 1
        if self._depth > MAX_DEPTH:
            self._refuse(f"elements nested more than {MAX_DEPTH} deep", "no ontology needs that; is the file damaged?")
        iri = attributes.get(self._about)
        if iri is not None:
            self.lines.setdefault(iri, self._expat.CurrentLineNumber)
        if self._target is not None:
            written = "".join(f" {key}={quoteattr(value)}" for key, value in attributes.items())
            self._target.write(f"<{name}{written}>")

    def _end(self, name: str) -> None:
        self._depth -= 1
        if self._target is not None:
            self._target.write(f"</{name}>")

    def _named(self, name: str, attributes: Mapping[str, str]) -> Serialization:
        if self._target is not None:
            prefix, _, local = name.rpartition(":")
            name = f"{attributes.get(f'xmlns:{prefix}' if prefix else 'xmlns', '')} {local}"
        if name not in _ROOTS:
            self._refuse(f"the root element is {name.split()[-1]!r}", "give RDF/XML (rdf:RDF) or OWL/XML (Ontology)")
        return _ROOTS[name]


def _safe_functional(path: Path, plain: Path) -> OwlFile:
    with _naming(path, plain):
        text = read_whole(plain)
    depth = 0
    for token in _TOKEN.finditer(text):
        depth += {"(": 1, ")": -1}.get(token[0], 0)
        if depth > MAX_DEPTH:
            raise InputError(
                f"parentheses nested more than {MAX_DEPTH} deep", where=f"{path}:{text.count(chr(10), 0, token.start()) + 1}",
                remedy="no ontology needs that; is the file damaged?",
            )  # fmt: skip
    return OwlFile(path=plain, serialization="ofn", lines=_declared(text))


def _declared(text: str) -> dict[str, int]:
    prefixes = dict(_PREFIX.findall(text))
    lines: dict[str, int] = {}
    line, at = 1, 0
    for found in _DECLARATION.finditer(text):
        line, at = line + text.count("\n", at, found.start()), found.start()
        iri = found[1] if found[1] is not None else prefixes.get(found[2], found[2]) + found[3]
        lines.setdefault(iri, line)
    return lines

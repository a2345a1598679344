"""A JSON text read piece by piece, so that every piece knows its line and no key is lost to a second one of its name."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vesalius.errors import InputError
from vesalius.knowledge.sources.text_file import read_whole

_SPACE = re.compile(r"[ \t\n\r]*")


class RepeatedKeyError(ValueError):
    """An object of JSON has two members of one key: which of them is meant, nobody can say."""


def unrepeated(members: list[tuple[str, Any]]) -> dict[str, Any]:
    """Returns the members of an object, for `json`'s ``object_pairs_hook``.

    Raises:
        RepeatedKeyError: two have one key.
    """
    found = dict(members)
    if len(found) < len(members):
        keys = [key for key, _ in members]
        raise RepeatedKeyError(
            f"the key {next(key for key in keys if keys.count(key) > 1)!r} stands twice in one object"
        )
    return found


class JsonText:
    """Walks through a JSON file with a cursor.

    `members` and `elements` stop at each value; the caller takes it with `value`, or walks into it with `members` or `elements` in
    turn, before it asks for the next.

    Args:
        path: the file, gzipped or not.

    Raises:
        InputError: the file cannot be read (`read_whole`). Every method: the text is no JSON, or not of the kind asked for.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._text = read_whole(path)
        self._decoder = json.JSONDecoder(object_pairs_hook=unrepeated)
        self._counted = (0, 1)
        self._at = 0
        self._skip_space()

    @property
    def line(self) -> int:
        """Line of the cursor, from 1."""
        at, line = self._counted
        if self._at >= at:
            self._counted = (self._at, line + self._text.count("\n", at, self._at))
        return self._counted[1]

    def value(self) -> Any:
        """Returns the value at the cursor, and moves behind it."""
        try:
            value, self._at = self._decoder.raw_decode(self._text, self._at)
        except json.JSONDecodeError as error:
            raise InputError(
                f"no JSON ({error.msg})", where=f"{self._path}:{error.lineno}", remedy="is the file cut off?"
            ) from error
        except RepeatedKeyError as error:
            raise self._error(str(error)) from error
        except ValueError as error:
            raise self._error("an integer of too many digits") from error
        except RecursionError as error:
            raise self._error("values nested too deep") from error
        self._skip_space()
        return value

    def is_object(self) -> bool:
        """Says whether an object stands at the cursor."""
        return self._text.startswith("{", self._at)

    def is_array(self) -> bool:
        """Says whether an array stands at the cursor."""
        return self._text.startswith("[", self._at)

    def members(self) -> Iterator[str]:
        """Yields the keys of the object at the cursor, which stands at the value of each."""
        for _ in self._items("{", "}", "an object"):
            if not self._text.startswith('"', self._at):
                raise self._error("no JSON (a key in double quotes is missing)")
            key = self.value()
            self._expect(":")
            yield key

    def elements(self) -> Iterator[None]:
        """Stops at every element of the array at the cursor."""
        yield from self._items("[", "]", "an array")

    def end(self) -> None:
        """Makes sure that nothing follows."""
        if self._at != len(self._text):
            raise self._error("no JSON (text behind the end)")

    def _items(self, opening: str, closing: str, kind: str) -> Iterator[None]:
        if not self._text.startswith(opening, self._at):
            raise self._error(f"{kind} is expected here")
        self._expect(opening)
        if self._text.startswith(closing, self._at):
            self._expect(closing)
            return
        while True:
            yield
            if self._text.startswith(closing, self._at):
                self._expect(closing)
                return
            self._expect(",")

    def _expect(self, character: str) -> None:
        if not self._text.startswith(character, self._at):
            found = self._text[self._at : self._at + 1]
            raise self._error(f"no JSON ({character!r} expected, {found!r} found)" if found else "the JSON is cut off")
        self._at += 1
        self._skip_space()

    def _skip_space(self) -> None:
        found = _SPACE.match(self._text, self._at)
        assert found is not None
        self._at = found.end()

    def _error(self, what: str) -> InputError:
        return InputError(what, where=f"{self._path}:{self.line}", remedy="is this the right file?")

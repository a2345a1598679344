"""What a file says of its own terms, brought to one form."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from vesalius.errors import SettingError
from vesalius.folder import Origin, sha256_of
from vesalius.knowledge.sources.options import SourceOptions

NOT_STATED = "not stated"
"""Version or licence of a file that names none."""

_CREATIVE_COMMONS = re.compile(
    r"creativecommons\.org/(?:licenses/(?P<kind>by(?:-nc)?(?:-nd|-sa)?)/(?P<version>\d\.\d)|publicdomain/(?P<zero>zero)/1\.0)",
    re.IGNORECASE,
)


def spdx(text: str) -> str:
    """Returns the SPDX id of a Creative Commons address (``…/licenses/by/3.0/``: ``CC-BY-3.0``); any other text as it is."""
    found = _CREATIVE_COMMONS.search(text)
    if found is None:
        return text.strip()
    return "CC0-1.0" if found["zero"] else f"CC-{found['kind'].upper()}-{found['version']}"


def origin_of(
    path: Path,
    *,
    name: str,
    version: str | None = None,
    licence: str | None = None,
    attribution: Sequence[str | None] = (),
    also_read: Sequence[Path] = (),
) -> Origin:
    """Returns the origin of a file.

    Args:
        path: the file that was read.
        name: name of the source.
        version: its release as it states it, or None.
        licence: its terms as it states them: an address, an SPDX id or words; or None.
        attribution: parts of the sentence that says whose it is, None where the file lacks one; the file's name where it lacks all.
        also_read: further files that decided what was read.

    Raises:
        InputError: a file cannot be read.
    """
    parts = [" ".join(part.split()) for part in attribution if part and part.strip()]
    return Origin(
        name=name,
        version=version or NOT_STATED,
        licence=spdx(licence) if licence and licence.strip() else NOT_STATED,
        attribution=", ".join(parts) or path.name,
        sha256={file.name: sha256_of(file) for file in (path, *also_read)},
    )


def refuse_spec(options: SourceOptions, *, kind: str) -> None:
    """Refuses a YAML behind the path of a kind that reads none.

    Raises:
        SettingError: there is one.
    """
    if options.spec is not None:
        raise SettingError(
            f"a source of kind {kind!r} reads no YAML",
            where=options.spec,
            remedy=f"write {kind}=PATH, or use table=PATH,YAML",
        )

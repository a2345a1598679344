"""Which licences are left out."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence


def is_excluded(licence: str, patterns: Sequence[str]) -> bool:
    """Returns whether one of the patterns (``*``, ``?``) matches the whole licence; upper and lower case are the same."""
    return any(fnmatch.fnmatchcase(licence.lower(), pattern.lower()) for pattern in patterns)

"""What a user can tell a layout."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

from vesalius.errors import SettingError
from vesalius.ids import Modality


@dataclass(frozen=True, kw_only=True)
class LayoutOptions:
    """What a user can tell a layout; each layout refuses what it has no use for.

    Attributes:
        folder: where the dataset lies.
        modality: of every case, where the dataset does not say it.
        salt: secret that patient ids are hashed with.
        noncommercial: take also data whose terms forbid commercial use, or are unclear.
    """

    folder: Path | None = None
    modality: Modality | None = None
    salt: str | None = None
    noncommercial: bool = False

    def refuse_all_but(self, *names: str, layout: str) -> None:
        """Checks that no option but those of `names` is given.

        Raises:
            SettingError: one is, and would have no effect.
        """
        for field in fields(self):
            if field.name not in names and getattr(self, field.name) != field.default:
                raise SettingError(
                    f"{field.name} has no effect on layout {layout!r}",
                    remedy=f"leave it out; the layout takes {', '.join(names)}",
                )

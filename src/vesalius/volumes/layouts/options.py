"""What a user can tell a layout."""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass, fields
from pathlib import Path

from vesalius.errors import InputError, SettingError
from vesalius.folder import unreadable
from vesalius.ids import MODALITIES, Modality, slug
from vesalius.volumes.geometry import check_orientation


@dataclass(frozen=True, kw_only=True)
class LayoutOptions:
    """What a user can tell a layout; each layout refuses what it has no use for.

    Attributes:
        folder: where the dataset lies; for layouts that are listed in JSON lines also the file that lists it.
        modality: of every case, where the dataset does not say it.
        salt: secret that patient ids are hashed with; where patients are named and none is given, the user's own is
            taken from `salt_file`, and made there the first time.
        noncommercial: take also data whose terms forbid commercial use, or are unclear.
        dataset: its name, where the folder's is not to be used.
        labels: file that says what the labels stand for, where the dataset does not hold it.
        stored_orientation: where the axes of arrays run to that do not say it themselves, such as ``LPS``, in the order i j k.

    Raises:
        SettingError: `stored_orientation` is none of the 48, or `dataset` holds no letter or digit.
    """

    folder: Path | None = None
    modality: Modality | None = None
    salt: str | None = None
    noncommercial: bool = False
    dataset: str | None = None
    labels: Path | None = None
    stored_orientation: str | None = None

    def __post_init__(self) -> None:
        if self.stored_orientation is not None:
            check_orientation(self.stored_orientation)
        if self.dataset is not None:
            try:
                slug(self.dataset)
            except InputError as error:
                raise SettingError(error.what, remedy=error.remedy) from error

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

    def resolved_folder(self, layout: str, *, or_file: bool = False) -> Path:
        """Returns `folder`, absolute.

        Args:
            layout: for messages.
            or_file: whether a file will do as well.

        Raises:
            SettingError: none is given.
            InputError: there is nothing there, it is no folder, or it cannot be listed.
        """
        if self.folder is None:
            raise SettingError(f"no folder to read for layout {layout!r}", remedy="give --input")
        if not self.folder.exists():
            raise InputError("no such folder", where=self.folder, remedy="check the path")
        folder = self.folder.resolve()
        if folder.is_file() and or_file:
            return folder
        try:
            next(folder.iterdir(), None)
        except OSError as error:
            raise unreadable(self.folder, error) from error
        return folder

    def dataset_of(self, folder: Path) -> str:
        """Returns the dataset's name: the one given, or that of `folder`."""
        return self.dataset or folder.name

    def settled_modality(self, said: Modality | None, where: object) -> Modality:
        """Returns the modality of a case: what the dataset says of it, else the one given.

        Args:
            said: by the dataset; None if it says nothing.
            where: what to name in an error.

        Raises:
            SettingError: neither is known, or they contradict each other.
        """
        if said and self.modality and said != self.modality:
            raise SettingError(
                f"--modality {self.modality}, but the dataset says {said}", where=where, remedy="leave the option out"
            )
        modality = said or self.modality
        if modality is None:
            raise SettingError(
                "the modality is not known", where=where, remedy=f"give --modality, one of {', '.join(MODALITIES)}"
            )
        return modality

    def salt_for_patients(self) -> str:
        """Returns the secret to hash patients with: the one given, or the user's own, made if there is none yet.

        Raises:
            SettingError: the salt given is empty.
            InputError: the user's own cannot be read or written.
        """
        if self.salt is not None:
            if not self.salt:
                raise SettingError("an empty salt keeps no secret", remedy="give a secret --salt, or leave it out")
            return self.salt
        path = salt_file()
        try:
            if not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                # Whole or not at all, and readable by the user alone from the first byte on.
                temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
                handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
                with os.fdopen(handle, "w", encoding="ascii") as file:
                    file.write(secrets.token_hex(32))
                try:
                    path.hardlink_to(temporary)
                except FileExistsError:
                    pass  # another process was quicker; its salt holds
                finally:
                    temporary.unlink()
            salt = path.read_text(encoding="utf-8").strip()
        except OSError as error:
            raise InputError(
                f"no salt can be kept there ({error.strerror})", where=path, remedy="give a secret --salt"
            ) from error
        if not salt:
            raise InputError("an empty salt keeps no secret", where=path, remedy="delete the file, or give --salt")
        return salt


def files_below(folder: Path) -> list[Path]:
    """Returns the files of a folder and of those below it, sorted; folders that links lead to are left out.

    Raises:
        InputError: a folder cannot be listed.
    """

    def refuse(error: OSError) -> None:
        raise unreadable(Path(error.filename), error) from error  # Path.rglob would pass over it without a word

    found = [Path(home) / name for home, _, names in os.walk(folder, onerror=refuse) for name in names]
    return sorted(path for path in found if path.is_file())


def salt_file() -> Path:
    """Returns where the user's own salt is kept: beside other settings of the user, never with a store."""
    home = os.environ.get("XDG_CONFIG_HOME")
    return (Path(home) if home else Path.home() / ".config") / "vesalius" / "salt"

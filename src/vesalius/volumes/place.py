"""Where a case store lies: a folder of this machine, or a prefix of an object store (`s3://`, `gs://`)."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vesalius.errors import FolderError, InputError
from vesalius.folder import writing, writing_folder

_PACKAGES = {"s3": "s3fs", "gs": "gcsfs"}
_DRIVERS = {"s3": "s3", "gs": "gcs"}


@dataclass(frozen=True, kw_only=True)
class Place:
    """A folder that may lie in an object store. Names inside it are relative, with ``/``.

    In an object store a folder is its files: one is written file by file, and what says that it is whole comes last.
    Credentials and endpoint are those of the environment (`AWS_ACCESS_KEY_ID`, `AWS_ENDPOINT_URL`, … and Google's
    application default credentials).

    Attributes:
        url: a local path, or ``s3://bucket/prefix``, ``gs://bucket/prefix``; without a slash at its end.
    """

    url: str

    @classmethod
    def of(cls, place: Place | Path | str) -> Place:
        """Returns the place that a path or an address names.

        Raises:
            InputError: the address is of a kind that is not known, or names no bucket.
        """
        if isinstance(place, Place):
            return place
        scheme, found, rest = str(place).partition("://")
        if not found:
            return cls(url=str(Path(place).absolute()))
        if scheme not in _DRIVERS or not rest.strip("/"):
            raise InputError(
                f"no address of a store: {place}", remedy="give a folder, s3://bucket/prefix or gs://bucket/prefix"
            )
        return cls(url=str(place).rstrip("/"))

    def __str__(self) -> str:
        return self.url

    @property
    def path(self) -> Path | None:
        """The local folder; None in an object store."""
        return None if "://" in self.url else Path(self.url)

    def below(self, name: str) -> Place:
        """Returns the folder `name` of this one."""
        return Place(url=f"{self.url}/{name}")

    def kvstore(self, name: str) -> dict[str, Any]:
        """Returns how tensorstore is told of the folder `name`."""
        if self.path is not None:
            return {"driver": "file", "path": f"{self.path / name}/"}
        scheme, _, rest = self.url.partition("://")
        bucket, _, prefix = rest.partition("/")
        spec = {"driver": _DRIVERS[scheme], "bucket": bucket, "path": f"{prefix}/{name}/".lstrip("/")}
        endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
        if scheme == "s3" and endpoint:
            spec |= {"endpoint": endpoint, "aws_region": os.environ.get("AWS_DEFAULT_REGION", "us-east-1")}
        return spec

    def read(self, name: str) -> bytes | None:
        """Returns the bytes of a file; None where there is none.

        Raises:
            FolderError: it cannot be read.
        """
        try:
            return (
                self._files().cat_file(f"{self.url}/{name}") if self.path is None else (self.path / name).read_bytes()
            )
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise self._unreachable(error) from error

    def names(self, name: str) -> list[str]:
        """Returns the names of the files and folders in the folder `name`, sorted; none where it is missing.

        Raises:
            FolderError: it cannot be read.
        """
        try:
            if self.path is not None:
                return sorted(path.name for path in (self.path / name).iterdir())
            files = self._files()
            files.invalidate_cache()
            found = files.ls(f"{self.url}/{name}", detail=False)
            return sorted({path.rstrip("/").rsplit("/", 1)[-1] for path in found})
        except FileNotFoundError:
            return []
        except OSError as error:
            raise self._unreachable(error) from error

    def remove(self, name: str) -> None:
        """Removes a file or a folder with all it holds; nothing happens where it is missing.

        Raises:
            FolderError: it cannot be removed.
        """
        try:
            if self.path is None:
                self._files().rm(f"{self.url}/{name}", recursive=True)
            elif (self.path / name).is_dir():
                shutil.rmtree(self.path / name)
            else:
                (self.path / name).unlink(missing_ok=True)
        except FileNotFoundError:
            return
        except OSError as error:
            raise self._unreachable(error) from error

    @contextlib.contextmanager
    def writing(self, name: str) -> Iterator[Path]:
        """Yields a local path to write the file `name` to, which takes its place at the end, whole or not at all."""
        if self.path is not None:
            with writing(self.path / name) as temporary:
                yield temporary
            return
        with tempfile.TemporaryDirectory() as folder:
            yield Path(folder) / "file"
            self._files().put_file(str(Path(folder) / "file"), f"{self.url}/{name}")

    @contextlib.contextmanager
    def writing_folder(self, name: str, *, last: str) -> Iterator[Path]:
        """Yields a local folder to fill, which takes the place of the folder `name` at the end.

        Args:
            name: the folder to write.
            last: its file that says that it is whole. In an object store it is the first to go and the last to come.
        """
        if self.path is not None:
            with writing_folder(self.path / name) as temporary:
                yield temporary
            return
        with tempfile.TemporaryDirectory() as folder:
            yield Path(folder)
            files, there = self._files(), f"{self.url}/{name}"
            self.remove(f"{name}/{last}")
            self.remove(name)
            written = [path for path in sorted(Path(folder).rglob("*")) if path.is_file()]
            for path in sorted(written, key=lambda path: path == Path(folder) / last):
                files.put_file(str(path), f"{there}/{path.relative_to(folder).as_posix()}")

    @contextlib.contextmanager
    def fetched(self, *names: str) -> Iterator[Path]:
        """Yields a local folder that holds the files `names`, as far as there are any."""
        if self.path is not None:
            yield self.path
            return
        with tempfile.TemporaryDirectory() as folder:
            for name in names:
                held = self.read(name)
                if held is not None:
                    (Path(folder) / name).write_bytes(held)
            yield Path(folder)

    def _files(self) -> Any:
        scheme = self.url.partition("://")[0]
        try:
            import fsspec  # noqa: PLC0415  only object stores need it

            return fsspec.filesystem(scheme)
        except ImportError as error:
            raise InputError(
                f"{_PACKAGES[scheme]} is not installed", where=self.url, remedy="pip install 'vesalius[cloud]'"
            ) from error

    def _unreachable(self, error: OSError) -> FolderError:
        return FolderError(
            error.strerror or str(error) or type(error).__name__,
            where=self.url,
            remedy="check the address and your rights",
        )

"""Preparation: from a dataset's cases to a store, on one process, many, or many machines; what was done is not done again."""

from __future__ import annotations

import hashlib
import json
import re
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from vesalius.errors import FolderError, InputError, SettingError, VesaliusError
from vesalius.folder import MANIFEST, Origin, sha256_of, unreadable
from vesalius.ids import CaseId, Split
from vesalius.volumes.case import CaseRow, SourceCase, UnresolvedLabel
from vesalius.volumes.case_folder import CaseRecord, SourceFile, read_record, write_case
from vesalius.volumes.naming import Resolver
from vesalius.volumes.patients import assign_splits
from vesalius.volumes.place import Place
from vesalius.volumes.prepare_case import PrepareSettings, Wholes, joined_as_told, prepare_case, prepare_image
from vesalius.volumes.store_tables import SCHEMA, STORE_NAMES, Reject, case_name, write_tables
from vesalius.volumes.workers import Here, Workers

_UNFINISHED = re.compile(r"\..+\.zarr\.(old\.)?[a-z0-9_]{8}")
"""What `writing_folder` calls a case while it writes it, and the one before while that goes."""

_CALL_AGAIN = "make room or check the rights, then call again: what is prepared stays"

__all__ = ["PrepareOutcome", "PrepareSettings", "Shard", "prepare", "prepare_case", "prepare_image"]


@dataclass(frozen=True, kw_only=True)
class Shard:
    """A share of the cases: every `num`-th, from the `index`-th on. Several calls, one a shard, may write to one store.

    Attributes:
        index: from 0.
        num: of all shards.

    Raises:
        SettingError: there is no such shard.
    """

    index: int
    num: int

    def __post_init__(self) -> None:
        if not 0 <= self.index < self.num:
            raise SettingError(f"shard {self.index}/{self.num}", remedy="give i/n with i from 0 to n - 1, e.g. 0/4")

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Returns the shard that is written as ``i/n``.

        Raises:
            SettingError: it is not written so, or there is no such shard.
        """
        index, _, num = text.partition("/")
        if not (index.isdecimal() and num.isdecimal()):
            raise SettingError(f"shard {text!r}", remedy="give i/n with i from 0 to n - 1, e.g. 0/4")
        return cls(index=int(index), num=int(num))

    def count(self, num_cases: int) -> int:
        """Returns how many of `num_cases` cases are in this shard."""
        return len(range(self.index, num_cases, self.num))


@dataclass(frozen=True, kw_only=True)
class PrepareOutcome:
    """What a preparation made.

    Attributes:
        cases: every case of the store; with a shard, every case of the shard.
        rejects: the cases that failed, each with file and reason.
        unresolved: the labels that did not become a region of a concept.
        num_kept: how many of `cases` were up to date already.
    """

    cases: tuple[CaseRow, ...]
    rejects: tuple[Reject, ...]
    unresolved: tuple[UnresolvedLabel, ...]
    num_kept: int

    def summary(self) -> list[str]:
        """Returns a line for each label and reason of `unresolved`: in how many cases, and the first of them."""
        cases: dict[tuple[str, str], list[CaseId]] = {}
        for one in self.unresolved:
            text = f"value {one.value}" if one.label is None else f"label {one.label!r}"
            cases.setdefault((text, one.reason), []).append(one.case_id)
        return [
            f"{text}: {reason} ({len(found)} cases, {found[0]} …)"
            if len(found) > 1
            else f"{found[0]}: {text}: {reason}"
            for (text, reason), found in cases.items()
        ]


@dataclass(frozen=True, kw_only=True, eq=False)
class _Job:
    """What a process needs to know to prepare any case of a call."""

    place: Place
    resolver: Resolver
    wholes: Wholes | None
    settings: PrepareSettings
    splits: Mapping[CaseId, Split]

    def __call__(self, source: SourceCase) -> _Done:
        """Prepares one case, or says why not. Nothing that is wrong with one case stops the others."""
        try:
            return self._prepared(source)
        except VesaliusError as error:
            reason, where = f"{error.what} – {error.remedy}" if error.remedy else error.what, error.where
        except MemoryError:
            reason, where = "not enough memory – give fewer workers, or more memory to each", None
        except OSError as error:
            reason, where = (
                f"{error.strerror or error} – make room or check the rights, then call again",
                error.filename,
            )
        except Exception as error:  # noqa: BLE001  a defect of ours: reported with its place, and the exit code tells
            last = traceback.extract_tb(error.__traceback__)[-1]
            told = "" if source.shown_as is not None else f": {error}"
            reason = (
                f"defect, {type(error).__name__}{told} ({Path(last.filename).name}:{last.lineno}) – please report it"
            )
            where = None
        self.place.remove(MANIFEST)
        self.place.remove(case_name(source.case_id))
        return rejected(source, reason, where)

    def _prepared(self, source: SourceCase) -> _Done:
        name = case_name(source.case_id)
        record = _read_if_whole(self.place, name)
        fingerprint = self._fingerprint(source)
        files = _source_files(source, record)
        if record is not None and self._is_up_to_date(record, fingerprint, files):
            return _Done(record=record, is_kept=True)
        case = prepare_case(source, self.resolver, self.settings, split=self.splits[source.case_id], wholes=self.wholes)
        self.place.remove(MANIFEST)
        return _Done(record=write_case(self.place, name, case, fingerprint=fingerprint, files=files))

    def _is_up_to_date(self, record: CaseRecord, fingerprint: str, files: Sequence[SourceFile]) -> bool:
        is_same = [file.sha256 for file in record.files] == [file.sha256 for file in files]
        return (
            is_same
            and record.fingerprint == fingerprint
            and all(self.resolver(text) == tied for text, tied in record.resolved.items())
            and joined_as_told(record.regions, self.wholes)
        )

    def _fingerprint(self, source: SourceCase) -> str:
        made_from = {
            "schema": SCHEMA,
            "settings": asdict(self.settings),
            "entry": [
                source.case_id, source.dataset, source.modality, source.sequence, source.split,
                self.splits[source.case_id], source.patient_id, source.made_with,
            ],
        }  # fmt: skip
        return hashlib.sha256(json.dumps(made_from, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True, kw_only=True, eq=False)
class _Done:
    """What became of a case: a record, or a reject."""

    record: CaseRecord | None = None
    reject: Reject | None = None
    is_kept: bool = False


def rejected(source: SourceCase, reason: str, where: object | None = None) -> _Done:
    """Returns that a case is left out, and why."""
    place = where if where is not None else source.files[0] if source.files else ""
    file = str(place) if source.shown_as is None else source.shown_as
    return _Done(reject=Reject(case_id=source.case_id, dataset=source.dataset, file=file, reason=reason))


def prepare(
    sources: Iterable[SourceCase],
    *,
    resolver: Resolver,
    settings: PrepareSettings,
    out: Place | Path | str,
    wholes: Wholes | None = None,
    workers: Workers | None = None,
    shard: Shard | None = None,
    origins: Sequence[Origin] = (),
    inputs: Mapping[str, str] | None = None,
    progress: Callable[[CaseId, int, int], None] | None = None,
) -> PrepareOutcome:
    """Makes the store of the given cases, and of no others.

    Each case is written whole or not at all. One that is there already, made from the same bytes with the same settings
    and with labels that still resolve as they did, is kept; so a preparation that was killed continues where it
    stopped. A case that cannot be read is rejected and the others go on. From the first case that changes until the
    end the store has no manifest and cannot be opened. One preparation at a time may write to a store, or one a shard;
    when all shards are done, a call without `shard` does what is missing and writes the tables.

    Args:
        sources: the cases; none is read before its turn.
        resolver: label text → what it stands for.
        settings: how to prepare them.
        out: the store, new or of an earlier preparation of these cases: a folder, or an ``s3://`` or ``gs://`` address.
        wholes: what makes further regions of left and right.
        workers: who does the work; this process if None.
        shard: the share of the cases to prepare, without tables.
        origins: beside those of the cases themselves.
        inputs: name → hash of each Vesalius folder that was read, for the manifest.
        progress: called after each case with its id, the number of cases done, and of all.

    Raises:
        InputError: there is no case.
        FolderError: `out` is a folder of something else, or holds cases that `sources` does not name, or its tables
            cannot be written.
    """
    pending, place = list(sources), Place.of(out)
    num_of = Counter(source.case_id for source in pending)
    _check_out(place, set(num_of), shard)
    job = _Job(place=place, resolver=resolver, wholes=wholes, settings=settings, splits=assign_splits(pending))
    mine = pending if shard is None else pending[shard.index :: shard.num]
    done: list[_Done | None] = [None] * len(mine)
    alone = []
    for number, source in enumerate(mine):
        if num_of[source.case_id] > 1:
            place.remove(case_name(source.case_id))
            done[number] = rejected(
                source, f"{num_of[source.case_id]} cases of the id {source.case_id} – rename the files of all but one"
            )
        else:
            alone.append((number, source))
    num_done = len(mine) - len(alone)
    for number, result in (workers or Here()).run(job, alone, failed=rejected):
        done[number] = result
        num_done += 1
        if progress is not None:
            progress(mine[number].case_id, num_done, len(mine))
    outcome = _outcome(done)
    if shard is None:
        used = list(origins)
        for source, one in zip(mine, done, strict=True):
            if one is not None and one.record is not None:
                used += [origin for origin in source.origins if origin not in used]
        records = [one.record for one in done if one is not None and one.record is not None]
        try:
            write_tables(place, records, outcome.rejects, origins=used, inputs=inputs or {}, settings=asdict(settings))
        except FolderError as error:
            raise FolderError(error.what, where=error.where, remedy=_CALL_AGAIN) from error
        except OSError as error:
            told = error.strerror or error
            raise FolderError(f"the tables cannot be written ({told})", where=place, remedy=_CALL_AGAIN) from error
    return outcome


def _outcome(done: Sequence[_Done | None]) -> PrepareOutcome:
    records = [one.record for one in done if one is not None and one.record is not None]
    return PrepareOutcome(
        cases=tuple(record.row for record in records),
        rejects=tuple(one.reject for one in done if one is not None and one.reject is not None),
        unresolved=tuple(label for record in records for label in record.unresolved),
        num_kept=sum(one.is_kept for one in done if one is not None),
    )


def _check_out(place: Place, case_ids: set[CaseId], shard: Shard | None) -> None:
    if not case_ids:
        raise InputError("no case to prepare", remedy="check the folder of the dataset")
    there = place.names("")
    is_store = all(name in STORE_NAMES or name.startswith(".") for name in there)
    if (place.path is not None and place.path.is_file()) or not is_store:
        raise FolderError("this holds something else than cases", where=place, remedy="give a new folder")
    known = {case_name(case_id).rpartition("/")[2] for case_id in case_ids}
    held = place.names("cases")
    others = [name.removesuffix(".zarr") for name in held if name not in known and not name.startswith(".")]
    if others:
        named = ", ".join(others[:5]) + (" …" if len(others) > 5 else "")
        raise FolderError(
            f"the store holds {len(others)} cases that are not among those to prepare ({named})",
            where=place,
            remedy="give another folder, or delete this one",
        )
    for name in held if shard is None else ():
        if _UNFINISHED.fullmatch(name):
            place.remove(f"cases/{name}")  # a killed preparation left it


def _read_if_whole(place: Place, name: str) -> CaseRecord | None:
    try:
        return read_record(place, name)
    except FolderError:
        return None  # damaged from outside: made again


def _source_files(source: SourceCase, record: CaseRecord | None) -> tuple[SourceFile, ...]:
    """Returns what the case's files are now; bytes are hashed only where size or time differ from those recorded."""
    known = (
        record.files if record is not None and len(record.files) == len(source.files) else [None] * len(source.files)
    )
    files = []
    for path, before in zip(source.files, known, strict=True):
        try:
            status = path.stat()
        except OSError as error:
            raise unreadable(path, error) from error
        is_same = before is not None and (before.size, before.modified_ns) == (status.st_size, status.st_mtime_ns)
        digest = before.sha256 if before is not None and is_same else sha256_of(path)
        files.append(SourceFile(size=status.st_size, modified_ns=status.st_mtime_ns, sha256=digest))
    return tuple(files)

"""Patients: how they are named in a store, and that none is on two sides of a split."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

from vesalius.errors import SettingError
from vesalius.ids import SPLITS, CaseId, Split
from vesalius.volumes.case import SourceCase

_SHARES: tuple[tuple[Split, float], ...] = (("train", 0.8), ("validation", 0.9), ("test", 1.0))


def hash_patient(patient: str, *, dataset: str, salt: str) -> str:
    """Returns the name of a patient in a store: 32 hexadecimal digits that do not lead back without the salt.

    Args:
        patient: as the dataset writes it.
        dataset: its name, or that of the collection it is part of; patient 1 of two of them are two patients.
        salt: secret of the user, never stored.

    Raises:
        SettingError: the salt is empty.

    Source: RFC 7693 (BLAKE2), keyed hashing.
    """
    if not salt:
        raise SettingError("patients are named, but there is no salt to hash them with", remedy="give a secret --salt")
    key = hashlib.sha256(salt.encode()).digest()
    return hashlib.blake2b(f"{dataset}\0{patient}".encode(), key=key, digest_size=16).hexdigest()


def assign_splits(sources: Sequence[SourceCase]) -> dict[CaseId, Split]:
    """Returns the side of every case. All cases of a patient, or of a group, are on one.

    It is the official side, where one case of the patient has one; where they have several, the most held out of them
    (test before validation before train). Else 80 % are train, 10 % validation, 10 % test, by a hash of the patient
    (or group, or case): it stays what it is when cases are added.
    """
    official: dict[str, Split] = {}
    for source in sources:
        if source.split is not None:
            key = _key(source)
            official[key] = _most_held_out((source.split, official.get(key, source.split)))
    return {source.case_id: official.get(_key(source)) or _drawn(_key(source)) for source in sources}


def _key(source: SourceCase) -> str:
    if source.patient_id is not None:
        return f"patient {source.patient_id}"
    return f"group {source.group}" if source.group is not None else f"case {source.case_id}"


def _most_held_out(splits: Iterable[Split]) -> Split:
    return max(splits, key=SPLITS.index)


def _drawn(key: str) -> Split:
    share = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8]) / 2**64
    return next(split for split, below in _SHARES if share < below)

"""From templates to concepts: sides and series by rule, so that T11 and T12, left and right cannot drift apart."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from vesalius.errors import InputError
from vesalius.ids import ConceptId, Laterality, slug
from vesalius.knowledge.concept import Scope
from vesalius.knowledge.handbook.entry import (
    OPPOSITES,
    PREFIX,
    SYMMETRIC,
    Body,
    Entry,
    HandbookSynonym,
    Interval,
    Sides,
    fill,
)
from vesalius.knowledge.handbook.words import ordinal, roman

SIDES: tuple[Laterality, ...] = ("left", "right")
_OTHER: Mapping[Laterality, Laterality] = {"left": "right", "right": "left"}

Refuse = Callable[[InputError], None]
"""What is done with a fault: raising it, or noting it and going on."""


def raise_it(error: InputError) -> None:
    """Raises `error`."""
    raise error


@dataclass(frozen=True, kw_only=True, slots=True)
class HandbookConcept:
    """A concept of the handbook, made from an entry by rule.

    Attributes:
        concept_id: its CURIE.
        body: names and texts without placeholders; its relations are targets as written, resolved ones are in `relations`.
        relations: (predicate, concept), kept directions only.
        laterality: the side, where it is one.
        number: its number, where it is one of a series.
        unsided: what it is the left or right one of.
        group: the series it belongs to.
        parent: what a concept of our own hangs on.
        entry: the entry it was made from.
    """

    concept_id: ConceptId
    body: Body
    relations: tuple[tuple[str, ConceptId], ...] = ()
    laterality: Laterality | None
    number: int | None
    unsided: ConceptId | None
    group: ConceptId | None
    parent: ConceptId | None
    entry: Entry

    @property
    def name(self) -> str:
        """The preferred name."""
        assert self.body.name is not None
        return self.body.name

    @property
    def definition(self) -> str:
        """What it is."""
        assert self.body.definition is not None
        return self.body.definition

    @property
    def size(self) -> Mapping[str, Interval]:
        """Ranges of one adult structure by quantity and unit (`SIZES`)."""
        return self.body.size


class Handbook:
    """All concepts of the handbook by id, made from its entries.

    Args:
        entries: as `read_entries` gives them.
        refuse: takes each fault; one that returns leaves the faulty concept or relation out.

    Raises:
        InputError: (from `refuse`) a placeholder has no word, a concept is made twice, a target is no entry, or the side or
            member asked for does not exist; the message names file and line.
    """

    def __init__(self, entries: Iterable[Entry], *, refuse: Refuse = raise_it) -> None:
        self.entries: Sequence[Entry] = tuple(entries)
        self._refuse = refuse
        self._concepts: dict[ConceptId, HandbookConcept] = {}
        self._sides: dict[ConceptId, dict[Laterality, ConceptId]] = {}
        self._members: dict[ConceptId, dict[int, ConceptId]] = {}
        for entry in self.entries:
            self._attempt(lambda entry=entry: self._add_entry(entry))
        self._name_neighbours()
        resolved = _resolve(self, refuse)
        self._concepts = {
            concept.concept_id: replace(concept, relations=tuple(sorted(resolved.get(concept.concept_id, ()))))
            for concept in self._concepts.values()
        }

    def __iter__(self) -> Iterator[HandbookConcept]:
        return iter(self._concepts.values())

    def __len__(self) -> int:
        return len(self._concepts)

    def __contains__(self, concept: object) -> bool:
        return concept in self._concepts

    def __getitem__(self, concept: ConceptId) -> HandbookConcept:
        return self._concepts[concept]

    def sides_of(self, concept: ConceptId) -> Mapping[Laterality, ConceptId]:
        """Returns the left and right one of a paired concept; empty for others."""
        return self._sides.get(concept, {})

    def members_of(self, concept: ConceptId) -> Mapping[int, ConceptId]:
        """Returns number → member of a series; empty for others."""
        return self._members.get(concept, {})

    def _attempt(self, work: Callable[[], None]) -> None:
        try:
            work()
        except InputError as error:
            self._refuse(error)

    def _add(self, concept: HandbookConcept) -> None:
        if concept.concept_id in self._concepts:
            first = self._concepts[concept.concept_id].entry.where
            raise InputError(
                f"{concept.concept_id} is made here and at {first}", where=concept.entry.where, remedy="write it once"
            )
        self._concepts[concept.concept_id] = concept

    def _add_entry(self, entry: Entry) -> None:
        single = HandbookConcept(
            concept_id=entry.concept_id,
            body=_filled(entry.body, entry.body.words, entry),
            laterality=entry.laterality, number=entry.number, unsided=None, group=None,
            parent=ConceptId(entry.parent) if entry.parent else None, entry=entry,
        )  # fmt: skip
        self._add(single)
        if entry.sides:
            self._add_sides(single, entry.body, entry.sides, entry.body.words)
        if entry.series is None:
            return
        series = entry.series
        self._members[entry.concept_id] = {}
        for member in series.members:
            written = member.body.over(series.template)
            words = {
                "number": str(member.number), "ordinal": ordinal(member.number), "roman": roman(member.number),
                "previous": "{previous}", "next": "{next}", **written.words,
            }  # fmt: skip
            body = _filled(written, words, entry)
            assert body.name is not None
            made = HandbookConcept(
                concept_id=_own_id(body),
                body=body, laterality=entry.laterality, number=member.number, unsided=None, group=entry.concept_id,
                parent=entry.concept_id, entry=entry,
            )  # fmt: skip
            self._add(made)
            self._members[entry.concept_id][member.number] = made.concept_id
            if series.sides:
                self._add_sides(made, written, series.sides, words)

    def _add_sides(self, unsided: HandbookConcept, written: Body, sides: Sides, words: Mapping[str, str]) -> None:
        self._sides[unsided.concept_id] = {}
        for side in SIDES:
            special = sides.of(side)
            all_words = {**words, **special.words, **_side_words(side), "name": unsided.name}
            body = _filled(special, all_words, unsided.entry)
            definition = body.definition or f"The {unsided.name} of the patient's {side} side. {unsided.definition}"
            body = replace(
                body,
                name=body.name or f"{side} {unsided.name}",
                synonyms=_sided_synonyms(unsided.body, body, side),
                definition=definition,
                appearance={**unsided.body.appearance, **body.appearance},
                size={**unsided.body.size, **body.size},
                relations=(*_inherited(written, all_words, unsided.entry), *body.relations),
            )
            made = HandbookConcept(
                concept_id=_own_id(body),
                body=body, laterality=side, number=unsided.number, unsided=unsided.concept_id, group=unsided.group,
                parent=unsided.concept_id, entry=unsided.entry,
            )  # fmt: skip
            self._add(made)
            self._sides[unsided.concept_id][side] = made.concept_id

    def _name_neighbours(self) -> None:
        """Puts the names of the neighbours in a series where its texts ask for them."""
        for entry in self.entries:
            if entry.series is None:
                continue
            numbers = list(self.members_of(entry.concept_id))
            for index, number in enumerate(numbers):
                member = self._concepts[self._members[entry.concept_id][number]]
                before = numbers[index - 1] if index else None
                after = numbers[index + 1] if index + 1 < len(numbers) else None
                for concept in (member.concept_id, *self.sides_of(member.concept_id).values()):
                    targets = {
                        key: f"{entry.concept_id}#{other}" if other is not None else beyond
                        for key, other, beyond in (
                            ("previous", before, entry.series.before), ("next", after, entry.series.after),
                        )
                    }  # fmt: skip
                    self._attempt(lambda concept=concept, targets=targets: self._name_its_neighbours(concept, targets))

    def _name_its_neighbours(self, concept: ConceptId, targets: Mapping[str, str | None]) -> None:
        made = self._concepts[concept]
        known = {key: target for key, target in targets.items() if target is not None}
        words = {key: self._concepts[self.target(target, made)].name for key, target in known.items()}
        self._concepts[concept] = replace(made, body=_with_neighbours(made.body, words, known, made.entry))

    def target(self, text: str, subject: HandbookConcept) -> ConceptId:
        """Returns the concept that a target means when `subject` says it: of its side, where both are paired.

        Raises:
            InputError: there is no such entry, member or side.
        """
        plain, _, wanted = text.partition("@")
        plain, _, number = plain.partition("#")
        concept = ConceptId(plain)
        if number:
            members = self.members_of(concept)
            if not number.isdigit() or int(number) not in members:
                raise InputError(
                    f"target {text}: {plain} has no member {number}", where=subject.entry.where, remedy="see its series"
                )
            concept = members[int(number)]
        if concept not in self._concepts:
            raise InputError(
                f"target {text} is no entry of the handbook",
                where=subject.entry.where,
                remedy="write the entry, or mend the id",
            )
        sides = self.sides_of(concept)
        side: Laterality | None = subject.laterality if subject.unsided or subject.entry.laterality else None
        if wanted == "unsided" or (not wanted and (side is None or not sides)):
            return concept
        if wanted == "other":
            if side is None:
                raise InputError(
                    f"target {text}: the subject has no side", where=subject.entry.where, remedy="write it in sides"
                )
            side = _OTHER[side]
        elif wanted in ("left", "right"):
            side = wanted
        if side is None or side not in sides:
            raise InputError(
                f"target {text}: {concept} has no sides",
                where=subject.entry.where,
                remedy="give it sides, or leave @ out",
            )
        return sides[side]


def _resolve(handbook: Handbook, refuse: Refuse) -> dict[ConceptId, set[tuple[str, ConceptId]]]:
    """Returns the relations of every concept, in kept directions, with those that come by rule."""
    made: dict[ConceptId, set[tuple[str, ConceptId]]] = {}

    def add(subject: ConceptId, predicate: str, object_: ConceptId) -> None:
        if predicate in OPPOSITES:
            subject, predicate, object_ = object_, OPPOSITES[predicate], subject
        if predicate in SYMMETRIC and predicate != "mirror_of" and subject > object_:
            subject, object_ = object_, subject
        made.setdefault(subject, set()).add((predicate, object_))

    for concept in handbook:
        for predicate, target in concept.body.relations:
            try:
                add(concept.concept_id, predicate, handbook.target(target, concept))
            except InputError as error:
                refuse(error)
        if concept.unsided:
            sides = handbook.sides_of(concept.unsided)
            assert concept.laterality is not None
            add(concept.concept_id, "is_a", concept.unsided)
            add(concept.concept_id, "mirror_of", sides[_OTHER[concept.laterality]])
            if concept.laterality == "left":
                add(concept.concept_id, "left_of", sides["right"])
        if concept.group:
            groups = handbook.sides_of(concept.group)
            own = (
                groups.get(concept.laterality, concept.group)
                if concept.unsided and concept.laterality
                else concept.group
            )
            add(concept.concept_id, "is_a", own)
        elif (
            concept.parent
            and not concept.unsided
            and not any(predicate in ("is_a", "part_of") for predicate, _ in concept.body.relations)
        ):
            add(concept.concept_id, "is_a", concept.parent)
    for entry in handbook.entries:
        if entry.series is not None:
            try:
                _add_series(handbook, entry, add)
            except InputError as error:
                refuse(error)
    return made


def _add_series(handbook: Handbook, entry: Entry, add: Callable[[ConceptId, str, ConceptId], None]) -> None:
    series = entry.series
    assert series is not None
    members = [handbook[concept] for concept in handbook.members_of(entry.concept_id).values()]
    for member in members:
        for subject in (member, *(handbook[side] for side in handbook.sides_of(member.concept_id).values())):
            index = members.index(member)
            follower = f"{entry.concept_id}#{members[index + 1].number}" if index + 1 < len(members) else series.after
            if follower is None:
                continue
            following = handbook.target(follower, subject)
            add(subject.concept_id, "next_in_series", following)
            if series.axis:
                add(following, f"{series.axis}_to", subject.concept_id)


def _filled(body: Body, words: Mapping[str, str], entry: Entry) -> Body:
    """Returns `body` without placeholders; words may hold the placeholders of other words, one deep."""
    try:
        return body.filled({key: fill(text, words) for key, text in words.items()})
    except KeyError as error:
        raise InputError(
            f"nothing stands for the placeholder {{{error.args[0]}}}", where=entry.where, remedy="see SCHEMA.md"
        ) from error


def _inherited(written: Body, words: Mapping[str, str], entry: Entry) -> tuple[tuple[str, str], ...]:
    """Returns what the unsided one says of itself and its sides say as well; what it is, they are through it."""
    relations = _filled(written, words, entry).relations
    return tuple((predicate, target) for predicate, target in relations if predicate != "is_a")


def _with_neighbours(body: Body, words: Mapping[str, str], targets: Mapping[str, str], entry: Entry) -> Body:
    """Returns `body` with names for ``{previous}`` and ``{next}`` in texts, and their targets in relations.

    A relation to a neighbour that the first or last member does not have is left out.
    """
    written = {f"{{{key}}}": targets.get(key) for key in ("previous", "next")}
    relations = ((predicate, written.get(target, target)) for predicate, target in body.relations)
    kept = tuple((predicate, target) for predicate, target in relations if target is not None)
    return replace(_filled(replace(body, relations=()), words, entry), relations=kept)


def _own_id(body: Body) -> ConceptId:
    assert body.name is not None
    if body.concept_id:
        return ConceptId(body.concept_id)
    return ConceptId(f"{PREFIX}:{slug(body.name)}")


def _side_words(side: Laterality) -> dict[str, str]:
    return {
        "side": side, "other_side": _OTHER[side], "Side": side.capitalize(),
        "s": side[0], "S": side[0].upper(), "lh": f"{side[0]}h",
    }  # fmt: skip


def _sided_synonyms(unsided: Body, own: Body, side: Laterality) -> tuple[HandbookSynonym, ...]:
    """Returns the side's own synonyms, then the unsided ones with the side before them."""
    sided = [replace(synonym, text=f"{side} {synonym.text}") for synonym in unsided.synonyms]
    short = [HandbookSynonym(text=f"{side} {text}", scope=Scope.EXACT) for text in unsided.abbreviations]
    if own.name:
        short.insert(0, HandbookSynonym(text=f"{side} {unsided.name}", scope=Scope.EXACT))
    return tuple(dict.fromkeys(item for item in (*own.synonyms, *short, *sided) if item.text != own.name))

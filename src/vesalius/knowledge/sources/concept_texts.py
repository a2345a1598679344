"""What an ontology says of one concept, gathered before it is staged; OWL and OBO Graph JSON say it in scattered pieces."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from vesalius.knowledge.concept import Scope
from vesalius.knowledge.sources.iris import curie_of
from vesalius.knowledge.staging import Staging

OIO = "http://www.geneontology.org/formats/oboInOwl#"
OBO = "http://purl.obolibrary.org/obo/"
LABEL = "http://www.w3.org/2000/01/rdf-schema#label"
DEPRECATED = "http://www.w3.org/2002/07/owl#deprecated"
DEFINITION = f"{OBO}IAO_0000115"
REPLACED_BY = f"{OBO}IAO_0100001"
XREF = f"{OIO}hasDbXref"
ALTERNATIVE_ID = f"{OIO}hasAlternativeId"

_FMA = "http://purl.org/sig/ont/fma/"
_NCIT = "http://ncicb.nci.nih.gov/xml/owl/EVS/Thesaurus.owl#"
_SKOS = "http://www.w3.org/2004/02/skos/core#"
_RADLEX = ("http://www.radlex.org/RID/", "http://radlex.org/RID/")
_EFO = "http://www.ebi.ac.uk/efo/"

PREFERRED = frozenset(
    {f"{_FMA}preferred_name", f"{_SKOS}prefLabel", f"{_NCIT}P108", *(f"{at}Preferred_name" for at in _RADLEX)}
)
"""Annotation properties that name a concept where ``rdfs:label`` does not: those of FMA, SKOS (SNOMED CT, MeSH), NCIt and RadLex."""

DEFINITIONS = frozenset(
    {
        DEFINITION, f"{_FMA}definition", f"{_SKOS}definition", f"{_NCIT}P97", f"{_EFO}definition",
        *(f"{at}Definition" for at in _RADLEX),
    }
)  # fmt: skip
"""Annotation properties of a definition."""

SYNONYMS: dict[str, Scope] = {
    **{f"{OIO}has{scope.value.capitalize()}Synonym": scope for scope in Scope},
    f"{OIO}hasSynonym": Scope.RELATED,
    **dict.fromkeys(
        (
            f"{_FMA}synonym", f"{_SKOS}altLabel", f"{_NCIT}P90", f"{_EFO}alternative_term", f"{OBO}IAO_0000118",
            *(f"{at}Synonym" for at in _RADLEX),
        ),
        Scope.EXACT,
    ),
}  # fmt: skip
"""Annotation property → scope. Ontologies that know no scopes mean the same thing by their synonyms."""


@dataclass(kw_only=True, slots=True)
class ConceptTexts:
    """Everything but the relations of one concept.

    Attributes:
        concept_id: CURIE, or an address that no prefix is known for.
        line: where the file describes it, or None where that is not known.
        names: its labels; the first is the name, the others become exact synonyms.
        preferred: what `PREFERRED` calls it: further labels, behind those.
        definitions: text and references.
    """

    concept_id: str
    line: int | None
    names: list[str] = field(default_factory=list)
    preferred: list[str] = field(default_factory=list)
    synonyms: list[tuple[str, Scope]] = field(default_factory=list)
    definitions: list[tuple[str, tuple[str, ...]]] = field(default_factory=list)
    xrefs: list[str] = field(default_factory=list)
    alternative_ids: list[str] = field(default_factory=list)
    replaced_by: list[str] = field(default_factory=list)
    is_obsolete: bool = False

    def annotate(self, address: str, text: str, references: Sequence[str] = ()) -> None:
        """Takes one annotation; a property that says nothing the graph holds is passed over.

        Args:
            address: IRI of the annotation property.
            text: its value: a text, a CURIE or an IRI.
            references: xrefs of the annotation itself.
        """
        if address == LABEL:
            self.names.append(text)
        elif address in PREFERRED:
            self.preferred.append(text)
        elif address in SYNONYMS:
            self.synonyms.append((text, SYNONYMS[address]))
        elif address in DEFINITIONS:
            self.definitions.append((text, tuple(references)))
        elif address == XREF:
            self.xrefs.append(curie_of(text))
        elif address == ALTERNATIVE_ID:
            self.alternative_ids.append(curie_of(text))
        elif address == REPLACED_BY:
            self.replaced_by.append(curie_of(text))
        elif address == DEPRECATED:
            self.is_obsolete = text.strip().lower() in {"true", "1"}

    def stage(self, staging: Staging, *, obsolete_ids: Collection[str]) -> None:
        """Stages it: an obsolete concept, or a live one with all its texts.

        One without a name speaks of a concept that another source brings.

        Args:
            staging: where to.
            obsolete_ids: ids that the file itself describes as obsolete; an alternative id among them is said already.
        """
        line = self.line
        names = list(dict.fromkeys((*self.names, *self.preferred)))
        if self.is_obsolete:
            name = names[0] if names else None
            staging.obsolete(self.concept_id, name=name, replaced_by=self.replaced_by, line=line)
            return
        if names:
            staging.concept(self.concept_id, names[0], line=line)
        for text in names[1:]:
            staging.synonym(self.concept_id, text, Scope.EXACT, line=line)
        for text, scope in self.synonyms:
            staging.synonym(self.concept_id, text, scope, line=line)
        for text, references in self.definitions:
            staging.definition(self.concept_id, text, references=references, line=line)
        for target in self.xrefs:
            staging.xref(self.concept_id, target, line=line)
        for former in self.alternative_ids:
            if former not in obsolete_ids:
                staging.obsolete(former, replaced_by=(self.concept_id,), line=line)

import sys

import pytest

from vesalius.errors import InputError

HEAD = (
    'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#" xmlns:rdfs="http://www.w3.org/2000/01/rdf-schema#" '
    'xmlns:owl="http://www.w3.org/2002/07/owl#" xmlns:obo="http://purl.obolibrary.org/obo/" '
    'xmlns:oio="http://www.geneontology.org/formats/oboInOwl#"'
)
OBO = "http://purl.obolibrary.org/obo/"
ONE = f'<owl:Class rdf:about="{OBO}X_1"><rdfs:label>one</rdfs:label>%s</owl:Class>'


def rdf(body, doctype=""):
    return f'<?xml version="1.0"?>\n{doctype}\n<rdf:RDF {HEAD}>\n{body}\n</rdf:RDF>'


def functional(*axioms):
    prefixes = "Prefix(:=<http://x.org/>)\nPrefix(obo:=<http://purl.obolibrary.org/obo/>)\nPrefix(rdfs:=<http://www.w3.org/2000/01/rdf-schema#>)\n"
    return prefixes + "Ontology(<http://x.org/test>\n" + "\n".join(axioms) + "\n)"


@pytest.fixture
def read(bench, tmp_path):
    def read(text, **options):
        path = tmp_path / "test.owl"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return bench.record("owl", path, **options)[0]

    return read


def test_superclasses_restrictions_and_intersections_become_relations(read):
    axioms = [
        "Declaration(Class(obo:X_1))", 'AnnotationAssertion(rdfs:label obo:X_1 "one")',
        'AnnotationAssertion(rdfs:label obo:RO_1 "lies in")',
        "SubClassOf(obo:X_1 obo:X_2)", "SubClassOf(obo:X_1 ObjectSomeValuesFrom(obo:RO_1 obo:X_3))",
        "SubClassOf(obo:X_1 ObjectMinCardinality(2 obo:BFO_0000051 obo:X_4))",
        "EquivalentClasses(obo:X_1 ObjectIntersectionOf(obo:X_5 ObjectSomeValuesFrom(obo:BFO_0000050 obo:X_6)))",
        "EquivalentClasses(obo:X_1 obo:Y_1)",
        # what follows says nothing that holds of every X:1
        "SubClassOf(ObjectIntersectionOf(obo:X_1 obo:Z_1) obo:X_7)", "SubClassOf(obo:X_1 ObjectAllValuesFrom(obo:RO_1 obo:X_7))",
        "SubClassOf(obo:X_1 ObjectMinCardinality(0 obo:RO_1 obo:X_7))", "SubClassOf(obo:X_1 ObjectUnionOf(obo:X_7 obo:X_8))",
        "SubClassOf(obo:X_1 ObjectSomeValuesFrom(ObjectInverseOf(obo:RO_1) obo:X_7))", "DisjointClasses(obo:X_1 obo:X_7)",
        "SubClassOf(obo:X_1 <http://www.w3.org/2002/07/owl#Thing>)",
    ]  # fmt: skip
    rows = read(functional(*axioms))
    assert rows["relations"] == {
        ("X:1", "is_a", "X:2"), ("X:1", "lies_in", "X:3"), ("X:1", "has_part", "X:4"), ("X:1", "is_a", "X:5"),
        ("X:1", "part_of", "X:6"),
    }  # fmt: skip
    assert rows["xrefs"] == {("X:1", "Y:1")}


FMA = """<owl:Class rdf:about="http://purl.org/sig/ont/fma/fma7203">
<rdfs:label xml:lang="en">Kidney</rdfs:label><rdfs:subClassOf rdf:resource="http://purl.org/sig/ont/fma/fma55671"/>
<rdfs:subClassOf><owl:Restriction><owl:onProperty rdf:resource="http://purl.org/sig/ont/fma/regional_part_of"/>
<owl:someValuesFrom rdf:resource="http://purl.org/sig/ont/fma/fma7159"/></owl:Restriction></rdfs:subClassOf>
<fma:FMAID rdf:datatype="http://www.w3.org/2001/XMLSchema#integer">7203</fma:FMAID>
<fma:preferred_name rdf:datatype="http://www.w3.org/2001/XMLSchema#string">Kidney</fma:preferred_name>
<fma:synonym xml:lang="en">Renal organ</fma:synonym><fma:non-English_equivalent xml:lang="la">Ren</fma:non-English_equivalent>
<fma:definition>Organ that makes urine.</fma:definition></owl:Class>"""


def test_the_annotations_of_fma_are_names_synonyms_and_definitions(read):
    text = rdf(FMA).replace("<rdf:RDF ", '<rdf:RDF xmlns:fma="http://purl.org/sig/ont/fma/" ')
    rows = read(text)
    assert rows["concepts"] == {("FMA:7203", "Kidney")}
    assert rows["synonyms"] == {("FMA:7203", "Renal organ", "exact")}
    assert rows["definitions"] == {("FMA:7203", "Organ that makes urine.", ())}
    assert rows["relations"] == {("FMA:7203", "is_a", "FMA:55671"), ("FMA:7203", "regional_part_of", "FMA:7159")}


def test_what_skos_ncit_and_radlex_annotate_is_read_too_and_the_label_stays_the_name(read):
    skos, ncit, rid = (
        "http://www.w3.org/2004/02/skos/core#",
        "http://ncicb.nci.nih.gov/xml/owl/EVS/Thesaurus.owl#",
        "http://radlex.org/RID/",
    )
    said = [
        ("http://snomed.info/id/1", "http://www.w3.org/2000/01/rdf-schema#label", "Liver structure (body structure)"),
        ("http://snomed.info/id/1", skos + "prefLabel", "Liver structure"), ("http://snomed.info/id/1", skos + "altLabel", "Liver"),
        ("http://snomed.info/id/1", skos + "definition", "A gland."), (ncit + "C1", ncit + "P108", "Lung"),
        (ncit + "C1", ncit + "P90", "Pulmo"), (ncit + "C1", ncit + "P97", "An organ."),
        (rid + "RID1", rid + "Preferred_name", "rib"), (rid + "RID1", rid + "Synonym", "costa"),
        (rid + "RID1", rid + "Definition", "A bone."),
    ]  # fmt: skip
    classes = {f"Declaration(Class(<{subject}>))": None for subject, _, _ in said}
    rows = read(
        functional(*classes, *(f'AnnotationAssertion(<{by}> <{subject}> "{text}")' for subject, by, text in said))
    )
    assert rows["concepts"] == {
        ("SCTID:1", "Liver structure (body structure)"),
        ("NCIT:C1", "Lung"),
        ("RADLEX:RID1", "rib"),
    }
    assert rows["synonyms"] == {
        ("SCTID:1", "Liver structure", "exact"), ("SCTID:1", "Liver", "exact"), ("NCIT:C1", "Pulmo", "exact"),
        ("RADLEX:RID1", "costa", "exact"),
    }  # fmt: skip
    assert {(each[0], each[1]) for each in rows["definitions"]} == {
        ("SCTID:1", "A gland."), ("NCIT:C1", "An organ."), ("RADLEX:RID1", "A bone."),
    }  # fmt: skip


def test_only_english_texts_are_taken_and_a_second_label_is_a_synonym(read):
    rows = read(
        functional(
            "Declaration(Class(obo:X_1))", 'AnnotationAssertion(rdfs:label obo:X_1 "Niere"@de)',
            'AnnotationAssertion(rdfs:label obo:X_1 "kidney"@en-GB)', 'AnnotationAssertion(rdfs:label obo:X_1 "ren")',
        )
    )  # fmt: skip
    assert rows["concepts"] == {("X:1", "kidney")}
    assert rows["synonyms"] == {("X:1", "ren", "exact")}


def test_obsolete_classes_and_former_ids_name_their_replacement(read):
    rows = read(
        rdf(
            ONE
            % "<oio:hasAlternativeId>X:2</oio:hasAlternativeId><oio:hasAlternativeId>X:3</oio:hasAlternativeId>"
            + f'<owl:Class rdf:about="{OBO}X_3"><rdfs:label>three</rdfs:label><owl:deprecated>true</owl:deprecated>'
            f'<obo:IAO_0100001 rdf:resource="{OBO}X_1"/><rdfs:subClassOf rdf:resource="{OBO}X_1"/></owl:Class>'
            + f'<owl:Class rdf:about="{OBO}X_4"><owl:deprecated>true</owl:deprecated><obo:IAO_0100001>X:1</obo:IAO_0100001></owl:Class>'
        )
    )
    assert rows["obsolete"] == {("X:2", None, ("X:1",)), ("X:3", "three", ("X:1",)), ("X:4", None, ("X:1",))}
    assert not rows["relations"]


def test_owl_xml_is_read_too(read):
    text = (
        '<?xml version="1.0"?>\n<Ontology xmlns="http://www.w3.org/2002/07/owl#" ontologyIRI="http://x.org/test">\n'
        f'<Declaration><Class IRI="{OBO}X_1"/></Declaration>\n<AnnotationAssertion>'
        f'<AnnotationProperty IRI="http://www.w3.org/2000/01/rdf-schema#label"/><IRI>{OBO}X_1</IRI><Literal>one</Literal>'
        f'</AnnotationAssertion>\n<SubClassOf><Class IRI="{OBO}X_1"/><Class IRI="{OBO}X_2"/></SubClassOf>\n</Ontology>'
    )
    rows = read(text)
    assert rows["concepts"] == {("X:1", "one")}
    assert rows["relations"] == {("X:1", "is_a", "X:2")}


def test_imports_are_named_and_never_fetched(read):
    rows = read(
        rdf(
            '<owl:Ontology rdf:about="http://x.org"><owl:imports rdf:resource="http://127.0.0.1:1/y.owl"/></owl:Ontology>'
            + ONE % ""
        )
    )
    assert rows["concepts"] == {("X:1", "one")}


def test_internal_entities_are_expanded_in_text_and_attributes_whatever_their_quotes(read):
    doctype = f"<!DOCTYPE rdf:RDF [\n<!ENTITY obo '{OBO}'>\n<!ENTITY inner \"&#233; &amp; \">\n<!ENTITY outer '&inner;&inner;'>\n]>"
    body = (
        '<owl:Class rdf:about="&obo;X_1"><rdfs:label>a &outer;b &lt;</rdfs:label>'
        '<rdfs:subClassOf rdf:resource="&obo;X_2"/></owl:Class>'
    )
    rows = read(rdf(body, doctype))
    assert rows["concepts"] == {("X:1", "a é & é & b <")}
    assert rows["relations"] == {("X:1", "is_a", "X:2")}


def test_an_address_may_be_expanded_however_often(read):
    address = OBO + "x" * 150 + "#"
    body = ONE % "" + f"<!-- {'&obo;' * 80_000} -->"
    assert read(rdf(body, f'<!DOCTYPE rdf:RDF [<!ENTITY obo "{address}">]>'))["concepts"] == {("X:1", "one")}


def laughs(levels, width=10):
    entities = '<!ENTITY l0 "ha ha ha ha">' + "".join(
        f'\n<!ENTITY l{level} "{f"&l{level - 1};" * width}">' for level in range(1, levels + 1)
    )
    return f"<!DOCTYPE rdf:RDF [\n{entities}\n]>"


SHUFFLED = '<!DOCTYPE rdf:RDF [\n<!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">\n<!ENTITY a "%s">\n]>' % ("A" * 10**5)
HOSTILE = {
    "an external entity": (
        rdf(ONE % "&x;", '<!DOCTYPE r [\n<!ENTITY x SYSTEM "file:///etc/passwd">]>'),
        ":3: an external entity: x",
    ),
    "a public entity": (
        rdf(ONE % "", '<!DOCTYPE r [<!ENTITY x PUBLIC "p" "http://x.org/x">]>'),
        ":2: an external entity: x",
    ),
    "an unparsed entity": (
        rdf(ONE % "", '<!DOCTYPE r [<!NOTATION n SYSTEM "n"><!ENTITY x SYSTEM "y" NDATA n>]>'),
        ":2: an external entity",
    ),
    "an external parameter entity": (
        rdf(ONE % "", '<!DOCTYPE r [<!ENTITY % x SYSTEM "http://x.org/x"> %x;]>'),
        ":2: an external entity: x",
    ),
    "a parameter entity": (rdf(ONE % "", '<!DOCTYPE r [<!ENTITY % x "y">]>'), ":2: a parameter entity"),
    "an external document type": (
        rdf(ONE % "", '<!DOCTYPE rdf:RDF SYSTEM "http://x.org/x.dtd">'),
        ":2: an external document type",
    ),
    "attributes with defaults": (
        rdf(ONE % "", '<!DOCTYPE r [<!ATTLIST rdf:RDF a CDATA "b">]>'),
        ":2: attributes declared",
    ),
    "a billion laughs in text": (rdf(ONE % "&l9;", laughs(9)), r":\d+: entities expand to more than 10 MB"),
    "a billion laughs in an attribute": (rdf('<owl:Class rdf:about="&l9;"/>', laughs(9)), r":\d+: entities expand"),
    "a quadratic explosion": (
        rdf("<rdfs:label>\n" + "&x;" * 101 + "\n</rdfs:label>", '<!DOCTYPE r [<!ENTITY x "%s">]>' % ("x" * 10**5)),
        r":5: entities expand to more than 10 MB",
    ),
    "a slow explosion, which expat lets pass": (
        rdf(
            f"<!-- {'x' * 400_000} -->\n<rdfs:label>{'&x;' * 101}</rdfs:label>",
            f'<!DOCTYPE r [<!ENTITY x "{"x" * 10**5}">]>',
        ),
        r":5: entities expand to more than 10 MB",
    ),
    "entities declared behind their use": (
        rdf("<a>" + "&b;" * 11 + "</a>", SHUFFLED),
        r":\d+: entities expand to more than 10 MB",
    ),
    "an entity within itself": (
        rdf(ONE % "&a;", '<!DOCTYPE r [<!ENTITY a "&b;"><!ENTITY b "&a;">]>'),
        ":4: no well-formed XML",
    ),
    "an undeclared entity": (rdf(ONE % "&nope;"), ":4: no well-formed XML"),
    "endless nesting": (rdf("<owl:Class>" * 300 + "</owl:Class>" * 300), ":4: elements nested more than 256 deep"),
    "endless parentheses": (
        functional("SubClassOf(obo:X_1 " + "ObjectComplementOf(" * 300),
        ":5: parentheses nested more than 256",
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_refused_before_it_is_parsed(read, name, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyhornedowl", None)  # an import of it would fail the test with another message
    text, message = HOSTILE[name]
    with pytest.raises(InputError, match=rf"test\.owl{message}"):
        read(text)


BAD_FILES = {
    "XML cut off": (rdf(ONE % "")[:-20], r"test\.owl:4: no well-formed XML"),
    "functional syntax cut off": (functional("SubClassOf(obo:X_1"), r"test\.owl:\d+: cannot be parsed as OWL"),
    "another XML": ("<html></html>", r"test\.owl:1: the root element is 'html'"),
    "Manchester syntax": ("Prefix: x: <http://x.org/>\nOntology: <http://x.org>", r"test\.owl:1: Manchester or Turtle"),
    "Turtle": ("# made by hand\n@prefix x: <http://x.org/> .", r"test\.owl:2: Manchester or Turtle"),
    "N-Triples": ("<http://x.org/a> <http://x.org/b> <http://x.org/c> .", r"test\.owl:1: Manchester or Turtle"),
    "JSON": ('{"graphs": []}', r"test\.owl:1: .* begins no OWL file"),
    "OBO": ("format-version: 1.2\n", r"test\.owl:1: .* begins no OWL file"),
    "nothing": ("", r"test\.owl: the file is empty"),
    "blank lines": ("\n\n", r"test\.owl: the file is empty"),
    "Latin-1": (
        '<?xml version="1.0" encoding="ISO-8859-1"?>\n<a>caf\xe9</a>'.encode("latin-1"),
        r"test\.owl:2: no well-formed XML",
    ),
    "UTF-16": ("<a/>".encode("utf-16"), r"test\.owl:1: not UTF-8"),
    "an address that is none": (
        rdf(ONE % "" + '\n<owl:Class rdf:about="x y z"/>'),
        r"test\.owl:5: cannot be parsed as OWL \(InvalidIri",
    ),
    "a language that is none": (
        rdf(ONE % '\n<rdfs:label xml:lang="x y">y</rdfs:label>'),
        r"test\.owl:5: cannot be parsed as OWL",
    ),
    "text between elements": (
        rdf(ONE % "" + "\nstray"),
        r"test\.owl:5: cannot be parsed as OWL \(Unexpected text event: .*stray",
    ),
    "a label that is empty": (
        rdf(f'<owl:Class rdf:about="{OBO}X_1">\n<rdfs:label> </rdfs:label></owl:Class>'),
        r"test\.owl:4: empty name",
    ),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_bad_files_are_refused_by_file_and_line(read, name):
    text, message = BAD_FILES[name]
    with pytest.raises(InputError, match=message):
        read(text)


def test_without_the_parser_the_message_says_what_to_install(read, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyhornedowl", None)
    with pytest.raises(InputError, match=r"pip install 'vesalius\[knowledge\]'"):
        read(rdf(ONE % ""))

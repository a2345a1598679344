"""Small OBO files, built into one graph."""

import json

import duckdb
import pytest

from vesalius.knowledge.build import BuildSettings, build
from vesalius.knowledge.store import read_graph


class Built:
    """A graph folder with its tables as lists of rows."""

    def __init__(self, folder):
        self.folder = folder
        self.graph = read_graph(folder)
        self.manifest = json.loads((folder / "manifest.json").read_text())

    def rows(self, table, columns="*"):
        return duckdb.execute(f"SELECT {columns} FROM '{self.folder}/{table}.parquet'").fetchall()

    @property
    def conflicts(self):
        return self.rows("conflicts", "kind, text, concept_ids")

    @property
    def relations(self):
        return {(relation.subject, relation.predicate, relation.object) for relation in self.graph.relations}


class Bench:
    """Writes sources and builds them."""

    def __init__(self, folder):
        self.folder = folder
        self.sources = []

    def obo(self, name, *stanzas, version="", licence=""):
        header = ["format-version: 1.4"]
        header += [f"data-version: {version}"] if version else []
        header += [f"property_value: dcterms:license {licence}"] if licence else []
        text = "\n".join(header) + "\n" + "".join(f"\n[Term]\n{stanza}\n" for stanza in stanzas)
        (self.folder / f"{name}.obo").write_text(text, encoding="utf-8")
        self.sources.append(f"obo={self.folder / name}.obo")

    def build(self, **settings):
        build(self.sources, self.folder / "graph", settings=BuildSettings(**settings))
        return Built(self.folder / "graph")


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path)

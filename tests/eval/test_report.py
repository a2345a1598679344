from __future__ import annotations

import base64
import dataclasses
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from vesalius.eval import report
from vesalius.eval.report import (
    Curve,
    EmbeddingMap,
    ImagePanel,
    Neighbour,
    Neighbours,
    PanelRegion,
    RegionRow,
    ReportContent,
    RetrievalRow,
)
from vesalius.folder import Origin

HOSTILE = """<script>alert("x")</script>' onload='y"""


def content(text: str = "heart") -> ReportContent:
    """Everything a report can hold, every text of it being `text`."""
    image = np.random.default_rng(0).random((12, 14, 10), dtype=np.float32)
    near = Neighbour(name=text, similarity=-0.25, related=True)
    result = {"task": text, "num": 1200, "recall_at_5": 0.6, "recall_at_10": 0.7, "mrr": 0.5}
    return ReportContent(
        title=text,
        summary=text,
        facts={text: text},
        retrieval=[
            RetrievalRow(stage=text, recall_at_1=0.4, recall_at_1_interval=(0.38, 0.42), **result),
            RetrievalRow(stage=f"{text} 2", recall_at_1=0.3512, recall_at_1_interval=(0.3, 0.4), **result),
        ],
        num_candidates=14831,
        retrieval_note=text,
        regions=[
            RegionRow(task=text, group=text, num=8, recall_at_1=0.25, recall_at_5=0.5, chance=0.0123),
            RegionRow(
                task=text, group="unseen names", num=0, recall_at_1=float("nan"), recall_at_5=float("nan"), chance=0.0
            ),
        ],
        held_out_image=text,
        caveats=[text],
        curves=[
            Curve(
                stage=text,
                steps=[0, 1],
                losses=[2.0, 1.0],
                validation_name=text,
                validation_steps=[1],
                validation_values=[1.0],
            )
        ],
        maps=[EmbeddingMap(title=text, xy=np.eye(2), groups=[text, text])],
        maps_note=text,
        neighbours=[Neighbours(name=text, before=[near], after=[near])],
        images=[
            ImagePanel(
                name=text,
                modality="mr",
                image=image,
                spacing_mm=(1.0, 1.0, 2.5),
                regions=[PanelRegion(name=text, mask=image > 0.5, called=[text, "lung"], is_right=True)],
            )
        ],
        graph_counts={text: 12345},
        untied_labels=[text],
        origins=[Origin(name=text, version=text, licence=text, attribution=text, sha256={text: text})],
        config_yaml=text,
    )


class Page(HTMLParser):
    """What a browser would make of a page: its elements with their attributes, and its text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_report_loads_nothing_from_anywhere(tmp_path: Path) -> None:
    report.write_report(content("see https://example.org"), tmp_path / "report.html")
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    for tag, attributes in Page(html).elements:
        assert tag not in {"link", "iframe", "object", "base"}
        for name in ("src", "href", "srcset", "data"):
            assert (attributes.get(name) or "data:").startswith(("data:", "#"))
    assert "url(" not in html
    assert "@import" not in html
    for picture in re.findall(r"data:image/svg\+xml;base64,([^\"]+)", html):
        svg = base64.b64decode(picture).decode("utf-8")
        assert not re.search(r'href="(?!#|data:)', svg)


def test_every_text_is_escaped() -> None:
    html = report.render_report(content(HOSTILE))
    page = Page(html)
    assert [tag for tag, _ in page.elements].count("script") == 1
    assert not any("onload" in attributes for _, attributes in page.elements)
    assert page.text.count(HOSTILE) > 15


@pytest.mark.parametrize(
    ("field", "anchor"),
    [
        ("retrieval", "retrieval"),
        ("regions", "regions"),
        ("images", "images"),
        ("curves", "training"),
        ("maps", "map"),
        ("neighbours", "neighbours"),
        ("origins", "sources"),
        ("config_yaml", "settings"),
    ],
)
def test_an_empty_section_is_left_out_with_its_link(field: str, anchor: str) -> None:
    full = content()
    without = dataclasses.replace(full, **{field: type(getattr(full, field))()})
    assert f'id="{anchor}"' in report.render_report(full)
    html = report.render_report(without)
    assert f'id="{anchor}"' not in html
    assert f'href="#{anchor}"' not in html


def test_a_report_of_nothing_is_a_title_and_a_warning() -> None:
    html = report.render_report(ReportContent(title="Empty", summary=""))
    assert "<section" not in html
    assert "not a medical device" in html


def test_every_link_in_the_page_has_its_section() -> None:
    elements = Page(report.render_report(content())).elements
    links = {(attributes["href"] or "").removeprefix("#") for tag, attributes in elements if tag == "a"}
    assert links == {attributes.get("id") for tag, attributes in elements if tag == "section"}


def test_numbers_are_percent_with_one_decimal() -> None:
    text = Page(report.render_report(content())).text
    for expected in ("35.1", "38.0 – 42.0", "−4.9", "1,200", "14,831", "1.2", "−0.25", "12,345"):
        assert expected in text
    assert "nan" not in text


def test_a_tick_marks_what_the_model_called_right() -> None:
    full = content()
    text = Page(report.render_report(full)).text
    assert "✓ heart" in text
    assert "✓ lung" not in text
    (panel,) = full.images
    wrong = PanelRegion(name="aorta", mask=panel.regions[0].mask, called=["heart", "Aorta"])
    text = Page(
        report.render_report(dataclasses.replace(full, images=[dataclasses.replace(panel, regions=[wrong])]))
    ).text
    assert "✓ heart" not in text
    assert "✓ Aorta" in text


def test_an_image_that_the_model_was_not_asked_about_shows_names_only() -> None:
    full = content()
    (panel,) = full.images
    unasked = dataclasses.replace(panel, regions=[PanelRegion(name="aorta", mask=panel.regions[0].mask)])
    text = Page(report.render_report(dataclasses.replace(full, images=[unasked]))).text
    assert "aorta" in text
    assert "called right" not in text


def test_the_same_content_gives_the_same_page() -> None:
    assert report.render_report(content()) == report.render_report(content())

import base64
import re
from html.parser import HTMLParser

import pytest

from eqff.report import html

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(200))


class Structure(HTMLParser):
    """Tags that are open, texts, and links to anything outside."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open, self.texts, self.tags, self.sources = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.sources += [value for name, value in attributes if name in ("src", "href")]
        if tag not in ("meta", "br", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


def test_a_page_is_whole_and_alone():
    rows = [(html.tag("pass", "good"), "energies", 1.25), ("x", "y", 3)]
    text = html.page(
        "Check", [("Errors", [html.table(("a", "b", "c"), rows), html.image(PNG, "caption")])], "below", "end"
    )
    found = Structure(text)
    assert found.open == []
    assert "script" not in found.tags
    assert found.sources == [f"data:image/png;base64,{base64.b64encode(PNG).decode()}"]
    assert {"Check", "Errors", "pass", "energies", "1.25", "caption", "below", "end"} <= set(found.texts)
    assert text.startswith("<!doctype html>")


@pytest.mark.parametrize(
    "evil", ["<script>alert(1)</script>", '"><img src=x>', '<span class="tag good">not ours</span>']
)
def test_everything_is_escaped(evil):
    pieces = [html.paragraph(evil), html.table((evil,), [(evil,)]), html.image(PNG, evil), html.tag(evil, evil)]
    found = Structure(html.page(evil, [(evil, pieces)], evil, evil))
    assert found.open == []
    assert "script" not in found.tags
    assert len(found.sources) == 1
    assert sum(evil in text for text in found.texts) >= 8


def test_numbers_stand_to_the_right_and_lines_are_kept():
    table = html.table(("n",), [(0.123456789,), (10**6,), (True,)])
    assert re.findall(r'<td class="number">([^<]*)</td>', table) == ["0.123457", "1e+06"]
    assert html.paragraph("one\ntwo") == "<p>one<br>two</p>"


def test_a_figure_becomes_a_png():
    from matplotlib.figure import Figure

    assert html.figure_png(Figure()).startswith(PNG[:8])

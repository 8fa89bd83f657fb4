"""A self-contained HTML file: text, tables and pictures, no scripts, no network.

`paragraph`, `table` and `image` make pieces, `page` puts them together; every text is escaped.

    page("Training", [("Errors", [table(("epoch", "MAE"), rows), image(png, "learning curve")])])
"""

import base64
from collections.abc import Iterable, Sequence
from html import escape
from io import BytesIO
from typing import Any

STYLE = """
:root { color-scheme: light; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; color: #1a1a1a; }
h1 { font-size: 1.5rem; margin-bottom: 0.2rem; } h2 { font-size: 1.15rem; margin-top: 2rem; }
table { border-collapse: collapse; margin: 0.6rem 0; } th, td { text-align: left; vertical-align: top; }
th, td { padding: 0.25rem 0.8rem 0.25rem 0; border-bottom: 1px solid #ddd; overflow-wrap: anywhere; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; }
figure { margin: 1rem 0; } img { max-width: 100%; } figcaption { color: #555; font-size: 0.9rem; }
.tag { border-radius: 0.3rem; padding: 0 0.45rem; white-space: nowrap; font-size: 0.85rem; border: 1px solid #999; }
.good { background: #d7f0e4; border-color: #009e73; } .bad { background: #fbdcc8; border-color: #d55e00; }
.doubt { background: #fdf0cf; border-color: #e69f00; } .plain { background: #eee; }
footer { margin-top: 3rem; color: #555; font-size: 0.85rem; }
"""
TAGS = ("good", "bad", "doubt", "plain")


class Piece(str):
    """HTML made in this module, which needs no escaping."""

    __slots__ = ()


def paragraph(text: str) -> Piece:
    """A paragraph; line breaks are kept."""
    return Piece(f"<p>{_text(text)}</p>")


def tag(text: str, kind: str = "plain") -> Piece:
    """A word in a coloured box.  Args: kind: one of TAGS, anything else is plain"""
    return Piece(f'<span class="tag {kind if kind in TAGS else "plain"}">{_text(text)}</span>')


def table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> Piece:
    """Cells are texts, numbers (right-aligned, six significant digits) or pieces of HTML."""
    head = "".join(f"<th>{_text(name)}</th>" for name in header)
    body = "".join(f"<tr>{''.join(_cell(value) for value in row)}</tr>" for row in rows)
    return Piece(f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>")


def image(png: bytes, caption: str = "") -> Piece:
    """A picture, embedded in the page.  Args: png: contents of a PNG file"""
    content = base64.b64encode(png).decode("ascii")
    below = f"<figcaption>{_text(caption)}</figcaption>" if caption else ""
    source = f"data:image/png;base64,{content}"
    return Piece(f'<figure><img alt="{escape(caption, quote=True)}" src="{source}">{below}</figure>')


def figure_png(figure: Any, dpi: int = 110) -> bytes:
    """A matplotlib figure as the contents of a PNG file."""
    buffer = BytesIO()
    figure.savefig(buffer, dpi=dpi, format="png")
    return buffer.getvalue()


def page(title: str, sections: Iterable[tuple[str, Iterable[Piece]]], subtitle: str = "", footer: str = "") -> str:
    """The whole document.  Args: sections: (heading, its pieces); an empty heading for pieces above the first one"""
    body = [f"<h1>{_text(title)}</h1>"]
    if subtitle:
        body.append(paragraph(subtitle))
    for heading, pieces in sections:
        if heading:
            body.append(f"<h2>{_text(heading)}</h2>")
        body.extend(pieces)
    if footer:
        body.append(f"<footer>{_text(footer)}</footer>")
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{_text(title)}</title>'
    head = f"<head>{head}<style>{STYLE}</style></head>"
    return "\n".join(["<!doctype html>", '<html lang="en">', head, "<body>", *body, "</body>", "</html>", ""])


def _text(text: str) -> str:
    return escape(str(text), quote=True).replace("\n", "<br>")


def _cell(value: Any) -> str:
    if isinstance(value, float | int) and not isinstance(value, bool):
        return f'<td class="number">{value:.6g}</td>'
    return f"<td>{value if isinstance(value, Piece) else _text(value)}</td>"

"""A report as Markdown and as one HTML page: the same sections, tables and notes; pictures as SVG.

    Section, Table, Link --markdown--> report.md
                         --html-----> report.html

The page is one file without scripts and links to anything outside it; its policy forbids to load
anything, and the style sheet is admitted by its hash. All texts are escaped where tags are made.
"""

import base64
import hashlib
import math
import re
from dataclasses import dataclass, field
from html import escape


@dataclass(frozen=True)
class Link:
    """A cell that leads to an anchor of the page."""

    text: str
    anchor: str
    colour: str = ""            # around 0: n4 to n1, z0, p1 to p4


@dataclass(frozen=True)
class Table:
    """Rows of plain texts or Links, and pictures (SVG) that show the same numbers."""

    header: list[str]
    rows: list[list]
    anchors: list[str] = field(default_factory=list)      # of the rows, "" for none
    pictures: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Section:
    title: str
    notes: list[str]
    tables: list[Table]


# -------------------------------------------------------------------------------- Markdown


def markdown(title: str, notice: str, sections: list[Section]) -> str:
    """The text; `notice` stands first, below the title, and last."""
    lines = [f"# {title}", "", *([f"**{notice}**", ""] if notice else [])]
    for section in sections:
        lines += [f"## {section.title}", "", *(line for n in section.notes for line in (n, ""))]
        for table in section.tables:
            lines += [*markdown_table(table), ""]
    return "\n".join(lines + ([f"**{notice}**", ""] if notice else []))


def markdown_table(table: Table) -> list[str]:
    rows = [table.header, ["---"] * len(table.header), *table.rows]
    return ["| " + " | ".join(map(plain, row)) + " |" for row in rows]


def plain(cell) -> str:
    """A cell's text, without signs that Markdown would take for a border or for markup."""
    text = cell.text if isinstance(cell, Link) else cell
    return text.replace("|", "\\|").replace("<", "&lt;")


# ------------------------------------------------------------------------------------ HTML

STYLE = """
:root { color-scheme: light dark; --back: #fff; --text: #1a1a1a; --soft: #666; --line: #ccc;
  --link: #0b57a4; --n4: #e9a26a; --n3: #f0bc92; --n2: #f6d6bc; --n1: #fbece0; --z0: #f4f4f4;
  --p1: #e4eef8; --p2: #c4dbf0; --p3: #9cc3e6; --p4: #74aadb; }
@media (prefers-color-scheme: dark) { :root { --back: #16181b; --text: #e8e8e8; --soft: #a0a0a0;
  --line: #444; --link: #8ec1f5; --n4: #9a4e14; --n3: #7c4216; --n2: #5c3517; --n1: #3d2a1a;
  --z0: #26282b; --p1: #1d2c3b; --p2: #1f3c58; --p3: #204c75; --p4: #1f5d94; } }
body { margin: 0 auto; padding: 1rem; max-width: 76rem; background: var(--back);
  color: var(--text); font: 16px/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.2rem; margin-top: 2.5rem; }
a { color: var(--link); } td a { color: inherit; }
.notice { border: 2px solid #c60; padding: .6rem .8rem; font-weight: 600; }
.scroll { overflow-x: auto; margin: 1rem 0; }
table { border-collapse: collapse; font-size: .85rem; font-variant-numeric: tabular-nums; }
th, td { border: 1px solid var(--line); padding: .25rem .5rem; text-align: left;
  white-space: nowrap; overflow-wrap: normal; }
th { background: var(--z0); } th:first-child { position: sticky; left: 0; }
tr:target { outline: 3px solid var(--link); }
.n4 { background: var(--n4); } .n3 { background: var(--n3); } .n2 { background: var(--n2); }
.n1 { background: var(--n1); } .z0 { background: var(--z0); } .p1 { background: var(--p1); }
.p2 { background: var(--p2); } .p3 { background: var(--p3); } .p4 { background: var(--p4); }
.pictures { display: flex; flex-wrap: wrap; gap: 1rem; }
svg { max-width: 100%; height: auto; font: 11px system-ui, sans-serif; fill: var(--text); }
svg line, svg polyline { stroke: var(--text); fill: none; }
svg .axis { stroke: var(--line); } svg .zero { stroke: var(--soft); stroke-dasharray: 3 2; }
svg .c0 { stroke: #888; } svg .c1 { stroke: #3b7dd8; } svg .c2 { stroke: #d9822b; }
svg .c3 { stroke: #2f9e5b; } svg .c4 { stroke: #c23b5a; } svg .c5 { stroke: #8a5fd0; }
svg .c6 { stroke: #a8791b; } svg .c7 { stroke: #1fa3a3; } svg .c8 { stroke: #d060b0; }
svg .c9 { stroke: #6b8e23; }
"""


def style_hash() -> str:
    """The sha256 by which the policy admits the style sheet."""
    return base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()


def html(title: str, notice: str, sections: list[Section]) -> str:
    """The page; `notice` stands first and last, and its beginning in every picture's title."""
    policy = (f"default-src 'none'; style-src 'sha256-{style_hash()}'; base-uri 'none'; "
              "form-action 'none'")
    head = (tag("meta", charset="utf-8")
            + tag("meta", http_equiv="Content-Security-Policy", content=policy)
            + tag("meta", name="viewport", content="width=device-width, initial-scale=1")
            + tag("title", escape(title)) + f"<style>{STYLE}</style>")
    banner = tag("p", escape(notice), class_="notice") if notice else ""
    body = [tag("h1", escape(title)), banner]
    for section in sections:
        body += [tag("h2", escape(section.title)),
                 *(tag("p", escape(note)) for note in section.notes)]
        for table in section.tables:
            pictures = tag("div", "\n".join(table.pictures), class_="pictures")
            body += [pictures if table.pictures else "", html_table(table)]
    return (f'<!DOCTYPE html>\n<html lang="en"><head>{head}</head>\n<body>'
            + "\n".join([*body, banner]) + "</body></html>\n")


def html_table(table: Table) -> str:
    rows = [tag("tr", "".join(tag("th", escape(name), scope="col") for name in table.header))]
    anchors = table.anchors or [""] * len(table.rows)
    rows += [tag("tr", html_cell(row[0], "th") + "".join(html_cell(cell, "td") for cell in row[1:]),
                 id=anchor) for anchor, row in zip(anchors, table.rows)]
    return tag("div", tag("table", "\n".join(rows)), class_="scroll", tabindex="0")


def html_cell(cell, name: str) -> str:
    if not isinstance(cell, Link):
        return tag(name, escape(cell))
    link = tag("a", escape(cell.text), href=f"#{cell.anchor}")
    return tag(name, link, class_=cell.colour)


def tag(name: str, content: str = "", /, **attributes) -> str:
    """One element; content is markup already, attributes are escaped, empty ones are left out."""
    given = "".join(f' {key.rstrip("_").replace("_", "-")}="{escape(str(value))}"'
                    for key, value in attributes.items() if value != "")
    return f"<{name}{given}>" if name == "meta" else f"<{name}{given}>{content}</{name}>"


# -------------------------------------------------------------------------------- pictures


def ticks(low: float, high: float) -> list[float]:
    """Three to six round numbers from low to high, which differ."""
    rough = (high - low) / 4
    unit = 10 ** math.floor(math.log10(rough))
    step = next(unit * factor for factor in (1, 2, 5, 10) if unit * factor >= rough)
    return [step * i for i in range(math.ceil(low / step), math.floor(high / step) + 1)]


def frame(title: str, banner: str, width: int, height: int, shapes: list[str]) -> str:
    """An SVG with its title and, in worlds that are not real, the banner above it."""
    top = [tag("title", escape(f"{banner} {title}".strip())),
           tag("text", escape(title), x=2, y=12), tag("text", escape(banner), x=2, y=26)]
    return tag("svg", "".join(top + shapes), role="img", width=width, height=height,
               viewBox=f"0 0 {width} {height}")


def sheet(pictures: list[str]) -> str:
    """A file of its own from pictures of one size, three in a row."""
    width, height = (int(re.search(rf' {side}="(\d+)"', pictures[0])[1])
                     for side in ("width", "height"))
    placed = [picture.replace("<svg", f'<svg x="{i % 3 * width}" y="{i // 3 * height}"', 1)
              for i, picture in enumerate(pictures)]
    return tag("svg", f"<style>{STYLE}</style>" + "\n".join(placed), role="img",
               xmlns="http://www.w3.org/2000/svg", width=min(3, len(placed)) * width,
               height=math.ceil(len(placed) / 3) * height)


def dots(title: str, banner: str, rows: list[tuple], domain: tuple[float, float],
         width: int) -> str:
    """A dot at each row's value and a bar from low to high (nan: no bar) over one axis.

    rows: (label, value, low, high); domain: ends of the axis, in the values' unit.
    """
    left = 12 + 6 * max(len(row[0]) for row in rows)
    bottom = 36 + 14 * len(rows)

    def place(value):
        share = (value - domain[0]) / (domain[1] - domain[0])
        return round(left + share * (width - left - 10), 1)

    shapes = []
    for tick in ticks(*domain):
        shapes += [tag("line", x1=place(tick), x2=place(tick), y1=34, y2=bottom,
                       class_="axis" if tick else "zero"),
                   tag("text", f"{tick:g}", x=place(tick), y=bottom + 13, text_anchor="middle")]
    for i, (label, value, low, high) in enumerate(rows):
        y = 43 + 14 * i
        shapes.append(tag("text", escape(label), x=2, y=y + 4))
        if low <= high:
            shapes.append(tag("line", x1=place(low), x2=place(high), y1=y, y2=y))
        shapes.append(tag("circle", cx=place(value), cy=y, r=3))
    return frame(title, banner, width, bottom + 20, shapes)


def curves(title: str, banner: str, lines: list[tuple]) -> str:
    """lines: (label, [(x, y), ...]), one colour a label; axes end where the values do."""
    xs, ys = zip(*(point for _, points in lines for point in points))
    low, high = min(ys), max(max(ys), min(ys) + 1)
    width, height, left, top = 340, 210, 34, 36

    def place(x, y):
        return (round(left + x / max(xs) * (width - left - 12), 1),
                round(top + (high - y) / (high - low) * (height - top - 20), 1))

    shapes = []
    for tick in ticks(low, high):
        y = place(0, tick)[1]
        shapes += [tag("line", x1=left, x2=width - 12, y1=y, y2=y, class_="axis"),
                   tag("text", f"{tick:g}", x=left - 4, y=y + 4, text_anchor="end")]
    shapes += [tag("text", f"{max(xs):,} steps", x=width - 12, y=height - 5, text_anchor="end"),
               tag("text", "0", x=left, y=height - 5)]
    labels = list(dict.fromkeys(label for label, _ in lines))
    for label, points in lines:
        path = " ".join("{},{}".format(*place(*point)) for point in points)
        shapes.append(tag("polyline", points=path, class_=f"c{labels.index(label) % 10}"))
    for i, label in enumerate(labels):
        x, y = left + 152 * (i % 2), height + 12 + 14 * (i // 2)
        shapes += [tag("line", x1=x, x2=x + 16, y1=y - 4, y2=y - 4, class_=f"c{i % 10}"),
                   tag("text", escape(label), x=x + 20, y=y)]
    return frame(title, banner, width, height + 14 * (len(labels) + 3) // 2, shapes)

"""The picture of the comparison with the official SDKs: bars for each metric, relative to the bare loop, as SVG."""

from __future__ import annotations

from html import escape

from scripts.benchmarks._report import Result

WIDTH, BAR_HEIGHT, GAP = 760, 14, 4
LABEL_WIDTH, VALUE_WIDTH = 190, 60
TITLE_HEIGHT, HEAD_HEIGHT, MARGIN = 34, 26, 12
COLORS = {"bare loop": "#9aa5b1", "C": "#c3cad2", "voice-agent": "#1f6feb"}
SDK_COLOR = "#e09b3d"
STYLE = (
    "text { font-family: sans-serif; font-size: 12px; fill: #57606a } "
    ".head { font-weight: bold } .title { font-size: 15px; font-weight: bold }"
)


def means(result: Result) -> dict[str, dict[str, float]]:
    """Return the mean over the services of each ratio to the bare loop, by metric and program; SDKs are one program."""
    table = result.tables[0]
    found: dict[str, dict[str, list[float]]] = {}
    for row in table.rows:
        program = row[1] if row[1] in COLORS else "the service's SDK"
        for column, value in zip(table.columns, row[len(table.keys) :], strict=True):
            if column.name.endswith(" ratio") and value is not None:
                found.setdefault(column.name.removesuffix(" ratio"), {}).setdefault(program, []).append(value)
    return {
        metric: {program: sum(values) / len(values) for program, values in programs.items()}
        for metric, programs in found.items()
    }


def draw(result: Result) -> str:
    """Return the SVG."""
    metrics = means(result)
    rows = sum(len(programs) for programs in metrics.values())
    height = TITLE_HEIGHT + len(metrics) * (HEAD_HEIGHT + GAP) + rows * (BAR_HEIGHT + GAP) + MARGIN
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" '
        f'viewBox="0 0 {WIDTH} {height}" role="img">',
        f"<style>{STYLE}</style>",
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
        f'<text class="title" x="{MARGIN}" y="22">Relative to a bare websocket-client loop (less is better)</text>',
    ]
    y = TITLE_HEIGHT
    space = WIDTH - LABEL_WIDTH - VALUE_WIDTH - MARGIN
    for metric, programs in metrics.items():
        y += HEAD_HEIGHT
        lines.append(f'<text class="head" x="{MARGIN}" y="{y - 8}">{escape(metric)}</text>')
        largest = max(programs.values())
        for program, value in programs.items():
            width = max(1.0, space * value / largest)
            color = COLORS.get(program, SDK_COLOR)
            base = y + BAR_HEIGHT - 3
            lines += [
                f'<text x="{MARGIN + 12}" y="{base}">{escape(program)}</text>',
                f'<rect x="{LABEL_WIDTH}" y="{y}" width="{width:.1f}" height="{BAR_HEIGHT}" fill="{color}"/>',
                f'<text x="{LABEL_WIDTH + width + 6:.1f}" y="{base}">{value:.2f}</text>',
            ]
            y += BAR_HEIGHT + GAP
        y += GAP
    return "\n".join([*lines, "</svg>", ""])

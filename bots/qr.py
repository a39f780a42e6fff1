"""A QR code as text and as SVG. Knows nothing of what it says."""

from __future__ import annotations

import io

import segno


def as_text(content: str) -> str:
    """A QR code of half-height blocks, for a terminal or a monospaced message."""
    drawn = io.StringIO()
    segno.make(content, micro=False).terminal(drawn, border=2, compact=True)
    return drawn.getvalue()


def as_svg(content: str) -> str:
    """A QR code as an SVG document, black on white."""
    drawn = io.BytesIO()
    segno.make(content, micro=False).save(
        drawn, kind="svg", scale=5, border=3, light="#fff", dark="#000", xmldecl=False
    )
    return drawn.getvalue().decode()

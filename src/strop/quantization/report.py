"""What was chosen for each group of layers, why, and what it does: as JSON and as a picture."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from strop.quantization.comparison import Comparison
from strop.quantization.formats import FORMATS
from strop.quantization.model import Quantized

_SHADES = {4: "#cfe1f2", 5: "#93c3de", 6: "#4b97c9", 8: "#1b5fa5"}
"""A colour for each number of bits."""
_CELL, _ROW, _LEFT, _TOP = 24, 26, 120, 44


def as_json(quantized: Quantized, *, model: str, text: str) -> dict[str, Any]:
    """Return the report as plain values.

    Args:
        quantized: the quantised model.
        model: as the user named it.
        text: what was calibrated on, as the user named it.
    """
    weights = sum(_weights(o) for o in quantized.chosen.values())
    return {
        "model": model,
        "calibration": text,
        "bytes": quantized.bytes,
        "nf4_bytes": quantized.choices.nf4_bytes,
        "bytes_over_nf4": quantized.bytes / quantized.choices.nf4_bytes,
        "bits_per_weight": 8 * quantized.bytes / weights,
        "measured": {
            name: dataclasses.asdict(comparison)
            for name, comparison in quantized.compressed.measured.items()
        },
        "expected_kl": sum(option.kl for option in quantized.chosen.values()),
        "left_in_16_bits": quantized.left,
        "groups": [_group(quantized, name) for name in quantized.chosen],
    }


def _group(quantized: Quantized, name: str) -> dict[str, Any]:
    chosen = quantized.chosen[name]
    return {
        "layers": quantized.choices.members[name],
        "format": chosen.format,
        "bytes": chosen.bytes,
        "expected_kl": chosen.kl,
        "options": {
            option.format: {"bytes": option.bytes, "expected_kl": option.kl}
            for option in quantized.choices.options[name]
        },
    }


def _weights(option: Any) -> int:
    return round(8 * option.bytes / FORMATS[option.format].bits_per_weight)


def picture(quantized: Quantized) -> str:
    """Return as SVG which group of which block has how many bits: a column for each block."""
    blocks = list(
        dict.fromkeys(_place(quantized.choices.members[name])[0] for name in quantized.chosen)
    )
    kinds = list(
        dict.fromkeys(_place(quantized.choices.members[name])[1] for name in quantized.chosen)
    )
    cells = []
    for name, option in quantized.chosen.items():
        members = quantized.choices.members[name]
        block, kind = _place(members)
        x, y = _LEFT + _CELL * blocks.index(block), _TOP + _ROW * kinds.index(kind)
        form = FORMATS[option.format]
        ink = "#fff" if form.bits > 5 else "#000"
        cells.append(
            f'<rect x="{x}" y="{y}" width="{_CELL - 2}" height="{_ROW - 2}" '
            f'fill="{_SHADES[form.bits]}"><title>{", ".join(members)}: {form.name}, '
            f"{option.bytes:,} bytes, {option.kl:.2g} nats expected</title></rect>"
            f'<text x="{x + _CELL / 2 - 1}" y="{y + 16}" text-anchor="middle" fill="{ink}">'
            f"{form.bits}</text>"
        )
    labels = [
        f'<text x="{_LEFT - 8}" y="{_TOP + _ROW * i + 16}" text-anchor="end">{kind}</text>'
        for i, kind in enumerate(kinds)
    ] + [
        f'<text x="{_LEFT + _CELL * i + _CELL / 2 - 1}" y="{_TOP - 6}" text-anchor="middle">{i}</text>'
        for i in range(0, len(blocks), 5)
    ]
    width, height = _LEFT + _CELL * len(blocks) + 10, _TOP + _ROW * len(kinds) + 10
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        'font-family="sans-serif" font-size="11" role="img" aria-label="bits of each layer">'
        f'<text x="{_LEFT}" y="16" font-size="13">bits of a weight, by block '
        f"({quantized.bytes / quantized.choices.nf4_bytes:.3f} times the bytes of NF4)</text>"
        + "".join(labels + cells)
        + "</svg>\n"
    )


def _place(members: Sequence[str]) -> tuple[str, str]:
    """Return the block of a group of layers and what they are called within it."""
    parts = [name.split(".") for name in members]
    at = next(i for i, part in enumerate(parts[0]) if part.isdigit())
    short_names = "/".join(part[-1].removesuffix("_proj") for part in parts)
    return ".".join(parts[0][: at + 1]), short_names


def summary(measured: dict[str, Any]) -> list[tuple[str, ...]]:
    """Return lines of a table: a measure, and its value for the original, NF4 and strop."""
    columns = [Comparison(**measured[name]) for name in ("original", "nf4", "strop")]
    return [
        ("KL, nats per token", *(f"{c.kl:.4f}" for c in columns)),
        ("same top-1 token", *(f"{100 * c.top1:.1f} %" for c in columns)),
        ("perplexity", *(f"{c.perplexity:.3f}" for c in columns)),
    ]

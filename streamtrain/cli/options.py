"""The values of options, read from text."""

from __future__ import annotations

from typing import Any

import click


def size(text: Any) -> int:
    """Bytes, written as 256MB, 1.5GB or 800000."""
    number = str(text).upper().removesuffix("B")
    factor = {"K": 10**3, "M": 10**6, "G": 10**9}.get(number[-1:], 1)
    try:
        return int(float(number.rstrip("KMG")) * factor)
    except (ValueError, OverflowError):
        raise click.BadParameter(f"{text!r} is not a size such as 256MB") from None


def layers(text: Any) -> list[int]:
    """Units of the hidden layers, written as 100 or 256,128."""
    units = [int(part) for part in str(text).split(",") if part.strip().isdecimal()]
    if len(units) != str(text).count(",") + 1 or min(units) < 1:
        raise click.BadParameter(f"{text!r} is not units a layer such as 100 or 256,128")
    return units


def every(text: Any) -> tuple[int, str]:
    """A count and its unit, written as 60s or 500steps."""
    for unit in ("steps", "s"):
        count = str(text).removesuffix(unit)
        if str(text).endswith(unit) and count.isdecimal() and int(count):
            return int(count), unit
    raise click.BadParameter(f"{text!r} is neither seconds such as 60s nor steps such as 500steps")

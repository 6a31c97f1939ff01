"""Small PNG pictures as data URIs, which an HTML page can contain."""

from __future__ import annotations

import base64
import struct
import zlib

import numpy as np

from streamtrain.block import Array

_GREY, _PALETTE = 0, 3  # colour types of the PNG specification, section 11.2.1


def grey(image: Array) -> str:
    """Return the data URI of an image (rows, columns) of values in 0..1, black to white."""
    return _uri(np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8), _GREY, b"")


def signed(image: Array) -> str:
    """Return the data URI of an image (rows, columns) of values in −1..1: blue below zero, orange above.

    The smaller the value, the more transparent the colour, so it is readable on a light and on a dark page.
    """
    levels = np.arange(256) - 128
    colours = np.where(levels[:, None] < 0, (47, 127, 209), (222, 111, 20)).astype(np.uint8)
    alpha = np.minimum(np.abs(levels) * 2, 255).astype(np.uint8)
    extra = _chunk(b"PLTE", colours.tobytes()) + _chunk(b"tRNS", alpha.tobytes())
    return _uri((np.rint(np.clip(image, -1, 1) * 127) + 128).astype(np.uint8), _PALETTE, extra)


def _uri(image: Array, colour_type: int, extra: bytes) -> str:
    height, width = image.shape
    lines = np.hstack([np.zeros((height, 1), dtype=np.uint8), image])  # filter type 0 first
    header = struct.pack(">IIBBBBB", width, height, 8, colour_type, 0, 0, 0)
    data = b"".join(
        [
            b"\x89PNG\r\n\x1a\n",
            _chunk(b"IHDR", header),
            extra,
            _chunk(b"IDAT", zlib.compress(lines.tobytes(), 9)),
            _chunk(b"IEND", b""),
        ]
    )
    return f"data:image/png;base64,{base64.b64encode(data).decode()}"


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

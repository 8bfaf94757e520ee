"""What can be measured about the projection of a picture: seam, poles, edges inside, likeness of halves, black parts.

Every function takes the picture on one small canvas (see `canvas`), whatever its real shape: positions are fractions of
width and height, so a squeezed picture measures like the original.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import pairwise

import cv2
import numpy as np
from numpy.lib.stride_tricks import as_strided

CANVAS_HEIGHT = 256  # fine enough that neighbouring columns agree, small enough for a few milliseconds
DARK_LEVEL = 30  # of the brightest channel, counts as black: JPEG and limited-range video lift pure black to about 20
SAME_COLOUR = 10  # grey levels in any channel; a lens stop is even, walls and skies are shaded
NOISE_LEVEL = 0.5  # grey levels added to ratios, so that the rounding noise of a flat picture decides nothing
SECOND_COLUMN_PRICE = 1.4
_MEAN_CHANNEL = np.full((1, 3), 1 / 3, np.float32)
CLOSED_SEAM = 1.0  # below, the seam is closed by any limit, and the second column is not looked at
STEREO_SHIFT = 4  # columns searched of 128 per eye: 3 % of the width, 11 degrees of disparity
STEREO_TILE = 16

Gray = np.ndarray  # float32 (H, W), grey levels
Rgb = np.ndarray  # uint8 (H, W, 3)


def canvas(rgb: Rgb) -> Rgb:
    """(H, W, 3) -> (h, 2h, 3) with h at most CANVAS_HEIGHT."""
    height = min(CANVAS_HEIGHT, rgb.shape[0])
    if rgb.shape[:2] == (height, 2 * height):
        return rgb
    return cv2.resize(rgb, (2 * height, height), interpolation=cv2.INTER_AREA)


def contrast(gray: Gray) -> float:
    """Standard deviation of brightness in grey levels."""
    return float(cv2.meanStdDev(gray)[1][0, 0])


def seam_gap(rgb: Rgb) -> float:
    """How badly the left and right border fit: about 0.5 for a closed panorama, 10 for unrelated borders.

    The outermost column may be spoilt by a codec's padding, so where they do not fit, the next one gets a
    chance too, at a higher price.
    """
    gap = _gap(rgb, margin=0)
    return gap if gap < CLOSED_SEAM else min(gap, SECOND_COLUMN_PRICE * _gap(rgb, margin=1))


def _gap(rgb: Rgb, margin: int) -> float:
    """Geometric mean of two ratios of the jump across the border, all jumps spanning 2 * margin + 1 columns.

    One is over the largest jumps between columns inside (a door frame may stand on the seam), the other, row by row,
    over the usual jump in that row (an edge does not reach everywhere).
    """
    height, span = len(rgb), 2 * margin + 1
    inside = cv2.transform(cv2.absdiff(rgb[:, span:], rgb[:, :-span]).astype(np.float32), _MEAN_CHANNEL)
    across = cv2.absdiff(rgb[:, margin], rgb[:, -1 - margin]).mean(axis=1)
    weight = _latitude_weight(height)
    columns = across @ weight / (quantile(weight @ inside, 0.95) + NOISE_LEVEL)
    rows = _weighted_quantile(across / (row_means(inside) + NOISE_LEVEL), weight, 0.6)
    return float(np.sqrt(columns * rows))


def row_means(values: Gray) -> np.ndarray:
    """Mean of every row: much faster than numpy's."""
    return cv2.reduce(values, 1, cv2.REDUCE_AVG, dtype=cv2.CV_32F)[:, 0]


def changes(gray: Gray) -> tuple[float, float]:
    """Mean jump across, from column to column, and down, from row to row."""
    across, down = cv2.absdiff(gray[:, 1:], gray[:, :-1]), cv2.absdiff(gray[1:], gray[:-1])
    return cv2.mean(across)[0], cv2.mean(down)[0]


def quantile(values: np.ndarray, share: float) -> float:
    """The value that `share` of all are below, without interpolation: much faster than numpy's."""
    rank = int(share * (values.size - 1))
    return float(np.partition(values.ravel(), rank)[rank])


def _weighted_quantile(values: np.ndarray, weight: np.ndarray, share: float) -> float:
    order = np.argsort(values)
    return float(values[order[np.searchsorted(np.cumsum(weight[order]), share)]])


@lru_cache(maxsize=8)
def _latitude_weight(height: int) -> np.ndarray:
    weight = np.cos((np.arange(height) + 0.5) / height * np.pi - np.pi / 2)
    return (weight / weight.sum()).astype(np.float32)


def pole_stretch(gray: Gray) -> tuple[float, float]:
    """Horizontal over vertical gradient in the top and bottom sixteenth of the rows.

    Equirectangular rows near a pole are stretched by 1/cos(latitude), about ten times there: the ratio is far below 1.
    Other projections have about 1. A flat pole is as even as a panorama's must be, and gives about 0.
    """
    rows = max(3, len(gray) // 16)
    return _stretch(gray[: rows + 1]), _stretch(gray[-rows - 1 :])


def _stretch(gray: Gray) -> float:
    across, down = changes(gray)
    return across / (down + NOISE_LEVEL / 2)


def stereo_likeness(gray: Gray) -> tuple[float, float]:
    """How alike top and bottom half, and left and right half are: lower quartile of the correlation of tiles."""
    height, width = gray.shape
    top_bottom = _tile_likeness(gray[: height // 2], gray[height // 2 :])
    return top_bottom, _tile_likeness(gray[:, : width // 2], gray[:, width // 2 :])


def _tile_likeness(first: Gray, second: Gray) -> float:
    """Of every tile of the first picture, the best normalised correlation with the second, a little shifted."""
    tiles = _tiles(_detail(first))
    busy = tiles.std(axis=2) >= 1  # a flat tile matches anything
    if busy.sum() < 4:
        return 0.0
    around = cv2.copyMakeBorder(_detail(second), 1, 1, STEREO_SHIFT, STEREO_SHIFT, cv2.BORDER_REFLECT_101)
    products = np.matmul(_windows(around, STEREO_TILE, tiles.shape[:2]), _normalised(tiles)[..., None])[..., 0]
    scores = products / _windows(_deviation(around), 1, tiles.shape[:2])[..., 0]
    best = np.sort(scores.max(axis=2)[busy])
    return float(np.interp(0.25 * (len(best) - 1), np.arange(len(best)), best))


def _tiles(gray: Gray) -> np.ndarray:
    """Tiles in rows and columns, (rows, columns, pixels)."""
    rows, columns = gray.shape[0] // STEREO_TILE, gray.shape[1] // STEREO_TILE
    return gray.reshape(rows, STEREO_TILE, columns, STEREO_TILE).swapaxes(1, 2).reshape(rows, columns, -1)


def _windows(around: Gray, size: int, grid: tuple[int, int]) -> np.ndarray:
    """Squares that begin at every tile's corner, a little shifted each way, (rows, columns, shifts, pixels)."""
    down, aside = around.strides
    shape = (*grid, 3, 2 * STEREO_SHIFT + 1, size, size)
    strides = (STEREO_TILE * down, STEREO_TILE * aside, down, aside, down, aside)
    return as_strided(around, shape, strides, writeable=False).reshape(*grid, -1, size**2)


def _deviation(around: Gray) -> Gray:
    """Of the square of a tile's size that begins at every pixel: the length of its pixels without their mean."""
    square, begin = (STEREO_TILE, STEREO_TILE), (0, 0)
    variance = cv2.blur(around * around, square, anchor=begin) - cv2.blur(around, square, anchor=begin) ** 2
    return STEREO_TILE * np.sqrt(variance.clip(0)) + 1e-3


def _normalised(patches: np.ndarray) -> np.ndarray:
    """Without their mean, and of length 1."""
    centred = patches - patches.mean(axis=-1, keepdims=True)
    return centred / (np.linalg.norm(centred, axis=-1, keepdims=True) + 1e-6)


def _detail(gray: Gray) -> Gray:
    """Band-passed picture of 64 x 128: without the slow shading that all rooms and skies share."""
    small = cv2.resize(gray, (128, 64), interpolation=cv2.INTER_AREA)
    return cv2.GaussianBlur(small, (0, 0), 0.7) - cv2.GaussianBlur(small, (0, 0), 4)


def middle_row_edge(gray: Gray) -> float:
    """Jump between the two rows in the middle, over the jumps around it; the smallest of three thirds of the width."""
    return min(_edge(part, len(gray) // 2) for part in _split(gray, 3))


def face_edge(gray: Gray, *, columns: int, rows: int) -> float:
    """Jump at the borders of a grid of cube faces over the jumps around them: the smallest of all vertical borders."""
    borders = [round(i * gray.shape[1] / columns) for i in range(1, columns)]
    return min(_edge(part, border) for part in _split(gray.T, rows) for border in borders)


def _split(gray: Gray, count: int) -> list[Gray]:
    """Strips next to each other."""
    limits = [round(i * gray.shape[1] / count) for i in range(count + 1)]
    return [gray[:, first:last] for first, last in pairwise(limits)]


def _edge(lines: Gray, index: int) -> float:
    """Jump at a border (before line `index`, give or take one) over the mean of eight lines on either side."""
    start = max(0, index - 9)
    jumps = row_means(cv2.absdiff(*(np.ascontiguousarray(lines[start + i : index + 8 + i]) for i in (0, 1))))
    border = jumps[index - 2 - start : index + 1 - start]
    around = (jumps.sum() - border.sum()) / (len(jumps) - len(border))
    return float(border.max() / (around + 1))


def circle_void(rgb: Rgb, circles: int) -> tuple[float, float]:
    """Share of one colour outside `circles` circles side by side, minus its share inside: 1 for a fisheye picture.

    Second, the brightness of that colour in grey levels.
    """
    sparse = np.ascontiguousarray(rgb[::4, ::4])
    outside, inside = _circle_masks(*sparse.shape[:2], circles)
    colour = np.median(sparse[outside], axis=0).astype(int)
    same = cv2.inRange(sparse, colour - SAME_COLOUR + 1, colour + SAME_COLOUR - 1) > 0
    return float(same[outside].mean() - same[inside].mean()), float(colour.max())


@lru_cache(maxsize=8)
def _circle_masks(height: int, width: int, circles: int) -> tuple[np.ndarray, np.ndarray]:
    """Pixels well outside and well inside of circles that fill the height."""
    y = (np.arange(height) + 0.5) / height * 2 - 1
    x = (np.arange(width) + 0.5) / width * circles % 1 * 2 - 1
    radius = np.hypot(x[None], y[:, None])
    return radius > 1.1, radius < 0.9


def black_bands(rgb: Rgb) -> tuple[float, float, float, float]:
    """Black part at the top, bottom, left and right, as fractions of height and width."""
    red, green, blue = cv2.split(rgb)
    black = (cv2.max(cv2.max(red, green), blue) < DARK_LEVEL).view(np.uint8)
    rows, columns = row_means(black) > 0.98, cv2.reduce(black, 0, cv2.REDUCE_AVG, dtype=cv2.CV_32F)[0] > 0.98
    return _leading(rows), _leading(rows[::-1]), _leading(columns), _leading(columns[::-1])


def _leading(flags: np.ndarray) -> float:
    return float(np.argmin(np.append(flags, False)) / len(flags))

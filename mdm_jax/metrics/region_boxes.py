"""Boxes of a map's regions at many thresholds, for MaxBoxAcc: OpenCV's contours, found fast.

A region is a set of pixels above a level that touch, also by their corners. Its outer contour has
its bounding box; the contour of a hole, a set of pixels that touch by their sides and do not reach
the border, has the hole's box and one pixel around. A noisy map has thousands of them at each of
its 255 levels, which takes `findContours` seconds. There the boxes are read from labeled components
instead, and levels are skipped at which no box can overlap enough (`useful`); the answer is the
same."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, UInt8

# Changes between neighbors a level, above which labels are faster than contours.
ROUGH = 1000


def best_overlaps(
    gray: UInt8[np.ndarray, "h w"],
    levels: Sequence[int],
    true_boxes: np.ndarray,
    *,
    least: float,
    largest: bool,
) -> Float[np.ndarray, " levels"]:
    """Best intersection over union of a region's box with a true box, at each of rising `levels`.

    Of the boxes of all contours, or of the `largest` by area. A number below `least` may be given
    as 0.
    """
    best = np.zeros(len(levels))
    changes = np.abs(np.diff(gray.astype(np.int16), axis=1)).sum() / 255
    if changes < ROUGH:
        for number, level in enumerate(levels):
            boxes = contour_boxes(gray, level, largest)
            best[number] = intersection_over_union(boxes, true_boxes).max()
        return best
    for number in useful(REGIONS, gray, levels, true_boxes, least):
        if largest:
            boxes = contour_boxes(gray, levels[number], largest)
        else:
            boxes = _components(REGIONS, gray, levels[number]).boxes
        best[number] = intersection_over_union(boxes, true_boxes).max(initial=0.0)
    if not largest:
        for number in useful(HOLES, gray, levels, true_boxes, least):
            holes = _components(HOLES, gray, levels[number])
            boxes = holes.boxes[~holes.at_border]
            overlap = intersection_over_union(boxes, true_boxes).max(initial=0.0)
            best[number] = max(best[number], overlap)
    return best


def contour_boxes(gray: np.ndarray, level: int, largest: bool) -> np.ndarray:
    """Boxes [k, 4] of the contours, those of holes too; [[0, 0, 0, 0]] where there is none."""
    import cv2

    _, binary = cv2.threshold(gray, level, 255, cv2.THRESH_BINARY)
    # a hole, or a region in it, is never larger than the region around it
    mode = cv2.RETR_EXTERNAL if largest else cv2.RETR_TREE
    contours: Any = cv2.findContours(binary, mode, cv2.CHAIN_APPROX_SIMPLE)[0]
    if not contours:
        return np.zeros((1, 4), int)
    if largest:
        with_area = [contour for contour in contours if len(contour) > 2]
        top = max(with_area, key=cv2.contourArea, default=contours[0])
        # as the authors': the first contour where none has an area
        contours = [top if cv2.contourArea(top) > 0 else contours[0]]
    rectangles = np.array([cv2.boundingRect(contour) for contour in contours])
    return _ends(rectangles, gray.shape)


class Kind(NamedTuple):
    """Pixels that grow with the level's fall (regions) or rise (holes), and how they touch."""

    connectivity: int
    rising: bool
    """whether they grow as the level rises"""
    margin: int
    """pixels around a component that its contour's box has"""


REGIONS = Kind(connectivity=8, rising=False, margin=0)
HOLES = Kind(connectivity=4, rising=True, margin=1)


class Components(NamedTuple):
    """The labeled components of a kind at a level."""

    labels: np.ndarray
    """[h, w], 0 for no component, component i is i + 1"""
    boxes: np.ndarray
    """[k, 4] of their contours"""
    at_border: np.ndarray
    """[k], whether they reach the border of the map"""


def _components(kind: Kind, gray: np.ndarray, level: int) -> Components:
    import cv2

    mode = cv2.THRESH_BINARY_INV if kind.rising else cv2.THRESH_BINARY
    return _label(kind, cv2.threshold(gray, level, 255, mode)[1])


def _label(kind: Kind, binary: np.ndarray) -> Components:
    import cv2

    _, labels, stats, _ = cv2.connectedComponentsWithStats(
        binary, connectivity=kind.connectivity
    )
    rectangles = stats[1:, :4].astype(int)
    height, width = binary.shape
    start, stop = rectangles[:, :2], rectangles[:, :2] + rectangles[:, 2:]
    at_border = (start == 0).any(axis=1) | (stop == (width, height)).any(axis=1)
    rectangles[:, :2] -= kind.margin
    rectangles[:, 2:] += 2 * kind.margin
    return Components(labels, _ends(rectangles, binary.shape), at_border)


def _ends(rectangles: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """(x, y, width, height) as (x0, y0, x1, y1), the ends inside of the map."""
    height, width = shape
    ends = rectangles[:, :2] + rectangles[:, 2:]
    ends = np.minimum(ends, (width - 1, height - 1))
    return np.concatenate([rectangles[:, :2], ends], axis=1)


def useful(
    kind: Kind,
    gray: np.ndarray,
    levels: Sequence[int],
    true_boxes: np.ndarray,
    least: float,
) -> Sequence[int]:
    """Numbers of the levels at which a component's box may overlap a true box by `least`.

    Components only grow from level to level, and with them their boxes. So there is a first level
    at which one covers enough of a true box, and a last at which one does that is not part of, or
    next to, a component grown too large; both are found by bisection.
    """
    true_area = _area(true_boxes)
    order = range(len(levels)) if kind.rising else range(len(levels))[::-1]

    def covers(boxes: np.ndarray) -> bool:
        overlap = _overlap(boxes, true_boxes)
        return bool((overlap >= least * true_area).any())

    def has_grown(number: int) -> bool:
        return covers(_components(kind, gray, levels[number]).boxes)

    def is_over(number: int) -> bool:
        found = _components(kind, gray, levels[number])
        too_large = true_area.max() < least * _area(found.boxes)
        if kind is HOLES:
            too_large = too_large | found.at_border
        return not covers(_label(kind, _away_from(kind, found.labels, too_large)).boxes)

    start = _first(has_grown, order)
    return order[start : start + _first(is_over, order[start:])]


def _away_from(kind: Kind, labels: np.ndarray, some: Bool[np.ndarray, " k"]) -> np.ndarray:
    """The pixels, 255, that touch none of some components."""
    import cv2

    shape = cv2.MORPH_RECT if kind.connectivity == 8 else cv2.MORPH_CROSS
    taken = np.concatenate([[False], some])[labels].astype(np.uint8)
    near = cv2.dilate(taken, cv2.getStructuringElement(shape, (3, 3)))
    return (1 - near) * np.uint8(255)


def _first(holds: Callable[[int], bool], numbers: Sequence[int]) -> int:
    """The place of the first number for which something holds that then holds for all others."""
    low, high = 0, len(numbers)
    while low < high:
        middle = (low + high) // 2
        if holds(numbers[middle]):
            high = middle
        else:
            low = middle + 1
    return low


def intersection_over_union(a: np.ndarray, b: np.ndarray) -> Float[np.ndarray, "m n"]:
    """Overlap of boxes [m, 4] with boxes [n, 4] of whole pixels.

    x1 and y1 are the last pixels, so sides are x1 - x0 + 1.
    """
    overlap = _overlap(a, b)
    return overlap / (_area(a)[:, None] + _area(b) - overlap)


def _overlap(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    a, b = a[:, None].astype(np.int64), b[None].astype(np.int64)
    sides = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2]) + 1
    return np.maximum(sides, 0).prod(axis=-1)


def _area(boxes: np.ndarray) -> np.ndarray:
    boxes = boxes.astype(np.int64)
    return (boxes[:, 2:] - boxes[:, :2] + 1).prod(axis=-1)

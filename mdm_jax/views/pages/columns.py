"""Records as compact columns for a page, and values that are safe in a script."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from jaxtyping import Float32, Int

from mdm_jax.views.pages import kept

# Numbers of a record in the order in which they are shown: what they are called, with {} for the
# node, and how they are written.
TITLES = {
    "kept": ("{} kept", "share"),
    "kept_area": ("area kept", "share"),
    "energy": ("energy in the object", "share"),
    "probability": ("probability of the prediction", "number"),
    "activation": ("{}, whole image", "number"),
    "activation_masked": ("{}, masked image", "number"),
    "activation_fill": ("{}, fill alone", "number"),
    "objective": ("objective", "number"),
    "steps": ("steps", "count"),
    "evaluations": ("evaluations with gradient", "count"),
    "forwards": ("evaluations without", "count"),
}

# So many of them come before metrics.
LEADING = 3

# Which side is better, of the numbers that say how good a map is.
BETTER = {"kept": "higher", "kept_area": "lower", "energy": "higher"}

# Numbers in the unit of the node, as are the terms of the objective.
OF_NODE = ("kept", "activation", "activation_masked", "activation_fill", "objective")


class Number(NamedTuple):
    """One number of every entry, NaN where it is missing."""

    key: str
    title: str
    kind: str
    """share (shown in per cent), number or count"""
    values: Float32[np.ndarray, " entries"]
    node: str = ""
    """id of the node in whose unit it is, "" for other units: numbers of two nodes share no axis"""
    better: str = ""
    """"higher" or "lower"; "none" for a measure of which neither is; "" for no measure of maps"""
    repeats: bool = False
    """whether another number is the same: it is saved with the others and not shown"""

    def to_json(self) -> dict[str, Any]:
        """The number as the page knows it."""
        return {
            "key": self.key,
            "title": self.title,
            "kind": self.kind,
            "node": self.node,
            "better": self.better,
            "repeats": self.repeats,
            "data": pack(self.values.astype("<f4")),
        }


def read_numbers(
    table: pa.Table,
    rows: Int[np.ndarray, " entries"],
    settings: Mapping[str, Any],
) -> list[Number]:
    """The numbers of a run's records at each entry, and the share of the node that is kept.

    Lists (vector nodes) are left out."""
    node, name_of_node = kept.node_id(settings), kept.node_name(settings)
    terms = [name for name in table.column_names if name.startswith("term_")]
    titles = dict(TITLES)
    for name in terms:
        titles[name] = (f"term {name.removeprefix('term_')}", "number")
    found: dict[str, np.ndarray] = {}
    for name in titles:
        if name not in table.column_names or pa.types.is_nested(
            table.schema.field(name).type
        ):
            continue
        values = table[name].cast(pa.float64()).to_numpy()
        found[name] = take_rows(values, rows, np.nan).astype(np.float32)
    shares = kept.kept_shares(table, settings.get("node"))
    if shares is not None:
        found["kept"] = take_rows(shares, rows, np.nan).astype(np.float32)
    repeated = set()
    if node == "probability" and _is_same(found, "activation", "probability"):
        repeated.add("activation")  # where the prediction itself is explained
    numbers = []
    for name, (title, kind) in titles.items():
        # a column without any value is not worth a place on the page
        if name not in found or not np.isfinite(found[name]).any():
            continue
        is_of_node = name in OF_NODE or name in terms
        numbers.append(
            Number(
                name,
                # not `format`: a name of strangers may hold braces
                title.replace("{}", name_of_node),
                kind,
                found[name],
                node if is_of_node else "",
                BETTER.get(name, ""),
                name in repeated,
            )
        )
    return numbers


def _is_same(found: Mapping[str, np.ndarray], one: str, other: str) -> bool:
    if one not in found or other not in found:
        return False
    return np.allclose(found[one], found[other], rtol=1e-4, atol=1e-6, equal_nan=True)


def order_key(number: Number) -> tuple[int, int, str]:
    """Sorts numbers: the first of TITLES, measured metrics, the rest of TITLES, then terms."""
    keys = list(TITLES)
    if number.key in keys:
        place = keys.index(number.key)
        return (0 if place < LEADING else 2), place, ""
    return (1 if number.key.startswith("metric:") else 3), 0, number.key


def read_integers(
    table: pa.Table, name: str, rows: Int[np.ndarray, " entries"]
) -> Int[np.ndarray, " entries"]:
    """A column of whole numbers at each entry, -1 where there is none."""
    return take_rows(table[name].fill_null(-1).to_numpy(), rows, -1).astype(np.int32)


def take_rows(values: np.ndarray, rows: np.ndarray, missing: Any) -> np.ndarray:
    """`values[rows]`, `missing` where a row is -1."""
    # a run without rows has nothing that -1 could index
    if not len(values):
        return np.full(len(rows), missing)
    return np.where(rows >= 0, values[rows], missing)


def encode_texts(texts: Sequence[str]) -> dict[str, Any]:
    """Texts of which many are alike: the different ones in order, and the number of each."""
    names = sorted(set(texts))
    number = {name: position for position, name in enumerate(names)}
    codes = np.asarray([number[text] for text in texts], "<i4")
    return {"names": names, "codes": pack(codes)}


def pack(values: np.ndarray) -> str:
    """The bytes of an array in base64."""
    return base64.b64encode(np.ascontiguousarray(values).tobytes()).decode("ascii")


def script_call(function: str, *arguments: Any) -> bytes:
    """A call of `function` as the text of a script.

    No text within can end the script or the string that it stands in."""
    values = []
    for argument in arguments:
        values.append(json.dumps(argument, separators=(",", ":"), default=_to_json))
    text = ",".join(values)
    # as escapes in strings these signs cannot begin a tag or a comment of HTML
    for sign in "<>&":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return f"{function}({text});\n".encode("ascii")


def _to_json(value: Any) -> Any:
    """Values of a run's description that JSON does not know, as text."""
    if isinstance(value, Mapping):
        return dict(value)
    if hasattr(value, "tolist"):
        return value.tolist()
    return str(value)

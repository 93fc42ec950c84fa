"""Records of a run: a row for each image and target, a parquet file for each chunk.

The file commits the chunk.

The file's metadata say which chunk and rows it holds and what the arrays of these rows weigh
(CRC-32), so that a file in the wrong place, or arrays that changed after it was written, can be
told."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from mdm_jax.errors import InputError, first_line
from mdm_jax.images import printable
from mdm_jax.renamed_settings import value_name
from mdm_jax.storage.parquet import METADATA_KEY, READ_ERRORS
from mdm_jax.text_files import parse_json, storable_id


class Meta(NamedTuple):
    """What a record file says about itself."""

    chunk: int
    rows: range
    checksums: dict[str, int]
    """CRC-32 of these rows in every array, by the array's name"""
    run: str
    """fingerprint of the settings that the chunk was made with"""
    table: int
    """CRC-32 of the table, as `checksum` gives it"""


def schema(terms: Sequence[str], *, vector: bool) -> pa.Schema:
    """The columns, with one for each of the objective's terms.

    `vector` says that the node gives more than one number."""
    activation = pa.list_(pa.float32()) if vector else pa.float32()
    columns = {
        "row": pa.int64(),
        "item": pa.int64(),
        "id": pa.string(),
        "label": pa.int32(),
        "label_name": pa.string(),
        "rank": pa.int32(),
        "prediction": pa.int32(),
        "probability": pa.float32(),
        "target": pa.int32(),
        "activation": activation,
        "activation_masked": activation,
        "activation_fill": activation,
        "kept_area": pa.float32(),
        "objective": pa.float32(),
        "steps": pa.int32(),
        "evaluations": pa.int32(),
        "forwards": pa.int32(),
        **{f"term_{name}": pa.float32() for name in terms},
        "status": pa.string(),
        "reason": pa.string(),
    }
    return pa.schema(list(columns.items()))


def table(rows: Sequence[Mapping[str, Any]], schema: pa.Schema) -> pa.Table:
    """Rows as a table; what a row lacks is null."""
    unknown = set().union(*rows) - set(schema.names)
    if unknown:
        raise ValueError(f"no such columns: {sorted(unknown)}")
    plain = []
    for row in rows:
        # Names may hold what no parquet file can; an id is a key, and stays another for each.
        texts = {
            name: storable_id(value) if name == "id" else printable(value)
            for name, value in row.items()
            if isinstance(value, str)
        }
        plain.append({**row, **texts})
    return pa.Table.from_pylist(plain, schema=schema)


def with_current_terms(table: pa.Table) -> pa.Table:
    """A table whose columns of terms have the names of today, whichever version wrote it."""
    names = []
    for name in table.column_names:
        term = name.removeprefix("term_")
        names.append(name if term == name else f"term_{value_name('term', term)}")
    return table.rename_columns(names)


def encode(
    table: pa.Table, chunk: int, rows: range, checksums: Mapping[str, int], run: str = ""
) -> bytes:
    """A record file; the same table gives the same bytes."""
    meta = {
        "chunk": chunk,
        "rows": [rows.start, rows.stop],
        "checksums": dict(checksums),
        "run": run,
    }
    meta["table"] = checksum(table)
    sink = pa.BufferOutputStream()
    pq.write_table(
        table.replace_schema_metadata({METADATA_KEY: json.dumps(meta).encode()}),
        sink,
        compression="zstd",
        write_statistics=False,
        write_page_checksum=True,
    )
    return sink.getvalue().to_pybytes()


def checksum(table: pa.Table) -> int:
    """CRC-32 of the names and values."""
    # Parquet guards its pages, but not the names of its columns.
    return zlib.crc32(json.dumps([table.column_names, table.to_pylist()]).encode())


def decode(data: bytes, columns: Iterable[str] | None = None) -> tuple[pa.Table, Meta]:
    """The table, or some columns of it, and what the file says about itself.

    Raises InputError for a damaged file."""
    try:
        file = pq.ParquetFile(pa.BufferReader(data), page_checksum_verification=True)
        meta = _meta(file.metadata.metadata)
        _check_columns(file.schema_arrow)
        if file.metadata.num_rows > len(meta.rows):
            raise ValueError(f"{file.metadata.num_rows} rows for {len(meta.rows)}")
        names = file.schema_arrow.names if columns is None else list(columns)
        return file.read(names).select(names).replace_schema_metadata(None), meta
    except READ_ERRORS as error:
        raise _damaged(error) from error


def _check_columns(found: pa.Schema) -> None:
    """Raises ValueError for columns that are not there, or hold values of another type."""
    terms = [name[5:] for name in found.names if name.startswith("term_")]
    vector = pa.types.is_list(found.field("activation").type)
    for each in schema(terms, vector=vector):
        if found.field(each.name).type != each.type:
            raise ValueError(f"{each.name} is of another type")


def misplaced(meta: Meta, chunk: int, rows: range, run: str) -> tuple[str, str] | None:
    """What is wrong with a record file in the place of a chunk, by what it says about itself: a
    word, as in `verify.Fault`, and the end of a sentence."""
    if meta.chunk != chunk or meta.rows != rows:
        return "duplicate", f"holds the rows of chunk {meta.chunk}"
    if meta.run != run:
        return "corrupt", "was made with other settings than those in run.json"
    return None


def fault(
    table: pa.Table, meta: Meta, chunk: int, rows: range, run: str
) -> tuple[str, str] | None:
    """As `misplaced`, by the rows as well."""
    if found := misplaced(meta, chunk, rows, run):
        return found
    try:
        is_whole = checksum(table) == meta.table
    except READ_ERRORS:  # bytes that are no text
        is_whole = False
    if not is_whole:
        return "corrupt", "holds other values than those that were committed"
    numbers = table["row"].to_pylist()
    if len(numbers) != len(rows) or numbers != list(rows):
        repeated = len(set(numbers)) < len(numbers)
        what = "duplicate" if repeated else "corrupt"
        return what, "does not hold its rows, each once and in order"
    return None


def footer(data: bytes) -> Meta:
    """What a record file says about itself, without reading its columns.

    Raises InputError for a damaged file."""
    try:
        return _meta(pq.read_metadata(pa.BufferReader(data)).metadata)
    except READ_ERRORS as error:
        raise _damaged(error) from error


def _meta(metadata: Mapping[bytes, bytes]) -> Meta:
    found = parse_json(metadata[METADATA_KEY])
    rows = range(*map(int, found["rows"]))
    return Meta(
        int(found["chunk"]),
        rows,
        dict(found["checksums"]),
        str(found["run"]),
        int(found["table"]),
    )


def _damaged(error: Exception) -> InputError:
    reason = first_line(error)
    return InputError(f"no readable record file ({reason})")

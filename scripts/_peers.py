"""CSV → zstd Parquet by Polars, DuckDB, pyarrow and pandas.

Each runs with its best settings for such files: types are declared and nothing is guessed; if it has the option,
it streams and writes neither dictionaries nor statistics.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

PARQUET = {"compression": "zstd", "use_dictionary": False, "write_statistics": False}
POLARS = {"uint8": "UInt8", "uint16": "UInt16", "float32": "Float32", "string": "String"}
DUCKDB = {"uint8": "UTINYINT", "uint16": "USMALLINT", "float32": "FLOAT", "string": "VARCHAR"}


@dataclass(frozen=True)
class Text:
    """How the rows of a file are written, in the terms of its readers.

    columns: the type of each column as it is written; None for one that is left out
    stored:  the type of the pixels in Parquet, if it is not the one they are read as
    """

    columns: tuple[str | None, ...]
    stored: str | None = None
    delimiter: str = ","
    header: bool = False
    quoted: bool = False

    @property
    def types(self) -> dict[str, str | None]:
        return {f"c{i}": kind for i, kind in enumerate(self.columns)}

    @property
    def kept(self) -> list[str]:
        return [name for name, kind in self.types.items() if kind]

    @property
    def cast(self) -> list[str]:
        """The columns whose type changes on the way."""
        return [name for name, kind in self.types.items() if kind == "float32" and self.stored]


def polars(text: Text, source: str, dest: str) -> None:
    import polars as pl

    types = {name: getattr(pl, POLARS[kind or "string"]) for name, kind in text.types.items()}
    rows = pl.scan_csv(
        source,
        has_header=False,
        skip_rows=int(text.header),
        separator=text.delimiter,
        schema=types,
        quote_char='"' if text.quoted else None,
    ).select(text.kept)
    if text.cast:
        rows = rows.with_columns(pl.col(text.cast).cast(getattr(pl, POLARS[text.stored or ""])))
    rows.sink_parquet(dest, compression="zstd", statistics=False)


def duckdb(text: Text, source: str, dest: str) -> None:
    import duckdb

    # It casts "12.0" to an integer by itself, faster than by way of a float.
    read = {
        name: DUCKDB[(text.stored or kind) if kind == "float32" else kind or "string"]
        for name, kind in text.types.items()
    }
    columns = ", ".join(f"'{name}': '{kind}'" for name, kind in read.items())
    quote = '"' if text.quoted else ""
    duckdb.execute(
        f"COPY (SELECT {', '.join(text.kept)} FROM read_csv('{source}', auto_detect=false, header=false, "
        f"skip={int(text.header)}, delim='{text.delimiter}', quote='{quote}', escape='{quote}', "
        f"columns={{{columns}}})) TO '{dest}' (FORMAT parquet, COMPRESSION zstd)"
    )


def pyarrow(text: Text, source: str, dest: str) -> None:
    import pyarrow as pa
    from pyarrow import csv, parquet

    types = {name: getattr(pa, kind or "string")() for name, kind in text.types.items()}
    stored = {name: getattr(pa, text.stored or "")() if name in text.cast else types[name] for name in text.kept}
    reader = csv.open_csv(
        source,
        csv.ReadOptions(column_names=list(types), block_size=16 << 20, skip_rows=int(text.header)),
        csv.ParseOptions(delimiter=text.delimiter, quote_char='"' if text.quoted else False),
        csv.ConvertOptions(column_types=types, include_columns=text.kept),
    )
    schema = pa.schema(stored)
    with reader, parquet.ParquetWriter(dest, schema, **PARQUET) as writer:
        for batch in reader:
            writer.write_batch(batch.cast(schema) if text.cast else batch)


def pandas(text: Text, source: str, dest: str) -> None:
    import pandas as pd
    import pyarrow as pa
    from pyarrow import parquet

    types = {name: text.types[name] or "" for name in text.kept}
    stored = {name: text.stored or "" if name in text.cast else kind for name, kind in types.items()}
    schema = pa.schema({name: getattr(pa, kind)() for name, kind in stored.items()})
    frames = pd.read_csv(
        source,
        sep=text.delimiter,
        header=0 if text.header else None,
        names=list(text.types),
        usecols=text.kept,
        dtype={name: "str" if kind == "string" else kind for name, kind in types.items()},
        engine="c",
        quoting=0 if text.quoted else 3,
        chunksize=10_000,
    )
    with frames, parquet.ParquetWriter(dest, schema, **PARQUET) as writer:
        for frame in frames:
            frame = frame.astype(dict.fromkeys(text.cast, text.stored)) if text.cast else frame
            writer.write_table(pa.Table.from_pandas(frame, schema, preserve_index=False))


PEERS: dict[str, Callable[[Text, str, str], None]] = {
    "polars": polars,
    "duckdb": duckdb,
    "pyarrow": pyarrow,
    "pandas": pandas,
}

"""Looks for secrets in everything a process left behind: texts, logs, databases, archives, tables.

Written apart from the code under test: which forms a secret may take and how files are opened is reckoned here anew.
"""

from __future__ import annotations

import base64
import json
import sqlite3
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import quote

import polars as pl

from trade_analyst_pipeline.storage.archive import Archive

ENCODINGS = ("raw", "base64", "url", "json")


def forms(secret: str) -> dict[str, set[bytes]]:
    """The secret as each of the four encodings may spell it; base64 at each of its three places in a longer text."""
    raw = secret.encode()
    inside = set()
    for before in ("", "x", "xy"):
        whole = base64.b64encode(before.encode() + raw + b"zzz")
        # letters that also hold neighbours are left off at both ends
        piece = whole[4 * bool(before) : (len(before) + len(raw)) // 3 * 4]
        inside |= {piece, piece.replace(b"+", b"-").replace(b"/", b"_")}
    return {
        "raw": {raw},
        "base64": inside,
        "url": {quote(secret, safe="").encode()},
        "json": {json.dumps(secret)[1:-1].encode(), json.dumps(secret)[1:-1].replace("/", "\\/").encode()},
    }


def sink_of(path: Path, folder: Path) -> str:
    """What a file is, for the figures."""
    parts = path.relative_to(folder).parts
    if ".dagster" in parts:
        below = parts[parts.index(".dagster") + 1 :]
        if path.suffix.startswith(".db"):
            return "Dagster events" if "runs" in below[:-1] else "Dagster runs and ticks"
        return "compute logs" if path.suffix in (".out", ".err") else "Dagster home"
    if parts[0] == "data":
        return parts[2] if len(parts) > 3 else "data"
    return parts[0] if parts[0] == ".cache" or len(parts) > 1 else path.name


def texts_of(path: Path) -> Iterator[bytes]:
    """A file's bytes, and what is packed inside it."""
    yield path.read_bytes()
    if path.suffix == ".parquet":
        yield pl.read_parquet(path, hive_partitioning=False).write_json().encode()
    elif path.suffix == ".db":
        yield from _rows(path)


def _rows(database: Path) -> Iterator[bytes]:
    with sqlite3.connect(f"file:{database}?mode=ro", uri=True) as connection:
        names = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        for name in names:
            for row in connection.execute(f'SELECT * FROM "{name}"'):  # noqa: S608  names of Dagster's own tables
                for value in row:
                    yield _unpacked(value) if isinstance(value, bytes) else str(value).encode()


def _unpacked(value: bytes) -> bytes:
    try:
        return zlib.decompress(value)
    except zlib.error:
        return value


def archived_texts(raw_folder: Path) -> Iterator[bytes]:
    """All that captures hold: bodies, headers, requests and gaps."""
    archive = Archive(raw_folder)
    for dataset in (path.name for path in raw_folder.iterdir() if path.is_dir()):
        for capture in archive.captures(dataset):
            yield repr(capture.gaps).encode()
            for response in archive.responses(capture):
                yield response.body
                yield repr((response.request, response.headers)).encode()


def everything(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Each text below a folder with the sink it is in."""
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            for text in texts_of(path):
                yield sink_of(path, folder), text
    for raw_folder in folder.glob("data/*/raw"):
        for text in archived_texts(raw_folder):
            yield "raw", text


def scan(folder: Path, secrets: Mapping[str, set[str]]) -> tuple[Counter[tuple[str, str, str]], Counter[str]]:
    """Hits as (secret, encoding, sink), each counted once a text; and how many bytes of each sink were looked at."""
    wanted = {
        (name, encoding, form)
        for name, values in secrets.items()
        for value in values
        for encoding, spelled in forms(value).items()
        for form in spelled
    }
    hits: Counter[tuple[str, str, str]] = Counter()
    looked_at: Counter[str] = Counter()
    for sink, text in everything(folder):
        looked_at[sink] += len(text)
        hits.update((name, encoding, sink) for name, encoding, form in wanted if form in text)
    return hits, looked_at

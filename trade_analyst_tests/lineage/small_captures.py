"""Small captures made of the payloads, in a data folder of their own."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from trade_analyst_pipeline.cli.verify import find
from trade_analyst_pipeline.lineage import built
from trade_analyst_pipeline.lineage.chain import Scope
from trade_analyst_pipeline.schwab.messages import MarketDataRequest, RawResponse
from trade_analyst_pipeline.storage.archive import Archive, Capture, Lacking
from trade_analyst_pipeline.storage.flaws import Flaw

PAYLOADS = Path(__file__).resolve().parents[1] / "payloads"
MONDAY, TUESDAY, WEDNESDAY = (date(2026, 1, day) for day in (5, 6, 7))
CREATED = datetime(2026, 1, 8, tzinfo=UTC)
HOURS_AGO = 3 * 3600.0


class Captures:
    """Seals captures into the archive of one data folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def chain(
        self, day: date = MONDAY, *, at: time = time(20, 55), change: Callable[[Any], None] = lambda _: None
    ) -> Capture:
        """The four contracts of the payload, as captured five minutes before the close."""
        body = json.loads((PAYLOADS / "options" / "chain.json").read_text())
        change(body)
        return self.seal("options", "/chains", body, day, at)

    def quotes(self, symbols: int, *, bad: int = 0, day: date = MONDAY) -> Capture:
        """Quotes of so many symbols in one answer, the first `bad` of them with a negative volume."""
        entry = json.loads((PAYLOADS / "quotes" / "several.json").read_text())["XYZ"]
        body = {}
        for number in range(symbols):
            body[f"S{number}"] = copy.deepcopy(entry) | {"symbol": f"S{number}", "ssid": number}
            if number < bad:
                body[f"S{number}"]["quote"]["totalVolume"] = -1
        return self.seal("quotes", "/quotes", body, day, time(20, 55))

    def bars(self, day: date, closes: dict[date, float], *, symbol: str = "XYZ") -> Capture:
        """Daily bars with these closes, as captured after the close of a session."""
        central = ZoneInfo("America/Chicago")
        candles = [
            {
                "open": 100.0,
                "high": 109.0,
                "low": 91.0,
                "close": close,
                "volume": 1000,
                "datetime": int(datetime.combine(of, time(0), central).timestamp() * 1000),
            }
            for of, close in closes.items()
        ]
        body = {"symbol": symbol, "empty": False, "candles": candles}
        return self.seal("ohlc", "/pricehistory", body, day, time(22), ("frequencyType", "daily"))

    def seal(
        self,
        dataset: str,
        path: str,
        body: Any,
        day: date,
        at: time,
        *params: tuple[str, str],
        lacking: Lacking | None = None,
    ) -> Capture:
        """One capture with one answer, and what it lacks."""
        moment = datetime.combine(day, at, UTC)
        symbol = body.get("symbol", "XYZ")
        symbols = (symbol,) if dataset != "quotes" else tuple(body)
        request = MarketDataRequest(dataset, path, (("symbol", symbol), *params), symbols)
        writer = Archive(self.folder / "raw").begin(
            dataset=dataset, session_date=day, scheduled_time=moment, started_time=moment
        )
        writer.append(RawResponse(request, 200, json.dumps(body).encode(), (), moment, moment), lacking)
        return writer.seal(moment)

    def damage(self, capture: Capture) -> None:
        """Change one byte in the middle of its first record."""
        content = bytearray(capture.path.read_bytes())
        content[Archive(self.folder / "raw").index(capture)[0].offset + 40] ^= 1
        capture.path.write_bytes(content)


def statuses(results: Sequence[built.Built]) -> dict[date, str]:
    """What became of each session."""
    return {result.session_date: result.status for result in results}


def verified(folder: Path, *datasets: str, against_sources: bool = False) -> list[Flaw]:
    """All that `trade-analyst verify` finds in a data folder, or of these datasets."""
    return find(folder, Scope(datasets) if datasets else Scope(), 1, against_sources=against_sources)[1]


def stored(folder: Path) -> list[Path]:
    """Every file there is, in order."""
    return sorted(path for path in folder.rglob("*") if path.is_file())

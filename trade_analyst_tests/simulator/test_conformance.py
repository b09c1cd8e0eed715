"""schwab-py through all its market-data methods, and each simulated answer's shape beside a recording of its kind.

Fields, JSON types, nulls and forms of texts and times are compared; each difference that is meant has its reason here.
"""

from __future__ import annotations

import inspect
import re
import ssl
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any
from zoneinfo import ZoneInfo

import httpx
import pytest
from visiting import BEFORE_CLOSE, RECORDINGS, Visitor, recording

from trade_analyst_pipeline.simulator.server import SimulatorServer

schwab = pytest.importorskip("schwab", reason="NOT RUN: schwab-py is not installed")
Client = schwab.client.Client

REAL = "https://api.schwabapi.com"
# What schwab-py's client can do besides asking for market data.
NOT_MARKET_DATA = {
    *("cancel_order", "get_account", "get_account_numbers", "get_accounts", "get_order", "get_orders_for_account"),
    *("get_orders_for_all_linked_accounts", "get_transaction", "get_transactions", "get_user_preferences"),
    *("place_order", "preview_order", "replace_order"),
    *("convert_enum", "convert_enum_iterable", "set_enforce_enums", "set_timeout", "token_age", "type_error"),
}


class MappedSession(httpx.Client):
    """Sends to the simulator, at one instant of its market, what is addressed to the real source."""

    def __init__(self, source: SimulatorServer, token: str) -> None:
        context = ssl.create_default_context(cafile=str(source.ca_file))
        super().__init__(verify=context, trust_env=False, headers={"authorization": f"Bearer {token}"})
        self._address = httpx.URL(source.at(BEFORE_CLOSE))

    def send(self, request: httpx.Request, **options: Any) -> httpx.Response:
        """Change host and path, nothing else."""
        assert str(request.url).startswith(f"{REAL}/marketdata/v1/")
        path = self._address.raw_path + request.url.raw_path
        request.url = request.url.copy_with(host=self._address.host, port=self._address.port, raw_path=path)
        return super().send(request, **options)


@pytest.fixture
def client(server: SimulatorServer, visitor: Visitor) -> Iterator[Any]:
    """schwab-py's client, logged in at the simulator."""
    with MappedSession(server, visitor.tokens["access_token"]) as session:
        yield Client("key", session, token_metadata=None)


def methods() -> dict[str, Any]:
    """The public methods of schwab-py's client."""
    found = inspect.getmembers(Client, inspect.isfunction)
    return {name: method for name, method in found if not name.startswith("_")}


OPTION = "AAPL  260116C00250000"
SIX_TYPES = ["AAPL", "EUR/USD", "/ES", "$SPX", "VTSAX", OPTION]
_LAST_FRIDAY, _TODAY = datetime(2025, 12, 5, tzinfo=UTC), datetime(2025, 12, 9, 21, tzinfo=UTC)
_TOMORROW = date(2025, 12, 10)
_AUTUMN = datetime(2025, 10, 20, tzinfo=UTC)

Call = Callable[[Any], httpx.Response]


def _bars(name: str) -> Call:
    return lambda client: getattr(client, name)(
        "AAPL",
        start_datetime=_LAST_FRIDAY,
        end_datetime=_TODAY,
        need_extended_hours_data=True,
        need_previous_close=True,
    )


def _chain(client: Any) -> httpx.Response:
    last = date(2025, 12, 19)
    return client.get_option_chain("$SPX", from_date=last, to_date=last)


# Each method with arguments that the source is known to answer.
CALLS: dict[str, list[Call]] = {
    "get_quote": [lambda c: c.get_quote("AAPL"), lambda c: c.get_quote("$SPX"), lambda c: c.get_quote(OPTION)],
    "get_quotes": [
        lambda c: c.get_quotes(SIX_TYPES),
        lambda c: c.get_quotes(["AAPL", "NOSUCH", "^IRX"], fields=[c.Quote.Fields.QUOTE], indicative=False),
    ],
    "get_option_chain": [
        _chain,
        lambda c: c.get_option_chain(
            "AAPL",
            contract_type=c.Options.ContractType.CALL,
            strike_count=4,
            include_underlying_quote=True,
            strategy=c.Options.Strategy.SINGLE,
            strike_range=c.Options.StrikeRange.NEAR_THE_MONEY,
            exp_month=c.Options.ExpirationMonth.JANUARY,
            option_type=c.Options.Type.STANDARD,
            entitlement=c.Options.Entitlement.NON_PAYING_PRO,
        ),
        lambda c: c.get_option_chain(
            "AAPL",
            strategy=c.Options.Strategy.ANALYTICAL,
            volatility=29.0,
            underlying_price=280.0,
            interest_rate=4.0,
            days_to_expiration=30,
            strike=280.0,
        ),
    ],
    "get_option_expiration_chain": [lambda c: c.get_option_expiration_chain("SPY")],
    "get_price_history": [
        lambda c: c.get_price_history(
            "AAPL",
            period_type=c.PriceHistory.PeriodType.YEAR,
            period=c.PriceHistory.Period.ONE_YEAR,
            frequency_type=c.PriceHistory.FrequencyType.MONTHLY,
            frequency=c.PriceHistory.Frequency.DAILY,
        )
    ],
    **{
        f"get_price_history_every_{step}": [_bars(f"get_price_history_every_{step}")]
        for step in ("minute", "five_minutes", "ten_minutes", "fifteen_minutes", "thirty_minutes", "week")
    },
    "get_price_history_every_day": [
        lambda c: c.get_price_history_every_day("AAPL", start_datetime=_AUTUMN, end_datetime=_TODAY),
        _bars("get_price_history_every_day"),
    ],
    "get_movers": [
        lambda c: c.get_movers(c.Movers.Index.SPX, sort_order=c.Movers.SortOrder.VOLUME),
        lambda c: c.get_movers(c.Movers.Index.NASDAQ, frequency=c.Movers.Frequency.FIVE),
    ],
    "get_market_hours": [
        lambda c: c.get_market_hours([c.MarketHours.Market.EQUITY, c.MarketHours.Market.OPTION], date=_TOMORROW),
        lambda c: c.get_market_hours(list(c.MarketHours.Market)),
        lambda c: c.get_market_hours(c.MarketHours.Market.EQUITY, date=date(2025, 12, 14)),
    ],
    "get_instruments": [
        lambda c: c.get_instruments("AAPL", c.Instrument.Projection.FUNDAMENTAL),
        lambda c: c.get_instruments("AAPL", c.Instrument.Projection.SYMBOL_SEARCH),
        lambda c: c.get_instruments("AA.*", c.Instrument.Projection.SYMBOL_REGEX),
        lambda c: c.get_instruments("APPLE", c.Instrument.Projection.DESCRIPTION_SEARCH),
        lambda c: c.get_instruments("Apple.*", c.Instrument.Projection.DESCRIPTION_REGEX),
        lambda c: c.get_instruments("AAPL", c.Instrument.Projection.SEARCH),
    ],
    "get_instrument_by_cusip": [lambda c: c.get_instrument_by_cusip("037833100")],
}


def test_every_method_is_known() -> None:
    """Each public method of schwab-py is called below or is not about market data, so that a new one is noticed."""
    assert set(methods()) == set(CALLS) | NOT_MARKET_DATA


@pytest.mark.parametrize("name", sorted(CALLS))
def test_schwab_py_is_answered_by_every_method(client: Any, name: str) -> None:
    """Each of its market-data methods gets 200 and JSON."""
    for call in CALLS[name]:
        response = call(client)
        assert response.status_code == 200, response.text
        assert response.headers["content-type"].startswith("application/json")
        assert response.json()


# --- shapes


@dataclass
class Place:
    """What was found at one place of an answer: kinds of value, how often, and under how many objects."""

    kinds: set[str] = field(default_factory=set)
    count: int = 0
    parents: int = 0


FORMS = {
    r"\d{4}-\d\d-\d\d": "date",
    r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ": "time Z",
    r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.000\+00:00": "time .000+00:00",
    r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d-0[45]:00": "time of New York",
    r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.0": "time with a blank",
    r"-?\d+(\.\d+)?": "number as text",
    r"\d+X\d+": "sizes",
    r"": "empty text",
}
KEYS = {
    r"\d{4}-\d\d-\d\d:\d+": "<expiration>",
    r"\d+\.\d+": "<strike>",
}
LEAST_EPOCH_MS, MOST_EPOCH_MS = 10**12, 3 * 10**12


def kind_of(name: str, value: Any) -> str:
    """The JSON type, with the unit or form where it shows: milliseconds since 1970, dates, numbers in texts."""
    if isinstance(value, str):
        found = [form for pattern, form in FORMS.items() if re.fullmatch(pattern, value)]
        return found[0] if found else "text"
    if isinstance(value, bool) or value is None:
        return {True: "bool", False: "bool", None: "null"}[value]
    is_instant = LEAST_EPOCH_MS <= value < MOST_EPOCH_MS and "olume" not in name
    return "milliseconds since 1970" if is_instant else type(value).__name__


def places(value: Any) -> dict[str, Place]:
    """Every place of an answer; elements of a list are one place, and so are maps by symbol, expiration or strike."""
    found: dict[str, Place] = defaultdict(Place)
    objects: dict[str, int] = defaultdict(int)

    def walk(here: str, name: str, item: Any) -> None:
        place = found[here]
        place.count += 1
        place.kinds.add(
            "object" if isinstance(item, dict) else "list" if isinstance(item, list) else kind_of(name, item)
        )
        if isinstance(item, dict):
            objects[here] += 1
            for key, inner in item.items():
                walk(f"{here}.{_general(key, inner)}", key, inner)
        elif isinstance(item, list):
            for inner in item:
                walk(f"{here}[]", name, inner)

    walk("$", "", value)
    for here, place in found.items():
        place.parents = objects[here.rpartition(".")[0]] if not here.endswith("[]") else 0
    return dict(found)


def _general(key: str, inner: Any) -> str:
    if isinstance(inner, dict) and "assetMainType" in inner:
        return f"<{inner['assetMainType']}>"
    return next((general for pattern, general in KEYS.items() if re.fullmatch(pattern, key)), key)


def differences(simulated: Any, recorded: Any, *, lost_points: bool = False) -> set[str]:
    """Every difference of shape, in words; empty where they agree.

    `lost_points`: whoever kept the recording wrote whole floats without their point, so a float may stand as int.
    """
    ours, theirs = places(simulated), places(recorded)
    found = set()
    for here in sorted(ours.keys() | theirs.keys()):
        if here not in ours or here not in theirs:
            above = re.sub(r"(\.[^.\[]+|\[\])$", "", here)
            if above in ours and above in theirs:  # else the difference has been told above
                found.add(f"{here}: {'only simulated' if here in ours else 'only recorded'}")
            continue
        mine, real = ours[here], theirs[here]
        if lost_points and mine.kinds == {"float"} and real.kinds <= {"float", "int"}:
            continue
        if mine.kinds != real.kinds:
            found.add(f"{here}: {' or '.join(sorted(mine.kinds))}, recorded {' or '.join(sorted(real.kinds))}")
        if "<" not in here.rpartition(".")[2] and (mine.count < mine.parents) != (real.count < real.parents):
            found.add(f"{here}: {'not always simulated' if mine.count < mine.parents else 'not always recorded'}")
    return found


COMPARED: dict[str, tuple[str, int]] = {
    "quote_equity_INTC_2024-10-18.json": ("get_quote", 0),
    "quote_index_SPX_2025-01-30.json": ("get_quote", 1),
    "quote_option_META_2025-01-24.json": ("get_quote", 2),
    "quotes_mixed_six_asset_types_2024-05-17.json": ("get_quotes", 0),
    "quotes_errors_block_invalid_symbols.json": ("get_quotes", 1),
    "chain_SPX_one_expiry_2025-05-09.json": ("get_option_chain", 0),
    "expirationchain_SPY_2025-07-20.json": ("get_option_expiration_chain", 0),
    "pricehistory_1min_AAPL_2024-05_first_half.json": ("get_price_history_every_minute", 0),
    "pricehistory_daily_SPY_2025-07.json": ("get_price_history_every_day", 0),
    "pricehistory_monthly_AAPL_2024-10.json": ("get_price_history", 0),
    "movers_by_volume_2025-07.json": ("get_movers", 0),
    "markets_equity_option_open_day_2025-07-21.json": ("get_market_hours", 0),
    "markets_equity_closed_day.json": ("get_market_hours", 2),
    "instruments_fundamental_AAPL_2024-10-18.json": ("get_instruments", 0),
    "instruments_by_cusip_AAPL.json": ("get_instrument_by_cusip", 0),
}

# As the recordings' own notes say: written anew by who kept them, whole floats as 5660 instead of 5660.0.
LOST_POINTS = {"chain_SPX_one_expiry_2025-05-09.json", "pricehistory_1min_AAPL_2024-05_first_half.json"}

REASONS: dict[str, dict[str, str]] = {
    "quote_equity_INTC_2024-10-18.json": {
        "$.<EQUITY>.reference.htbQuantity: only recorded": "optional: the recorded AAPL lacks it too",
    },
    "quotes_mixed_six_asset_types_2024-05-17.json": {
        "$.<FUTURE>.reference.futureActiveSymbol: only simulated": "in the source's specification, and needed to tell "
        "which contract a root stands for; the recorded /ESZ24 is not the active one",
        "$.<OPTION>.reference.underlyingAssetType: only simulated": "sent since 2025: the option recorded in January "
        "2025 has it",
    },
    "quotes_errors_block_invalid_symbols.json": {
        "$.<EQUITY>: only simulated": "the recording is the `errors` member alone",
    },
}


@pytest.mark.parametrize("name", sorted(COMPARED))
def test_simulated_answers_have_the_shape_of_recorded_ones(client: Any, name: str) -> None:
    """Each difference from the recording is listed with its reason, and none is listed that is not there."""
    method, number = COMPARED[name]
    real = recording(name)
    found = differences(CALLS[method][number](client).json(), real, lost_points=name in LOST_POINTS)
    print(f"{name}: {len(places(real))} places compared, {len(found)} differences with a reason")
    assert found == set(REASONS.get(name, {}))


def test_every_rest_recording_is_compared() -> None:
    """No recording of an answer is left out; those of the streamer are not answers."""
    recording("quote_index_SPX_2025-01-30.json")
    found = {path.name for path in RECORDINGS.glob("*.json") if not path.name.startswith("stream_")}
    assert found == set(COMPARED)


def _contracts(body: Any) -> list[Any]:
    sides = (body["callExpDateMap"], body["putExpDateMap"])
    return [one for side in sides for strikes in side.values() for listed in strikes.values() for one in listed]


def _percent(change: float, base: float) -> float:
    return 100.0 * change / base if base else 0.0


def _near(told: float, reckoned: float, *, within: float) -> bool:
    return abs(told - reckoned) <= within


# What a number means, where arithmetic shows it; each holds in the recording too.
UNITS: dict[str, tuple[str, Callable[[Any], Iterator[bool]]]] = {
    "quotes tell changes in percent": (
        "quote_equity_INTC_2024-10-18.json",
        lambda body: (
            _near(
                q["quote"]["netPercentChange"], _percent(q["quote"]["netChange"], q["quote"]["closePrice"]), within=0.01
            )
            for q in body.values()
        ),
    ),
    "options tell volatility in percent": (
        "quote_option_META_2025-01-24.json",
        lambda body: (1.0 < q["quote"]["volatility"] < 10_000.0 for q in body.values()),
    ),
    "chains tell volatility in percent, or that there is none": (
        "chain_SPX_one_expiry_2025-05-09.json",
        lambda body: (c["volatility"] > 1.0 or c["volatility"] in (-999.0, 0.0) for c in _contracts(body)),
    ),
    "intrinsic values are signed": (
        "chain_SPX_one_expiry_2025-05-09.json",
        lambda body: (c["inTheMoney"] == (c["intrinsicValue"] > 0) for c in _contracts(body)),
    ),
    "marks are halfway between bid and ask": (
        "chain_SPX_one_expiry_2025-05-09.json",
        lambda body: (_near(c["mark"], (c["bid"] + c["ask"]) / 2, within=0.0051) for c in _contracts(body)),
    ),
    "movers tell changes as a fraction": (
        "movers_by_volume_2025-07.json",
        lambda body: (
            _near(
                m["netPercentChange"],
                m["netChange"] / (m["lastPrice"] - m["netChange"]),
                within=0.0001 + 0.01 / m["lastPrice"],
            )
            for m in body["screeners"]
        ),
    ),
    "movers tell shares of the market in percent": (
        "movers_by_volume_2025-07.json",
        lambda body: (
            _near(m["marketShare"], _percent(m["volume"], m["totalVolume"]), within=0.02) for m in body["screeners"]
        ),
    ),
    "daily bars are stamped at midnight in Chicago": (
        "pricehistory_daily_SPY_2025-07.json",
        lambda body: (_clock(c["datetime"], "America/Chicago") == (0, 0, 0) for c in body["candles"]),
    ),
    "minute bars are stamped at their start": (
        "pricehistory_1min_AAPL_2024-05_first_half.json",
        lambda body: ((4, 0, 0) <= _clock(c["datetime"], "America/New_York") <= (19, 59, 0) for c in body["candles"]),
    ),
    "yields of instruments are in percent": (
        "instruments_fundamental_AAPL_2024-10-18.json",
        lambda body: (0.1 < found["fundamental"]["dividendYield"] < 5.0 for found in body["instruments"]),
    ),
}


def _clock(milliseconds: int, zone: str) -> tuple[int, int, int]:
    local = datetime.fromtimestamp(milliseconds / 1000, tz=ZoneInfo(zone))
    return local.hour, local.minute, local.second


@pytest.mark.parametrize("what", UNITS)
def test_numbers_mean_the_same(client: Any, what: str) -> None:
    """Each unit that arithmetic can show holds for every simulated number, as for every recorded one."""
    name, holds = UNITS[what]
    method, number = COMPARED[name]
    for body in (recording(name), CALLS[method][number](client).json()):
        shown = list(holds(body))
        assert shown
        assert all(shown)


CHANGES: dict[str, Callable[[dict[str, Any]], object]] = {
    "$.candles[].openPrice: only simulated": lambda candle: candle.update(openPrice=candle.pop("open")),
    "$.candles[].close: text, recorded float": lambda candle: candle.update(close=f"x{candle['close']}"),
    "$.candles[].close: number as text, recorded float": lambda candle: candle.update(close=str(candle["close"])),
    "$.candles[].datetime: int, recorded milliseconds since 1970": lambda candle: candle.update(
        datetime=candle["datetime"] // 1000
    ),
    "$.candles[].volume: null, recorded int": lambda candle: candle.update(volume=None),
    "$.candles[].low: int, recorded float": lambda candle: candle.update(low=int(candle["low"])),
}


@pytest.mark.parametrize("difference", CHANGES)
def test_control_a_wrong_shape_is_seen(client: Any, difference: str) -> None:
    """Known-bad controls: a field renamed, retyped, nulled or in another unit, in every bar, is a difference."""
    real = recording("pricehistory_daily_SPY_2025-07.json")
    body = CALLS["get_price_history_every_day"][0](client).json()
    assert differences(body, real) == set()
    for candle in body["candles"]:
        CHANGES[difference](candle)
    assert difference in differences(body, real)


def test_control_a_field_missing_once_is_seen(client: Any) -> None:
    """Known-bad control: a field that one of many bars lacks is a difference."""
    real = recording("pricehistory_daily_SPY_2025-07.json")
    body = CALLS["get_price_history_every_day"][0](client).json()
    del body["candles"][3]["high"]
    assert differences(body, real) == {"$.candles[].high: not always simulated"}

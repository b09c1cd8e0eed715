"""The streamer's protocol in virtual time: each command, each code, images and changes, heartbeats, ends."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise

import pytest
from streaming import MIDDAY, TOKEN, Listener, merged, request

from trade_analyst_pipeline.simulator.market import Market
from trade_analyst_pipeline.simulator.streamer_desk import StreamerDesk, StreamRules
from trade_analyst_pipeline.simulator.tape import Conflation, Tape

EQUITIES, OPTIONS, FUTURES = "LEVELONE_EQUITIES", "LEVELONE_OPTIONS", "LEVELONE_FUTURES"


@pytest.fixture
def desk(market: Market) -> StreamerDesk:
    """A streamer at which one token is good."""
    return StreamerDesk(Tape(market), lambda token: token == TOKEN)


@pytest.fixture
def listener(desk: StreamerDesk) -> Listener:
    """Somebody logged in."""
    found = Listener.connect(desk)
    assert found.log_in() == {"code": 0, "msg": f"server=simulator-{found.stream.session.number};status=NP"}
    return found


# -- requests and codes --------------------------------------------------------------------------------------------


def test_a_login_that_is_denied_ends_the_connection(desk: StreamerDesk) -> None:
    """Code 3 for a token that is not good, and for ids that are not those of userPreference."""
    stranger = Listener.connect(desk)
    assert stranger.log_in("other")["code"] == 3
    assert (stranger.ends(), stranger.stream.is_open) == ([("close", 1000)], False)
    wrong = Listener.connect(desk)
    asked = request(desk, 1, "ADMIN", "LOGIN", Authorization=TOKEN) | {"SchwabClientCustomerId": "other"}
    wrong.stream.send(json.dumps(asked))
    assert wrong.run(0.0).responses()[0]["content"]["code"] == 3


def test_nothing_is_done_before_the_login(desk: StreamerDesk) -> None:
    """Code 20, also for ids that changed afterwards."""
    early = Listener.connect(desk)
    assert early.ask(EQUITIES, "SUBS", keys="AAPL", fields="0,1")["code"] == 20
    assert early.log_in()["code"] == 0
    other = request(desk, 9, EQUITIES, "SUBS", keys="AAPL", fields="0,1") | {"SchwabClientCorrelId": "x"}
    early.stream.send(json.dumps(other))
    assert early.run(0.0).responses()[-1]["content"]["code"] == 20
    assert early.run(20.0).items(EQUITIES) == []


@pytest.mark.parametrize(
    "text",
    [b"", b"{", b"[]", b"7", b'{"requests":[]}', b'{"requests":7}', b'{"requests":[7]}', b"\xff",
     b'{"service":"ADMIN"}',
     b'{"service":"ADMIN","command":"LOGIN","requestid":null}',
     b'{"service":"A","command":"B","requestid":1,"parameters":7}',
     b'{"requests":' + b" " * 300_000 + b"[]}",
     b"[" * 5_000],
)  # fmt: skip
def test_what_is_no_request_is_answered_so(listener: Listener, text: bytes) -> None:
    """Code 21, and the connection goes on."""
    listener.stream.send(text)
    assert [answer["content"]["code"] for answer in listener.run(0.0).responses()[1:]] == [21]
    listener.subscribe(EQUITIES, "AAPL")


@pytest.mark.parametrize(
    ("service", "command", "parameters", "code"),
    [
        ("TIMESALE_EQUITY", "SUBS", {"keys": "AAPL", "fields": "0"}, 11),
        (EQUITIES, "STREAM", {"keys": "AAPL", "fields": "0"}, 21),
        ("ADMIN", "QOS", {}, 11),
        (EQUITIES, "SUBS", {"fields": "0"}, 22),
        (EQUITIES, "SUBS", {"keys": "AAPL"}, 22),
        (EQUITIES, "SUBS", {"keys": "AAPL", "fields": "bid"}, 22),
        (EQUITIES, "UNSUBS", {}, 23),
        (EQUITIES, "ADD", {"fields": "0"}, 24),
        (EQUITIES, "VIEW", {"fields": "0"}, 25),
        (EQUITIES, "SUBS", {"keys": ",".join(f"SY{number:04d}" for number in range(1, 502)), "fields": "0,1"}, 19),
    ],
)
def test_refusals(listener: Listener, service: str, command: str, parameters: dict[str, str], code: int) -> None:
    """Each with its code; the connection goes on and nothing is subscribed to."""
    assert listener.ask(service, command, **parameters)["code"] == code
    assert listener.run(2.0).stream.is_open
    assert listener.items(EQUITIES) == []


def test_the_symbol_limit_counts_what_is_added(desk: StreamerDesk, listener: Listener) -> None:
    """An ADD over it is refused as a whole, a SUBS in place of it all is not."""
    desk.rules = replace(desk.rules, most_symbols=2)
    listener.subscribe(EQUITIES, "AAPL,MSFT")
    assert listener.ask(EQUITIES, "ADD", keys="MSFT,JPM", fields="0")["code"] == 19
    listener.subscribe(EQUITIES, "JPM,XOM")


def test_success_may_be_told_by_command(desk: StreamerDesk, listener: Listener) -> None:
    """26 to 29 in place of 0, where the rules say so."""
    desk.rules = replace(desk.rules, tells_success_by_command=True)
    asked = {"keys": "AAPL", "fields": "0,1"}
    codes = [listener.ask(EQUITIES, command, **asked)["code"] for command in ("SUBS", "UNSUBS", "ADD", "VIEW")]
    assert codes == [26, 27, 28, 29]


def test_a_second_login_ends_the_older_connection(desk: StreamerDesk, listener: Listener) -> None:
    """Code 12 there, and it is closed; the newer one streams."""
    listener.subscribe(EQUITIES, "AAPL")
    newer = Listener.connect(desk)
    assert newer.log_in()["code"] == 0
    newer.subscribe(EQUITIES, "AAPL")
    assert [notice["content"]["code"] for notice in listener.run(1.0).notices()] == [12]
    assert (listener.ends(), desk.logins) == ([("close", 1000)], 2)
    assert newer.run(10.0).stream.is_open
    assert len(newer.items(EQUITIES)) > 1


def test_the_newer_connection_may_be_the_one_that_ends(desk: StreamerDesk, listener: Listener) -> None:
    """Code 12 in answer to its login, as long as the older one lives; where the source's guide leaves it open."""
    desk.rules = replace(desk.rules, over_limit="newer")
    listener.subscribe(EQUITIES, "AAPL")
    newer = Listener.connect(desk)
    assert newer.log_in()["code"] == 12
    assert newer.run(1.0).ends() == [("close", 1000)]
    assert listener.run(5.0).stream.is_open
    listener.stream.leave()
    assert Listener.connect(desk).log_in()["code"] == 0


def test_logout_is_answered_then_closed(listener: Listener) -> None:
    """SUCCESS, and the server closes."""
    assert listener.ask("ADMIN", "LOGOUT") == {"code": 0, "msg": "SUCCESS"}
    assert listener.run(1.0).ends() == [("close", 1000)]


def test_a_connection_without_subscription_ends(desk: StreamerDesk, listener: Listener) -> None:
    """Code 30 after half a minute, also after the last symbol was left; with a subscription it lives on."""
    assert listener.run(31.0).notices()[-1]["content"]["code"] == 30
    assert listener.ends() == [("close", 1000)]
    busy = Listener.connect(desk, now=31.0)
    busy.log_in()
    busy.subscribe(EQUITIES, "AAPL")
    assert busy.run(100.0).stream.is_open
    busy.ask(EQUITIES, "UNSUBS", keys="AAPL")
    assert not busy.run(131.0).stream.is_open


def test_one_who_reads_too_slowly_is_let_go(listener: Listener) -> None:
    """Code 30 once the market is two minutes ahead of what was sent."""
    listener.subscribe(EQUITIES, "AAPL")
    listener.stream.now = 130.0
    assert listener.run(130.0).notices()[-1]["content"] == {"code": 30, "msg": "Stop streaming due to slow consumption"}
    assert listener.ends() == [("close", 1000)]


def test_heartbeats_are_milliseconds_as_text(listener: Listener) -> None:
    """Every ten seconds, the market's instant."""
    beats = [notice["heartbeat"] for notice in listener.run(29.0).notices()]
    start = round(MIDDAY.timestamp() * 1000)
    assert beats == [str(start + 10_000), str(start + 20_000)]


# -- images and changes --------------------------------------------------------------------------------------------


def test_first_the_image_then_what_changed(listener: Listener) -> None:
    """The first item says what the symbol is and has every field; later ones only what differs from what was held."""
    listener.subscribe(EQUITIES, "AAPL,$SPX")
    items = listener.run(60.0).items(EQUITIES, "AAPL")
    first, *later = items
    assert (first["assetMainType"], first["assetSubType"], first["cusip"]) == ("EQUITY", "COE", "037833100")
    assert set(first) - {"key", "delayed", "assetMainType", "assetSubType", "cusip"} == {str(n) for n in range(1, 52)}
    assert len(later) > 50
    held = first
    for item in later:
        assert len(item) > 1
        assert all(held[name] != value for name, value in item.items() if name != "key")
        held = held | item
    index = listener.items(EQUITIES, "$SPX")[0]
    assert "3" in index
    assert not {"1", "2", "4", "5"} & set(index)


def test_only_the_fields_asked_for(listener: Listener) -> None:
    """And the key, which is field 0."""
    listener.subscribe(EQUITIES, "AAPL", "0,3,8")
    first, *later = listener.run(60.0).items(EQUITIES)
    assert set(first) - {"delayed", "assetMainType", "assetSubType", "cusip"} == {"key", "3", "8"}
    assert {name for item in later for name in item} == {"key", "3", "8"}


def test_every_print_is_delivered(desk: StreamerDesk, listener: Listener) -> None:
    """Without conflation: as many rises of the volume as prints, each by its size, at its price and time."""
    listener.subscribe(EQUITIES, "AAPL,JPM")
    listener.run(300.0)
    for part in (part for value in listener.values() for part in value.get("data", ())):
        keys = [item["key"] for item in part["content"]]
        assert len(keys) == len(set(keys))
    for symbol in ("AAPL", "JPM"):
        truth = desk.tape.prints(symbol, MIDDAY, MIDDAY + timedelta(seconds=300))
        states = list(merged(listener.items(EQUITIES, symbol)))
        rises = [(after["8"] - before["8"], after) for before, after in pairwise(states)]
        seen = [(size, state["9"], state["3"], state["35"]) for size, state in rises if size]
        told = zip(truth["size"], truth["size"], truth["price"], truth["time"].dt.epoch("ms"), strict=True)
        assert seen == list(told)
        assert sum(size for size, *_ in seen) == truth["size"].sum() > 0


def test_conflated_prints_show_in_the_volume_alone(desk: StreamerDesk) -> None:
    """What is seen as last size is what the truth says was shown; the volume is whole."""
    desk.rules = StreamRules(conflation=Conflation(0.2))
    fresh = Listener.connect(desk)
    fresh.log_in()
    fresh.subscribe(EQUITIES, "AAPL")
    fresh.run(1200.0)
    truth = desk.tape.prints("AAPL", MIDDAY, MIDDAY + timedelta(seconds=1200), Conflation(0.2))
    states = list(merged(fresh.items(EQUITIES)))
    rises = [after["8"] - before["8"] for before, after in pairwise(states)]
    sizes = [after["9"] for rise, after in zip(rises, states[1:], strict=True) if rise]
    assert sizes == truth.filter("is_shown")["size"].to_list()[: len(sizes)]
    assert len(sizes) < truth.height
    assert sum(rises) == truth.filter(truth["update_time"] < MIDDAY + timedelta(seconds=1200))["size"].sum()


def test_add_keeps_and_subs_replaces(listener: Listener) -> None:
    """ADD brings the image of the new symbol alone; SUBS ends the others; UNSUBS ends one; an unknown one is silent."""
    listener.subscribe(EQUITIES, "AAPL")
    listener.subscribe(EQUITIES, "MSFT,AAPL,NOPE", command="ADD")
    images = [item["key"] for item in listener.items(EQUITIES) if "delayed" in item]
    assert images == ["AAPL", "MSFT"]
    listener.subscribe(EQUITIES, "JPM")
    before = len(listener.items(EQUITIES))
    assert {item["key"] for item in listener.run(30.0).items(EQUITIES)[before:]} == {"JPM"}
    listener.subscribe(EQUITIES, "XOM", command="ADD")
    listener.ask(EQUITIES, "UNSUBS", keys="JPM,NOPE")
    before = len(listener.items(EQUITIES))
    assert {item["key"] for item in listener.run(60.0).items(EQUITIES)[before:]} == {"XOM"}


def test_view_changes_the_fields_of_all(listener: Listener) -> None:
    """Images with the new fields, then only those."""
    listener.subscribe(EQUITIES, "AAPL,MSFT", "0,1,2")
    listener.run(5.0)
    before = len(listener.items(EQUITIES))
    assert listener.ask(EQUITIES, "VIEW", fields="0,8")["code"] == 0
    told = listener.run(60.0).items(EQUITIES)[before:]
    assert [item["key"] for item in told if "delayed" in item] == ["AAPL", "MSFT"]
    assert {name for item in told for name in item if name.isdigit()} == {"8"}


def test_services_carry_their_own_products(listener: Listener) -> None:
    """A symbol of another service brings nothing; a product is keyed as asked."""
    listener.subscribe(EQUITIES, "/ES,AAPL  251219C00240000")
    listener.subscribe(OPTIONS, "AAPL,AAPL  251219C00240000")
    listener.subscribe(FUTURES, "/ES,/ESH26,AAPL")
    assert listener.items(EQUITIES) == []
    assert [item["key"] for item in listener.items(OPTIONS)] == ["AAPL  251219C00240000"]
    assert [item["key"] for item in listener.items(FUTURES)] == ["/ES", "/ESH26"]
    option, future = listener.items(OPTIONS)[0], listener.items(FUTURES)[0]
    assert (option["20"], option["21"], option["22"], option["49"]) == (240.0, "C", "AAPL", "AAPL")
    assert set(option) >= {str(number) for number in range(1, 56)}
    assert (future["25"], future["34"]) == (0.25, "/ESZ25")
    assert set(future) >= {str(number) for number in range(1, 41)}
    later = listener.run(200.0).items(OPTIONS)[1:]
    assert any("28" in item for item in later)


def test_a_chart_is_the_price_history(desk: StreamerDesk, listener: Listener) -> None:
    """A bar a second after its end, the one of the history, numbered from 07:00 without a hole."""
    listener.subscribe("CHART_EQUITY", "AAPL", "0,1,2,3,4,5,6,7,8")
    bars = listener.run(300.0).items("CHART_EQUITY")
    history = desk.tape.market.minute_bars("AAPL", MIDDAY.date())[149:154]
    told = [[bar[name] for name in "23456"] for bar in bars]
    assert told == [list(row) for row in history.select("open", "high", "low", "close", "volume").rows()]
    assert [bar["1"] for bar in bars] == [299, 300, 301, 302, 303]
    assert [bar["7"] for bar in bars] == history["start_time"].dt.epoch("ms").to_list()
    numbers = [bar["seq"] for bar in bars]
    assert numbers == list(range(numbers[0], numbers[0] + 5))
    assert bars[0]["8"] == (MIDDAY.date() - MIDDAY.date().replace(1970, 1, 1)).days


def test_books_are_whole_and_by_listing_exchange(listener: Listener) -> None:
    """The best level is the quote; sizes of makers add up; a symbol of the other exchange brings nothing."""
    contract = "AAPL  251219C00240000"
    for service, symbol in (("NASDAQ_BOOK", "AAPL"), ("NYSE_BOOK", "JPM"), ("OPTIONS_BOOK", contract)):
        listener.subscribe(service, "AAPL,JPM,$SPX," + contract, "0,1,2,3")
        assert {item["key"] for item in listener.items(service)} == {symbol}
    listener.subscribe(EQUITIES, "AAPL")
    quote = listener.items(EQUITIES)[0]
    books = listener.run(30.0).items("NASDAQ_BOOK")
    assert 3 < len(books) <= 31
    assert (books[0]["2"][0]["0"], books[0]["3"][0]["0"]) == (quote["1"], quote["2"])
    for book in books:
        bids, asks = ([level["0"] for level in book[side]] for side in "23")
        assert bids == sorted(bids, reverse=True)
        assert asks == sorted(asks)
        assert all(sum(maker["1"] for maker in level["3"]) == level["1"] for level in book["2"] + book["3"])
        assert all(len(level["3"]) == level["2"] for level in book["2"] + book["3"])


def test_a_new_session_begins_with_a_reset(desk: StreamerDesk) -> None:
    """Over the night: nothing until 07:28, then volume 0 and the new close before, then the open."""
    evening = MIDDAY + timedelta(hours=8)
    desk.rules = StreamRules(speed=3600.0, step_ms=60_000, idle_seconds=1e9)
    listener = Listener.connect(desk, evening)
    listener.log_in()
    listener.subscribe(EQUITIES, "AAPL")
    first, *later = listener.run(13.6).items(EQUITIES)
    assert first["8"] > 0
    reset = later[0]
    assert (reset["8"], reset["10"], reset["11"], reset["17"]) == (0, 0.0, 0.0, 0.0)
    assert reset["12"] == first["3"]
    opened = next(item for item in later[1:] if "8" in item)
    assert opened["3"] == opened["17"] == desk.tape.market.moment("AAPL", MIDDAY + timedelta(days=1)).opened


def test_time_goes_on_while_nobody_is_connected(desk: StreamerDesk, listener: Listener) -> None:
    """A later connection at the same address finds the market later, and starts with a new image."""
    listener.subscribe(EQUITIES, "AAPL")
    listener.run(5.0).stream.leave()
    later = Listener.connect(desk, now=65.0)
    later.log_in()
    later.subscribe(EQUITIES, "AAPL")
    truth = desk.tape.prints("AAPL", MIDDAY, MIDDAY + timedelta(seconds=65))
    volume = listener.items(EQUITIES)[0]["8"] + truth["size"].sum()
    assert later.items(EQUITIES)[0]["8"] == volume


def test_as_fast_as_it_is_read_ends_with_the_session(desk: StreamerDesk) -> None:
    """A whole afternoon without a wait, and no more of it once it is over."""
    desk.rules = StreamRules(speed=None, step_ms=60_000)
    listener = Listener.connect(desk)
    listener.log_in()
    listener.subscribe(EQUITIES, "BRK/B", "0,3,8,9")
    states = list(merged(listener.run(0.0).items(EQUITIES)))
    table = desk.tape.market.daily_bars("BRK/B", MIDDAY.date(), MIDDAY.date())
    assert (states[-1]["8"], states[-1]["3"]) == (table["volume"][0], table["close"][0])
    assert listener.run(5.0).stream.is_open
    listener.stream.leave()
    later = Listener.connect(desk, now=6.0)
    later.log_in()
    later.subscribe("LEVELONE_EQUITIES", "BRK/B", "0,3,8,9")
    assert [item["8"] for item in later.items(EQUITIES)] == [states[-1]["8"]]

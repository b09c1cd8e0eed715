"""Failures of the streamer on demand: what the client meets of each, and what the record says of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from streaming import MIDDAY, TOKEN, Listener
from visiting import SEED

from trade_analyst_pipeline.errors import SettingsError
from trade_analyst_pipeline.simulator.fault_kinds import FAULT_KINDS
from trade_analyst_pipeline.simulator.market import Market
from trade_analyst_pipeline.simulator.scenario import load_scenario
from trade_analyst_pipeline.simulator.server import SimulatorServer
from trade_analyst_pipeline.simulator.stream_faults import STREAM_FAULTS, websocket_frame
from trade_analyst_pipeline.simulator.streamer_desk import StreamerDesk, StreamRules
from trade_analyst_pipeline.simulator.tape import Conflation, Tape
from trade_analyst_pipeline.simulator.wire_faults import WIRE_FAULTS

EQUITIES = "LEVELONE_EQUITIES"
PAGE = Path(__file__).resolve().parents[2] / "docs/simulator.md"


@pytest.fixture
def desk(market: Market) -> StreamerDesk:
    """A streamer that keeps a record."""
    return StreamerDesk(Tape(market), lambda token: token == TOKEN, StreamRules(keeps_record=True))


def streamed(desk: StreamerDesk, *, seconds: float = 60.0) -> Listener:
    """A minute of one symbol, its image spared."""
    listener = Listener.connect(desk, MIDDAY)
    listener.log_in()
    listener.subscribe(EQUITIES, "AAPL", "0,1,3,8,9,35")
    return listener.run(seconds)


def first_data(listener: Listener) -> bytes:
    """The text of the first data message after the image."""
    return [step.data for _, step in listener.steps if step.kind == "text" and b'"data"' in step.data][1]


def plain(desk: StreamerDesk) -> Listener:
    """The same minute without a fault."""
    return streamed(StreamerDesk(desk.tape, lambda token: token == TOKEN))


ENDS = {
    "close-normal": ("close", 1000),
    "close-going-away": ("close", 1001),
    "close-policy": ("close", 1008),
    "close-error": ("close", 1011),
    "close-restart": ("close", 1012),
    "reset": ("abort", 1000),
    "end": ("end", 1000),
    "cut-frame": ("abort", 1000),
    "stop-streaming": ("close", 1000),
    "connection-limit": ("close", 1000),
}


@pytest.mark.parametrize("name", ENDS)
def test_faults_that_end_the_connection(desk: StreamerDesk, name: str) -> None:
    """In the place of a frame, which is lost; nothing follows, and the record names it."""
    desk.faults.add(name, path=EQUITIES, skip=1)
    listener = streamed(desk)
    assert listener.ends() == [ENDS[name]]
    assert len(listener.items(EQUITIES)) == 1
    assert listener.steps[-1][1].kind == ENDS[name][0]
    (lost,) = [entry for entry in desk.records if entry.fate == "lost"]
    assert (lost.fault, lost.kind) == (name, "data")
    assert lost.items[0][:2] == (EQUITIES, "AAPL")
    told = {30: "stop-streaming", 12: "connection-limit"}
    assert [told[notice["content"]["code"]] for notice in listener.notices() if "content" in notice] == (
        [name] if name in told.values() else []
    )


def test_a_frame_cut_in_the_middle_is_half_of_what_was_due(desk: StreamerDesk) -> None:
    """The bytes on the socket are the first half of the frame that would have come."""
    desk.faults.add("cut-frame", skip=1)
    (raw,) = [step.data for _, step in streamed(desk).steps if step.kind == "raw"]
    whole = websocket_frame(first_data(plain(desk)))
    assert raw == whole[: len(whole) // 2]


@pytest.mark.parametrize(("name", "beats"), [("mute", 0), ("mute-data", 2)])
def test_what_falls_into_a_silence_is_lost(desk: StreamerDesk, name: str, beats: int) -> None:
    """No data for so long, heartbeats or not; then it goes on, with all that was missed lost and on record."""
    desk.faults.add(name, skip=1, seconds=25.0)
    listener = streamed(desk)
    whole, got = plain(desk).items(EQUITIES), listener.items(EQUITIES)
    lost = [item for entry in desk.records if entry.fate == "lost" for item in entry.items]
    assert len(got) + len(lost) == len(whole)
    assert len(lost) > 5
    quiet = [time for time, step in listener.steps if b"heartbeat" in step.data and time < 25.5]
    assert len(quiet) >= beats
    data = [time for time, step in listener.steps if b'"data"' in step.data]
    assert max(after - before for before, after in pairwise(data)) >= 25.0
    assert got[-1] == whole[-1]


def test_a_stall_loses_nothing(desk: StreamerDesk) -> None:
    """Silence of 20 s, then everything, late, in order."""
    desk.faults.add("stall", skip=1, seconds=20.0)
    listener = streamed(desk)
    assert listener.items(EQUITIES) == plain(desk).items(EQUITIES)
    times = [time for time, _ in listener.steps]
    assert max(after - before for before, after in pairwise(times)) >= 19.0


@pytest.mark.parametrize(("name", "pieces"), [("drip", 20), ("fragments", 10)])
def test_a_frame_in_pieces_is_whole_in_the_end(desk: StreamerDesk, name: str, pieces: int) -> None:
    """The bytes of all pieces are those of the frame, or of its fragments; the rest comes behind them."""
    desk.faults.add(name, skip=1)
    listener = streamed(desk)
    raw = [step.data for _, step in listener.steps if step.kind == "raw"]
    assert len(raw) >= pieces
    text = first_data(plain(desk))
    if name == "drip":
        assert b"".join(raw) == websocket_frame(text)
    else:
        assert b"".join(frame[2:] for frame in raw) == text
        assert [frame[0] for frame in raw] == [0x01, *[0x00] * (len(raw) - 2), 0x80]
    assert listener.items(EQUITIES)[1:] == plain(desk).items(EQUITIES)[1 + text.count(b'"key"') :]


def _broken(data: bytes) -> bool:
    try:
        json.loads(data)
    except ValueError:
        return True
    return False


TEXTS: dict[str, Callable[[bytes], bool]] = {
    "cut-json": _broken,
    "not-an-object": lambda data: isinstance(json.loads(data), list),
    "empty-message": lambda data: data == b"",
    "numbers-as-text": lambda data: all(
        isinstance(value, str) for name, value in _item(data).items() if name.isdigit()
    ),
    "nulls": lambda data: {value for name, value in _item(data).items() if name.isdigit()} == {None},
    "not-a-number": lambda data: b"NaN" in data,
    "unknown-service": lambda data: json.loads(data)["data"][0]["service"] == "NEWS_HEADLINE",
    "no-items": lambda data: json.loads(data)["data"][0]["content"] == [],
    "giant": lambda data: len(data) == 5 << 20,
}


def _item(data: bytes) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(data)["data"][0]["content"][0]
    return found


@pytest.mark.parametrize("name", TEXTS)
def test_faults_inside_a_message(desk: StreamerDesk, name: str) -> None:
    """One message is as the fault makes it, the others are as they were."""
    desk.faults.add(name, path=EQUITIES, skip=1)
    listener = streamed(desk)
    texts = [step.data for _, step in listener.steps if step.kind == "text"]
    usual = [step.data for _, step in plain(desk).steps if step.kind == "text"]
    place = usual.index(first_data(plain(desk)))
    same = range(2, len(usual))
    assert [number for number in same if texts[number] != usual[number]] == [place]
    assert TEXTS[name](texts[place])
    assert [entry.fault for entry in desk.records if entry.fault] == [name]


def test_a_text_that_is_no_utf_8_and_a_binary_message(desk: StreamerDesk) -> None:
    """As bytes on the socket, and as a binary frame with the same JSON."""
    desk.faults.add("bad-utf8", skip=1)
    desk.faults.add("binary", skip=1)
    listener = streamed(desk)
    (raw,) = [step.data for _, step in listener.steps if step.kind == "raw"]
    with pytest.raises(UnicodeDecodeError):
        raw[2:].decode()
    assert [step.kind for _, step in listener.steps].count("binary") == 1


def test_frames_lost_repeated_and_late(desk: StreamerDesk) -> None:
    """A frame is left out, comes twice, or after its successors."""
    desk.faults.add("lost-frame", skip=1)
    desk.faults.add("repeated-frame", skip=2)
    desk.faults.add("late-frame", skip=3, seconds=15.0)
    items, whole = streamed(desk).items(EQUITIES), plain(desk).items(EQUITIES)
    fates = [entry.fate for entry in desk.records if entry.fault]
    assert fates == ["lost", "repeated", "late"]
    sizes = [len(entry.items) for entry in desk.records if entry.fault]
    assert len(items) == len(whole) - sizes[0] + sizes[1]
    assert items != sorted(items, key=lambda item: item.get("35", 0))


def test_volume_and_times_that_go_back(desk: StreamerDesk) -> None:
    """A reset holds from then on; a correction and a step back in time are for one message."""
    start = plain(desk).items(EQUITIES)[0]["8"]
    desk.faults.add("volume-lower", skip=1)
    desk.faults.add("volume-reset", skip=8)
    desk.faults.add("times-back", skip=16)
    volumes = [item["8"] for item in streamed(desk, seconds=120.0).items(EQUITIES) if "8" in item]
    falls = [place for place in range(1, len(volumes)) if volumes[place] < volumes[place - 1]]
    assert len(falls) == 2
    assert volumes[0] == start
    assert volumes[falls[1]] == 0
    assert max(volumes[falls[1] :]) < start < min(volumes[falls[0] + 3 : falls[1]])
    assert {entry.fault for entry in desk.records if entry.fault} == {"volume-reset", "volume-lower", "times-back"}


def test_answers_late_missing_repeated_foreign_and_refused(desk: StreamerDesk) -> None:
    """What was asked is done all the same."""
    listener = Listener.connect(desk, MIDDAY)
    listener.log_in()
    desk.faults.add("late-answer", path=f"{EQUITIES}/*", seconds=3.0)
    desk.faults.add("no-answer", path=f"{EQUITIES}/*")
    desk.faults.add("repeated-answer", path=f"{EQUITIES}/*")
    desk.faults.add("refused", path=f"{EQUITIES}/*", status=22)
    for symbol in ("AAPL", "MSFT", "JPM", "XOM"):
        asked = {
            "requestid": symbol,
            "service": EQUITIES,
            "command": "ADD",
            "parameters": {"keys": symbol, "fields": "0,8"},
        }
        ids = {"SchwabClientCustomerId": desk.customer_id, "SchwabClientCorrelId": desk.correl_id}
        listener.stream.send(json.dumps(asked | ids))
    listener.run(10.0)
    answers = [(answer["requestid"], answer["content"]["code"]) for answer in listener.responses()[1:]]
    assert answers == [("JPM", 0), ("JPM", 0), ("XOM", 22), ("AAPL", 0)]
    assert {item["key"] for item in listener.items(EQUITIES)} == {"AAPL", "MSFT", "JPM", "XOM"}
    desk.faults.add("foreign-response")
    assert listener.run(30.0).responses()[-1]["requestid"] == "987654321"


def test_a_relogin_may_be_denied(desk: StreamerDesk) -> None:
    """Code 3 for a good token, once; the connection ends."""
    desk.faults.add("login-denied", path="ADMIN/LOGIN")
    denied = Listener.connect(desk)
    assert denied.log_in()["code"] == 3
    assert denied.run(1.0).ends() == [("close", 1000)]
    assert Listener.connect(desk).log_in()["code"] == 0


def test_heartbeats_missing_or_odd(desk: StreamerDesk) -> None:
    """One is left out, the next one is a number."""
    desk.faults.add("no-heartbeat")
    desk.faults.add("heartbeat-of-another-shape")
    beats = [notice["heartbeat"] for notice in streamed(desk).notices()]
    assert beats[0] == 1
    assert beats[1:] == [str(round(MIDDAY.timestamp() + seconds) * 1000) for seconds in (30, 40, 50, 60)]


def test_a_strike_is_for_some_messages_only(desk: StreamerDesk) -> None:
    """By service and symbol, and so many times; at most one strikes a message, and clear() ends them."""
    never = desk.faults.add("lost-frame", path="CHART_EQUITY", times=None)
    other = desk.faults.add("lost-frame", symbol="MSFT", times=None)
    twice = desk.faults.add("lost-frame", symbol="AAPL", times=2)
    whole = plain(desk).items(EQUITIES)
    listener = streamed(desk)
    assert (never.rule.struck, other.rule.struck, twice.rule.struck) == (0, 0, 2)
    assert len(listener.items(EQUITIES)) < len(whole)
    desk.faults.clear()
    assert streamed(StreamerDesk(desk.tape, desk.accepts, desk.rules, desk.faults)).items(EQUITIES) == whole
    with pytest.raises(KeyError):
        desk.faults.add("no-such")


@pytest.mark.parametrize("size", [10, 125, 126, 65_535, 65_536])
def test_frames_are_those_of_the_standard(size: int) -> None:
    """Lengths in 7, 16 and 64 bits, as another library writes them."""
    from websockets.frames import Frame, Opcode

    payload = b"x" * size
    assert websocket_frame(payload) == Frame(Opcode.TEXT, payload).serialize(mask=False)


def test_every_fault_is_described() -> None:
    """Twenty-five and more, each in a row of docs/simulator.md with its summary and what it takes."""
    assert len(STREAM_FAULTS) >= 25
    page = PAGE.read_text(encoding="utf-8")
    for name, fault in STREAM_FAULTS.items():
        (row,) = [line for line in page.splitlines() if line.startswith(f"| `{name}` |")]
        assert fault.summary in row
        assert f"`{fault.takes}`" in row or not fault.takes


def test_a_scenario_sets_rules_and_faults(market: Market, tmp_path: Path) -> None:
    """The table [stream] and faults of the streamer, as a file says; their names are no other fault's."""
    assert not STREAM_FAULTS.keys() & (FAULT_KINDS.keys() | WIRE_FAULTS.keys())
    written = tmp_path / "scenario.toml"
    written.write_text(
        "[stream]\nspeed = 'fastest'\nconflated_share = 0.05\nconflated_ms = 500\nmost_symbols = 3\n"
        "[[fault]]\nkind = 'stall'\nseconds = 4.0\npath = 'LEVELONE_EQUITIES'\nskip = 2\ntimes = 'always'\n",
        encoding="utf-8",
    )
    scenario = load_scenario(written)
    server = SimulatorServer(seed=SEED, ca_file=tmp_path / "ca.pem", market=market, scenario=scenario)
    rules, (strike,) = server.streamer.rules, server.streamer.faults.strikes
    assert (rules.speed, rules.conflation, rules.most_symbols) == (None, Conflation(0.05, 500), 3)
    assert (strike.name, strike.told, strike.rule.skip_left, strike.rule.times_left) == (
        "stall",
        {"seconds": 4.0},
        2,
        None,
    )
    assert scenario.wire_faults == ()


@pytest.mark.parametrize("told", ["size_bytes = 7", "instant = 2026-01-05T20:55:00Z", "status = 429"])
def test_a_scenario_refuses_what_a_fault_takes_not(tmp_path: Path, told: str) -> None:
    """Named with the fault and the key."""
    written = tmp_path / "scenario.toml"
    written.write_text(f"[[fault]]\nkind = 'stall'\n{told}\n", encoding="utf-8")
    with pytest.raises(SettingsError, match=rf"fault 1 \(stall\) takes no {told.split(maxsplit=1)[0]}"):
        load_scenario(written)


def test_a_fault_changes_nobody_elses_messages(desk: StreamerDesk) -> None:
    """What one connection was sent altered is whole for another one at the same tape."""
    whole = plain(desk).items(EQUITIES)
    for name in ("volume-reset", "volume-lower", "times-back", "nulls", "numbers-as-text"):
        desk.faults.add(name, skip=1, times=3)
    assert streamed(desk).items(EQUITIES) != whole
    assert plain(desk).items(EQUITIES) == whole

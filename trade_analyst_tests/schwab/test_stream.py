"""The streamer's messages taken apart: recorded frames, junk by name, good parts kept beside bad ones."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from trade_analyst_pipeline.errors import StreamFrameError
from trade_analyst_pipeline.schwab.stream import MOST_FRAME_BYTES, FrameProblem, StreamCode, read_frame

RECORDINGS = Path(__file__).resolve().parents[2] / "../shared/samples/schwab"
DATA = {
    "service": "LEVELONE_EQUITIES",
    "timestamp": 1715777956144,
    "command": "SUBS",
    "content": [{"key": "AMD", "1": 217.86}],
}


def text(**parts: Any) -> str:
    """A message of these parts."""
    return json.dumps(parts)


def test_data_is_kept_as_it_came() -> None:
    """Services, times and items in order; a binary message as the text it holds."""
    chart = {"service": "CHART_EQUITY", "command": "SUBS", "content": [{"key": "AMD", "seq": 202, "2": 221}]}
    message = text(data=[DATA, chart])
    frame = read_frame(message)
    assert [part.service for part in frame.data] == ["LEVELONE_EQUITIES", "CHART_EQUITY"]
    assert [part.timestamp for part in frame.data] == [1715777956144, None]
    assert frame.data[0].items == ({"key": "AMD", "1": 217.86},)
    assert frame.data[1].items == ({"key": "AMD", "seq": 202, "2": 221},)
    assert type(frame.data[1].items[0]["2"]) is int
    assert (frame.problems, frame.responses, frame.heartbeats) == ((), (), ())
    assert read_frame(message.encode()) == frame


def test_answers_heartbeats_and_notices() -> None:
    """Recorded shapes; numbers may be texts and the other way round."""
    answer = {
        "service": "ADMIN", "command": "LOGIN", "requestid": "1", "SchwabClientCorrelId": "x", "timestamp": 1,
        "content": {"code": 0, "msg": "server=s0166bdv-1;status=NP"},
    }  # fmt: skip
    denied = answer | {"requestid": 7, "content": {"code": 3, "msg": "Login Denied."}}
    odd = answer | {"requestid": "r-1", "content": {"code": "26", "msg": None}}
    stop = {
        "service": "ADMIN",
        "timestamp": 5,
        "content": {"code": 30, "msg": "Stop streaming due to empty subscription"},
    }
    frame = read_frame(
        text(response=[answer, denied, odd], notify=[{"heartbeat": "1668715930582"}, stop, {"heartbeat": 5}])
    )
    first, second, third = frame.responses
    assert (first.number, first.code, first.is_success, first.severs) == (1, StreamCode.SUCCESS, True, False)
    assert (second.number, second.code, second.is_success, second.severs) == (7, StreamCode.LOGIN_DENIED, False, True)
    assert (third.number, third.code, third.is_success, third.text) == (None, 26, True, "")
    assert frame.heartbeats == (1668715930582, 5)
    (notice,) = frame.notices
    assert (notice.service, notice.code, notice.severs) == ("ADMIN", 30, True)
    assert frame.problems == ()


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ("", "not_json"), ("{", "not_json"), ('{"data":[', "not_json"), ("nonsense", "not_json"),
        (b"\x80\x02", "not_text"),
        (b'{"data":[{"service":"\xff"}]}', "not_text"), ("[]", "not_an_object"), ("7", "not_an_object"),
        ('"data"', "not_an_object"), ("null", "not_an_object"), ("[" * 200_000, "not_json"),
        (" " * (MOST_FRAME_BYTES + 1), "too_large"), ('{"data":' + "9" * 5000 + "}", "not_json"),
    ],
)  # fmt: skip
def test_junk_is_refused_by_name(message: str | bytes, reason: str) -> None:
    """And the text names it; at most the first 80 characters are shown."""
    with pytest.raises(StreamFrameError, match=f"message of the streamer not read \\({reason}\\)") as caught:
        read_frame(message)
    assert caught.value.reason == reason
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("parts", "place", "reason"),
    [
        ({"data": {}}, "data", "no_list"),
        ({"data": [DATA, 7]}, "data[1]", "no_object"),
        ({"data": [{"service": "S"}, DATA]}, "data[0]", "no_content"),
        ({"data": [{"content": []}, DATA]}, "data[0]", "no_service"),
        ({"data": [DATA, DATA | {"content": [7]}]}, "data[1].content[0]", "no_object"),
        ({"data": [DATA | {"content": [{"1": 5}, {"key": "AMD", "1": 217.86}]}]}, "data[0].content[0]", "no_key"),
        ({"data": [DATA | {"content": [{"key": 5}, {"key": "AMD", "1": 217.86}]}]}, "data[0].content[0]", "no_key"),
        ({"data": [DATA, DATA | {"content": [{"key": "X", "1": float("nan")}]}]}, "data[1].content[0]", "not_finite"),
        (
            {"data": [DATA, DATA | {"content": [{"key": "X", "2": [{"0": float("-inf")}]}]}]},
            "data[1].content[0]",
            "not_finite",
        ),
        ({"data": [DATA], "response": [{"content": {"code": True}}]}, "response[0]", "no_code"),
        ({"data": [DATA], "response": [{"content": []}]}, "response[0]", "no_code"),
        ({"data": [DATA], "notify": [{"heartbeat": "soon"}]}, "notify[0]", "no_number"),
        ({"data": [DATA], "news": []}, "'news'", "unknown_member"),
    ],
)
def test_the_rest_of_a_bad_message_is_kept(parts: dict[str, Any], place: str, reason: str) -> None:
    """One part is left out and told with its place and why; good data beside it is read."""
    frame = read_frame(json.dumps(parts))
    assert frame.problems == (FrameProblem(place, reason),)
    items = [item for part in frame.data for item in part.items]
    assert {"key": "AMD", "1": 217.86} in items or parts == {"data": {}}


def test_a_number_beyond_all_is_not_finite() -> None:
    """1e400 is no price; the item beside it is kept."""
    frame = read_frame('{"data":[{"service":"S","content":[{"key":"A","1":1e400},{"key":"B","1":5}]}]}')
    assert [item["key"] for item in frame.data[0].items] == ["B"]
    assert frame.problems == (FrameProblem("data[0].content[0]", "not_finite"),)


def nested(depth: int, inmost: str) -> str:
    """A message of two items, one of them with lists in lists around a value."""
    deep = "[" * depth + inmost + "]" * depth
    return f'{{"data": [{{"service": "S", "content": [{{"key": "A", "1": {deep}}}, {{"key": "B"}}]}}]}}'


@pytest.mark.parametrize(("inmost", "kept"), [("1", ["A", "B"]), ("NaN", ["B"])])
def test_a_value_that_is_none_is_found_at_any_depth(inmost: str, kept: list[str]) -> None:
    """Also deeper than functions may call themselves twice over."""
    assert [item["key"] for item in read_frame(nested(600, inmost)).data[0].items] == kept


@pytest.mark.parametrize("inmost", ["1", "NaN"])
def test_what_goes_deeper_than_parsers_follow_is_refused(inmost: str) -> None:
    """As no JSON, not by an error of the parser's own."""
    with pytest.raises(StreamFrameError) as refused:
        read_frame(nested(100_000, inmost))
    assert refused.value.reason == "not_json"


def test_any_bytes_are_read_or_refused(harness_seed: int) -> None:
    """A good message with bytes changed, cut or doubled at random: a frame or StreamFrameError, never anything else."""
    rng = random.Random(harness_seed)  # noqa: S311  not for secrets
    good = text(data=[DATA, DATA], response=[{"requestid": "1", "content": {"code": 0}}]).encode()
    refused = 0
    for _ in range(3000):
        data = bytearray(good)
        for _ in range(rng.randrange(1, 6)):
            place = rng.randrange(len(data))
            data[place : place + rng.randrange(3)] = bytes(rng.randrange(256) for _ in range(rng.randrange(3)))
        try:
            read_frame(bytes(data))
        except StreamFrameError:
            refused += 1
    assert 500 < refused < 3000


@pytest.mark.parametrize("path", sorted(RECORDINGS.glob("stream_*.json")), ids=lambda path: path.stem)
def test_recorded_frames_are_read_without_a_problem(path: Path) -> None:
    """Every recorded message of the source."""
    recorded = json.loads(path.read_text(encoding="utf-8"))
    frame = read_frame(json.dumps(recorded))
    assert frame.problems == ()
    assert [list(part.items) for part in frame.data] == [part["content"] for part in recorded["data"]]

"""What is sent to the streamer: the address from userPreference, and the commands as the guide has them."""

from __future__ import annotations

import json

import pytest

from trade_analyst_pipeline.errors import StreamFrameError
from trade_analyst_pipeline.schwab import stream_requests as to_stream
from trade_analyst_pipeline.schwab.stream_requests import StreamAddress, StreamRequest, encode_requests, read_preference

INFO = {
    "streamerSocketUrl": "wss://streamer-api.schwab.com/ws", "schwabClientCustomerId": "CUSTOMER-CANARY",
    "schwabClientCorrelId": "CORREL-CANARY", "schwabClientChannel": "N9", "schwabClientFunctionId": "APIAPP",
}  # fmt: skip
ADDRESS = StreamAddress("wss://streamer-api.schwab.com/ws", "CUSTOMER-CANARY", "CORREL-CANARY", "N9", "APIAPP")


@pytest.mark.parametrize("is_listed", [False, True])
def test_the_address_of_the_streamer(is_listed: bool) -> None:
    """The live answer is an object, the described one a list; accounts are not looked at."""
    body = {"accounts": [{"accountNumber": "1"}], "streamerInfo": [INFO], "offers": []}
    assert read_preference(json.dumps([body] if is_listed else body).encode()) == ADDRESS


@pytest.mark.parametrize(
    "body",
    [b"", b"{}", b"[]", b"\xff", b'{"streamerInfo":[]}', b'{"streamerInfo":[{}]}',
     json.dumps({"streamerInfo": [INFO | {"streamerSocketUrl": "ws://plain"}]}).encode()],
)  # fmt: skip
def test_an_answer_without_an_address_is_refused(body: bytes) -> None:
    """By name; nothing of it is shown."""
    with pytest.raises(StreamFrameError) as caught:
        read_preference(body)
    assert caught.value.reason == "no_address"
    assert "CANARY" not in str(caught.value)


def test_commands_are_as_the_guide_has_them() -> None:
    """Ids with a capital S, keys and fields as texts with commas, field 0 always asked for, the bare token."""
    asked = [
        to_stream.login(1, ADDRESS, "TOKEN-CANARY"),
        to_stream.subscription(2, "LEVELONE_EQUITIES", ["AAPL", "BRK/B", "AAPL"], [8, 3]),
        to_stream.addition(3, "CHART_EQUITY", ["$SPX"], range(9)),
        to_stream.removal(4, "LEVELONE_OPTIONS", ["AAPL  251219C00240000"]),
        to_stream.view(5, "NYSE_BOOK", [3]),
        to_stream.logout(6),
    ]
    sent = json.loads(encode_requests(ADDRESS, asked))["requests"]
    assert [(one["requestid"], one["service"], one["command"]) for one in sent] == [
        ("1", "ADMIN", "LOGIN"),
        ("2", "LEVELONE_EQUITIES", "SUBS"),
        ("3", "CHART_EQUITY", "ADD"),
        ("4", "LEVELONE_OPTIONS", "UNSUBS"),
        ("5", "NYSE_BOOK", "VIEW"),
        ("6", "ADMIN", "LOGOUT"),
    ]
    assert [one["parameters"] for one in sent] == [
        {"Authorization": "TOKEN-CANARY", "SchwabClientChannel": "N9", "SchwabClientFunctionId": "APIAPP"},
        {"keys": "AAPL,BRK/B", "fields": "0,3,8"},
        {"keys": "$SPX", "fields": "0,1,2,3,4,5,6,7,8"},
        {"keys": "AAPL  251219C00240000"},
        {"fields": "0,3"},
        {},
    ]
    assert {(one["SchwabClientCustomerId"], one["SchwabClientCorrelId"]) for one in sent} == {
        ("CUSTOMER-CANARY", "CORREL-CANARY")
    }


def test_no_secret_is_shown() -> None:
    """Neither the token nor the ids stand in a representation."""
    shown = repr([ADDRESS, to_stream.login(1, ADDRESS, "TOKEN-CANARY")])
    assert "CANARY" not in shown
    assert "LOGIN" in shown


@pytest.mark.parametrize("keys", [[], ["A,B"], [""], [f"S{number}" for number in range(501)]])
def test_keys_that_cannot_be_asked_for(keys: list[str]) -> None:
    """None, one with a comma, an empty one, too many."""
    with pytest.raises(ValueError, match="key"):
        to_stream.subscription(1, "LEVELONE_EQUITIES", keys, [1])


def test_a_subscription_of_any_size() -> None:
    """Five hundred at a time: the first request replaces, the others add; numbers go on."""
    keys = [f"SY{number:04d}" for number in range(1, 1202)]
    asked = list(to_stream.subscriptions(10, "LEVELONE_EQUITIES", keys, [1, 2]))
    assert [(one.number, one.command, one.parameters["keys"].count(",") + 1) for one in asked] == [
        (10, "SUBS", 500), (11, "ADD", 500), (12, "ADD", 201),
    ]  # fmt: skip
    assert ",".join(one.parameters["keys"] for one in asked).split(",") == keys
    assert list(to_stream.subscriptions(1, "S", [], [1])) == []
    assert StreamRequest(1, "A", "B").parameters == {}

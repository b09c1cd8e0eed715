"""What is sent to the streamer: its address, the commands, and the message that carries them, as plain values."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import msgspec

from trade_analyst_pipeline.errors import StreamFrameError

MOST_KEYS = 500  # in one request
_encoder = msgspec.json.Encoder()


@dataclass(frozen=True)
class StreamAddress:
    """Where the streamer is and who asks, as userPreference says; the ids are the user's own and are not shown."""

    url: str
    customer_id: str = field(repr=False)
    correl_id: str = field(repr=False)
    channel: str
    function_id: str


class _StreamerInfo(msgspec.Struct):
    streamerSocketUrl: str  # noqa: N815  the source's name
    schwabClientCustomerId: str  # noqa: N815
    schwabClientCorrelId: str  # noqa: N815
    schwabClientChannel: str  # noqa: N815
    schwabClientFunctionId: str  # noqa: N815


class _Preference(msgspec.Struct):
    streamerInfo: list[_StreamerInfo]  # noqa: N815


_preference_decoder = msgspec.json.Decoder(_Preference | list[_Preference])


def read_preference(body: bytes) -> StreamAddress:
    """The address in an answer of `/trader/v1/userPreference`, an object or a list of one.

    Accounts in it are not looked at. Raises StreamFrameError (`no_address`) when there is none, or none over TLS.
    """
    try:
        found = _preference_decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        message = "the answer of userPreference has no streamerInfo of the known shape"
        raise StreamFrameError("no_address", message) from error
    infos = [info for part in (found if isinstance(found, list) else [found]) for info in part.streamerInfo]
    if not infos or not infos[0].streamerSocketUrl.startswith("wss://"):
        raise StreamFrameError("no_address", "the answer of userPreference names no streamer over TLS")
    info = infos[0]
    return StreamAddress(
        url=info.streamerSocketUrl,
        customer_id=info.schwabClientCustomerId,
        correl_id=info.schwabClientCorrelId,
        channel=info.schwabClientChannel,
        function_id=info.schwabClientFunctionId,
    )


@dataclass(frozen=True)
class StreamRequest:
    """One command; `number` is echoed in its answer. Parameters may hold the token and are not shown."""

    number: int
    service: str
    command: str
    parameters: dict[str, str] = field(default_factory=dict, repr=False)


def login(number: int, address: StreamAddress, access_token: str) -> StreamRequest:
    """The first request of a connection; nothing else may be sent before it is answered with success."""
    parameters = {
        "Authorization": access_token,
        "SchwabClientChannel": address.channel,
        "SchwabClientFunctionId": address.function_id,
    }
    return StreamRequest(number, "ADMIN", "LOGIN", parameters)


def logout(number: int) -> StreamRequest:
    """The last one; the streamer answers and closes."""
    return StreamRequest(number, "ADMIN", "LOGOUT")


def subscription(number: int, service: str, keys: Iterable[str], fields: Iterable[int]) -> StreamRequest:
    """These symbols in place of all others of the service.

    Raises ValueError for no keys, more than 500, or one with a comma.
    """
    return StreamRequest(number, service, "SUBS", {"keys": _joined(keys), "fields": _numbered(fields)})


def addition(number: int, service: str, keys: Iterable[str], fields: Iterable[int]) -> StreamRequest:
    """These symbols besides the others, with the field list of the subscription: no other has a documented effect."""
    return StreamRequest(number, service, "ADD", {"keys": _joined(keys), "fields": _numbered(fields)})


def removal(number: int, service: str, keys: Iterable[str]) -> StreamRequest:
    """No longer these symbols."""
    return StreamRequest(number, service, "UNSUBS", {"keys": _joined(keys)})


def view(number: int, service: str, fields: Iterable[int]) -> StreamRequest:
    """Other fields for all symbols of a service."""
    return StreamRequest(number, service, "VIEW", {"fields": _numbered(fields)})


def subscriptions(number: int, service: str, keys: list[str], fields: list[int]) -> Iterator[StreamRequest]:
    """A subscription of any size: as many requests as it takes, numbered from `number`, the first replacing all."""
    for place, start in enumerate(range(0, len(keys), MOST_KEYS)):
        make = addition if place else subscription
        yield make(number + place, service, keys[start : start + MOST_KEYS], fields)


def encode_requests(address: StreamAddress, requests: Iterable[StreamRequest]) -> str:
    """The message that carries the requests."""
    ids = {"SchwabClientCustomerId": address.customer_id, "SchwabClientCorrelId": address.correl_id}
    listed = [
        {
            "requestid": str(request.number),
            "service": request.service,
            "command": request.command,
            **ids,
            "parameters": request.parameters,
        }
        for request in requests
    ]
    return _encoder.encode({"requests": listed}).decode()


def _joined(keys: Iterable[str]) -> str:
    listed = list(dict.fromkeys(keys))
    if not 1 <= len(listed) <= MOST_KEYS:
        message = f"{len(listed)} keys in one request: 1 to {MOST_KEYS} are possible"
        raise ValueError(message)
    wrong = next((key for key in listed if not key or "," in key), None)
    if wrong is not None:
        message = f"the key {wrong!r} cannot be asked for: keys are parted by commas"
        raise ValueError(message)
    return ",".join(listed)


def _numbered(fields: Iterable[int]) -> str:
    listed = sorted({0, *fields})
    return ",".join(str(number) for number in listed)

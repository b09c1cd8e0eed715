"""`trade-analyst token`: how the stored login stands, renewing it, forgetting it, and changing the key it is under."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from trade_analyst_pipeline.schwab.token_records import StoredTokens
    from trade_analyst_pipeline.schwab.tokens import TokenStore
    from trade_analyst_pipeline.settings import Settings

_RENEWED_BY = {
    "login": "a login",
    "same": "a refresh that repeated the refresh token",
    "rotated": "a refresh that gave a new refresh token",
    "omitted": "a refresh that left the refresh token out",
}
_EPHEMERAL = "this key is in memory only: no other command can open the login, and it ends with its process"


def status(
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Show the stored login: where it is, under which key, when it ends, what its refreshes and callbacks did.

    Asks nothing of the source. Exit code 1 when there is no login that can be used.
    """
    from trade_analyst_pipeline.settings import load_settings

    report = token_report(load_settings())
    if as_json:
        typer.echo(json.dumps(report, indent=2))
    else:
        for name, text in _lines(report):
            typer.echo(f"{name:<14} {text}")
    raise typer.Exit(0 if report["is_usable"] else 1)


def refresh() -> None:
    """Ask the source for a new access token now, once; other processes wait for it and use it too."""
    from trade_analyst_pipeline.defs.resources import token_client, token_store
    from trade_analyst_pipeline.settings import load_settings

    settings = load_settings()
    store = token_store(settings)
    present = store.load()
    tokens = store.renew(
        is_good=lambda found: found.generation != present.generation, refresh=token_client(settings).refresh
    )
    typer.echo(
        f"Refreshed: generation {tokens.generation}, fingerprint {tokens.fingerprint}, good until "
        f"{_instant(tokens.expires_time)}; the login ends at {_instant(tokens.login_ends_time)}."
    )


def revoke() -> None:
    """Forget the stored login on this machine, for good, also one that cannot be opened any more.

    The key stays. The source has no address at which a program could end a login: the message says how you can.
    """
    from trade_analyst_pipeline.defs.resources import token_file
    from trade_analyst_pipeline.schwab.tokens import forget_login
    from trade_analyst_pipeline.settings import load_settings

    settings = load_settings()
    file = token_file(settings)
    if not forget_login(file):
        typer.echo(f"There is no login in {file}: nothing to forget.")
        return
    typer.echo(f"Forgotten: {file} and the notes beside it are removed.")
    if settings.environment == "live":
        typer.echo(
            "Schwab offers no way to end a login from here: copies of its tokens stay good until they end, the access "
            "token after 30 minutes, the refresh token seven days after the login. To end them at once, log in again "
            "with the same app (`trade-analyst login`), change the Schwab password, or reset the app's secret on the "
            "developer portal."
        )


def rotate_key() -> None:
    """Encrypt the stored login with a new key and retire the old one, without a new login.

    Safe to repeat: one that was cut off is finished. A key in TRADE_ANALYST_TOKEN_KEY is changed by setting it to
    "NEW,OLD", running this, then setting it to "NEW".
    """
    from trade_analyst_pipeline.defs.resources import token_store
    from trade_analyst_pipeline.settings import load_settings

    store = token_store(load_settings())
    key = store.change_key()
    if key.source == "environment":
        typer.echo("The login is under the first key now. Set TRADE_ANALYST_TOKEN_KEY to that key alone.")
    else:
        typer.echo(f"The key was changed ({key.label}). The old one opens nothing any more.")


# -- the report --------------------------------------------------------------------------------------------------


def token_report(settings: Settings) -> dict[str, Any]:
    """What `token status --json` prints; docs/commands.md describes each field."""
    from trade_analyst_pipeline.defs.resources import token_file
    from trade_analyst_pipeline.schwab.callback_ledger import CallbackLedger

    store, tokens, problem = _found(settings)
    file = token_file(settings)
    is_unknown = store is None or (tokens is None and file.exists())
    return {
        "environment": settings.environment,
        "is_usable": problem is None,
        "problem": problem,
        "token_file": str(file),
        "key": None if store is None or is_unknown else _key(store),
        "login": None if store is None or tokens is None else _login(store, tokens),
        "callbacks": asdict(CallbackLedger(settings.callback_ledger_file).statistics()),
    }


def _found(settings: Settings) -> tuple[TokenStore | None, StoredTokens | None, str | None]:
    """The store, the login in it, and why that cannot be used, with what to do; each None where there is none."""
    from trade_analyst_pipeline.defs.resources import token_store
    from trade_analyst_pipeline.errors import AuthError, LoginRequiredError, SettingsError
    from trade_analyst_pipeline.schwab.token_records import LOGIN_ADVICE

    store = None
    try:
        store = token_store(settings)
        tokens = store.load()
    except LoginRequiredError:
        return store, None, f"nobody has logged in yet, or the login was forgotten. {LOGIN_ADVICE}"
    except (AuthError, SettingsError) as error:
        return store, None, str(error)
    refusal = store.refusal(tokens)
    return store, tokens, None if refusal is None else f"{refusal} {LOGIN_ADVICE}"


def _key(store: TokenStore) -> dict[str, Any] | None:
    key = store.key
    return None if key is None else {"source": key.source, "place": key.label, "is_changing": key.is_changing}


def _login(store: TokenStore, tokens: StoredTokens) -> dict[str, Any]:
    from trade_analyst_pipeline.schwab.tokens import both_times

    return {
        "fingerprint": tokens.fingerprint,
        "generation": tokens.generation,
        "renewed_by": tokens.renewal,
        "access_issued": _instant(tokens.issued_time),
        "access_ends": _instant(tokens.expires_time),
        "is_access_alive": tokens.is_alive(store.now()),
        "logged_in": _instant(tokens.login_time),
        "login_ends": _instant(tokens.login_ends_time),
        "login_ends_text": both_times(tokens.login_ends_time),
        "days_left": round(max(0.0, tokens.login_ends_time - store.now()) / 86_400, 3),
        "clock_problem": _clock_problem(store),
        "refresh": _refresh(store, tokens),
    }


def _clock_problem(store: TokenStore) -> str | None:
    """What to say when the login is dated in the future; else None."""
    from trade_analyst_pipeline.ops.login_outlook import Login, ahead_notice

    return ahead_notice(Login(None, None, lead=timedelta(seconds=store.lead())))


def _refresh(store: TokenStore, tokens: StoredTokens) -> dict[str, Any]:
    """What is going on with refreshing these tokens: a state, since when, by which process."""
    note = store.refresh_note(tokens.generation)
    if note is None:
        return {"state": "idle", "since": None, "process": None}
    is_cut_off = note.state == "asking" and not store.is_busy()
    return {"state": "cut_off" if is_cut_off else note.state, "since": _instant(note.since), "process": note.pid}


def _instant(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%SZ}"


# -- for a person ------------------------------------------------------------------------------------------------


def _lines(report: dict[str, Any]) -> list[tuple[str, str]]:
    """The report as lines: what each is about, and what is said."""
    lines = [("environment", report["environment"]), ("token file", report["token_file"])]
    lines += [("key", text) for text in _key_lines(report["key"])]
    if report["login"] is not None:
        lines += _login_lines(report["login"])
    if report["problem"] is not None:
        lines.append(("not usable", report["problem"]))
    return [*lines, ("callbacks", _callback_line(report["callbacks"]))]


def _key_lines(key: dict[str, Any] | None) -> list[str]:
    if key is None:
        return ["none is known here"]
    lines = [f"{key['source']}: {key['place']}"]
    if key["source"] == "ephemeral":
        lines.append(_EPHEMERAL)
    elif key["is_changing"]:
        lines.append("more than one: a change of keys is not finished; run `trade-analyst token rotate-key`")
    return lines


def _login_lines(login: dict[str, Any]) -> list[tuple[str, str]]:
    access = (
        f"fingerprint {login['fingerprint']}, generation {login['generation']}, from {_RENEWED_BY[login['renewed_by']]}"
    )
    ended = "ends" if login["is_access_alive"] else "ended"
    lines = [
        ("access token", access),
        ("", f"issued {login['access_issued']}, {ended} {login['access_ends']}"),
        ("login", f"made {login['logged_in']}"),
        ("", f"ends {login['login_ends_text']}: {login['days_left']:.1f} days left"),
    ]
    if login["clock_problem"] is not None:
        lines[-1] = ("", login["clock_problem"])
    refresh = _REFRESH_LINES[login["refresh"]["state"]]
    return lines + ([("refresh", refresh.format(**login["refresh"]))] if refresh else [])


_REFRESH_LINES = {
    "idle": "",
    "asking": "under way since {since} by process {process}",
    "cut_off": "begun at {since} by process {process} and cut off; the next one shows whether the login survived",
    "unanswered": "the one that ended at {since} had no answer; the next one shows whether the source acted on it",
    "refused": "refused by the source at {since}; it is not asked again before a new login",
    "app_refused": "the source refused the app key or secret at {since}; asked again in some minutes, or with others",
}


def _callback_line(callbacks: dict[str, Any]) -> str:
    refused = ", ".join(f"{count} {reason}" for reason, count in callbacks["refused"].items())
    text = (
        f"{callbacks['expected']} expected, {callbacks['received']} received, {callbacks['accepted']} accepted, "
        f"{callbacks['expired']} never came"
    )
    text += f"; refused: {refused}" if refused else ""
    if callbacks["median_latency_seconds"] is not None:
        text += f"; {callbacks['median_latency_seconds']:.1f} s from link to callback (median)"
    return f"{text}. {callbacks['problem']}" if callbacks["problem"] else text

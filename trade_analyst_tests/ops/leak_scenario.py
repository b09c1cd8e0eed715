"""A process that does everything with secrets that a process of ours may do, everything at DEBUG, and then crashes.

Started by `test_secret_leaks.py` in a project folder, with a scene as JSON on standard input. What it leaves behind is
scanned from outside. `is_masked` false takes redaction off, to see that the scan finds what then leaks.
"""

import asyncio
import base64
import gc
import json
import logging
import ssl
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

SCENE: dict[str, Any] = json.loads(sys.stdin.read())


def take_the_mask_off() -> None:
    """Before anything else is imported: texts stay as they are, and no library is held back."""
    from trade_analyst_pipeline.ops import redaction

    redaction.redact = lambda text: text  # type: ignore[assignment]
    redaction.redact_value = lambda value, _key="": value  # type: ignore[assignment]
    from trade_analyst_pipeline.ops import logs

    logs.TALKATIVE_LOGGERS = ()  # type: ignore[assignment]


if not SCENE["is_masked"]:
    take_the_mask_off()

import dagster as dg  # noqa: E402  the mask has to be off before
import httpx  # noqa: E402
from dagster._core.definitions.run_request import InstigatorType  # noqa: E402
from dagster._core.scheduler.instigation import TickData, TickStatus  # noqa: E402
from dagster._utils.error import SerializableErrorInfo  # noqa: E402
from pydantic import SecretStr  # noqa: E402

from trade_analyst_pipeline.capture.plan import Snapshot  # noqa: E402
from trade_analyst_pipeline.cli.dagster_instance import choose_instance  # noqa: E402
from trade_analyst_pipeline.cli.login import login_to_simulator  # noqa: E402
from trade_analyst_pipeline.definitions import assemble  # noqa: E402
from trade_analyst_pipeline.defs import resources  # noqa: E402
from trade_analyst_pipeline.defs.runs import PlannedRun, execute  # noqa: E402
from trade_analyst_pipeline.errors import AuthError, RunFailedError  # noqa: E402
from trade_analyst_pipeline.ops.logs import configure_logging, protect_crashes  # noqa: E402
from trade_analyst_pipeline.ops.redaction import register_secret  # noqa: E402
from trade_analyst_pipeline.settings import Settings, load_settings  # noqa: E402
from trade_analyst_pipeline.storage.archive import Archive  # noqa: E402

LOG = logging.getLogger("careless")


def turn_everything_up() -> None:
    """Logs to standard error and to a file in a format that knows nothing of us; every logger at DEBUG, unfiltered."""
    configure_logging(level="DEBUG")
    protect_crashes()
    logging.captureWarnings(capture=False)
    handler = logging.FileHandler("debug.log")
    handler.setFormatter(logging.Formatter("%(name)s %(levelname)s %(message)s"))
    logging.getLogger().addHandler(handler)
    everything_at_debug()


def everything_at_debug() -> None:
    """Also for loggers that came since, and against what the package pins and filters.

    In the quick form but for the pool of database connections, whose thousands of records say nothing else.
    """
    for name in list(logging.root.manager.loggerDict):
        logger = logging.getLogger(name)
        logger.setLevel(logging.DEBUG if SCENE["is_full"] or ".pool" not in name else logging.INFO)
        logger.filters.clear()


def log_in_and_refresh(settings: Settings) -> None:
    """The whole code flow, a renewal, and one that the source refuses."""
    login_to_simulator(settings)
    everything_at_debug()
    tokens = resources.access_tokens(settings)
    for _ in range(SCENE["refreshes"]):
        present = asyncio.run(tokens.access_token())
        asyncio.run(tokens.refresh_after_refusal(present))
    login_to_simulator(settings)


def visit_the_redirect(settings: Settings) -> None:
    """What a browser-like client on httpx says of an authorize page and of a redirect with a code in it."""
    client = resources.token_client(settings)
    context = ssl.create_default_context(cafile=str(resources.certificate_authority(settings)))
    with httpx.Client(verify=context, trust_env=False) as http:
        parameters = {
            "client_id": SCENE["app_key"],
            "redirect_uri": client.redirect_uri,
            "response_type": "code",
            "state": SCENE["state"],
        }
        answer = http.get(f"{client.base_url}/v1/oauth/authorize", params=parameters)
        query = answer.headers["location"].partition("?")[2]
        http.get(f"{client.base_url}/callback?{query}", headers={"Authorization": f"Bearer {SCENE['streamer_token']}"})


def meet_faults(settings: Settings) -> None:
    """One capture for each fault that the simulator has in store."""
    source, archive = resources.SourceResource(settings), Archive(settings.data_folder / "raw")
    for instant in SCENE["fault_instants"]:
        due = datetime.fromisoformat(instant)
        snapshot = Snapshot("quotes", due.date(), due, settings.universe.symbols)
        for outcome in source.take([snapshot], archive):
            LOG.info("outcome %r with gaps %r", outcome, outcome.gaps)


def run_the_pipeline(settings: Settings) -> None:
    """Jobs as `trade-analyst run` starts them; in one of them an asset fails with secrets in everything it says."""
    everything = dg.define_asset_job("everything", dg.AssetSelection.all() - dg.AssetSelection.assets("token"))
    definitions = dg.Definitions.merge(assemble(settings), dg.Definitions(assets=[leaky], jobs=[everything]))
    everything_at_debug()
    sessions = tuple(date.fromisoformat(day) for day in SCENE["sessions"])
    with dg.DagsterInstance.get() as instance:
        for job, assets in SCENE["runs"].items():
            with suppress(RunFailedError):
                execute(definitions, instance, PlannedRun(job, sessions, tuple(assets)))
        leave_records(instance)


def leave_records(instance: dg.DagsterInstance) -> None:
    """What a sensor that fails, one that skips, and a person who tags a run by hand leave in Dagster's databases."""
    secrets = list(known_secrets().values())
    error = SerializableErrorInfo(f"RuntimeError: {secrets}", [f"  frame {secret}" for secret in secrets], None)
    tick = TickData("careless", "careless", InstigatorType.SENSOR, TickStatus.FAILURE, time.time(), error=error)
    instance.create_tick(tick)
    skipped = TickData("careless", "careless", InstigatorType.SENSOR, TickStatus.STARTED, time.time())
    for secret in secrets:
        instance.update_tick(instance.create_tick(skipped).with_status(TickStatus.SKIPPED, skip_reason=secret))
    tags = {f"careless_{number}": secret for number, secret in enumerate(secrets)}
    instance.add_run_tags(instance.get_run_records(limit=1)[0].dagster_run.run_id, tags)


@dg.asset
def leaky(context: dg.AssetExecutionContext) -> Any:
    """Says each secret in its log and metadata, and fails with all of them in its message, cause and locals."""
    for name, secret in known_secrets().items():
        context.log.info(f"{name} {secret}")
        LOG.debug("in the step: %s", secret)
        yield dg.AssetObservation("leaky", metadata={name: secret, "page": dg.MetadataValue.md(f"- {secret}")})
    secrets = list(known_secrets().values())
    try:
        {}[tuple(secrets)]  # its error holds them too
    except KeyError as error:
        message = f"failed with {secrets}"
        raise RuntimeError(message) from error


def known_secrets() -> dict[str, str]:
    """What this process has been given or has stored."""
    tokens = resources.token_store(load_settings()).load()
    found = {name: SCENE[name] for name in SCENE["given"]}
    basic = base64.b64encode(f"{SCENE['app_key']}:{SCENE['app_secret']}".encode()).decode()
    return found | {
        "header_value": basic,
        "access": tokens.access_token.get_secret_value(),
        "refresh": tokens.refresh_token.get_secret_value(),
    }


def say_in_every_way() -> None:
    """Logs each secret as somebody might by mistake, in each encoding."""
    for name, secret in known_secrets().items():
        LOG.info("%s is %s", name, secret)
        LOG.info("address %s", f"https://127.0.0.1/callback?x=1&v={quote(secret, safe='')}")
        LOG.debug("header %s", base64.b64encode(f"user:{secret}".encode()).decode())
        LOG.debug("body %s", json.dumps({"nested": {"value": secret}}))
        LOG.info({"value": secret, "list": [secret]})
        LOG.warning("extra", extra={name: secret})
        warnings.warn(f"careless {secret}", stacklevel=1)
        try:
            int(secret)
        except ValueError as error:
            LOG.exception("crash")
            with_locals = traceback.TracebackException.from_exception(error, capture_locals=True)
            LOG.warning("".join(with_locals.format()))


def stream_login() -> None:
    """A login frame over a WebSocket, as the library's own DEBUG records show it."""
    from websockets.asyncio.client import connect
    from websockets.asyncio.server import serve

    frame = json.dumps(
        {
            "service": "ADMIN",
            "command": "LOGIN",
            "SchwabClientCustomerId": SCENE["customer_id"],
            "SchwabClientCorrelId": SCENE["correl_id"],
            "account": SCENE["account_number"],
            "parameters": {"Authorization": SCENE["streamer_token"]},
        }
    )

    async def scene() -> None:
        async def echo(connection: Any) -> None:
            async for message in connection:
                await connection.send(message)

        async with serve(echo, "127.0.0.1", 0) as server:
            port = next(iter(server.sockets)).getsockname()[1]
            async with connect(f"ws://127.0.0.1:{port}/?token={SCENE['streamer_token']}", proxy=None) as client:
                everything_at_debug()
                await client.send(frame)
                await client.recv()

    asyncio.run(scene())


def run_commands() -> None:
    """Each command that has to do with the login, as a user calls it with --debug."""
    from trade_analyst_pipeline.cli.main import main

    for arguments in SCENE["commands"]:
        with suppress(SystemExit, AuthError):
            main(["--debug", *arguments])
        everything_at_debug()


class Unraisable:
    """Fails where nobody can catch it."""

    def __del__(self) -> None:
        raise ValueError(str(known_secrets()))


def crash() -> None:
    """On a thread, in a destructor, and at last in the main thread, nobody catching it."""
    secrets = known_secrets()

    def fail() -> None:
        raise ValueError(secrets)

    thread = threading.Thread(target=fail)
    thread.start()
    thread.join()
    doomed: list[Unraisable] = [Unraisable()]
    doomed.clear()
    gc.collect()
    message = f"the end, with {secrets}"
    raise RuntimeError(message)


def main() -> None:
    """Everything, one after the other."""
    turn_everything_up()
    for name in SCENE["given"]:
        register_secret(SCENE[name])
    resources.app_credentials = lambda _: (SecretStr(SCENE["app_key"]), SecretStr(SCENE["app_secret"]))
    settings = load_settings()
    choose_instance(settings)
    steps: list[Callable[[], None]] = [
        lambda: log_in_and_refresh(settings),
        lambda: visit_the_redirect(settings),
        lambda: meet_faults(settings),
        stream_login,
        lambda: run_the_pipeline(settings),
        say_in_every_way,
        run_commands,
    ]
    for step in steps:
        started = time.monotonic()
        step()
        print(f"{step.__name__} {time.monotonic() - started:.1f} s")
    Path("done").write_text(datetime.now(UTC).isoformat())
    crash()


if __name__ == "__main__":
    main()

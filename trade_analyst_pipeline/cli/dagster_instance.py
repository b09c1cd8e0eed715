"""Where the Dagster instance of an environment lives: the variables that `dagster.yaml` and its storage stand on."""

from __future__ import annotations

import os
from contextlib import redirect_stdout
from importlib.metadata import version
from io import StringIO
from pathlib import Path

from trade_analyst_pipeline.errors import SettingsError
from trade_analyst_pipeline.settings import Settings

INSTANCE_FILE = "dagster.yaml"
EVENTS_AT_ONCE = "500"  # see defs/event_log.py


def choose_instance(settings: Settings) -> Path:
    """Make this process and its children use the environment's own instance; returns its storage folder.

    The instance is described by `dagster.yaml` of the current folder and stored with the data. Raises
    SettingsError where the current folder has no `dagster.yaml`.
    """
    home = Path.cwd()
    if not (home / INSTANCE_FILE).is_file():
        message = f"{home} has no {INSTANCE_FILE}. Start the command in the project folder."
        raise SettingsError(message)
    folder = (settings.data_folder / ".dagster").absolute()
    folder.mkdir(parents=True, exist_ok=True)
    os.environ.update(DAGSTER_HOME=str(home), DAGSTER_INSTANCE_DIR=str(folder), DAGSTER_EVENT_BATCH_SIZE=EVENTS_AT_ONCE)
    _bring_up_to_date(folder)
    return folder


def _bring_up_to_date(folder: Path) -> None:
    """Make or migrate the instance's databases once per release of Dagster, before several processes open them."""
    stamp, release = folder / "dagster-release", version("dagster")
    if stamp.is_file() and stamp.read_text(encoding="utf-8") == release:
        return
    from dagster import DagsterInstance

    with redirect_stdout(StringIO()), DagsterInstance.get() as instance:
        instance.upgrade()
    stamp.write_text(release, encoding="utf-8")

"""Where the Dagster instance of an environment lives: the two variables that `dagster.yaml` stands on."""

from __future__ import annotations

import os
from pathlib import Path

from trade_analyst_pipeline.errors import SettingsError
from trade_analyst_pipeline.settings import Settings

INSTANCE_FILE = "dagster.yaml"


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
    os.environ.update(DAGSTER_HOME=str(home), DAGSTER_INSTANCE_DIR=str(folder))
    return folder

"""What runs here: `<data dir>/up.json`, written by `ringlog up`, by which the other commands find it."""

from pathlib import Path
from typing import Any

import msgspec

from runtime.settings import PREFIX

FILE_NAME = "up.json"

# The file holds secrets: for its owner only.
_MODE = 0o600


class NotRunning(ValueError):
    """No readable `up.json`; the text is one sentence that says what to do."""


class Running(msgspec.Struct, kw_only=True):
    """Where everything is.

    `webhooks_url` and `ops_url` are the bases of the two listeners, such as `http://127.0.0.1:8080`; `database_url` is
    SQLAlchemy's; `webhook_key` is the secret alone; `pids` go from a process's name to its number; `simulator` is the
    `host:port` from which recordings may be fetched although it is a private address. `settings` are the variables
    that are in effect for the processes, whether somebody set them or `up` decided: another terminal has them not.
    """

    bootstrap_servers: str
    webhooks_url: str
    ops_url: str
    database_url: str
    recordings_url: str
    state_dir: str
    webhook_key: str
    pids: dict[str, int] = {}
    simulator: str | None = None
    webhook_header: str = "authorization"
    settings: dict[str, str] = {}

    def overrides(self) -> dict[str, Any]:
        """For `load_settings`: what the processes here go by."""
        in_effect = {name.removeprefix(PREFIX).lower(): value for name, value in self.settings.items()}
        return in_effect | {
            "kafka_bootstrap_servers": self.bootstrap_servers,
            "database_url": self.database_url,
            "recordings_url": self.recordings_url,
        }

    def write(self, data_dir: Path) -> Path:
        """Whoever reads meanwhile sees the former file or this one, never a half."""
        path = data_dir / FILE_NAME
        unfinished = path.with_suffix(".new")
        unfinished.touch(_MODE)
        unfinished.chmod(_MODE)
        unfinished.write_bytes(msgspec.json.format(msgspec.json.encode(self)) + b"\n")
        return unfinished.replace(path)


def find(data_dir: Path) -> Running:
    """What `ringlog up` wrote. Raises `NotRunning`."""
    path = data_dir / FILE_NAME
    try:
        return msgspec.json.decode(path.read_bytes(), type=Running)
    except FileNotFoundError:
        raise NotRunning(f"No running ringlog was found: {path} does not exist; run `ringlog up` first.") from None
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise NotRunning(f"{path} can't be read ({error}); stop ringlog and run `ringlog up` again.") from None

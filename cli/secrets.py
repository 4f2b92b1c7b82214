"""The secrets that `ringlog up` makes for itself, and keeps: a caller's hash must be the same tomorrow."""

import os
import secrets
from pathlib import Path

import msgspec

FILE_NAME = "secrets.json"

_MODE = 0o600  # for its owner only


class Secrets(msgspec.Struct, frozen=True, kw_only=True):
    identity_key: str
    webhook_key: str
    ops_key: str


def read_secrets(data_dir: Path) -> Secrets | None:
    """None when there are none yet. Raises `ValueError` when the file can't be read."""
    path = data_dir / FILE_NAME
    if not path.exists():
        return None
    try:
        return msgspec.json.decode(path.read_bytes(), type=Secrets)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ValueError(
            f"{path} can't be read ({error}); without its identity_key the callers in {data_dir} can't be found again."
        ) from None


def make_secrets(data_dir: Path) -> Secrets:
    """Those of the data directory, made when there are none. Raises `ValueError`."""
    if (known := read_secrets(data_dir)) is not None:
        return known
    made = Secrets(
        identity_key=secrets.token_hex(32), webhook_key=secrets.token_urlsafe(24), ops_key=secrets.token_urlsafe(24)
    )
    _keep(msgspec.json.format(msgspec.json.encode(made)) + b"\n", data_dir / FILE_NAME)
    return made


def _keep(content: bytes, path: Path) -> None:
    """It is on the disk before anything is named by it: after a power cut, other secrets would know no caller."""
    unfinished = path.with_suffix(".new")
    unfinished.unlink(missing_ok=True)
    with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _MODE), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)

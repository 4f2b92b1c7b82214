"""Writes `.env`, the secrets of `compose.yaml`, unless there is one: a caller's hash must be the same tomorrow."""

import os
import secrets
import sys
from pathlib import Path

PATH = Path(".env")

_MODE = 0o600  # for its owner only


def variables() -> dict[str, str]:
    """New secrets. The webhook's is to be given to the provider, as `authorization: Bearer <secret>`."""
    return {
        "RINGLOG_WEBHOOK_KEYS": f"compose:{secrets.token_urlsafe(24)}",
        "RINGLOG_OPS_KEY": secrets.token_urlsafe(24),
        "RINGLOG_IDENTITY_KEY": secrets.token_hex(32),
        "POSTGRES_PASSWORD": secrets.token_hex(16),  # it becomes part of a URL
    }


def main() -> None:
    try:
        descriptor = os.open(PATH, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _MODE)
    except FileExistsError:
        sys.stderr.write(f"{PATH} is there already, and stays as it is: its secrets belong to the data.\n")
        return
    with os.fdopen(descriptor, "w") as file:
        file.writelines(f"{name}={value}\n" for name, value in variables().items())
    sys.stderr.write(f"Wrote {PATH}; the secret for the provider is in its RINGLOG_WEBHOOK_KEYS, behind the colon.\n")


if __name__ == "__main__":
    main()

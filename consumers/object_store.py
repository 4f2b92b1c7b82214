"""Object storage by URL: a folder, S3 and its like."""

from datetime import timedelta

from obstore.exceptions import BaseError
from obstore.store import LocalStore, ObjectStore, from_url

from runtime.settings import PREFIX, SettingsError

# A request of the store's own client is repeated for so long; after that the storage is away, and we wait.
RETRIES = 3
RETRY_WITHIN = timedelta(seconds=30)


class StorageAway(Exception):
    """The object storage can't be used now. Nothing that is kept there is to blame."""


def open_store(url: str, setting: str) -> ObjectStore:
    """Connects to nothing yet; makes the folder. Raises `SettingsError`, without the URL: it may hold a key."""
    retry = {"max_retries": RETRIES, "retry_timeout": RETRY_WITHIN}
    try:
        if url.startswith("file:"):
            return LocalStore.from_url(url, mkdir=True)
        return from_url(url, retry_config=retry)  # type: ignore[call-overload, no-any-return]
    except (BaseError, ValueError, OSError) as error:
        reason = str(error).partition("\n")[0].replace(url, "...")
        raise SettingsError(
            f"{PREFIX}{setting} is wrong: {reason}; write file:///folder or s3://bucket/prefix."
        ) from None


def away(error: Exception) -> StorageAway:
    return StorageAway(f"{type(error).__name__}: {str(error).partition(chr(10))[0][:300]}")

"""Recordings: the sound of each call, fetched once into object storage. `docs/recordings.md`."""

from consumers.recordings.consumer import Recordings
from consumers.recordings.downloader import Downloader

__all__ = ["Downloader", "Recordings"]

"""The slices that Linux gives to a process: see `runtime.scheduling`."""

from runtime.scheduling import _attributes


def slice_ns(pid: int) -> int | None:
    """Of the first thread of a process. None where nobody can say; 0 in an older kernel."""
    attributes = _attributes(pid)
    return None if attributes is None else int(attributes.runtime_ns)

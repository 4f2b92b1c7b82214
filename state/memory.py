"""What was folded, in memory: for a few callers, and for as long as somebody asks about them."""

from collections.abc import Collection, Iterable

from state.fold import Fold
from state.profile import ProfileRow
from state.session import Session


class Memory:
    """A `state.fold.Source`. The rows that it gives are its own: a fold changes them, and `keep` takes them back."""

    def __init__(self) -> None:
        self._profiles: dict[bytes, ProfileRow] = {}
        self._sessions: dict[bytes, Session] = {}
        self._calls: dict[bytes, set[bytes]] = {}

    def profile(self, caller: bytes) -> ProfileRow | None:
        return self._profiles.get(caller)

    def profiles(self, callers: Collection[bytes]) -> dict[bytes, ProfileRow]:
        return {caller: self._profiles[caller] for caller in callers if caller in self._profiles}

    def sessions(self, sessions: Collection[bytes]) -> dict[bytes, Session]:
        return {key: self._sessions[key] for key in sessions if key in self._sessions}

    def sessions_of(self, caller: bytes) -> Iterable[bytes]:
        return self._calls.get(caller, ())

    def keep(self, fold: Fold) -> None:
        """After `settle`."""
        self._profiles |= fold.profiles
        self._sessions |= fold.sessions
        for (caller, session), there in fold.calls.items():
            known = self._calls.setdefault(caller, set())
            (known.add if there else known.discard)(session)

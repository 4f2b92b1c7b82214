"""What a shadow was built from: another code, another window, and it is of no use."""

import hashlib
import secrets
from pathlib import Path

import msgspec

import consumers
import schemas
from consumers.bills import BILLING
from runtime.settings import Settings


class Window(msgspec.Struct, frozen=True):
    """`since` and `until` as they were said; offsets by `topic/partition`, where they were limited.

    `partial`: not all of the log is in it, and a call of which only a part was read is left as it is.
    """

    since: str = "beginning"
    until: str = ""
    starts: dict[str, int] = {}
    ends: dict[str, int] = {}
    partial: bool = False


class Recipe(msgspec.Struct, frozen=True, kw_only=True):
    """`id` is that of the replay, and of what it says to others. `code` is a digest of all that computes."""

    id: str
    window: Window
    code: str
    cluster_id: str
    prefix: str
    new_terms: bool

    @classmethod
    def of(cls, settings: Settings, consumer: str, window: Window, cluster_id: str, new_terms: bool) -> "Recipe":
        return cls(
            id=secrets.token_hex(8),
            window=window,
            code=_code(settings.billing_plans if consumer == BILLING else None),
            cluster_id=cluster_id,
            prefix=settings.topic_prefix,
            new_terms=new_terms,
        )

    def differs(self, other: "Recipe") -> str | None:
        """Why what was built by one is not what the other asks for; None when it is."""
        reasons = {
            "the code or the file of plans has changed": self.code != other.code,
            "it is of another Kafka": (self.cluster_id, self.prefix) != (other.cluster_id, other.prefix),
            "it has another window": self._said() != other._said(),
            "it treats plans otherwise": self.new_terms != other.new_terms,
        }
        return next((reason for reason, holds in reasons.items() if holds), None)

    def _said(self) -> tuple[str, str, bool]:
        return self.window.since, self.window.until, self.window.partial


def _code(plans: Path | None) -> str:
    """A comment that was changed counts, too: to read the log once more is better than to swap in what nobody saw."""
    digest = hashlib.blake2b(digest_size=16)
    for package in (consumers, schemas):
        root = Path(str(package.__file__)).parent
        for file in sorted(root.rglob("*.py")):
            digest.update(f"{file.relative_to(root)}\0".encode() + file.read_bytes())
    if plans is not None:
        digest.update(plans.read_bytes())
    return digest.hexdigest()

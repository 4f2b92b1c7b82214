"""An answer made again: as of then, as of now, and with other templates."""

from collections.abc import Sequence

import msgspec

from cli.explainer.announcement import Announcement
from cli.explainer.past import Past
from schemas.answered import FAILED_OPEN, NO_STATE, Answered, digest_of
from service.answer import EMPTY, answer
from service.prompts import Prompts
from state.profile import Profile

_NOTHING = {
    NO_STATE: "There was no state to answer from: the empty answer went out.",
    FAILED_OPEN: "Answering failed, and the empty answer went out; the service's log says why.",
}

_ANOTHER_TEXT = "has another text now: name the folder that has the text of then by --prompts."
_ANOTHER_ANSWER = (
    "It is another answer: a fact that was overwritten since is gone from the log, or another version of ringlog"
    " answered."
)


class Explanation(msgspec.Struct, kw_only=True):
    """`then` is the answer made again from what the log had said when it went out, with the template of then; None when
    that can't be. `confirmed`: it has the digest of what was answered, so it is that. `why` says what else there is to
    say. `other` is as of then with the templates that are compared, `now` as of now with those in use.
    """

    announcement: Announcement
    then: bytes | None = None
    confirmed: bool = False
    why: str | None = None
    other: bytes | None = None
    now: bytes

    @property
    def differs(self) -> bool | None:
        """Whether `other` is another answer; None when nobody can know."""
        answered = self.announcement.event.answered
        if self.other is None or answered is None:
            return None
        if self.then is not None:
            return self.other != self.then
        return not _is(self.other, answered)


def explain(it: Announcement, past: Past, in_use: Prompts, compared: Prompts) -> Explanation:
    """`in_use` are the templates of today, `compared` those to be tried; either may have the text of then."""
    agent, answered = it.event.agent_id, it.event.answered
    found = Explanation(announcement=it, now=_answer(past.profile_now(it), in_use, agent))
    if answered is not None and (nothing := _NOTHING.get(answered.outcome)) is not None:
        found.then, found.confirmed, found.why = EMPTY, True, nothing
        return found
    found.why = past.why_not(it)
    if answered is None or found.why is not None:
        return found
    profile = past.profile(it)
    found.other = _answer(profile, compared, agent)
    of_then = _of_then((in_use, compared), agent, answered)
    if of_then is None and profile is not None:
        found.why = f"The template {answered.template} {_ANOTHER_TEXT}"
        return found
    found.then = _answer(profile, of_then or in_use, agent)
    found.confirmed = _is(found.then, answered)
    if not found.confirmed:
        found.why = past.forgotten(it) or _ANOTHER_ANSWER
    return found


def _answer(profile: Profile | None, prompts: Prompts, agent_id: str | None) -> bytes:
    return EMPTY if profile is None else answer(profile, prompts.of(agent_id), agent_id)


def _is(body: bytes, answered: Answered) -> bool:
    return (None if body == EMPTY else digest_of(body)) == answered.digest


def _of_then(known: Sequence[Prompts], agent_id: str | None, answered: Answered) -> Prompts | None:
    """Those that have, for this agent, the text that was used. Any will do where none was."""
    if answered.template_digest is None:
        return known[0]
    return next((it for it in known if it.of(agent_id).digest == answered.template_digest), None)

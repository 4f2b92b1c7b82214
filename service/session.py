"""What is said of a session's name that can't be one."""

from schemas.event import MAX_SESSION_ID_CHARACTERS

SESSION_TOO_LONG = f"The session_id has more than {MAX_SESSION_ID_CHARACTERS} characters."

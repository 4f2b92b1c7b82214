"""The name of a session, as far as it can be one."""

# It becomes a header, a key in a database and part of a file's name; the provider's have 36 characters.
MAX_SESSION_ID_CHARACTERS = 256

TOO_LONG = f"The session_id has more than {MAX_SESSION_ID_CHARACTERS} characters."

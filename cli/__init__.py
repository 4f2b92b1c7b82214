"""The `ringlog` command: one verb a file."""

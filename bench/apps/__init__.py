"""What ringlog is measured against, each a server of its own."""

"""What a prefetch was answered, made again from the log."""

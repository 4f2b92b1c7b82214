"""How the schema came to be, one step a file. Run by `ringlog migrate`."""

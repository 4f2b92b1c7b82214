"""What is done with events: the contract of a consumer, the runner that drives one, and ours."""

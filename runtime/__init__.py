"""How any process of ours runs: settings, clock, logs, metrics, Kafka connection, supervision."""

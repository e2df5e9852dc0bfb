"""One run, from its configuration to its outputs; studies of many runs."""

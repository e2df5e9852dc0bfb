"""A run from its configuration to its output files; multiruns over seeds; studies."""

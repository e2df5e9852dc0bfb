"""Command line: composition, checks, one-line errors and exit codes of all commands; the theory command."""

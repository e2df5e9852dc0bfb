"""What every command shares: composition, one-line errors, exit codes; and the theory command."""

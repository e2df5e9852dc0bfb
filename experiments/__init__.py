"""The studies: each one command, one figure, one finding; ``python -m experiments`` makes them all."""

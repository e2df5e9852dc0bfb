"""Ground beneath all: interrupts, atomic files, locks."""

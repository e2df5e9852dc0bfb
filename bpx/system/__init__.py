"""Utilities that every other package may use: errors, interrupts, atomic files, locks, text, trees of keys."""

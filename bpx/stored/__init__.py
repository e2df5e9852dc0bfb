"""Runs and studies as they are stored: their names, files and configuration, found, read and grouped."""

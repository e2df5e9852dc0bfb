"""Sweeps: Optuna behind Hydra's Sweeper interface.

A study is a set of trials in Optuna's storage. Any number of processes work on it, each with the same command: it
asks for trials, launches them through Hydra's launcher and waits. A trial reports its own end, in whatever process it
runs, so that the storage holds the whole state of the study.
"""

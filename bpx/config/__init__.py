"""Build checked objects from a composed configuration.

An invalid value raises UserError: one line that names the key, what was expected and what was received.
"""

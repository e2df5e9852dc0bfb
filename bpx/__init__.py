"""A laboratory for one question: do the gradients of this network vanish or explode, where and why.

And: what would change it?
"""

__version__ = "0.1.0"

"""bpx: do the gradients of this network vanish or explode, where, why, and what would change it?"""

__version__ = "0.1.0"

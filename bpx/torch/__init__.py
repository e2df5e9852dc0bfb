"""bpx for PyTorch: the finding of any ``torch.nn`` model, its record while it trains, networks out and in.

Needs the extra ``torch``; nothing else in bpx imports this room, and ``import bpx`` does not import PyTorch.
"""

from bpx.torch.convert import Residual, Scale, from_torch, to_torch
from bpx.torch.diagnosis import diagnose
from bpx.torch.watching import watch

__all__ = ["Residual", "Scale", "diagnose", "from_torch", "to_torch", "watch"]

"""bpx for PyTorch: the finding of any ``torch.nn`` model, its record while it trains, networks out and in.

Needs the extra ``torch``; nothing else in bpx imports this room, and ``import bpx`` does not import PyTorch.
"""

from bpx.torch.convert import to_torch
from bpx.torch.diagnosis import diagnose
from bpx.torch.importing import from_torch
from bpx.torch.layers import Residual, Scale
from bpx.torch.watching import watch

__all__ = ["Residual", "Scale", "diagnose", "from_torch", "to_torch", "watch"]

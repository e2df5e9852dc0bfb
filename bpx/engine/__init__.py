"""The network engine, in NumPy.

Glossary
--------
Rows are samples. For a layer with n_in inputs and n_out units, and a batch of B samples:

- ``x`` (B, n_in): the data; ``a`` (B, n_in): the activations that enter a layer
- ``W`` (n_in, n_out), ``b`` (n_out,): weights and biases; ``z = a W + b`` (B, n_out): pre-activations
- ``phi``: the activation function; ``phi(z)`` enters the next layer
- ``J``: the cost, the mean of the samples' costs J_i
- ``delta`` (B, n_out): dJ_i/dz, per sample; the buffers hold dJ/dz = delta / B
- ``dW``, ``db``: dJ/dW, dJ/db; ``theta``, ``grad``: all parameters and their gradients as one vector
- ``u``, ``factor``: the optimizer's step is theta += factor * u
"""

from bpx.engine.activation import Activation, ActivationFunction
from bpx.engine.activations import ACTIVATIONS
from bpx.engine.arrays import Array
from bpx.engine.attention import Attention, Positions
from bpx.engine.convolution import Convolution
from bpx.engine.dense import Dense
from bpx.engine.dropout import Dropout
from bpx.engine.gradcheck import GradientCheck, TensorCheck, gradcheck
from bpx.engine.gru import GRU
from bpx.engine.initializers import INITIALIZERS, Initializer, recommended_gain
from bpx.engine.layer import Layer
from bpx.engine.layercheck import LayerCheck
from bpx.engine.losses import LOSSES, Loss, accuracy
from bpx.engine.lstm import LSTM
from bpx.engine.models import convnet, gru, lstm, mlp, plain_conv, residual_conv, residual_mlp, rnn, transformer
from bpx.engine.network import Network
from bpx.engine.normalization import BatchNorm, LayerNorm, RMSNorm
from bpx.engine.optimizers import OPTIMIZERS, Optimizer, adam, adamw, momentum, nesterov, rmsprop, sgd
from bpx.engine.parameters import Parameter, ParameterVector
from bpx.engine.pooling import Flatten, MaxPool, MeanPool, MeanPositions
from bpx.engine.recurrent import LastStep, Recurrence, Recurrent
from bpx.engine.residual import Residual
from bpx.engine.scale import Scale
from bpx.engine.schedules import SCHEDULES, LRSchedule
from bpx.engine.spec import NetworkSpec

__all__ = [
    "ACTIVATIONS",
    "GRU",
    "INITIALIZERS",
    "LOSSES",
    "LSTM",
    "OPTIMIZERS",
    "SCHEDULES",
    "Activation",
    "ActivationFunction",
    "Array",
    "Attention",
    "BatchNorm",
    "Convolution",
    "Dense",
    "Dropout",
    "Flatten",
    "GradientCheck",
    "Initializer",
    "LRSchedule",
    "LastStep",
    "Layer",
    "LayerCheck",
    "LayerNorm",
    "Loss",
    "MaxPool",
    "MeanPool",
    "MeanPositions",
    "Network",
    "NetworkSpec",
    "Optimizer",
    "Parameter",
    "ParameterVector",
    "Positions",
    "RMSNorm",
    "Recurrence",
    "Recurrent",
    "Residual",
    "Scale",
    "TensorCheck",
    "accuracy",
    "adam",
    "adamw",
    "convnet",
    "gradcheck",
    "gru",
    "lstm",
    "mlp",
    "momentum",
    "nesterov",
    "plain_conv",
    "recommended_gain",
    "residual_conv",
    "residual_mlp",
    "rmsprop",
    "rnn",
    "sgd",
    "transformer",
]

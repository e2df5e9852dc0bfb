"""The data: sources, splits, scaling and batches."""

from bpx.data.batches import Batches
from bpx.data.dataset import DataError, Dataset, Source, SupportsLoad
from bpx.data.digits import Digits
from bpx.data.file import File
from bpx.data.images import EMNIST, KMNIST, MNIST, FashionMNIST
from bpx.data.sequences import Adding, Copying
from bpx.data.synthetic import Classification, Gaussian, Moons, Spirals
from bpx.engine.features import Scaler

SOURCES: dict[str, type[Source]] = {
    "mnist": MNIST,
    "fashion_mnist": FashionMNIST,
    "kmnist": KMNIST,
    "emnist": EMNIST,
    "digits": Digits,
    "classification": Classification,
    "moons": Moons,
    "spirals": Spirals,
    "gaussian": Gaussian,
    "adding": Adding,
    "copying": Copying,
    "file": File,
}

__all__ = ["SOURCES", "Batches", "DataError", "Dataset", "Scaler", "Source", "SupportsLoad"]

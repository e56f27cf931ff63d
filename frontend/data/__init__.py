"""Data on its way into a model: samples, their order, batches of them, workers, splits, scaling."""

from .ahead import Ahead, ahead
from .arrays import batches
from .collate import Pad, collate
from .loader import DataLoader
from .normalizer import Normalizer
from .randomness import rng
from .samplers import LengthBuckets, RandomSampler, Sampler, SequentialSampler, WeightedRandomSampler
from .samples import ConcatDataset, Dataset, IterableDataset, Subset, TensorDataset, from_generator
from .splits import k_fold, random_split, split

__all__ = [
    "Ahead",
    "ConcatDataset",
    "DataLoader",
    "Dataset",
    "IterableDataset",
    "LengthBuckets",
    "Normalizer",
    "Pad",
    "RandomSampler",
    "Sampler",
    "SequentialSampler",
    "Subset",
    "TensorDataset",
    "WeightedRandomSampler",
    "ahead",
    "batches",
    "collate",
    "from_generator",
    "k_fold",
    "random_split",
    "rng",
    "split",
]

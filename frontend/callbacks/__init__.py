"""What ``fit`` and ``evaluate`` call between batches and epochs. Names, arguments and the order of the hooks are Keras'.

>>> import graphc as gc
>>> from graphc import callbacks, nn
>>> model = gc.compile(nn.Linear(2, 1), gc.spec("N", 2), loss="mse", optimizer="sgd", target="reference")
>>> seen = []
>>> watch = callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: seen.append((epoch, sorted(logs))))
>>> _ = model.fit([[1.0, 2.0]], [[1.0]], epochs=2, callbacks=[watch])
>>> seen
[(0, ['loss']), (1, ['loss'])]
"""

from __future__ import annotations

from .base import Callback, CallbackList, LambdaCallback, better, watched
from .checkpoint import BackupAndRestore, ModelCheckpoint
from .curves import LivePlot
from .logs import CSVLogger, TensorBoard
from .progress import ProgressBar
from .rates import LearningRateScheduler, ReduceLROnPlateau
from .stopping import EarlyStopping, GradientNormStopping, TerminateOnNaN

__all__ = [
    "BackupAndRestore",
    "CSVLogger",
    "Callback",
    "CallbackList",
    "EarlyStopping",
    "GradientNormStopping",
    "LambdaCallback",
    "LearningRateScheduler",
    "LivePlot",
    "ModelCheckpoint",
    "ProgressBar",
    "ReduceLROnPlateau",
    "TensorBoard",
    "TerminateOnNaN",
    "better",
    "watched",
]

"""What a training leaves behind: loss and metrics of its epochs."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["History"]


@dataclass
class History:
    """Means of loss and metrics, one value an epoch: ``history["val_loss"][-1]``."""

    history: dict[str, list[float]] = field(default_factory=dict)
    seconds: list[float] = field(default_factory=list)

    def __getitem__(self, name: str) -> list[float]:
        return self.history[name]

    @property
    def epochs(self) -> int:
        return len(self.seconds)

    def add(self, logs: dict[str, float], seconds: float) -> None:
        for k, v in logs.items():
            self.history.setdefault(k, []).append(v)
        self.seconds.append(seconds)

"""Sums and maxima that add up over micro-batches and ranks, and the metrics made of them."""

import math

import torch
from torch import Tensor


class Statistics:
    """Named float64 scalars on the device that computed them; nothing here waits for it."""

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self.maxima: dict[str, Tensor] = {}

    def add(self, name: str, values: Tensor) -> None:
        """Add the sum of `values` to the named sum."""
        total = values.detach().sum(dtype=torch.float64)
        self.sums[name] = self.sums[name] + total if name in self.sums else total

    def maximum(self, name: str, values: Tensor) -> None:
        """Raise the named maximum to that of `values`, of which there must be one."""
        largest = values.detach().amax().double()
        before = self.maxima.get(name)
        self.maxima[name] = largest if before is None else torch.maximum(before, largest)

    def merge(self, other: "Statistics") -> None:
        """Take in those of another micro-batch."""
        for name, value in other.sums.items():
            self.add(name, value)
        for name, value in other.maxima.items():
            self.maximum(name, value)


class Totals:
    """Statistics of a whole update, as plain numbers."""

    def __init__(self, sums: dict[str, float], maxima: dict[str, float]) -> None:
        self.sums = sums
        self.maxima = maxima

    def mean(self, name: str, over: str = "tokens") -> float:
        """A sum over another; NaN when there is nothing to divide by."""
        count = self.sums[over]
        return self.sums[name] / count if count else math.nan

    def effective_sample_frac(self) -> float:
        """(sum w)^2 / (B sum w^2) of the sequence ratios w (VCPO, arXiv 2602.17616)."""
        squares = self.sums["sequences"] * self.sums["sequence_ratio_squared"]
        return self.sums["sequence_ratio"] ** 2 / squares if squares else math.nan

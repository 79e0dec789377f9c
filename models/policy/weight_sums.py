"""Weights told by their sums: what a learner sent against what an engine holds."""

import re
from collections.abc import Generator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor

Sums = tuple[float, float]
"""(sum, sum of squares) in float64."""

_LAYER = re.compile(r"^.*?\.\d+(?=\.)")
_GATE_OR_UP = re.compile(r"\b(gate_proj|up_proj)\b")
_PIECE = 2**24
"""Elements that are summed at a time."""
_PIECE_IN_CACHE = 2**16
"""The same on a CPU, where passes over what lies in memory cost more than the sums."""


class WeightSums(dict[str, Sums]):
    """Name -> sums of the tensor, or of all tensors of a group."""

    def add(self, name: str, sums: Sums, share: float = 1.0) -> None:
        """Add `share` of `sums` to those of `name`."""
        total, squares = self.get(name, (0.0, 0.0))
        self[name] = (total + share * sums[0], squares + share * sums[1])


def weight_group(name: str) -> str:
    """The unit in which weights are compared: a layer, or a parameter outside any layer.

    Engines fuse q, k, v and gate, up inside a layer; a sum over the whole layer does not mind. Of
    gate and up outside any layer (GLM-4.1V's projector has them) the sum over both is taken.
    """
    match = _LAYER.match(name)
    return match.group(0) if match else _GATE_OR_UP.sub("gate_up_proj", name)


def sum_and_squares(tensor: Tensor) -> Sums:
    """Sums of a tensor of any shape and dtype, a piece at a time: a whole copy could fill a GPU."""
    if tensor.is_cuda:
        return _sums_of_pieces(tensor, _PIECE)
    with one_thread():
        return _sums_of_pieces(tensor, _PIECE_IN_CACHE)


def _sums_of_pieces(tensor: Tensor, size: int) -> Sums:
    total = torch.zeros(2, dtype=torch.float64, device=tensor.device)
    for piece in tensor.detach().reshape(-1).split(size):
        values = piece.double()
        total += torch.stack([values.sum(), values.dot(values)])
    return float(total[0]), float(total[1])


@contextmanager
def one_thread() -> Generator[None]:
    """Torch computes on this thread alone. Pieces that fit a core's cache are over before several
    threads have met: on two busy cores two took 2 to 20 s for a gigabyte's sums, where one takes
    0.2."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def compare_sums(sent: Mapping[str, Sums], held: Mapping[str, Sums], tolerance: float) -> list[str]:
    """Where an engine's weight sums differ from what the learner sent.

    Args:
        sent: sums of each weight group over the tensors as sent.
        held: the same, read back from the engine.
        tolerance: largest gap, relative to the root of the sum of squares for sums, and to the sum
            of squares itself.

    Returns:
        One line for each group that is missing on either side or differs, naming the figures;
        empty when equal.
    """
    faults = [
        f"{group}: the engine holds such weights (sum {total:.9g}), but none were sent"
        for group, (total, _) in held.items()
        if group not in sent
    ]
    for group, (total, squares) in sent.items():
        if group not in held:
            faults.append(f"{group}: sent, but the engine holds no such weights")
            continue
        has_total, has_squares = held[group]
        scale = max(squares, 1e-30)
        equal = (
            abs(has_squares - squares) <= tolerance * scale
            and abs(has_total - total) <= tolerance * scale**0.5
        )
        if not equal:
            faults.append(
                f"{group}: learner sent sum {total:.9g}, squares {squares:.9g}; "
                f"engine holds sum {has_total:.9g}, squares {has_squares:.9g}"
            )
    return faults

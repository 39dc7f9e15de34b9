"""Counter-based random numbers: each is a hash of what it belongs to, so none depends on a batch or on a device.

A number is a function of (seed, problem, step, vocabulary id) alone. Rows may come in any order and any company, and
every arm of an experiment meets the same noise at the same place (common random numbers), with no generator's state.
The hashes are integer arithmetic modulo 2^32 and 2^64, which the CPU and a GPU do alike; the logarithms that turn a
hash into Gumbel noise may differ between devices in the last bits.

Sources: the mixer of 64 bits is SplitMix64's (Steele, Lea and Flood 2014); the multipliers and shifts of the 32-bit
hash are those of `triple32` (Wellons 2018, "Prospecting for hash functions"), with half of a row's key put in before
the first multiplication and half after it.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from jaxtyping import Float, Int
from torch import Tensor

LARGEST = 22.19
"""No noise is larger than this (32 ln 2): the 2.3e-10 of the Gumbel distribution above it is missing."""
SMALLEST = -2.82
"""No noise is smaller than this (-ln(24 ln 2)): the 6e-8 of the distribution below it is missing."""
_GUMBEL, _UNIFORM = 1, 2  # what a key is for
_ODD = 0x9E3779B97F4A7C15
_SCALE, _HALF = 2.0**-31 * (1 - 2.0**-24), 2.0**-32
_CPU_PIECE, _GPU_PIECE = 1 << 17, 1 << 24
"""Numbers made at once: on the CPU a thread's share of them stays in its cache and is whole vector registers; on a GPU
they bound the temporary memory."""
_CPU_WIDTH, _LANES = 1 << 13, 16


def gumbel(
    seed: int, problems: Int[Tensor, " rows"], step: Int[Tensor, " rows"] | int, vocab: int
) -> Float[Tensor, "rows vocab"]:
    """Standard Gumbel noise in float32, on the device of `problems`.

    argmax(logits / temperature + noise) is a sample of softmax(logits / temperature). A value has 31 random bits,
    finest where the noise is large, and lies between `SMALLEST` and `LARGEST`.

    Args:
        seed: distinct modulo 2^64.
        problems: number of each row's problem: rows of one problem at one step have the same noise.
        step: number of the token in the completion, of each row or of all.
        vocab: number of ids; noise of an id does not depend on it.
    """
    out = torch.empty(len(problems), vocab, dtype=torch.float32, device=problems.device)
    for rows, ids, negative in _negative_gumbel(seed, problems, step, vocab):
        torch.neg(negative, out=out[rows, ids])
    return out


def add_gumbel(
    scores: Float[Tensor, "rows vocab"], seed: int, problems: Int[Tensor, " rows"], step: Int[Tensor, " rows"] | int
) -> None:
    """Add the noise of `gumbel` to float32 scores in place, piece by piece: no memory of their size is taken."""
    for rows, ids, negative in _negative_gumbel(seed, problems, step, scores.shape[1]):
        scores[rows, ids].sub_(negative)


def uniform(
    seed: int, problems: Int[Tensor, " rows"], step: Int[Tensor, " rows"] | int, stream: int
) -> Float[Tensor, " rows"]:
    """One number per row, uniform over (0, 1) in float64 with 52 bits, and symmetric; 0 and 1 never occur.

    `stream` tells apart the uses of a row's numbers; none of them meets the Gumbel noise. The same on every device.
    """
    bits = _shifted(_mixed(_keys(seed, _UNIFORM, problems, step) + _signed(_ODD * stream)), 12)
    return (bits.double() + 0.5) * 2.0**-52


def _keys(
    seed: int, use: int, problems: Int[Tensor, " rows"], step: Int[Tensor, " rows"] | int
) -> Int[Tensor, " rows"]:
    """64 bits per row; for one seed and use, different (problem, step) share them with the chance of 64 random bits."""
    first = torch.tensor(_signed(seed), device=problems.device)
    by_problem = _mixed(_mixed(_mixed(first) + use) ^ problems.long())
    return _mixed(by_problem ^ step)


def _mixed(z: Int[Tensor, "*n"]) -> Int[Tensor, "*n"]:
    """SplitMix64's output for the state z: a permutation of the integers modulo 2^64."""
    z = z + _signed(_ODD)
    z = (z ^ _shifted(z, 30)) * _signed(0xBF58476D1CE4E5B9)
    z = (z ^ _shifted(z, 27)) * _signed(0x94D049BB133111EB)
    return z ^ _shifted(z, 31)


def _shifted(z: Int[Tensor, "*n"], bits: int) -> Int[Tensor, "*n"]:
    """A logical shift to the right; torch's own copies the sign."""
    return (z >> bits) & ((1 << (64 - bits)) - 1)


def _halves(z: Int[Tensor, " rows"]) -> Int[Tensor, "rows 2"]:
    """The low and the high 32 bits."""
    return torch.stack([(z << 32) >> 32, z >> 32], dim=1).int()


def _negative_gumbel(
    seed: int, problems: Int[Tensor, " rows"], step: Int[Tensor, " rows"] | int, vocab: int
) -> Iterator[tuple[slice, slice, Float[Tensor, "some ids"]]]:
    """Pieces of the noise: their rows, their ids, and the noise times -1."""
    keys = _halves(_keys(seed, _GUMBEL, problems, step))
    on_cpu = problems.device.type == "cpu"
    numbers = _CPU_PIECE * torch.get_num_threads() if on_cpu else _GPU_PIECE
    # Widths are whole vector registers: no logarithm falls into a loop's remainder, whose rounding might differ.
    width = min(_CPU_WIDTH if on_cpu else numbers, max(1, -(-vocab // _LANES)) * _LANES)
    height = max(1, numbers // width)
    for left in range(0, vocab, width):
        ids = torch.arange(left, left + width, dtype=torch.int32, device=problems.device)
        right = min(left + width, vocab)
        for top, some in zip(range(0, len(keys), height), keys.split(height), strict=False):
            yield slice(top, top + height), slice(left, right), _log_log(_hash32(ids, some))[:, : right - left]


def _hash32(ids: Int[Tensor, " ids"], keys: Int[Tensor, "rows 2"]) -> Int[Tensor, "rows ids"]:
    """31 random bits (at least 0) per row and id, from the id and the halves of a row's key.

    Ids that differ in their highest bits alone would have correlated hashes, but no vocabulary has as many.
    """
    x = ids ^ keys[:, :1]
    scratch = torch.empty_like(x)
    x.mul_(_signed(0xED5AD4BB, 32))
    _fold(x, 11, scratch)
    x.bitwise_xor_(keys[:, 1:]).mul_(_signed(0xAC4C1B51, 32))
    _fold(x, 15, scratch)
    x.mul_(_signed(0x31848BAB, 32))
    # A shift that copies the sign makes the highest bit 0 and takes each of the other values exactly twice.
    return x.bitwise_xor_(torch.bitwise_right_shift(x, 14, out=scratch))


def _fold(x: Int[Tensor, "*n"], bits: int, scratch: Int[Tensor, "*n"]) -> None:
    """x ^= x >> bits, a logical shift."""
    x.bitwise_xor_(torch.bitwise_right_shift(x, bits, out=scratch).bitwise_and_((1 << (32 - bits)) - 1))


def _log_log(bits: Int[Tensor, "rows ids"]) -> Float[Tensor, "rows ids"]:
    """Gumbel noise of 31 bits, times -1: log(-log(1 - v)), v = (bits + 1/2) / 2^31.

    Large noise comes from v near 0, where float32 is finest, not from numbers near 1. The scale keeps v below 1.
    """
    return bits.float().mul_(-_SCALE).sub_(_HALF).log1p_().neg_().log_()


def _signed(value: int, bits: int = 64) -> int:
    """The signed integer with the low bits of `value`."""
    value %= 1 << bits
    return value - (1 << bits) if value >> (bits - 1) else value

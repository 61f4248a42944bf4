"""Random numbers as a pure function of (seed, position, token id).

A counter-based generator in the sense of Salmon et al., "Parallel random numbers: as easy as 1, 2, 3" (SC 2011): no
state, so that the same draw is made in any batch, in any process, on any device. Built as SplitMix is (Steele et al.,
"Fast splittable pseudorandom number generators", OOPSLA 2014): SplitMix64 of (seed, position) gives an odd stride and
an offset, token ids step along them, and a 32-bit finaliser mixes the bits (Wellons, "Prospecting for hash functions",
2018: ``lowbias32``).
"""

import torch

_MASK64 = 2**64 - 1
_MASK32 = 2**32 - 1


def gumbel(seed: int, position: int, token_ids: torch.Tensor) -> torch.Tensor:
    """Standard Gumbel noise, -log(-log u), float32, for each token id (int32) at a position."""
    bits = _hash(seed, position, token_ids)
    uniform = ((bits >> 9) & 0x7FFFFF).float().add_(0.5).mul_(2.0**-23)
    return uniform.log_().neg_().log_().neg_()


def _hash(seed: int, position: int, token_ids: torch.Tensor) -> torch.Tensor:
    key = _splitmix64(_splitmix64(seed) ^ position)
    stride, offset = (key >> 32) | 1, key & _MASK32
    return _lowbias32((token_ids * _signed(stride)).add_(_signed(offset)))


def _splitmix64(state: int) -> int:
    state = (state + 0x9E3779B97F4A7C15) & _MASK64
    state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & _MASK64
    state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & _MASK64
    return state ^ (state >> 31)


def _lowbias32(bits: torch.Tensor) -> torch.Tensor:
    """Mix 32-bit integers in place, in int32 arithmetic that wraps."""
    bits ^= (bits >> 16) & 0xFFFF
    bits *= _signed(0x7FEB352D)
    bits ^= (bits >> 15) & 0x1FFFF
    bits *= _signed(0x846CA68B)
    bits ^= (bits >> 16) & 0xFFFF
    return bits


def _signed(word: int) -> int:
    return word - 2**32 if word >= 2**31 else word

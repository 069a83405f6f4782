"""Arithmetic with exact RFLAGS (APM volume 1, section 3.1.4): pure functions on plain ints."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

CF: Final = 1 << 0
PF: Final = 1 << 2
AF: Final = 1 << 4
ZF: Final = 1 << 6
SF: Final = 1 << 7
OF: Final = 1 << 11
KEEP: Final = ~(CF | PF | AF | ZF | SF | OF)
"""Every RFLAGS bit that arithmetic leaves alone."""
KEEP_CF: Final = KEEP | CF
"""The same for INC and DEC, which also keep the carry."""

PARITY: Final = tuple(0 if byte.bit_count() & 1 else PF for byte in range(256))
"""PF by the low byte of a result."""
INC_LOW: Final = tuple(PARITY[byte] | (0 if byte & 15 else AF) for byte in range(256))
"""PF and AF by the low byte of the result of an increment: a carry out of bit 3 leaves a low nibble of 0."""
DEC_LOW: Final = tuple(PARITY[byte] | (AF if byte & 15 == 15 else 0) for byte in range(256))
"""PF and AF by the low byte of the result of a decrement: a borrow into bit 3 leaves a low nibble of 15."""

Kernel = Callable[[int, int, int], tuple[int, int]]
"""(rflags, a, b) -> (result, rflags)."""
UnaryKernel = Callable[[int, int], tuple[int, int]]
"""(rflags, a) -> (result, rflags)."""


def add(bits: int) -> Kernel:
    """Make ADD for one operand width."""
    mask, top = (1 << bits) - 1, bits - 1

    def kernel(rflags: int, a: int, b: int) -> tuple[int, int]:
        total = a + b
        value = total & mask
        flags = rflags & KEEP | PARITY[value & 255] | (a ^ b ^ value) & AF | total >> bits | value >> top << 7
        flags |= ((a ^ value) & (b ^ value)) >> top << 11
        return value, flags if value else flags | ZF

    return kernel


def sub(bits: int) -> Kernel:
    """Make SUB and CMP for one operand width."""
    mask, top = (1 << bits) - 1, bits - 1

    def kernel(rflags: int, a: int, b: int) -> tuple[int, int]:
        value = a - b & mask
        flags = rflags & KEEP | PARITY[value & 255] | (a ^ b ^ value) & AF | (a < b) | value >> top << 7
        flags |= ((a ^ b) & (a ^ value)) >> top << 11
        return value, flags if value else flags | ZF

    return kernel


def and_(bits: int) -> Kernel:
    """Make AND and TEST; like all logic it clears CF and OF, and AF (undefined in the manual)."""
    top = bits - 1

    def kernel(rflags: int, a: int, b: int) -> tuple[int, int]:
        value = a & b
        return value, rflags & KEEP | PARITY[value & 255] | value >> top << 7 | (0 if value else ZF)

    return kernel


def or_(bits: int) -> Kernel:
    """Make OR."""
    top = bits - 1

    def kernel(rflags: int, a: int, b: int) -> tuple[int, int]:
        value = a | b
        return value, rflags & KEEP | PARITY[value & 255] | value >> top << 7 | (0 if value else ZF)

    return kernel


def xor(bits: int) -> Kernel:
    """Make XOR."""
    top = bits - 1

    def kernel(rflags: int, a: int, b: int) -> tuple[int, int]:
        value = a ^ b
        return value, rflags & KEEP | PARITY[value & 255] | value >> top << 7 | (0 if value else ZF)

    return kernel


def step(bits: int, delta: int) -> UnaryKernel:
    """Make INC (delta 1) or DEC (delta -1)."""
    mask, sign = (1 << bits) - 1, 1 << bits - 1
    low, overflow = (INC_LOW, sign) if delta > 0 else (DEC_LOW, sign - 1)

    def kernel(rflags: int, a: int) -> tuple[int, int]:
        value = a + delta & mask
        flags = rflags & KEEP_CF | low[value & 255]
        if value == overflow:
            flags |= OF
        if value >= sign:
            flags |= SF
        return value, flags if value else flags | ZF

    return kernel


def inc(bits: int) -> UnaryKernel:
    """Make INC."""
    return step(bits, 1)


def dec(bits: int) -> UnaryKernel:
    """Make DEC."""
    return step(bits, -1)


def neg(bits: int) -> UnaryKernel:
    """Make NEG: the flags of subtracting from zero."""
    subtract = sub(bits)

    def kernel(rflags: int, a: int) -> tuple[int, int]:
        return subtract(rflags, 0, a)

    return kernel


def not_(bits: int) -> UnaryKernel:
    """Make NOT, which leaves RFLAGS alone."""
    mask = (1 << bits) - 1

    def kernel(rflags: int, a: int) -> tuple[int, int]:
        return a ^ mask, rflags

    return kernel

"""Arithmetic expressions of whole numbers: read without ever being run, valued exactly."""

import ast
import re
from fractions import Fraction
from typing import NamedTuple

_MAX_CHARS = 200
_CHARACTERS = re.compile(r"[0-9+\-*/() ]+", re.ASCII)
_SIGNS = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/"}


class Step(NamedTuple):
    """One operation: left sign right = result."""

    left: Fraction
    sign: str
    right: Fraction
    result: Fraction


class Value(NamedTuple):
    """What an expression comes to, its numbers as they stand, its operations as they are done."""

    value: Fraction
    numbers: list[int]
    steps: list[Step]


def evaluate(text: str) -> Value | None:
    """The value of an expression of +, -, *, /, parentheses and whole numbers; None for anything
    else, a division by zero included.

    Example: evaluate("(3 + 5) / 2").value == 4
    """
    if len(text) > _MAX_CHARS or not _CHARACTERS.fullmatch(text):
        return None
    numbers: list[int] = []
    steps: list[Step] = []
    try:
        tree = ast.parse(text.strip(), mode="eval")
        return Value(_value(tree.body, numbers, steps), numbers, steps)
    except (SyntaxError, ValueError, ZeroDivisionError, RecursionError, MemoryError):
        return None


def calculate(left: Fraction | int, sign: str, right: Fraction | int) -> Fraction:
    """left sign right, exactly.

    Raises:
        ZeroDivisionError: it divides by zero.
    """
    if sign == "+":
        return Fraction(left + right)
    if sign == "-":
        return Fraction(left - right)
    return Fraction(left * right) if sign == "*" else Fraction(left) / right


def _value(node: ast.expr, numbers: list[int], steps: list[Step]) -> Fraction:
    if isinstance(node, ast.Constant) and type(node.value) is int:
        numbers.append(node.value)
        return Fraction(node.value)
    if not isinstance(node, ast.BinOp) or type(node.op) not in _SIGNS:
        raise ValueError(f"not arithmetic: {type(node).__name__}")
    left, right = _value(node.left, numbers, steps), _value(node.right, numbers, steps)
    sign = _SIGNS[type(node.op)]
    steps.append(Step(left, sign, right, calculate(left, sign, right)))
    return steps[-1].result

# SPDX-License-Identifier: GPL-2.0-only
"""Errnos as kernel people read them, and the ones livepatch and the module loader answer with.

The numbers are those of include/uapi/asm-generic/errno*.h, which every architecture with livepatch
uses; the host's own `errno` module agrees wherever this program runs.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence
from typing import Annotated

from pydantic import BeforeValidator, Field
from pydantic_core import PydanticCustomError

from orchestrator.errors import UsageError

MAX_ERRNO = 4095  # include/linux/err.h


def describe(number: int) -> str:
    """`success`, `ENOEXEC (8)`, or the bare number where it has no name."""
    if number == 0:
        return "success"
    name = errno.errorcode.get(number)
    return f"{name} ({number})" if name else str(number)


def number(name: str) -> int:
    """8 of `ENOEXEC`. Raises UsageError for a name that none has."""
    for found, known in errno.errorcode.items():
        if known == name:
            return found
    raise UsageError(f"'{name}' is no errno", hint="write its name: ENOEXEC, EINVAL, EEXIST")


def _named(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        return number(value)
    except UsageError as err:
        raise PydanticCustomError("errno", "must be an errno's name, or its number") from err


# of a file's key: 22 or "EINVAL"
Errno = Annotated[int, BeforeValidator(_named), Field(ge=1, le=MAX_ERRNO)]


def of_parameter(value: str) -> int | None:
    """The errno, positive, that a failure parameter's value asks for, and 0 for "do not fail".

    A sign is dropped: our modules take 19, samples/livepatch takes -19 (nouns.Failure.negative).
    None when the value is no errno.
    """
    try:
        number = abs(int(value, 0))
    except ValueError:
        return None
    return number if number <= MAX_ERRNO else None


def describe_all(answers: Sequence[int], most: int = 4) -> str:
    """`success, EEXIST (17)`; of more than `most` answers each kind once, in order of coming."""
    shown = answers if len(answers) <= most else dict.fromkeys(answers)
    return ", ".join(map(describe, shown))

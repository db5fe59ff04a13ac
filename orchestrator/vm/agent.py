# SPDX-License-Identifier: GPL-2.0-only
"""The agent's protocol: requests to lines, lines to answers (images/guest/agent.c). Pure.

Answers are parsed strictly: one that is not as agreed is HarnessError.
"""

from __future__ import annotations

from typing import Annotated, TypeVar

from pydantic import BaseModel, ConfigDict, FailFast, Field, ValidationError

from orchestrator.errors import HarnessError

VERSION = 2  # of the protocol

# Names go into titles, paths and scripts of ours: what is no module's name is no answer.
ModuleName = Annotated[str, Field(pattern="^[A-Za-z0-9_.-]{1,64}$")]
FunctionName = Annotated[str, Field(pattern="^[!-.0-~]{1,520}$")]  # NAME,sympos: no blank, no "/"
Word = Annotated[str, Field(pattern="^[!-~]*$", max_length=10_000)]


T = TypeVar("T")
# An error is kept for each element that is wrong, and a guest may send millions: one will do.
List = Annotated[list[T], FailFast()]
ERRORS = 100  # more are counted, not read


class Answer(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Hello(Answer):
    agent: int
    token: str
    release: str
    cmdline: str


class Refused(Answer):
    error: str


class Done(Answer):
    errno: int
    usec: int


class Raced(Answer):
    errnos: List[int]
    usec: int


class Patch(Answer):
    enabled: int
    transition: int
    objects: dict[ModuleName, tuple[int, List[FunctionName]]]


class File(Answer):
    errno: int
    text: str


class Observed(Answer):
    taint: Annotated[int, Field(ge=0)]  # -1: the guest could not read it
    modules: List[tuple[ModuleName, int, int, Word, Word]]
    patches: dict[ModuleName, Patch]
    sections: dict[str, dict[str, str]]
    files: dict[str, File]


class Peeked(Answer):
    data: List[str | None]


class Symbols(Answer):
    symbols: dict[str, str]


class Ran(Answer):
    status: int
    expired: bool
    output: str


A = TypeVar("A", bound=Answer)


def encode(*words: str) -> str:
    """A request: words separated by blanks, with blanks, newlines and "%" in them as %XX."""

    def coded(word: str) -> str:
        if not word:
            raise ValueError("the agent's protocol has no empty arguments")
        out = word.replace("%", "%25")
        for character in " \n\r\t":
            out = out.replace(character, f"%{ord(character):02x}")
        return out

    return " ".join(coded(word) for word in words)


def decode(line: str, shape: type[A], request: str) -> A:
    """The answer to a request. Raises HarnessError when it is an error or not as agreed."""
    verb = request.partition(" ")[0]
    try:
        return shape.model_validate_json(line)
    except ValidationError as err:
        if err.error_count() > ERRORS:
            raise HarnessError(
                f"the agent's answer to `{verb}` is not as agreed: {err.error_count()} errors"
            ) from None
        refused = _read(line, Refused)
        if refused is not None:
            raise HarnessError(
                f"the agent refuses `{request[:200]}`: {refused.error[:200]}"
            ) from err
        detail = err.errors(include_url=False, include_context=False, include_input=False)[0]
        if detail["type"] == "json_invalid":
            raise HarnessError(
                f"the agent's answer to `{verb}` is no JSON: {line[:200]!r}"
            ) from err
        where = ".".join(str(part)[:80] for part in detail["loc"])
        raise HarnessError(
            f"the agent's answer to `{verb}` is not as agreed: {where}: {detail['msg']}"
        ) from err


def token(line: str) -> str | None:
    """The token of an answer to `hello`, None when the line is no such answer."""
    hello = _read(line, Hello)
    return hello.token if hello else None


def _read(line: str, shape: type[A]) -> A | None:
    try:
        return shape.model_validate_json(line)
    except ValidationError:
        return None


def number(shown: str, what: str) -> int:
    """An address as the agent writes it. Raises HarnessError."""
    try:
        return int(shown, 16)
    except ValueError as err:
        raise HarnessError(f"the agent shows no number for {what}: {shown[:200]!r}") from err


def memory(shown: str, length: int, address: int) -> bytes:
    """Bytes as the agent writes them. Raises HarnessError, also for another length."""
    try:
        found = bytes.fromhex(shown)
    except ValueError as err:
        raise HarnessError(f"the agent shows no bytes at {address:#x}: {shown[:200]!r}") from err
    if len(found) != length:
        raise HarnessError(
            f"the agent shows {len(found)} bytes at {address:#x}, another length than {length}"
        )
    return found


def text(shown: str) -> str:
    """The agent writes each byte beyond ASCII as the code point of its number."""
    return shown.encode("latin-1", errors="replace").decode(errors="replace")

"""Asking a language model through any endpoint that speaks OpenAI's chat completions, with patience."""

from __future__ import annotations

import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from http.client import HTTPException
from typing import Any, TypeVar

from interp.errors import InterpError

T = TypeVar("T")
_PASSING = (408, 409, 425, 429)
"""Client errors that another try may not meet; so are all of the server's."""


@dataclass(frozen=True)
class Endpoint:
    """Where the model is, and how patient to be with it."""

    base_url: str
    """Address up to `/chat/completions`, as `http://localhost:8000/v1`."""
    model: str
    """Name under which the endpoint knows the model."""
    key_variable: str = "OPENAI_API_KEY"
    """Environment variable that holds the API key; where it is unset, none is sent."""
    attempts: int = 5
    """Tries of each request."""
    pause: float = 1.0
    """Seconds before the second try; every further pause is twice as long."""
    timeout: float = 120.0
    """Seconds that one try may take."""
    workers: int = 8
    """Requests sent at once."""


@dataclass(frozen=True)
class Failure:
    """A request that came to nothing, and why."""

    failed: str


class UnansweredError(Exception):
    """One failed attempt; `again` is whether another attempt may succeed."""

    def __init__(self, why: str, *, again: bool = True):
        super().__init__(why)
        self.again = again


class _UnreachableError(UnansweredError):
    """The connection failed."""


def request_body(messages: list[dict[str, str]], endpoint: Endpoint) -> dict[str, Any]:
    """The request: greedy decoding (temperature 0)."""
    return {"model": endpoint.model, "messages": messages, "temperature": 0}


def ask(messages: list[dict[str, str]], endpoint: Endpoint, read: Callable[[str], T]) -> T | Failure:
    """The endpoint's answer as `read` understands it, which raises UnansweredError where it does not. Asks again, after
    longer and longer pauses, where the endpoint is busy or broken or its answer is not understood.

    Raises:
        InterpError: the key is refused, the model or the address is not known, or the connection fails.
    """
    failure: UnansweredError = UnansweredError("no try was made")
    for attempt in range(endpoint.attempts):
        if attempt:
            time.sleep(endpoint.pause * 2 ** (attempt - 1))
        try:
            return read(_content(_post(messages, endpoint)))
        except UnansweredError as error:
            failure = error
            if not error.again:
                break
    if isinstance(failure, _UnreachableError):
        raise InterpError(f"judge {endpoint.base_url}: {failure}; start the endpoint or fix its address")
    return Failure(str(failure))


def _post(messages: list[dict[str, str]], endpoint: Endpoint) -> bytes:
    if not endpoint.base_url.startswith(("http://", "https://")):
        raise InterpError(f"judge {endpoint.base_url!r}: no web address; it must begin with http:// or https://")
    request = urllib.request.Request(
        f"{endpoint.base_url.rstrip('/')}/chat/completions",
        data=json.dumps(request_body(messages, endpoint)).encode(),
        headers={"Content-Type": "application/json", "User-Agent": "interp"},
    )
    if key := os.environ.get(endpoint.key_variable):
        request.add_unredirected_header("Authorization", f"Bearer {key}")  # a key is for this host alone
    try:
        with urllib.request.urlopen(request, timeout=endpoint.timeout) as response:
            return response.read()
    except urllib.error.HTTPError as error:
        raise _refusal(error, endpoint) from error
    except urllib.error.URLError as error:
        timed_out = isinstance(error.reason, TimeoutError)
        raise (UnansweredError if timed_out else _UnreachableError)(str(error.reason)) from error
    except (OSError, HTTPException) as error:
        raise UnansweredError(f"{type(error).__name__} {error}".strip()) from error


def _refusal(error: urllib.error.HTTPError, endpoint: Endpoint) -> Exception:
    """The error of an HTTP status: the user's (InterpError), a temporary one, or one of this request."""
    body = " ".join(error.read(300).decode(errors="replace").split())
    why = f"HTTP {error.code} {body}".strip()
    if error.code in (401, 403):
        return InterpError(f"judge {endpoint.base_url}: {why}; put a valid key into ${endpoint.key_variable}")
    if error.code == 404:
        return InterpError(f"judge {endpoint.base_url}: {why}; fix the address or the model {endpoint.model!r}")
    return UnansweredError(why, again=error.code in _PASSING or error.code >= 500)


def _content(body: bytes) -> str:
    """The text of a chat completion."""
    try:
        content = json.loads(body)["choices"][0]["message"]["content"]
    except (ValueError, LookupError, TypeError) as error:
        raise UnansweredError(f"no chat completion: {body[:80]!r}") from error
    if not isinstance(content, str):
        raise UnansweredError(f"a completion without text: {content!r}")
    return content

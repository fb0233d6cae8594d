"""Weights that a library downloads by name: loaded, or refused in a sentence once their host is known not to answer."""

from __future__ import annotations

import queue
import threading
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any

PATIENCE = 20.0  # seconds after which, and again, the host is asked whether it is there
WAY_OUT = "load it where its weights are, and audit the module itself: audit(model, inputs, labels)"


def fetched(load: Callable[[], Any], name: str, host: str | None, *, patience: float = PATIENCE) -> Any:
    """What `load` returns, however long a download takes, as long as its host answers.

    Libraries set no time limit, or retry for minutes, where a firewall swallows what they send.

    Args:
        name: of the model, for the message. host: URL that the weights come from; None: they are on this machine.

    Raises:
        ConnectionError: the host does not answer. ValueError: `load` raised.
    """
    results: queue.Queue = queue.Queue()

    def run() -> None:
        try:
            results.put((load(), None))
        except Exception as error:  # somebody else's library may raise anything; it is raised again below
            results.put((None, error))

    threading.Thread(target=run, daemon=True).start()
    while True:
        try:
            value, error = results.get(timeout=patience)
            break
        except queue.Empty:
            if host is not None and not answers(host):
                raise ConnectionError(f"{name} cannot be downloaded, {host} does not answer: {WAY_OUT}") from None
    if error is not None:
        first = (str(error).splitlines() or [""])[0][:200]
        raise ValueError(f"{name} cannot be loaded ({type(error).__name__}: {first}): {WAY_OUT}") from error
    return value


def answers(host: str, *, seconds: float = 10.0) -> bool:
    """Whether a host (or the proxy before it) answers a request, with whatever status."""
    request = urllib.request.Request(host, method="HEAD")
    try:
        urllib.request.urlopen(request, timeout=seconds).close()
    except urllib.error.HTTPError as error:
        return error.code not in (502, 503, 504)  # of a proxy that found nobody
    except OSError:
        return False
    return True

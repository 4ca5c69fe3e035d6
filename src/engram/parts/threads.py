"""A few threads that each do one thing at a time, until all is done or one thing fails."""

import threading
from collections.abc import Callable, Iterator, Sequence
from queue import SimpleQueue
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def together(
    work: Callable[[T, threading.Event], R], things: Sequence[T], threads: int
) -> Iterator[R]:
    """The results of `work`, as they come.

    The first failure is raised here, and nothing further is begun; `work` is told by the event
    that it is given. Nobody waits for what is still under way then: the threads end by
    themselves, or with the process.
    """
    stop, results = threading.Event(), SimpleQueue[tuple[bool, R | BaseException]]()
    waiting, lock = iter(things), threading.Lock()

    def serve() -> None:
        while not stop.is_set():
            with lock:
                thing = next(waiting, None)
            if thing is None:
                return
            try:
                results.put((True, work(thing, stop)))
            except BaseException as problem:
                stop.set()
                results.put((False, problem))

    for _ in range(min(threads, len(things))):
        threading.Thread(target=serve, daemon=True).start()
    try:
        for _ in things:
            fine, result = results.get()
            if not fine:
                raise result  # type: ignore[misc]
            yield result  # type: ignore[misc]
    finally:
        stop.set()

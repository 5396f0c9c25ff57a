"""Batches, made in the background while the last ones are learned from."""

import queue
import threading
import time
from collections.abc import Callable, Iterator

from plasticity.stimuli.stimulus import Batch


class Batches:
    """An iterator over batches that a thread makes ahead of need; close it when done.

    `waited` is how long, in seconds, the consumer has waited for batches in all.
    """

    def __init__(self, make: Callable[[int], Batch], start: int, stop: int, most: int = 3) -> None:
        self.waited = 0.0
        self._left = stop - start
        self._queue: queue.Queue = queue.Queue(maxsize=most)
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._fill, args=(make, start, stop), daemon=True)
        self._thread.start()

    def _fill(self, make: Callable[[int], Batch], start: int, stop: int) -> None:
        for step in range(start, stop):
            try:
                made: object = make(step)
            except BaseException as error:  # for the consumer to raise
                made = error
            while not self._closed.is_set():
                try:
                    self._queue.put(made, timeout=0.1)
                    break
                except queue.Full:
                    continue
            if self._closed.is_set() or isinstance(made, BaseException):
                return

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        if self._left <= 0:
            raise StopIteration
        start = time.perf_counter()
        made = self._queue.get()
        self.waited += time.perf_counter() - start
        if isinstance(made, BaseException):
            self._left = 0
            raise made
        self._left -= 1
        return made

    def close(self) -> None:
        """Stop the thread and wait until it has."""
        self._closed.set()
        self._thread.join()

    def __enter__(self) -> "Batches":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

"""Virtual time: what happens next, and whose turn it is.

A kernel holds the events to come and moves its clock from one to the next. A fiber is a program that sometimes waits,
such as a driver: while it rests, the kernel goes on. The first fiber is the caller's own thread; others get threads,
of which exactly one runs at any moment, handed on like a baton, so that nothing ever depends on the machine. Where only
one fiber lives, no thread is ever switched.
"""

from __future__ import annotations

import heapq
import threading
from collections import deque
from collections.abc import Callable

Act = Callable[[], None]


class Abandoned(BaseException):
    """The simulation is over; a fiber that still waits is unwound."""


class Fiber:
    """A program that waits. `awake` while it runs or is about to."""

    def __init__(self, name: str, thread: threading.Thread | None = None) -> None:
        self.name = name
        self.awake = True
        self.rests = 0  # so that an alarm wakes nobody from a later rest than its own
        self.ended = False
        self.thread = thread
        self.started = thread is None
        self.baton = threading.Semaphore(0)


class Kernel:
    """The clock, the events to come, and the fibers. `events` counts what has happened."""

    def __init__(self, events_max: int) -> None:
        self.now_s = 0.0
        self.events = 0
        self.events_max = events_max
        self.main = Fiber("main")
        self._coming: list[tuple[float, int, Act]] = []
        self._number = 0
        self._woken: deque[Fiber] = deque()
        self._fibers: list[Fiber] = []
        self._failure: BaseException | None = None
        self.closing = False

    def after(self, delay_s: float, act: Act) -> None:
        """Something happens later."""
        self.at(self.now_s + delay_s, act)

    def at(self, time_s: float, act: Act) -> None:
        """Something happens then; of two things at the same time the first one asked for comes first."""
        self._number += 1
        heapq.heappush(self._coming, (time_s, self._number, act))

    def spawn(self, name: str, program: Callable[[Fiber], None]) -> Fiber:
        """A fiber that begins as soon as the present one waits."""
        fiber = Fiber(name, threading.Thread(target=lambda: self._live(fiber, program), name=name, daemon=True))
        fiber.awake = False
        self._fibers.append(fiber)
        self.wake(fiber)
        return fiber

    def wake(self, fiber: Fiber) -> None:
        """A sleeping fiber goes on after the present event."""
        if not fiber.awake:
            fiber.awake = True
            self._woken.append(fiber)

    def rest(self, me: Fiber) -> None:
        """Lets things happen until somebody wakes the running fiber."""
        if self.closing:
            raise Abandoned
        me.awake = False
        me.rests += 1
        while not self._woken:
            self._happen()
        other = self._woken.popleft()
        if other is not me:
            self._hand_to(other)
            self._receive(me)

    def pause(self, me: Fiber, seconds: float) -> None:
        """The running fiber rests for so long, or until it is woken."""
        rest = me.rests + 1
        self.after(seconds, lambda: self.wake(me) if me.rests == rest else None)
        self.rest(me)

    def close(self) -> None:
        """Unwinds every fiber that still waits."""
        self.closing = True
        for fiber in self._fibers:
            if fiber.started and fiber.thread is not None:
                fiber.baton.release()
                fiber.thread.join()

    def _happen(self) -> None:
        assert self._coming, "nothing will ever happen again, and the run is not finished"
        self.events += 1
        assert self.events <= self.events_max, f"no end after {self.events_max} events"
        self.now_s, _, act = heapq.heappop(self._coming)
        act()

    def _hand_to(self, fiber: Fiber) -> None:
        if fiber.started or fiber.thread is None:
            fiber.baton.release()
        else:
            fiber.started = True
            fiber.thread.start()

    def _receive(self, me: Fiber) -> None:
        me.baton.acquire()
        if self.closing:
            raise Abandoned
        if me is self.main and self._failure is not None:
            raise self._failure

    def _live(self, me: Fiber, program: Callable[[Fiber], None]) -> None:
        """The body of a fiber's thread: in the end it hands the baton on."""
        try:
            program(me)
            me.ended = True
            while not self._woken:
                self._happen()
            self._hand_to(self._woken.popleft())
        except Abandoned:
            return
        except BaseException as failure:  # a checker's, most often: the first fiber raises it
            self._failure = failure
            self.main.awake = True
            self._hand_to(self.main)

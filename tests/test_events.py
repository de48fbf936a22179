"""Events that reach an observer."""

from __future__ import annotations

from threading import Thread, get_ident

import pytest

from pixelsmith.events import Event, PhaseFinished, Warned, delivered_here


def in_another_thread(observe: object, event: Event) -> None:
    assert callable(observe)
    thread = Thread(target=observe, args=(event,))
    thread.start()
    thread.join()


def test_events_of_other_threads_wait_for_the_next_one_of_this_thread() -> None:
    heard: list[Event] = []
    ended = PhaseFinished(1, "encode", 0.5)
    with delivered_here(heard.append) as observe:
        in_another_thread(observe, Warned("first"))
        assert heard == []
        observe(ended)
        assert heard == [Warned("first"), ended]


@pytest.mark.parametrize("error", [None, OSError])
def test_events_that_still_wait_are_delivered_at_the_end(error: type[OSError] | None) -> None:
    heard: list[tuple[int, Event]] = []

    def run() -> None:
        with delivered_here(lambda event: heard.append((get_ident(), event))) as observe:
            in_another_thread(observe, Warned("last"))
            if error:
                raise error

    if error:
        with pytest.raises(error):
            run()
    else:
        run()
    assert heard == [(get_ident(), Warned("last"))]


def test_an_observer_that_raises_does_not_hide_the_error_that_ended_the_run() -> None:
    def observer(event: Event) -> None:
        raise OSError(f"no place for {event}")

    def run() -> None:
        with delivered_here(observer) as observe:
            in_another_thread(observe, Warned("last"))
            raise KeyError("cause")

    with pytest.raises(KeyError, match="cause"):
        run()

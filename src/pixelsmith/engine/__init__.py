"""Where and in which order the work of a phase is done."""

from pixelsmith.engine.executor import Executor, Serial, Threaded, Work, executor_for
from pixelsmith.engine.seldom import Seldom

__all__ = ["Executor", "Seldom", "Serial", "Threaded", "Work", "executor_for"]

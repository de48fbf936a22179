"""Where and in which order the work of a phase is done."""

from pixelsmith.engine.executor import Executor, Serial, Threaded, Work, executor_for

__all__ = ["Executor", "Serial", "Threaded", "Work", "executor_for"]

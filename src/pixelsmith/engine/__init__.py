"""The engine: executors, and the denoising, encoding and decoding of canvases by them."""

from pixelsmith.engine.executor import Executor, Serial, Threaded, Work, executor_for
from pixelsmith.engine.seldom import Seldom

__all__ = ["Executor", "Seldom", "Serial", "Threaded", "Work", "executor_for"]

"""Compare one call of the network for the prompt and the negative prompt with two, for the embedded model on a CPU.

    python -m benchmarks.negative [--rounds 7]

Two calls with a batch and one call with twice the batch are made alternately. Prints medians of processor time and the
largest difference of the outputs, for a batch of a stage (8) and of the base (1).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from statistics import median

import torch
from torch import Tensor

from benchmarks.backends import inputs, modules


def timed(call: Callable[[], Tensor]) -> tuple[float, Tensor]:
    """Processor time in seconds, and the output."""
    began = time.process_time()
    found = call()
    return time.process_time() - began, found


@torch.inference_mode()
def compared(dtype: torch.dtype, batch: int, rounds: int) -> tuple[float, float, float]:
    """Seconds of two calls and of one, and the largest difference of their outputs."""
    network, given = modules(dtype)["network"], inputs(dtype)["network"]
    pair = [tuple(value.roll(by, 0)[:batch] for value in given) for by in (0, 1)]
    both = tuple(torch.cat(values) for values in zip(*pair, strict=True))
    apart, together = list[float](), list[float]()
    for _ in range(rounds):
        seconds, twice = timed(lambda: torch.cat([network(*one) for one in pair]))
        apart.append(seconds)
        seconds, once = timed(lambda: network(*both))
        together.append(seconds)
    return median(apart), median(together), float((twice - once).abs().max())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    args = parser.parse_args()
    torch.set_num_threads(1)
    for batch in (8, 1):
        for dtype in (torch.float32, torch.bfloat16):
            apart, together, off = compared(dtype, batch, args.rounds)
            print(f"{batch} {dtype}: two calls {1000 * apart:.0f} ms, one {1000 * together:.0f} ms, off by {off:.1e}")


if __name__ == "__main__":
    main()

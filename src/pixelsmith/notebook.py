"""A progress bar for notebooks, as an observer."""

from __future__ import annotations

import sys

from tqdm.auto import tqdm

from pixelsmith.events import Event, Observer, Progress, RunFinished, RunStarted, StageStarted, Warned
from pixelsmith.system.terminal import duration

_FORMAT = "{desc}: {percentage:3.0f}% |{bar}|{postfix}"


def progress_bar() -> Observer:
    """An observer that shows a run as ``tqdm.auto`` does: a widget in a notebook, a line on standard error elsewhere.

    It names the stage and the phase, and how long the rest of the run takes, as far as it is known. The bar appears
    when the request has been checked, so what is wrong with it is an error and no bar. It may be used again for
    another run.

    Examples:
        >>> from pixelsmith import Method, Request, Size, generate
        >>> from pixelsmith.notebook import progress_bar
        >>> request = Request("map of a coast", Size(256, 192), method=Method(steps=2))
        >>> result = generate(request, "coast-with-a-bar.png", progress_bar())
    """
    bar: tqdm | None = None
    stage = ""

    def observe(event: Event) -> None:
        nonlocal bar, stage
        if isinstance(event, Warned):
            tqdm.write(event.message, file=sys.stderr)
            return
        if isinstance(event, RunStarted) or bar is None:
            if bar is not None:
                # The run before was interrupted.
                bar.close()
            stage, bar = "", tqdm(total=1.0, desc="loading the model", bar_format=_FORMAT, miniters=0)
        if isinstance(event, StageStarted):
            stage = f"stage {event.stage} of {event.stages}" if event.stage else "base"
        elif isinstance(event, Progress):
            bar.set_description_str(f"{stage} {event.phase}".strip(), refresh=False)
            left = "" if event.seconds_left is None else f"{duration(event.seconds_left)} left"
            bar.set_postfix_str(left, refresh=False)
            bar.update(event.share - bar.n)
        elif isinstance(event, RunFinished):
            bar.set_description_str(f"done in {duration(event.seconds)}", refresh=False)
            bar.set_postfix_str("", refresh=False)
            bar.update(1.0 - bar.n)
            bar.close()
            bar = None

    return observe

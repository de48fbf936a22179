"""Measure the response times of the studio, for one user and for many clients.

    python -m benchmarks.studio [--size 2048x2048] [--clients 20]
    python -m benchmarks.studio --phases [--size 1024x1024] [--margins 0,1]

A studio with the embedded model serves a library in a temporary folder. It prints the seconds and the processor time
until candidates, and until previews of a part at three positions of the Slider, are finished; the time of a page's
requests before any picture is made; and the same for many clients at once while a picture is enlarged.

With ``--phases`` only one part is made, with each of the margins; it prints the processor time of each phase, and how
much the pixels differ from those of the widest margin.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from urllib.request import urlopen

import numpy as np

from pixelsmith import Event, LoadedModel, PhaseFinished, StageStarted
from pixelsmith.studio.client import StudioClient
from pixelsmith.studio.form import Form
from pixelsmith.studio.serving import StudioServer
from pixelsmith.studio.work import PLACE_SIDE

PROMPT = "watercolor map of islands in a turquoise sea"
PAGE = ("", "studio.css", "openseadragon.min.js", "studio.js", "api.js", "form.js", "look.js")
AT = [0.3, 0.6]
POSITIONS = [0.25, 0.5, 0.75]


@contextmanager
def serving(folder: Path) -> Iterator[StudioServer]:
    with StudioServer(folder) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def waited(client: StudioClient, job: str, what: str) -> None:
    """Print the time of each result of a job."""
    began, spent, there = time.perf_counter(), time.process_time(), 0
    for state in client.events(job):
        if len(state["results"]) > there:
            there = len(state["results"])
            seconds, own = time.perf_counter() - began, time.process_time() - spent
            print(f"{what} {there}: after {seconds:.1f} s, {own:.1f} s of processor time", flush=True)
        if state["state"] == "failed":
            raise SystemExit(state["error"])


def opened(root: str, project: str) -> list[float]:
    """The seconds of each request that a page makes when it is opened, one after another."""
    looks = f"api/projects/{project}/looks"
    paths = [*PAGE, "api/projects", f"api/projects/{project}", looks]
    seconds: list[float] = []
    for path in paths:
        began = time.perf_counter()
        with urlopen(f"{root}/{path}") as answer:  # noqa: S310 (it is our own server)
            content = answer.read()
        seconds.append(time.perf_counter() - began)
        if path == looks:
            for look in json.loads(content):
                began = time.perf_counter()
                with urlopen(f"{root}/{looks}/{look['key']}/tile/0/0/0?version={look['version']}") as answer:  # noqa: S310
                    answer.read()
                seconds.append(time.perf_counter() - began)
    return seconds


def told_by_phase(size: str, margins: list[float]) -> None:
    """Make one place with each margin, the widest first."""
    request = Form(PROMPT, size=size, seed=1).request()
    spent: dict[str, float] = {}
    last = 0.0

    def observe(event: Event) -> None:
        nonlocal last
        now = time.process_time()
        if isinstance(event, PhaseFinished):
            spent[f"{event.phase} {event.stage}"] = now - last
        if isinstance(event, PhaseFinished | StageStarted):
            last = now

    with LoadedModel.of(request) as model:
        model.base(request)  # loads it
        exact = None
        for margin in sorted(margins, reverse=True):
            spent.clear()
            found = model.preview(request, AT, (0.5,), PLACE_SIDE, observe, surroundings=margin).pixels.astype(int)
            exact = found if exact is None else exact
            difference = np.abs(found - exact)
            phases = ", ".join(f"{name} {seconds:.2f} s" for name, seconds in spent.items())
            print(f"margin {margin:g}: {sum(spent.values()):.1f} s ({phases})")
            print(f"  {difference.mean():.2f} levels of 255 from the widest, {difference.max()} at most", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="2048x2048")
    parser.add_argument("--clients", type=int, default=20)
    parser.add_argument("--phases", action="store_true", help="The phases of one place.")
    parser.add_argument("--margins", default="0,1", help="Around the place, in sides of a patch.")
    options = parser.parse_args()
    if options.phases:
        told_by_phase(options.size, [float(part) for part in options.margins.split(",")])
        return
    with tempfile.TemporaryDirectory() as folder, serving(Path(folder)) as server:
        client, root = StudioClient(server.url), server.url.split("/?")[0]
        project = client.create({"prompt": PROMPT, "size": options.size, "seed": 1})["name"]
        best = min(sum(opened(root, project)) for _ in range(5))
        print(f"the page before anything is made: {1000 * best:.0f} ms of answers, the best of 5", flush=True)
        waited(client, client.start(project, "candidates", seeds=[1, 2, 3, 4])["id"], "candidate")
        waited(client, client.start(project, "candidates", seeds=[5, 6, 7, 8])["id"], "candidate of a loaded model")
        waited(client, client.start(project, "place", at=AT, sliders=POSITIONS)["id"], "place")
        job = client.start(project, "grow")["id"]
        with ThreadPoolExecutor(options.clients) as pool:
            began = time.perf_counter()
            found = list(pool.map(lambda _: opened(root, project), range(options.clients)))
            seconds = time.perf_counter() - began
        answers = sorted(one for each in found for one in each)
        print(
            f"{options.clients} clients while a picture grows: {len(answers)} answers in {seconds:.1f} s, half within "
            f"{1000 * answers[len(answers) // 2]:.0f} ms, 95 % within {1000 * answers[int(0.95 * len(answers))]:.0f} ms"
        )
        client.pause(job)


if __name__ == "__main__":
    main()

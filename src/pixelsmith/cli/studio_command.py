"""``pixelsmith studio``."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import click

from pixelsmith.system.terminal import PLACE, say


@click.command("studio")
@click.argument("folder", type=PLACE, default="pixelsmith-studio")
@click.option("--host", default="127.0.0.1", show_default=True, help="0.0.0.0 lets other machines connect.")
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="[default: a free one]")
@click.option("--browser/--no-browser", default=True, help="Open the page.")
def studio_command(folder: Path, host: str, port: int, browser: bool) -> None:
    """Make pictures in the browser: choose a candidate, preview places, let it grow. Everything is saved in FOLDER.

    FOLDER is pixelsmith-studio by default.
    """
    from pixelsmith.studio.serving import StudioServer
    from pixelsmith.web.guard import LOOPBACK

    with StudioServer(folder, host, port) as server:
        if server.address not in LOOPBACK:
            say("Other machines can connect: anyone who has the URL below, with its token, can change everything.")
        say(f"{folder} is at {server.whereabouts} (Ctrl-C ends it)")
        if browser:
            click.launch(server.url)
        with suppress(KeyboardInterrupt):
            server.serve_forever()

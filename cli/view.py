"""``ssl-data view``: a store in the browser."""

from __future__ import annotations

import contextlib
from typing import Annotated

import typer


def view(
    store: Annotated[str, typer.Argument(help="A complete store: a folder or a URL.")],
    port: Annotated[int, typer.Option(help="Where the page is served; 0 for any free port.", min=0, max=65535)] = 8765,
    host: Annotated[str, typer.Option(help="Name or address to listen on.")] = "127.0.0.1",
    open_browser: Annotated[bool, typer.Option("--open", help="Open the page in the default browser.")] = False,
) -> None:
    """Show the patches of a store, their masks and graphs in the browser, until Ctrl-C."""
    from ssl_data.store.reader import open_store
    from ssl_data.view.hosts import is_loopback
    from ssl_data.view.server import ViewServer

    with ViewServer(open_store(store), host=host, port=port) as server:
        if not is_loopback(host):
            typer.echo(f"ssl-data: warning: whoever reaches {host} can look at this store", err=True)
        typer.echo(f"Showing {store} at {server.url} (Ctrl-C ends it)")
        if open_browser:
            typer.launch(server.url)
        with contextlib.suppress(KeyboardInterrupt):
            server.serve_forever()

"""The command line: one module a command."""

from __future__ import annotations

import typer

from telbridge import __version__
from telbridge.cli import call, check, demo, log_level, route, serve, top, upgrade, why

app = typer.Typer(
    name="telbridge",
    help="Puts a voice agent on the phone: SIP on one side, a voice-agent API on the other.",
    epilog="Start with `telbridge serve`; in another terminal: `telbridge call sip:127.0.0.1 --say hello`.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("serve")(serve.serve)
app.command("upgrade")(upgrade.upgrade)
app.command("call")(call.call)
app.command("check")(check.check)
app.command("route")(route.route)
app.command("demo")(demo.demo)
app.command("why")(why.why)
app.command("top")(top.top)
app.command("log-level")(log_level.log_level)


@app.command("version")
def version() -> None:
    """Print the version."""
    typer.echo(__version__)


def main() -> None:
    """Entry point of the `telbridge` command."""
    app()

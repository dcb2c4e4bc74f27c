"""`authz serve`."""

from cyclopts import App

from authz.cli.errors import CommandError
from authz.cli.options import ConfigFile
from authz.config import find_config

app = App(name="serve")


@app.default
def serve(*, config: ConfigFile = None) -> None:
    """Answer gateways' questions until SIGTERM or Ctrl-C.

    The config is read again when it changes and on SIGHUP; a wrong one is refused and the old one kept.
    """
    from authz.app import run  # all of the service: the largest import there is
    from authz.ruleset import NotInThisVersion
    from authz.transport.listen import CannotListen

    path = find_config(config)
    try:
        run(path)
    except (NotInThisVersion, CannotListen) as error:
        raise CommandError(str(error)) from None

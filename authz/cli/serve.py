"""`authz serve`."""

from cyclopts import App

from authz.cli.errors import CommandError
from authz.cli.options import DEFAULTS, Common
from authz.config import find_config

app = App(name="serve", help="Start the service for a gateway that already runs.")


@app.default
def serve(*, common: Common = DEFAULTS) -> None:
    """Answer gateways' questions until SIGTERM or Ctrl-C. The config is read again when it changes."""
    from authz.app import run  # all of the service: the largest import there is
    from authz.ruleset import NotInThisVersion
    from authz.transport.listen import CannotListen

    path = find_config(common.config)
    try:
        run(path)
    except (NotInThisVersion, CannotListen) as error:
        raise CommandError(str(error)) from None

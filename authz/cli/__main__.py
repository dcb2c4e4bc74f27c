"""`python -m authz.cli`: the command, where its script is not at hand."""

from authz.cli.main import main

main()

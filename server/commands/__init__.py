"""Groups of `bindchat` commands, each a typer app that `server/cli.py` includes."""

"""`genrail mcp`: an engine as tools for agents."""

from __future__ import annotations

from genrail.cli.console import errors_as_sentences
from genrail.cli.search import Debug, EngineFolder, Where
from genrail.errors import SettingsError

__all__ = ["mcp"]


def mcp(engine: EngineFolder, where: Where = None, debug: Debug = False) -> None:
    """Talk the Model Context Protocol on standard input and output: search, recommend, look up, explain; read only."""
    with errors_as_sentences(debug):
        try:
            from genrail.serving.mcp import run_mcp_server
        except ImportError as error:
            if (error.name or "").partition(".")[0] not in ("mcp", "pydantic"):
                raise  # a fault of ours, which no package would mend
            raise SettingsError(f'{error.name} is not installed; pip install "genrail[mcp]"') from error
        run_mcp_server(engine, where)

"""The HTTP client of the API, the CLI's only way to a server: `Client` has one method per call, answering dicts."""

from dstack.client.api import Client, Json
from dstack.client.stream import Stream
from dstack.client.transport import Transport

__all__ = ["Client", "Json", "Stream", "Transport"]

"""GitHub (github.com or an Enterprise server) through githubkit; no type of that library leaves this folder."""

from dstack.server.gateways.github.gateway import GitHub

__all__ = ["GitHub"]

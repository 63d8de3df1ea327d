"""Why no answer came, in words: of the network, of certificates, and of what to look at."""

from __future__ import annotations

import ssl

from dstack.client.address import Address
from dstack.errors import Unreachable


def unreachable(address: Address, error: Exception) -> Unreachable:
    if isinstance(error, ssl.SSLCertVerificationError):
        return Unreachable(
            f"the certificate of {address.url} is not trusted: {error.verify_message}",
            "If the server has a private certificate authority, name its file in SSL_CERT_FILE.",
        )
    if isinstance(error, ssl.SSLError):
        hint = "If that server speaks plain HTTP, use http:// in `dstack config set server URL`."
        return Unreachable(f"no secure connection to {address.url}: {words(error)}", hint)
    hint = "Is it running? Look with `dstack config` where the address comes from; `dstack server start` starts yours."
    return Unreachable(f"no dstack server answers at {address.url}: {words(error)}", hint)


def words(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return (getattr(error, "strerror", None) or str(error) or type(error).__name__).strip().lower()

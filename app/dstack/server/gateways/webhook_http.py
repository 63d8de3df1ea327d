"""One POST to one address of the network, under the name that the certificate must carry."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from requests.exceptions import RequestException

from dstack.errors import Unavailable


def post_to(url: str, address: str, body: dict[str, Any], timeout_s: float) -> int:
    """The status that `address` answered; the body of the answer is not read. Raises Unavailable."""
    parts = urlsplit(url)
    with requests.Session() as session:
        session.trust_env = False
        session.mount(f"{parts.scheme}://", _ToOneAddress(parts.hostname or "", address))
        headers = {"Host": parts.netloc, "User-Agent": "dstack"}
        try:
            with session.post(
                url, json=body, headers=headers, timeout=timeout_s, allow_redirects=False, stream=True
            ) as answer:
                return answer.status_code
        except RequestException as error:
            raise Unavailable(f"the receiver did not answer ({type(error).__name__})") from None
        except (OSError, ValueError) as error:  # what the layers below let through for odd names and answers
            raise Unavailable(f"the receiver could not be spoken to ({type(error).__name__})") from None


class _ToOneAddress(HTTPAdapter):
    """Connects to `address` whatever the name says now; the certificate must still be the name's."""

    def __init__(self, host: str, address: str) -> None:
        self._host, self._address = host, address
        super().__init__(max_retries=0)

    def build_connection_pool_key_attributes(
        self, request: requests.PreparedRequest, verify: Any, cert: Any = None
    ) -> Any:
        where, how = super().build_connection_pool_key_attributes(request, verify, cert)
        names = {"server_hostname": self._host, "assert_hostname": self._host} if where["scheme"] == "https" else {}
        return {**where, "host": self._address}, {**how, **names}

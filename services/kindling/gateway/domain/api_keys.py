"""Who may call."""

import hmac
from collections.abc import Sequence

from kindling.platform.errors import UnauthenticatedError


class ApiKeys:
    """The keys that are accepted; without any, everybody may call."""

    def __init__(self, keys: Sequence[str]) -> None:
        self._keys = tuple(key.encode() for key in keys)

    def require(self, authorization: bytes | None) -> None:
        """Check the value of an ``Authorization`` header.

        Raises:
            UnauthenticatedError: API_KEY_INVALID.
        """
        if not self._keys:
            return
        scheme, _, given = (authorization or b"").partition(b" ")
        # Every key is compared, so that the time taken tells nothing about which one was close.
        matches = [hmac.compare_digest(key, given.strip()) for key in self._keys]
        if scheme.lower() != b"bearer" or not any(matches):
            raise UnauthenticatedError(
                "Missing or wrong API key; send it as 'Authorization: Bearer KEY'.", reason="API_KEY_INVALID"
            )

"""Who may call."""

import hmac
from collections.abc import Sequence

from kindling.gateway.domain.tenants import claimed_tenant
from kindling.platform.errors import PermissionDeniedError, UnauthenticatedError
from kindling.platform.tenant_names import is_tenant


class ApiKeys:
    """The keys that are accepted; without any, everybody may call.

    An entry is sent as it stands. One that begins with a tenant's name and a colon is that tenant's; any other is a key
    of the default tenant, whose name is empty.
    """

    def __init__(self, entries: Sequence[str]) -> None:
        self._tenants: dict[bytes, str] = {}
        for entry in entries:
            tenant, colon, key = entry.partition(":")
            belongs = bool(colon and key) and is_tenant(tenant)
            self._tenants[entry.encode()] = tenant if belongs else ""

    def require_operator(self, authorization: bytes | None) -> None:
        """Check the value of an ``Authorization`` header of who wants to see or set what is not one tenant's alone.

        Raises:
            UnauthenticatedError: API_KEY_INVALID.
            PermissionDeniedError: OPERATOR_KEY_REQUIRED, if the key is a tenant's.
        """
        if self._tenants and (tenant := self.require(authorization)):
            raise PermissionDeniedError(
                f"This is a key of tenant {tenant!r}, and no tenant sees or sets quotas; use a key without a tenant.",
                reason="OPERATOR_KEY_REQUIRED",
                metadata={"tenant": tenant},
            )

    def require(self, authorization: bytes | None, claimed: str | None = None) -> str:
        """Check the value of an ``Authorization`` header and return the caller's tenant.

        That is the key's tenant; only without keys it is the one ``claimed``.

        Raises:
            UnauthenticatedError: API_KEY_INVALID.
            InvalidArgumentError: TENANT_INVALID.
        """
        if not self._tenants:
            return claimed_tenant(claimed)
        scheme, _, given = (authorization or b"").partition(b" ")
        # Every key is compared, so that the time taken tells nothing about which one was close.
        matches = [tenant for key, tenant in self._tenants.items() if hmac.compare_digest(key, given.strip())]
        if scheme.lower() != b"bearer" or not matches:
            raise UnauthenticatedError(
                "Missing or wrong API key; send it as 'Authorization: Bearer KEY'.", reason="API_KEY_INVALID"
            )
        return matches[0]

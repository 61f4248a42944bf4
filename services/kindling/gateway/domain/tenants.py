"""Whose requests are whose."""

from kindling.platform.errors import InvalidArgumentError
from kindling.platform.tenant_names import is_tenant

TENANT_HEADER = "x-kindling-tenant"


def claimed_tenant(name: str | None) -> str:
    """Return the tenant that a caller claims to be; none is the default one, whose name is empty.

    Raises:
        InvalidArgumentError: TENANT_INVALID.
    """
    if name is None or is_tenant(name):
        return name or ""
    raise InvalidArgumentError(
        f"{TENANT_HEADER} is no tenant's name; send 1 to 64 letters, digits, '.', '_' and '-', "
        "beginning with a letter or digit, or leave the header out.",
        reason="TENANT_INVALID",
        field=TENANT_HEADER,
    )

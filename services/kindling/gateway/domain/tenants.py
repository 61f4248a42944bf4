"""Whose requests are whose."""

import re

from kindling.platform.errors import InvalidArgumentError

TENANT_HEADER = "x-kindling-tenant"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def is_tenant(name: str) -> bool:
    """Whether a tenant may be called so: 1 to 64 letters, digits, '.', '_' and '-', a letter or digit first."""
    return _NAME.fullmatch(name) is not None


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

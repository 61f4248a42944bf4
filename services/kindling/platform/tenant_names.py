"""What tenants may be called."""

import re

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def is_tenant(name: str) -> bool:
    """Whether a tenant may be called so: 1 to 64 letters, digits, '.', '_' and '-', a letter or digit first."""
    return _NAME.fullmatch(name) is not None

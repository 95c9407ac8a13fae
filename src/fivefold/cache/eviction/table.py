"""The table of policies, one row for each module of this package that has a `POLICY`.

Adding a policy is adding a file: nothing is registered by hand.
"""

from __future__ import annotations

from collections.abc import Mapping

from fivefold.core.errors import InputError
from fivefold.core.walking import walked

from .policy import Policy

POLICIES: Mapping[str, Policy] = walked(__name__.rpartition(".")[0], "POLICY")
"""All policies by name, with their usual numbers; `dataclasses.replace` gives one with others."""


def policy_named(name: str) -> Policy:
    """The policy of that name; InputError if there is none."""
    if name not in POLICIES:
        raise InputError(
            f"there is no eviction policy {name!r}",
            where="eviction",
            remedy=f"choose of {', '.join(POLICIES)}",
        )
    return POLICIES[name]

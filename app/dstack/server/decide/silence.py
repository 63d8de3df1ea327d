"""Whether silence of the runners may be the server's own doing, so that no lease may run out for it."""

from __future__ import annotations


def is_own_fault(since_last_look: float, every_s: float, lease_s: float) -> bool:
    """`since_last_look` is what the wall clock says passed between two looks that should be `every_s` apart.

    Much more: this machine slept, was overloaded or had its clock set, and renewals could not come in or count. Less
    than nothing: the clock was set back, and leases would last as much longer. Either way every lease begins anew.
    """
    return not -1.0 <= since_last_look <= every_s + lease_s / 2

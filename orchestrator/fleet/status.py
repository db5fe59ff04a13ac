# SPDX-License-Identifier: GPL-2.0-only
"""Who is in a fleet, and what they are at."""

from __future__ import annotations

import logging
from collections.abc import Iterator

from distributed import Client

from orchestrator.errors import HarnessError
from orchestrator.fleet import place, worker
from orchestrator.fleet.place import Fleet


def lines(fleet: Fleet) -> Iterator[str]:
    """The scheduler, and a line for each worker. Raises HarnessError where nobody answers."""
    security = place.security(fleet.address, place.directory())
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    try:
        client = Client(fleet.address, security=security, timeout=5, set_as_default=False)
    except (OSError, TimeoutError) as err:
        raise HarnessError(
            f"no scheduler answers at {fleet.address}: {err}",
            hint="klp-e2e fleet start begins one there",
        ) from err
    with client:
        info = client.scheduler_info(n_workers=-1)["workers"]
        told = client.run(worker.told, on_error="return")
        yield f"{fleet.address}, {len(info)} workers, store: {fleet.store}"
        for address in sorted(info):
            arches = " ".join(
                name.removeprefix("arch:")
                for name in sorted(info[address]["resources"])
                if name.startswith("arch:")
            )
            yield f"{address}  {told.get(address, 'does not answer')}  {arches}"

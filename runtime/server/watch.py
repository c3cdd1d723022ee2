"""Notice that a served bundle has been written anew."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping

from isthmus.runtime.server.model import ServedModel
from isthmus.runtime.server.shelf import manifest_stamp


async def changed_bundles(models: Mapping[str, ServedModel], *, every_s: float = 1.0) -> AsyncIterator[str]:
    """Yield the name of a model in `models` whenever its bundle's manifest has changed, for ever.

    Looks every `every_s` seconds rather than wait for the file system's events, which network file systems
    and container mounts do not send.
    """
    seen = {name: manifest_stamp(model.bundle.root) for name, model in models.items()}
    while True:
        await asyncio.sleep(every_s)
        for name, model in tuple(models.items()):
            stamp = manifest_stamp(model.bundle.root)
            # Gone for a moment while it is replaced: wait for what comes.
            if stamp is not None and stamp != seen.get(name, stamp):
                yield name
            if stamp is not None:
                seen[name] = stamp

"""List many documents: parts of the list side by side, where the store has them, for history only grows."""

from overlay.domain.ports import Documents
from overlay.services.at_once import some_at_once


async def listed(documents: Documents, prefix: str) -> list[str]:
    """List the keys below RECORDS or HISTORY, in any order. Raises StoreUnavailable."""

    async def of_part(part: str) -> list[str]:
        return [key async for key in documents.keys(part)]

    return [key for keys in await some_at_once(of_part, documents.parts(prefix)) for key in keys]

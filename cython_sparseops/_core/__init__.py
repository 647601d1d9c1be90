"""The compiled floor: one module per operator."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # compiled modules have no types

    def __getattr__(name: str) -> Any: ...

"""What every part of the configuration's model has in common: frozen, no unknown keys, no inputs shown."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field


class Strict(BaseModel):
    """Frozen; unknown keys are refused; pydantic's own errors never show what was given."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        hide_input_in_errors=True,
    )


Whole = Annotated[int, Field(strict=True)]
"""An integer; `true` and `"5"` are not."""

Flag = Annotated[bool, Field(strict=True)]
"""`true` or `false`; `1` and `"yes"` are not."""

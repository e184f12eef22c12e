"""What every section of a study file is made of."""

from pydantic import BaseModel, ConfigDict


class Settings(BaseModel):
    """What all sections share: no unknown keys, no coercion, no change after validation."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True, allow_inf_nan=False
    )

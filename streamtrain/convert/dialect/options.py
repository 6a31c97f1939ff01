"""The declarations of a user about a CSV, by options or by a preset; the rest is detected."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from typing import Any

from streamtrain.convert.dialect.delimiters import delimiter_of

# The fields that are not declarations of their own.
_NOT_DECLARED = ("preset_fields",)


@dataclass(frozen=True)
class ReadOptions:
    """The declarations; None for what is to be found.

    label: "first", "last", "none", a column's name, its number from 1, or a range of columns as 257-266
    features: pixels in a row, if a model has to read them
    drop: names, numbers or ranges of columns that are neither label nor pixels; ("none",) keeps every column
    labels: how the source writes each class, in the order of `classes`
    transposed: whether the source has its images column by column
    preset_fields: the fields that a preset declares, and no option
    """

    label: str | None = None
    header: bool | None = None
    shape: tuple[int, ...] | None = None
    pixel_range: tuple[float, float] | None = None
    classes: tuple[str, ...] | None = None
    features: int | None = None
    delimiter: str | None = None
    drop: tuple[str, ...] | None = None
    labels: tuple[str, ...] | None = None
    transposed: bool = False
    preset: str | None = None
    preset_fields: frozenset[str] = frozenset()

    @property
    def pixels(self) -> int | None:
        """Pixels in a row if that follows from what is declared."""
        return self.features or (math.prod(self.shape) if self.shape else None)

    @property
    def keeps_every_column(self) -> bool:
        """Whether the user says that all columns but the label are pixels."""
        return self.drop == ("none",)

    def options(self) -> dict[str, Any]:
        """Return all that is declared, by flag, whether by an option or the preset."""
        return {"--" + name.replace("_", "-"): value for name, value in self._declarations().items()}

    def override(self, preset: ReadOptions) -> ReadOptions:
        """Return the declarations of a preset, and these instead if both declare something."""
        own = {name: value for name, value in self._declarations().items() if value is not None}
        if not self.transposed:  # which only a preset declares
            del own["transposed"]
        return replace(preset, **own, preset_fields=frozenset(f.name for f in fields(self)) - own.keys())

    def declared_by(self, field: str) -> str:
        """Return who declares a field, for a reason: "as the preset says", or "as declared"."""
        return "as the preset says" if field in self.preset_fields else "as declared"

    def _declarations(self) -> dict[str, Any]:
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name not in _NOT_DECLARED}


def resolve(own: ReadOptions, preset: str | None) -> ReadOptions:
    """Return what the options declare and, if they do not, the preset."""
    from streamtrain.convert.dialect.presets import read_preset

    if own.delimiter:
        own = replace(own, delimiter=delimiter_of(own.delimiter))
    return own.override(read_preset(preset)) if preset else own

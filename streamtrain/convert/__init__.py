"""CSV text of any dialect → blocks → shards, every line accounted for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence
    from pathlib import Path

    from streamtrain.convert.pipeline import Conversion


def convert(
    sources: Sequence[str | os.PathLike[str]] | str | Path, dest: str | Path, **options: Any
) -> Conversion:
    """Convert CSV files to a folder of shards; the arguments are those of `pipeline.converting`.

    This function and its folder have one name, so `streamtrain` binds the function once the folder is imported.
    """
    from streamtrain.convert import pipeline

    return pipeline.convert(sources, dest, **options)

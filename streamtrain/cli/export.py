"""`streamtrain export`: a run's model as a file for other tools."""

from __future__ import annotations

from pathlib import Path

import click

from streamtrain.cli import Command
from streamtrain.cli.console import Console, pass_console
from streamtrain.cli.options import out_file
from streamtrain.storage.ownership import EXPORTED


@click.command("export", cls=Command)
@click.argument("run")
@click.option("--to", type=click.Choice(list(EXPORTED)), required=True, help="The kind of file.")
@out_file("RUN/model.pt or RUN/model.onnx")
@pass_console
def command(console: Console, /, run: str, to: str, out: str | None, overwrite: bool) -> None:
    """Write a run's best weights, or those of a checkpoint file, for torch or ONNX. The model takes raw pixels.

    Example: streamtrain export runs/first --to onnx --out digits.onnx
    """
    from streamtrain.adapters.export import onnx_bytes, torch_bytes
    from streamtrain.storage.destination import check_file
    from streamtrain.storage.ownership import is_export
    from streamtrain.storage.permissions import common_mode
    from streamtrain.storage.publish import write_file
    from streamtrain.train.checkpoint import load

    folder = Path(run) if Path(run).is_dir() else Path(run).parent
    path = Path(out) if out else folder / EXPORTED[to]
    check_file(path, overwrite=overwrite, reads=[Path(run)], is_ours=is_export)
    checkpoint = load(run)
    data = onnx_bytes(checkpoint) if to == "onnx" else torch_bytes(checkpoint)
    write_file(path, data, mode=common_mode([Path(run)]))
    model = checkpoint.model
    layers = "→".join(map(str, (model.features, *model.hidden, model.classes)))
    console.result(
        {"file": str(path), "to": to, "bytes": len(data)},
        f"{path}: {layers} units, takes raw pixels, {len(data) / 1e3:,.0f} kB",
    )

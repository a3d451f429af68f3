"""The command that writes application packages for workflow runners."""

from __future__ import annotations

import json
from pathlib import Path

import click

from stac2cube.cli.words import CUBE


@click.command()
@click.argument("out", type=CUBE)
@click.option("--image", default="", help="Container image for runners that use one, as envs/Containerfile makes it.")
@click.option("--workers", default=4, show_default=True, help="Workers of a Dask Gateway cluster, at most.")
@click.option("--cores", default=2, show_default=True, help="Cores of a worker, and of the program itself.")
@click.option("--memory", default=8, show_default=True, help="GiB of a worker, and of the program itself.")
def cwl(out: Path, image: str, workers: int, cores: int, memory: int) -> None:
    """Write CWL v1.2 documents into the folder OUT: run.cwl for recipes, item.cwl for single STAC items."""
    import yaml

    from stac2cube.cube.files import write_whole
    from stac2cube.cwl import Package

    documents = Package(image, workers, cores, memory).documents()
    out.mkdir(parents=True, exist_ok=True)
    for name, document in documents.items():
        plain = json.loads(json.dumps(document))  # each part by itself, or YAML would refer from one to another
        text = yaml.safe_dump(plain, sort_keys=False, allow_unicode=True, width=120)
        write_whole(out / f"{name}.cwl", f"#!/usr/bin/env cwl-runner\n{text}".encode())
        click.echo(out / f"{name}.cwl")

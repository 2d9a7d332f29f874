"""`bindchat train`: list the training recipes, or run one.

Nothing that serves imports training, so a recipe runs in a process of its own.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from server.commands.errors import fail

ROOT = Path(__file__).parents[2]
RECIPES = {
    "imagebind_llm": "ImageBind-LLM in two phases on captions and instructions; exports a servable folder",
    "llama_adapter": "LLaMA-Adapter V1, V2 chat, and V2 with early fusion and disjoint groups",
    "llama_adapter_study": "disjoint groups against mixed ones, early against late fusion, at small scale",
    "illama": "an iLLaMA picture classifier from class folders",
    "illama_study": "iLLaMA's findings at small scale: class token, soft mask, ranks, calibration, 8 bits",
    "illama_transfer": "an iLLaMA classifier carried over to other pictures, against a start from nothing",
    "mini": "the built-in model, every file of it, stage by stage",
    "mini_adapter": "its names, calibration and adapter alone",
    "mini_audio": "the ears of the built-in model",
    "mini_shapes": "the point-cloud encoder of the built-in model",
}


def train(
    context: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="List the recipes as JSON.")] = False,
) -> None:
    """Train with a recipe: `bindchat train RECIPE ...`; without one, list them. RECIPE --help shows its options."""
    recipe, *rest = context.args or ["--help"]
    if as_json and not context.args:
        typer.echo(json.dumps([{"name": name, "description": text} for name, text in RECIPES.items()]))
        return
    if as_json:
        rest.append("--json")  # the recipe's to take or to refuse
    if recipe in ("--help", "-h"):
        typer.echo("usage: bindchat train RECIPE [options]; RECIPE --help lists the options\n")
        for name, text in RECIPES.items():
            typer.echo(f"  {name:<20} {text}")
        return
    if recipe not in RECIPES:
        fail(f"unknown recipe {recipe!r}; recipes: {', '.join(RECIPES)}", exit_code=2)
    if not (ROOT / "training" / "recipes" / f"{recipe}.py").is_file():
        fail("the recipes are not installed; run from a checkout of the repository", exit_code=2)
    try:
        done = subprocess.run([sys.executable, "-m", f"training.recipes.{recipe}", *rest], check=False)
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    raise typer.Exit(done.returncode)

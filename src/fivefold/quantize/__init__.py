"""Quantize: from a model's numbers to fewer bits, and into files that others read too.

`choice` says which tensor gets which format by which method, `encode` makes the bytes, `plan` holds a
checkpoint against a recipe, `gguf_output` and `folder_output` know what the files look like, and `run` walks
from tensor to tensor. What is calibrated comes in through `calibrated.Calibrated`, which `calibrated_model`
makes of a text. `loading` converts a model as it is loaded, and writes nothing. How bits are laid out is for
`formats`.
"""

from fivefold.quantize.calibrated import Calibrated
from fivefold.quantize.calibrated_model import calibrate_plan
from fivefold.quantize.choice import Choice, Recipe, needs_calibration
from fivefold.quantize.encode import encode
from fivefold.quantize.loading import LoadedFormat, loaded_format
from fivefold.quantize.output import output_for
from fivefold.quantize.plan import Item, Plan, make_plan
from fivefold.quantize.recipe import read_recipe
from fivefold.quantize.run import Summary, check_target, run_plan, summary_of

__all__ = [
    "Calibrated", "Choice", "Item", "LoadedFormat", "Plan", "Recipe", "Summary", "calibrate_plan",
    "check_target", "encode", "loaded_format", "make_plan",
    "needs_calibration", "output_for", "read_recipe", "run_plan", "summary_of",
]  # fmt: skip

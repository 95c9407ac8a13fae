"""compressed-tensors, what LLM Compressor and vLLM write: groups of modules with a scheme each.

A group names its modules (`targets`) by name, by a pattern after `re:`, or all of them by the class Linear;
the first that fits in this order counts, and `ignore` takes modules out. A matrix that is stored as floats is
taken as it is, whether a group names it or not. `weight_global_scale` is a divisor. What is said of
activations and of the cache is for programs that round these too; here they are not, which is nearer to the
model that was quantized. Integers, zero points, sparsity and rotations are refused.

Source: compressed-tensors 0.20 (quantization/quant_args.py, quant_config.py, utils/match.py, compressors).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from fivefold.core.errors import UnsupportedError
from fivefold.files.gguf_values import shown
from fivefold.files.quantized.declaration import TAKE_ANOTHER, Declaration, Declared
from fivefold.files.quantized.layouts import Fp8, Mxfp4, Nvfp4
from fivefold.files.quantized.parts import Scheme
from fivefold.files.quantized.patterns import Listed, Name, Pattern, PatternError

METHODS = ("compressed-tensors",)

CLASS, REGEX = "Linear", "re:"
_NVFP4, _MXFP4 = (
    Nvfp4("weight_packed", "weight_global_scale", reciprocal=True),
    Mxfp4("weight_packed", "weight_scale"),
)
_FORMATS: dict[type[Scheme], tuple[str, ...]] = {
    Nvfp4: ("nvfp4-pack-quantized",),
    Mxfp4: ("mxfp4-pack-quantized",),
    Fp8: ("float-quantized", "naive-quantized"),
}
_MIXED = "mixed-precision"
_READ = (*(name for names in _FORMATS.values() for name in names), _MIXED, "dense")
_KEYS = {
    "quant_method", "format", "config_groups", "ignore", "kv_cache_scheme", "quantization_status",
    "global_compression_ratio", "sparsity_config", "transform_config", "moe_sparsity_config", "version",
    "run_compressed",
}  # fmt: skip
_GROUP_KEYS = {"targets", "weights", "input_activations", "output_activations", "format"}
_WEIGHT_KEYS = {
    "num_bits", "type", "symmetric", "group_size", "strategy", "block_structure", "dynamic", "actorder",
    "scale_dtype", "zp_dtype", "observer", "observer_kwargs",
}  # fmt: skip


@dataclass(slots=True)
class _Groups:
    """Which module has which scheme; `where` names the config in errors."""

    where: str
    names: dict[str, Scheme | None] = field(default_factory=dict)
    patterns: list[tuple[Pattern, Scheme | None]] = field(default_factory=list)
    others: list[Scheme | None] = field(default_factory=list)
    ignored: Listed = field(default_factory=lambda: Listed(()))
    ignored_patterns: list[Pattern] = field(default_factory=list)

    def scheme_of(self, module: str) -> Scheme | None:
        """The scheme of a module; UnsupportedError when groups with different ones fit alike."""
        try:
            name = Name(module)
            if module in self.ignored or any(one.matches(name) for one in self.ignored_patterns):
                return None
            if module in self.names:
                return self.names[module]
            found = [scheme for pattern, scheme in self.patterns if pattern.matches(name)] or self.others
        except PatternError as error:
            raise _no_pattern(str(error), self.where) from None
        if any(scheme != found[0] for scheme in found):
            raise UnsupportedError(
                f"module {shown(module)} belongs to several groups that differ", where=self.where,
                remedy=TAKE_ANOTHER,
            )  # fmt: skip
        return found[0] if found else None


def read(config: Declaration) -> Declared:
    """The schemes of all groups."""
    config.refuse_unknown(_KEYS)
    form = config.only("format", None, *_READ)
    config.only("quantization_status", "compressed", "compressed", "frozen")  # as older files call the same
    config.check_cache("kv_cache_scheme")
    for key in ("transform_config", "moe_sparsity_config"):
        if config.get(key) not in (None, {}):
            raise config.unsupported(f"key {key} asks for more than quantization")
    if "sparsity_config" in config:
        config.inside("sparsity_config").only("format", "dense", "dense")
    where = f"{config.where}: config_groups"
    found = _Groups(where)
    groups = config.inside("config_groups")
    for name in groups:
        _add_group(found, groups.inside(name), "" if form == _MIXED else form)
    ignored = config.names("ignore")
    found.ignored = Listed(name for name in ignored if not name.startswith(REGEX))
    found.ignored_patterns = [_pattern(name, where) for name in ignored if name.startswith(REGEX)]
    return Declared("compressed-tensors", found.scheme_of)


def _add_group(found: _Groups, group: Declaration, form: str) -> None:
    group.refuse_unknown(_GROUP_KEYS)
    if "output_activations" in group:
        raise group.unsupported("key output_activations asks to round what modules give")
    scheme = _scheme(group.inside("weights")) if "weights" in group else None
    if scheme is not None:
        allowed = _FORMATS[type(scheme)]
        group.only("format", form or allowed[0], *allowed)
    for target in group.names("targets"):
        if target == CLASS:
            found.others.append(scheme)
        elif target.startswith(REGEX):
            found.patterns.append((_pattern(target, group.where), scheme))
        elif found.names.setdefault(target, scheme) != scheme:
            raise group.unsupported(f"module {shown(target)} is named by several groups that differ")


def _scheme(weights: Declaration) -> Scheme:
    """The scheme that a group's `weights` describe."""
    weights.refuse_unknown(_WEIGHT_KEYS)
    weights.only("type", "int", "float")
    weights.only("symmetric", True, True)
    weights.only("dynamic", False, False)
    weights.only("actorder", None, "weight", "static", None)
    bits, strategy = weights.only("num_bits", 8, 4, 8), weights.text("strategy", "tensor")
    if bits == 8:
        if strategy == "block":
            return Fp8("block", block=_block(weights))
        if weights.only("strategy", "tensor", "tensor", "channel") == "channel":
            return Fp8("row")
        return Fp8("tensor")
    weights.only("strategy", "", "tensor_group", "group")
    size = 16 if strategy == "tensor_group" else 32
    weights.only("group_size", None, size)
    return _NVFP4 if size == 16 else _MXFP4


def _block(weights: Declaration) -> tuple[int, int]:
    value = weights.get("block_structure")
    if isinstance(value, str):
        value = [
            int(size) for size in value.split("x") if size.isascii() and size.isdecimal() and len(size) < 6
        ]
    if (
        not isinstance(value, list)
        or len(value) != 2
        or not all(type(one) is int and 0 < one < 2**16 for one in value)
    ):
        raise weights.malformed("block_structure", "not two sizes")
    return value[0], value[1]


def _pattern(text: str, where: str) -> Pattern:
    try:
        return Pattern(text.removeprefix(REGEX))
    except PatternError as error:
        raise _no_pattern(f"{shown(text)} is not understood: {error}", where) from None


def _no_pattern(what: str, where: str) -> UnsupportedError:
    return UnsupportedError(
        f"a pattern: {what}", where=where, remedy="write the names of the modules instead of the pattern"
    )

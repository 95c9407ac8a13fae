"""Bench: honest measurement of speed and quality."""

from .compare import OURS, Comparison, Outcome, compare
from .growth import GrowthSetup, growth_lines, measure_growth
from .kernels import KernelSetup, kernel_lines, measure_kernels
from .load.plan import LONG_ANSWER, LongPrompt, Plan
from .peers import SERVER, Subject, find_tool, open_peers, parse_pairs
from .picture import check_picture, draw
from .quality import (
    Quality,
    TextSetup,
    log_softmax,
    measure_models,
    measure_quality,
    quality_lines,
)
from .report import depth_report, model_figures, speed_lines, speed_report
from .rounds import alternate
from .serve_report import serve_lines, serve_report
from .servers import Process, Server, check_base, ended_with_us, free_base
from .serving import Serving, measure_servers
from .speed import decode_rate, prefill_rate
from .start import measure_start, start_lines
from .summary import polynomial
from .work import Reading, Timeline, Work

__all__ = [
    "LONG_ANSWER", "OURS", "SERVER", "Comparison", "GrowthSetup", "KernelSetup", "LongPrompt", "Outcome",
    "Plan", "Process", "Quality", "Reading", "Server", "Serving", "Subject", "TextSetup", "Timeline",
    "Work", "alternate", "check_base", "check_picture", "compare", "decode_rate", "depth_report", "draw",
    "ended_with_us", "find_tool", "free_base", "growth_lines", "kernel_lines", "log_softmax",
    "measure_growth", "measure_kernels", "measure_models", "measure_quality", "measure_servers",
    "measure_start", "model_figures", "open_peers", "parse_pairs", "polynomial", "prefill_rate",
    "quality_lines", "serve_lines", "serve_report", "speed_lines", "speed_report", "start_lines",
]  # fmt: skip

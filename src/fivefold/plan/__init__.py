"""Plan: hardware, roofline, memory and cost."""

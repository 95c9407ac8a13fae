"""Engine: time, admission, batching, loading."""

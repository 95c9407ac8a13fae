"""Who quantizes models, one file each: what their configs say, as the scheme of each module."""

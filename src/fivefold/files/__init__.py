"""Files: what lies on disk, mapped and lazy."""

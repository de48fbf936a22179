"""Pictures: reading and writing files, metadata, resampling, masks."""

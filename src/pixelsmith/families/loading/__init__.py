"""Loading: from the name of a model to a pipeline on a device (finding, fetching, checking and reading files)."""

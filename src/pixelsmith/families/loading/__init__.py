"""From the name of a model to a pipeline on a device: where files are, whether they are complete, how they are read."""

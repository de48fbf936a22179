"""The model that comes with the package: a folder in the diffusers format, loaded like any other."""

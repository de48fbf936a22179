"""Several devices that share the work of a picture: of this machine or a Ray cluster (docs/how-to/many-devices.md)."""

"""Code that several architectures share."""

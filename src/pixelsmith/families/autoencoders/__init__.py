"""Autoencoders of diffusers, run tile by tile."""

"""Pictures: resampling, the tiled codec between pixels and latents, files."""

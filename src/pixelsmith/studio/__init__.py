"""A page on this machine where a sentence becomes candidates, the Slider is chosen by looking, and the picture grows.

``pixelsmith studio`` serves it; programs use it through ``pixelsmith.studio.client``.
"""

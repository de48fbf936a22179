"""One file per family, which defines an ``ARCHITECTURE``; ``pixelsmith.families.registry`` finds it by that name.

Diffusers takes seconds to import, so these files work on the pipeline that they are given and import nothing of it.
"""

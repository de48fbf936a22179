"""One file a family. Each has an ``ARCHITECTURE``; nothing else is told of it (``pixelsmith.families.registry``).

Diffusers takes seconds to import, so these files work on the pipeline that they are given and import nothing of it.
"""

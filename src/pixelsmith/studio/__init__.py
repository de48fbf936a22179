"""Make pictures in the browser: candidates for a prompt, previews of the Slider, pictures that grow while one zooms.

``pixelsmith studio`` serves the page; programs use ``pixelsmith.studio.client``.
"""

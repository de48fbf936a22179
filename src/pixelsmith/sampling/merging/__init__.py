"""Ways to merge the guide into the patches of a stage: a file each, which defines ``MERGES``."""

from pixelsmith.discovery import defined_in
from pixelsmith.sampling.merging.band import Bands
from pixelsmith.sampling.merging.hold import Held
from pixelsmith.sampling.merging.merge import GuideAt, Lead, Merge, Merging, Unmerged
from pixelsmith.sampling.merging.phase import Fused
from pixelsmith.sampling.merging.residual import SkipResidual

MERGES: dict[str, Merging] = {way.name: way for ways in defined_in(__name__, "MERGES") for way in ways}
"""``hold`` is the default, ``phase`` the paper's, the other fusions are its ablations, ``residual`` is DemoFusion's."""

__all__ = ["MERGES", "Bands", "Fused", "GuideAt", "Held", "Lead", "Merge", "Merging", "SkipResidual", "Unmerged"]

"""The few-step variant compared with the model's recommended settings."""

from __future__ import annotations

from pixelsmith.evaluate.distances import frechet_distance
from training.figures import Figure
from training.judge import judged, style_of, subject_of
from training.measures.realism import distance_ratio
from training.study import Study

MOST_RATIO = 1.5


def few_steps(study: Study) -> list[Figure]:
    """No figures if the model has no such variant."""
    if not study.has_few_steps:
        return []
    verdict, usual = judged(study.judge, study.few.pixels), study.base_verdict.features
    real = study.real_verdict.features[: study.count]
    near, far = (frechet_distance(features[: len(real)], real) for features in (usual, verdict.features))
    return [
        Figure("Fréchet distance, against that of all steps", far / near, most=MOST_RATIO, note=f"{len(real)} of each"),
        Figure(
            "Fréchet distance to the real, in times of two halves of it",
            distance_ratio(verdict.features[: len(real)], real)[0],
        ),
        Figure("style", verdict.style_agreement([style_of(caption) for caption in study.captions])),
        Figure("subject", verdict.subject_agreement([subject_of(caption) for caption in study.captions])),
        Figure("ms a picture", 1000 * study.few.seconds),
        Figure("ms a picture, all steps", 1000 * study.base.seconds),
    ]

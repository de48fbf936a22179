"""Agreement with prompts: how often the judge finds the style and the subject of the prompt."""

from __future__ import annotations

from collections import defaultdict

from training.figures import Figure
from training.judge import style_of, subject_of
from training.study import Study

STYLE, SUBJECT = 0.98, 0.85
"""The targets: a share of all pictures, and a share of the judge's accuracy on real ones."""


def agreement(study: Study) -> list[Figure]:
    verdict, real, captions = study.base_verdict, study.real_verdict, study.captions
    theirs = [record.caption for _, record in study.held_out]
    subjects = [subject_of(caption) for caption in captions]
    at_best = real.subject_agreement([subject_of(caption) for caption in theirs])
    share = verdict.subject_agreement(subjects)
    note = f"{len(captions)} pictures"
    groups = defaultdict(list)
    for i, subject in enumerate(subjects):
        groups[subject].append(i)
    return [
        Figure("style", verdict.style_agreement([style_of(caption) for caption in captions]), least=STYLE, note=note),
        Figure("subject", share, note=note),
        Figure("subject, of held-out pictures", at_best, note=f"{len(theirs)} pictures"),
        Figure("subject, against that of held-out pictures", share / at_best, least=SUBJECT),
        *(
            Figure(
                f"subject, {subject}",
                verdict.of(chosen).subject_agreement([subject] * len(chosen)),
                note=f"{len(chosen)} pictures",
            )
            for subject, chosen in sorted(groups.items())
        ),
    ]

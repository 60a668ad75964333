"""Make one self-contained page of predictions: speakers' lanes, probabilities, contributions, attention.

The template conversation_page.html fetches nothing from elsewhere. Strings of the predictions are JSON on the page,
never markup or code.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ariigcn_jax.commands import html_page
from ariigcn_jax.inference.prediction import Prediction
from ariigcn_jax.types import UserError

TEMPLATE = Path(__file__).with_suffix(".html")
LINES = 8  # of an utterance, in each modality's graph


def html(prediction: Prediction, title: str, *, transcripts: bool = False) -> str:
    """Return the page of predictions as a complete HTML document; without `transcripts`, they are not in the file.

    Raises:
      UserError: the model has no classes, or a package of the extra `report` is not installed.
    """
    corpus = prediction.corpus
    if corpus.task != "classification":
        raise UserError(f"The page shows classes, and this model has data.task={corpus.task}. Use --csv FILE.")
    dialogues: list[dict[str, Any]] = [{"id": name, "utterances": []} for name in corpus.dialogue_ids]
    for u, record in enumerate(prediction):
        utterance = {
            "speaker": record.speaker,
            "emotion": corpus.label_names.index(record.emotion),
            "label": None if record.label is None else corpus.label_names.index(record.label),
            "p": [round(p, 4) for p in record.probabilities.values()],
            "contribution": [round(c, 4) for c in record.contribution.values()],
            "missing": [k for k, m in enumerate(corpus.modalities) if m in record.missing],
            "attended": [[a.turn, round(a.weight, 4)] for a in record.attended],
            "attention": [_edges(w[u], prediction.past, record.turn) for w in prediction.attention.values()],
        }
        if transcripts and corpus.transcript is not None:
            utterance["transcript"] = str(corpus.transcript[u])
        dialogues[corpus.dialogue[u]]["utterances"].append(utterance)
    content: dict[str, Any] = {"title": title, "emotions": corpus.label_names, "modalities": corpus.modalities}
    content |= {"transcripts": transcripts, "notes": corpus.notes, "dialogues": dialogues}
    return html_page.render(TEMPLATE, content=content)


def _edges(weights: np.ndarray, past: int, turn: int) -> list[list[float]]:
    """Return [turn, weight] of the strongest other utterances."""
    order = [int(w) for w in np.argsort(-weights, kind="stable")[: LINES + 1] if w != past and weights[w] > 0.005]
    return [[turn + w - past, round(float(weights[w]), 4)] for w in order[:LINES]]

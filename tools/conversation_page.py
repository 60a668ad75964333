"""Makes one self-contained page of predictions: speakers' lanes, probabilities, contributions, attention.

The template conversation_page.html fetches nothing from elsewhere. Strings of the predictions are JSON on the page,
never markup or code.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ariigcn_jax.inference.prediction import Prediction
from ariigcn_jax.types import UserError
from tools import html_page

TEMPLATE = Path(__file__).with_suffix(".html")
LINES = 8  # of an utterance, in each modality's graph


def html(prediction: Prediction, title: str, *, transcripts: bool = False) -> str:
    """Return the page of predictions.

    Args:
      prediction: of any number of conversations.
      title: which model this is.
      transcripts: whether what was said is on the page; else it is not in the file either.

    Returns:
      A complete HTML document.

    Raises:
      UserError: the model has no classes, or a package of the extra `report` is not installed.
    """
    if (task := prediction.corpus.task) != "classification":
        raise UserError(f"The page shows classes, and this model was trained with data.task={task}. Use --format csv.")
    content = {
        "title": title,
        "emotions": list(prediction.corpus.label_names),
        "modalities": list(prediction.corpus.modalities),
        "transcripts": transcripts,
        "notes": list(prediction.corpus.notes),
        "dialogues": _dialogues(prediction, transcripts),
    }
    return html_page.render(TEMPLATE, content=content)


def _dialogues(prediction: Prediction, transcripts: bool) -> list[dict[str, Any]]:
    corpus = prediction.corpus
    result: list[dict[str, Any]] = [{"id": name, "utterances": []} for name in corpus.dialogue_ids]
    starts = np.arange(len(corpus)) - prediction.turns
    for u, record in enumerate(prediction):
        utterance = {
            "speaker": record.speaker,
            "emotion": corpus.label_names.index(record.emotion),
            "label": None if record.label is None else corpus.label_names.index(record.label),
            "p": [round(p, 4) for p in record.probabilities.values()],
            "contribution": [round(c, 4) for c in record.contribution.values()],
            "missing": [k for k, m in enumerate(corpus.modalities) if m in record.missing],
            "attended": [[a.turn, round(a.weight, 4)] for a in record.attended],
            "attention": [_edges(w[u], prediction.past, u - int(starts[u])) for w in prediction.attention.values()],
        }
        if transcripts and corpus.transcript is not None:
            utterance["transcript"] = str(corpus.transcript[u])
        result[corpus.dialogue[u]]["utterances"].append(utterance)
    return result


def _edges(weights: np.ndarray, past: int, turn: int) -> list[list[float]]:
    """Return [turn, weight] of the strongest other utterances."""
    order = [int(w) for w in np.argsort(-weights, kind="stable")[: LINES + 1] if w != past and weights[w] > 0.005]
    return [[turn + w - past, round(float(weights[w]), 4)] for w in order[:LINES]]

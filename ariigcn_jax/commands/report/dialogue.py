"""Draw attention over a conversation: turns in time, speakers as lanes, edge weights as lines, emotions as colours."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np
import plotly.graph_objects as go

from ariigcn_jax.commands.report import charts
from ariigcn_jax.data.prepare import dialogues
from ariigcn_jax.inference.model import TrainedModel
from ariigcn_jax.nn import graph
from ariigcn_jax.types import Corpus, Modality, Outputs, UserError

LONGEST = 40  # utterances of a dialogue that is chosen by itself
ABOVE_UNIFORM = 1.25  # times its share that an edge must weigh to be drawn
BINS = 4  # strengths of lines
BEND = 0.32  # of a line, in lanes


@dataclasses.dataclass(frozen=True)
class Conversation:
    """Hold a dialogue of T utterances and a model's predictions."""

    name: str
    speaker: Sequence[str]  # T names
    utterance: Sequence[str]  # T names
    transcript: Sequence[str] | None  # T texts
    label: np.ndarray  # [T] int, negative where unlabelled
    probability: np.ndarray  # [T, C]
    label_names: Sequence[str]  # C names
    # (modality, layer) -> [T, T], weight of sender (column) for receiver (row), mean over heads
    attention: dict[tuple[Modality, int], np.ndarray]


def choose(corpus: Corpus, names: Sequence[str], count: int) -> list[int]:
    """Return the indices of dialogues of a split: by name, or the `count` short ones with most emotions.

    Raises:
      UserError: a name is not among the split's dialogues.
    """
    here = list(dict.fromkeys(corpus.dialogue.tolist()))
    by_name = {corpus.dialogue_ids[d]: d for d in here}
    if unknown := [name for name in names if name not in by_name]:
        some = ", ".join(list(by_name)[:5])
        raise UserError(f"There is no dialogue {unknown[0]!r} in this split; it has {some}, …")
    if names:
        return [by_name[name] for name in names]

    def interest(d: int) -> tuple[bool, int]:
        rows = corpus.dialogue == d
        return rows.sum() <= LONGEST, len(np.unique(corpus.label[rows & (corpus.label >= 0)]))

    return sorted(here, key=interest, reverse=True)[:count]


def conversations(model: TrainedModel, corpus: Corpus, chosen: Sequence[int]) -> Iterator[Conversation]:
    """Yield the chosen dialogues of a corpus, in the model's form, with the model's predictions.

    Raises:
      UserError: the model has no classes.
    """
    if model.task != "classification":
        raise UserError(f"Conversations are drawn by their classes, and this model has data.task={model.task}.")
    for dialogue in chosen:
        part = dialogues(corpus, np.arange(len(corpus.dialogue_ids)) == dialogue)
        (batch,) = model.batches(part)
        outputs = model.outputs(batch)
        logits = np.asarray(outputs.logits)[0, : len(part)] / model.temperature
        shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
        yield Conversation(
            name=corpus.dialogue_ids[dialogue],
            speaker=list(map(str, part.speaker if part.speaker_names is None else part.speaker_names)),
            utterance=part.utterance_ids,
            transcript=None if part.transcript is None else list(map(str, part.transcript)),
            label=part.label,
            probability=shifted / shifted.sum(axis=1, keepdims=True),
            label_names=model.label_names,
            attention=_square(outputs, model, len(part), batch.dialogue.shape[1]),
        )


def _square(outputs: Outputs, model: TrainedModel, count: int, length: int) -> dict[tuple[Modality, int], np.ndarray]:
    """Lay weights over windows of the first `count` nodes, of rows of `length` slots, out as square matrices."""
    window = model.model.options.graph
    past = graph.window(window.past, window.future, length).past
    found = {}
    for modality in (m for m in model.modalities if m in outputs.attention):
        for layer, weights in enumerate(np.asarray(outputs.attention[modality]).mean(axis=-1)):
            receiver, slot = np.indices((count, weights.shape[-1]))
            sender = receiver + slot - past
            inside = (sender >= 0) & (sender < count)
            found[modality, layer] = np.zeros((count, count))
            found[modality, layer][receiver[inside], sender[inside]] = weights[:count][inside]
    return found


def draw(conversation: Conversation, transcripts: bool) -> go.Figure:
    """Draw the conversation as a graph; a menu chooses modality and layer."""
    lanes = {name: k for k, name in enumerate(dict.fromkeys(conversation.speaker))}
    place = np.array([lanes[s] for s in conversation.speaker], float)
    title = f"{conversation.name}: lines are attention above {ABOVE_UNIFORM:g} × uniform, wider is more"
    figure = charts.chart(title, height=230 + 110 * len(lanes), margin=dict(l=20, r=20, t=95, b=45))
    for k, weights in enumerate(conversation.attention.values()):
        figure.add_traces([trace.update(visible=k == 0) for trace in _edges(weights, place)])
    edges = len(figure.data)
    _nodes(figure, conversation, place, transcripts)
    buttons = []
    for k, (modality, layer) in enumerate(conversation.attention):
        visible = [trace >= edges or trace // BINS == k for trace in range(len(figure.data))]
        buttons.append(dict(label=f"{modality}, layer {layer + 1}", method="update", args=[{"visible": visible}]))
    menu = dict(buttons=buttons, x=0, xanchor="left", y=1.02, yanchor="bottom", direction="down")
    figure.update_layout(updatemenus=[menu] if buttons else [])
    plain = dict(showgrid=False, zeroline=False)
    figure.update_xaxes(title="turn", range=[0.2, len(place) + 0.8], **plain)
    ticks = dict(tickvals=list(lanes.values()), ticktext=list(lanes))
    return figure.update_yaxes(range=[len(lanes) - 0.35, -0.65], automargin=True, **ticks, **plain)


def _edges(weights: np.ndarray, place: np.ndarray) -> Iterator[go.Scatter]:
    """Yield BINS traces of arcs, from weak to strong; from the past above the lane, from the future below."""
    degree = (weights > 0).sum(axis=1, keepdims=True)
    relative = weights * np.maximum(degree, 1)
    np.fill_diagonal(relative, 0)
    strong = relative >= ABOVE_UNIFORM
    # each utterance's two strongest edges show even where its attention is nearly flat
    ranks = np.argsort(np.argsort(-relative, axis=1), axis=1)
    shown = strong & (ranks < 2) if strong.sum() > 12 * len(weights) else strong
    limits = np.quantile(relative[shown], np.linspace(0, 1, BINS + 1)[1:-1]) if shown.any() else np.zeros(BINS - 1)
    bins = np.digitize(relative, limits)
    t = np.linspace(0, 1, 13)
    for number in range(BINS):
        x: list[float | None] = []
        y: list[float | None] = []
        for receiver, sender in zip(*np.nonzero(shown & (bins == number)), strict=True):
            reach = min(1.0, abs(receiver - sender) / 10)
            bend = (-1 if sender < receiver else 1) * BEND * (0.35 + reach)
            x += [*((1 - t) * (sender + 1) + t * (receiver + 1)), None]
            y += [*((1 - t) * place[sender] + t * place[receiver] + bend * 4 * t * (1 - t)), None]
        line = dict(color=f"rgba(70,80,95,{0.22 + 0.2 * number:.2f})", width=0.7 + 0.9 * number)
        yield go.Scatter(x=x, y=y, mode="lines", hoverinfo="skip", showlegend=False, line=line)


def _nodes(figure: go.Figure, conversation: Conversation, place: np.ndarray, transcripts: bool) -> None:
    """Add each predicted emotion as a disc on a larger one of the true emotion, which shows as its ring."""
    for index, name in enumerate(conversation.label_names):
        # a trace without points, so that the legend has each emotion once
        marker = dict(size=12, color=charts.colour(index))
        figure.add_scatter(x=[None], y=[None], mode="markers", name=name, marker=marker)
    rings = ["#c9ced6" if k < 0 else charts.colour(int(k)) for k in conversation.label]
    discs = [charts.colour(int(k)) for k in conversation.probability.argmax(axis=1)]
    words = [_hover(conversation, row, transcripts) for row in range(len(place))]
    for size, colours in ((25, rings), (19, ["#ffffff"] * len(rings)), (14, discs)):
        marker = dict(size=size, color=colours, opacity=1, line=dict(width=0))
        points = dict(x=np.arange(len(place)) + 1, y=place, marker=marker, hovertext=words, **charts.DOTS)
        figure.add_scatter(showlegend=False, **points)


def _hover(conversation: Conversation, row: int, transcripts: bool) -> str:
    names, predicted = conversation.label_names, int(conversation.probability[row].argmax())
    label = int(conversation.label[row])
    lines = [f"{row + 1}. {conversation.utterance[row]}, {conversation.speaker[row]}"]
    lines += [f"predicted: {names[predicted]} ({conversation.probability[row, predicted]:.0%})"]
    lines += [f"true: {names[label] if label >= 0 else 'unlabelled'}"]
    for (modality, layer), weights in conversation.attention.items():
        strongest = int(weights[row].argmax())
        who = "itself" if strongest == row else f"turn {strongest + 1}"
        lines.append(f"{modality}, layer {layer + 1}: most to {who} ({weights[row, strongest]:.0%})")
    if transcripts and conversation.transcript:
        words = conversation.transcript[row]
        lines += [words[k : k + 80] for k in range(0, min(len(words), 480), 80)]
    return "\n".join(lines)

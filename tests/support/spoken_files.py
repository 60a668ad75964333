"""Writes one conversation in each form in which people have conversations."""

import json

TURNS = [("Ann", "i am so happy"), ("Bob", "oh no , sorry"), ("Ann", ""), ("Bob", "good night")]
LABELS = ("happy", "sad", "", "calm")


def clock(seconds, mark=","):
    return f"00:00:{seconds:02d}{mark}000"


def srt(turns, form="{}: {}"):
    """Cues of two seconds; `form` joins speaker and words."""
    cues = enumerate(form.format(*turn) for turn in turns)
    return "".join(f"{n + 1}\n{clock(2 * n)} --> {clock(2 * n + 2)}\n{said}\n\n" for n, said in cues)


def vtt(turns):
    cues = (
        f"{clock(2 * n, '.')} --> {clock(2 * n + 2, '.')} line:0\n<v {who}>{said}"
        for n, (who, said) in enumerate(turns)
    )
    return "\n\n".join(["WEBVTT", "NOTE by hand", "STYLE\n::cue { color: red }", *cues])


def segments(turns, words=False):
    """What WhisperX writes."""
    made = [
        {"start": 2.0 * n, "end": 2.0 * n + 2, "text": f" {said}", "speaker": who}
        for n, (who, said) in enumerate(turns)
    ]
    for one in made if words else ():
        one["words"] = [{"word": word, "start": one["start"], "end": one["end"]} for word in one["text"].split()]
    return {"segments": made, "language": "en"}


def sentences(turns):
    """What FunASR writes."""
    info = [
        {"text": said, "start": 2000 * n, "end": 2000 * n + 2000, "spk": who} for n, (who, said) in enumerate(turns)
    ]
    return [{"key": "call", "text": " ".join(said for _, said in turns), "sentence_info": info}]


def rttm(turns):
    return "".join(f"SPEAKER x 1 {2 * n}.0 2.0 <NA> <NA> {who} <NA> <NA>\n" for n, (who, _) in enumerate(turns))


def rows(turns, speaker="speaker", words="text", **others):
    return [{speaker: who, words: said} | {k: v[n] for k, v in others.items()} for n, (who, said) in enumerate(turns)]


def table(made):
    """CSV."""
    lines = [made[0].keys(), *(row.values() for row in made)]
    return "".join(",".join(f'"{cell}"' for cell in line) + "\n" for line in lines)


def lines(made):
    return "".join(json.dumps(row) + "\n" for row in made)


def write(folder, turns=TURNS):
    """Name -> path of the conversation in each form, whose file's stem is `call`."""
    whatsapp = "".join(
        f"[12/03/2024, 14:05:{n:02d}] {who}: {said or '<Media omitted>'}\n" for n, (who, said) in enumerate(turns)
    )
    android = "".join(
        f"3/13/24, 2:{n:02d} pm - {who}: {said or '<Media omitted>'}\n" for n, (who, said) in enumerate(turns)
    )
    meld = {"Dialogue_ID": [0] * len(turns), "Utterance_ID": list(range(len(turns)))}
    files = {
        "chat": ("call.txt", "".join(f"{who}: {said}\n" for who, said in turns)),
        "chat with times": (
            "call.txt",
            "".join(f"{who} (00:00:0{n}): {said}\n" for n, (who, said) in enumerate(turns)),
        ),
        "chat after times": (
            "call.txt",
            "".join(f"[00:00:0{n}] {who}: {said}\n" for n, (who, said) in enumerate(turns)),
        ),
        "whatsapp of a phone": ("call.txt", whatsapp),
        "whatsapp of another": ("call.txt", android),
        "srt": ("call.srt", srt(turns)),
        "srt in brackets": ("call.srt", srt(turns, "[{}]: {}")),
        "vtt": ("call.vtt", vtt(turns)),
        "whisperx": ("call.json", json.dumps(segments(turns, words=True))),
        "funasr": ("call.json", json.dumps(sentences(turns))),
        "srt beside rttm": ("call.srt", srt(turns, "{1}")),
        "csv": ("call.csv", table(rows(turns))),
        "labelled csv": ("call.csv", table(rows(turns, label=LABELS))),
        "json": ("call.json", json.dumps(rows(turns, words="utterance"))),
        "jsonl": ("call.jsonl", lines(rows(turns))),
        "labelled jsonl": ("call.jsonl", lines(rows(turns, words="transcript", emotion=LABELS))),
        "like MELD": ("call.csv", table(rows(turns, "Speaker", "Utterance", Emotion=LABELS, **meld))),
        "folder": ("chats/call.txt", "".join(f"{who}: {said}\n" for who, said in turns)),
        "folder of labelled": ("calls/call.csv", table(rows(turns, label=LABELS))),
    }
    made = {}
    for name, (file, content) in files.items():
        path = folder / name / file
        path.parent.mkdir(parents=True)
        path.write_text(content)
        made[name] = path.parent if "folder" in name else path
    (folder / "srt beside rttm/call.rttm").write_text(rttm(turns))
    return made

"""Writes generated conversations in each published layout, by hand and not with the code under test."""

import csv
import json
import pickle
import struct

import numpy as np

from ariigcn_jax import data as corpora
from ariigcn_jax.data.readers import folder

WIDTHS = {"text": 6, "audio": 4, "visual": 3}
SPLITS = ("train", "valid", "test")


def conversations(dialogues=12, classes=6, seed=0, utterances=(3, 6), speakers=2, **options):
    """A generated corpus with words and named speakers."""
    made = corpora.generate(
        dialogues=dialogues, classes=classes, seed=seed, utterances=utterances, speakers=speakers,
        **({"widths": WIDTHS, "valid": 0.2, "test": 0.2} | options),
    )  # fmt: skip
    words = np.array([f'utterance {i}, "quoted", größer' for i in range(len(made))])
    return made.__class__(**{**made.__dict__, "transcript": words})


def names(corpus, layout):
    """Dialogue → its name in a layout: IEMOCAP's for those with six classes, numbers for MELD's."""
    count = len(corpus.dialogue_ids)
    if "MELD" in layout:
        return dict(enumerate(range(count)))
    return {d: f"Ses0{1 + d % 4}{'FM'[d % 2]}_impro{d:02d}" for d in range(count)}


def rows(corpus, d):
    return np.flatnonzero(corpus.dialogue == d)


def tuple_elements(corpus, layout, roles):
    """The elements of a DialogueRNN-style tuple. RoBERTa's layers are 1, 2, 3 and 4 times the text."""
    key = names(corpus, layout)
    split = {s: [key[d] for d in key if corpus.split[rows(corpus, d)[0]] == s] for s in SPLITS}
    if "valid" not in roles:
        split["train"] += split["valid"]
    one_hot = np.eye(9, dtype=int)

    def column(value):
        return {key[d]: [value(u) for u in rows(corpus, d)] for d in key}

    def features(modality, factor=1):
        return column(lambda u: (factor * corpus.features[modality][u]).astype(np.float64))

    columns = {
        "ids": lambda: column(lambda u: corpus.utterance_ids[u]),
        "speaker": lambda: column(lambda u: one_hot[corpus.speaker[u]].tolist() if "MELD" in layout
                                  else "MF"[corpus.speaker[u] % 2]),
        "label": lambda: column(lambda u: int(corpus.label[u])),
        "sentiment": lambda: column(lambda u: int(corpus.label[u]) % 3),
        "transcript": lambda: column(lambda u: str(corpus.transcript[u])),
        **{s: lambda s=s: split[s] for s in SPLITS},
        **{m: lambda m=m: features(m) for m in WIDTHS},
        **{f"text_layer{k}": lambda k=k: features("text", k) for k in range(1, 5)},
    }  # fmt: skip
    return tuple(columns[role]() for role in roles)


def mmsa(corpus, frames=5):
    """{split: fields}; frames before the last ones are padding, and audio's lengths say so."""
    data = {}
    for split in SPLITS:
        chosen = np.flatnonzero(corpus.split == split)
        part = {"raw_text": [str(corpus.transcript[u]) for u in chosen], "id": []}
        for u in chosen:
            turn = u - rows(corpus, corpus.dialogue[u])[0]
            part["id"].append(f"video{corpus.dialogue[u]}$_${turn}")
        for modality, key in (("text", "text"), ("audio", "audio"), ("visual", "vision")):
            sequence = np.zeros((len(chosen), frames, WIDTHS[modality]), np.float32)
            sequence[:, 0] = 2 * corpus.features[modality][chosen]
            sequence[:, 1] = 1e-30  # so that an all-zero frame is not what ends the sequence
            part[key] = sequence
        part["audio_lengths"] = [2] * len(chosen)
        part["regression_labels"] = (corpus.label[chosen] - 1).astype(np.float32) * 1.5
        part["annotations"] = [("Negative", "Neutral", "Positive")[c] for c in corpus.label[chosen]]
        data[split] = part
    return data


def merbench(corpus, folder, table="npz"):
    """features/<feature>/<utterance>.npy, labels and transcription.csv; text as frames, visual as one file a frame."""
    entries = {s: {} for s in SPLITS}
    utterances = []
    for u in range(len(corpus)):
        d = corpus.dialogue[u]
        name = f"{corpus.split[u]}_dia{d}_utt{u - rows(corpus, d)[0]}"
        utterances.append(name)
        entries[corpus.split[u]][name] = {"emo": int(corpus.label[u]), "val": -10}
        for feature, modality in (("bert-base-UTT", "text"), ("hubert-FRA", "audio"), ("resnet50face-FRA", "visual")):
            place = folder / "features" / feature
            place.mkdir(parents=True, exist_ok=True)
            value = corpus.features[modality][u]
            if modality == "visual":
                (place / name).mkdir()
                np.save(place / name / "0.npy", value * 0)
                np.save(place / name / "1.npy", value * 2)
            else:
                np.save(place / f"{name}.npy", np.stack([value * 0.5, value * 1.5]) if modality == "audio" else value)
    if table == "npz":
        np.savez_compressed(
            folder / "label.npz",
            **{f"{part}_corpus": np.array(entries[s], dtype=object) for s, part in
               (("train", "train"), ("valid", "val"), ("test", "test"))},
        )  # fmt: skip
    else:
        with (folder / "label.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["name", "dialogue_id", "turn", "emotion", "split"])
            for u, name in enumerate(utterances):
                d = corpus.dialogue[u]
                label = corpus.label_names[corpus.label[u]]
                writer.writerow([name, corpus.dialogue_ids[d], u - rows(corpus, d)[0], label, corpus.split[u]])
    with (folder / "transcription.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["name", "english"], *zip(utterances, corpus.transcript, strict=True)])
    return folder


def records(corpus, wide=False):
    """One dictionary an utterance, values as JSON has them."""
    made = []
    for u in range(len(corpus)):
        d = corpus.dialogue[u]
        row = {
            "Dialogue_ID": corpus.dialogue_ids[d],
            "Turn": int(u - rows(corpus, d)[0]),
            "Speaker": str(corpus.speaker_names[u]),
            "Emotion": corpus.label_names[corpus.label[u]] if corpus.label[u] >= 0 else "",
            "Split": str(corpus.split[u]),
            "Utterance": str(corpus.transcript[u]),
        }
        for modality in corpus.features:
            values = [float(np.float32(v)) for v in corpus.features[modality][u]]
            row.update({f"{modality}_{i}": v for i, v in enumerate(values)} if wide else {modality: values})
        made.append(row)
    return made


def write_table(path, made):
    """CSV or TSV by the suffix; lists as JSON."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, made[0], delimiter="\t" if path.suffix == ".tsv" else ",")
        writer.writeheader()
        writer.writerows({k: json.dumps(v) if isinstance(v, list) else v for k, v in r.items()} for r in made)
    return path


def python2(value):
    """A protocol 2 pickle as Python 2 with numpy 1 wrote it: byte strings, and the old module's name."""
    out = bytearray(b"\x80\x02")

    def string(data):
        data = data.encode("utf-8") if isinstance(data, str) else data
        return b"U" + bytes([len(data)]) + data if len(data) < 256 else b"T" + struct.pack("<i", len(data)) + data

    def put(item):
        if isinstance(item, np.ndarray):
            out.extend(b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\x00\x85U\x01btR(K\x01")
            for n in item.shape:
                out.extend(b"J" + struct.pack("<i", n))
            out.extend({1: b"\x85", 2: b"\x86"}[item.ndim] + b"cnumpy\ndtype\n" + string(item.dtype.str[1:]))
            out.extend(b"K\x00K\x01\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89")
            out.extend(string(item.tobytes()) + b"tb")
        elif isinstance(item, str):
            out.extend(string(item))
        elif isinstance(item, int | np.integer):
            out.extend(b"J" + struct.pack("<i", item))
        elif isinstance(item, dict):
            out.extend(b"}(")
            for key, inner in item.items():
                put(key)
                put(inner)
            out.extend(b"u")
        else:
            out.extend(b"(" if isinstance(item, tuple) else b"](")
            for inner in item:
                put(inner)
            out.extend(b"t" if isinstance(item, tuple) else b"e")

    put(value)
    return bytes(out + b".")


def dump(path, value, protocol=4):
    path.write_bytes(pickle.dumps(value, protocol=protocol))
    return path


def every_layout(root):
    """Name → path of a small corpus in each layout, for what has to hold for all of them."""
    from ariigcn_jax.data.readers.dialogue_tuples import LAYOUTS

    six, seven, three = conversations(), conversations(classes=7), conversations(classes=3)
    made = {}
    for i, (layout, roles) in enumerate(LAYOUTS.items()):
        corpus = seven if "MELD" in layout else six
        made[layout] = dump(root / f"tuple{i}.pkl", tuple_elements(corpus, layout, roles), protocol=i % 6)
    python_2 = tuple_elements(six, "IEMOCAP", LAYOUTS["DialogueRNN, DialogueGCN, MMGCN, MM-DFN, COGMEN: IEMOCAP"])
    (root / "python2.pkl").write_bytes(python2(python_2))
    made["Python 2"] = root / "python2.pkl"
    made["MMSA"] = dump(root / "mmsa.pkl", mmsa(three))
    made["MERBench npz"] = merbench(seven, _new(root / "merbench"))
    made["MERBench csv"] = merbench(six, _new(root / "merbench_csv"), "csv")
    made["csv"] = write_table(root / "vectors.csv", records(six))
    made["wide csv"] = write_table(root / "wide.csv", records(six, wide=True))
    made["csv in UTF-16"] = root / "utf16.csv"
    made["csv in UTF-16"].write_bytes(made["csv"].read_text(encoding="utf-8").encode("utf-16"))
    made["tsv"] = write_table(root / "vectors.tsv", records(six))
    made["json"] = root / "list.json"
    made["json"].write_text(json.dumps(records(six)))
    made["jsonl"] = root / "lines.jsonl"
    made["jsonl"].write_text("".join(json.dumps(r) + "\n" for r in records(six)))
    made["json dialogues"] = root / "dialogues.json"
    made["json dialogues"].write_text(json.dumps(nested(records(six))))
    made["tables by split"] = _new(root / "tables")
    for split, file in zip(SPLITS, ("train_sent_emo.csv", "dev_sent_emo.csv", "test_sent_emo.csv"), strict=True):
        write_table(made["tables by split"] / file, [r for r in records(six) if r["Split"] == split])
    made["npz"] = root / "plain.npz"
    np.savez(made["npz"], **fields(six))
    made["own format"] = folder.write(six, root / "own")
    return made


def nested(made):
    """Records → {dialogue: {split, utterances}}."""
    dialogues = {}
    for record in made:
        dialogue = dialogues.setdefault(record["Dialogue_ID"], {"Split": record["Split"], "utterances": []})
        dialogue["utterances"].append({k: v for k, v in record.items() if k not in ("Dialogue_ID", "Turn", "Split")})
    return dialogues


def fields(corpus):
    """The arrays of an .npz file."""
    return dict(
        dialogue_id=np.array(corpus.dialogue_ids)[corpus.dialogue],
        utterance_id=np.array(corpus.utterance_ids),
        speaker=corpus.speaker_names,
        label=corpus.label,
        label_names=np.array(corpus.label_names),
        split=corpus.split,
        transcript=corpus.transcript,
        **corpus.features,
    )


def _new(folder):
    folder.mkdir()
    return folder

"""Write the manifest of a published raw release, from its folder as it is unpacked.

iemocap    IEMOCAP_full_release: transcriptions, EmoEvaluation, wav, avi
meld       MELD.Raw: the three csv files and the mp4 clips
mosi       CMU-MOSI: label.csv and Raw/, as MMSA lays it out, or the original folders
mosei      CMU-MOSEI: the same two; the original's labels (.csd) need the package h5py
urfunny    UR-FUNNY V2: language_sdk.pkl, humor_label_sdk.pkl, data_folds.pkl and the mp4 clips
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from ariigcn_jax.features import manifest
from ariigcn_jax.features.releases import cmu, iemocap, meld, urfunny
from ariigcn_jax.types import UserError

# Readers, and the names of the classes 0, 1, …
RELEASES: dict[str, tuple[Callable[..., list[cmu.Row]], tuple[str, ...]]] = {
    "iemocap": (iemocap.rows, tuple(iemocap.EMOTIONS.values())),
    "meld": (meld.rows, meld.LABELS),
    "mosi": (cmu.mosi_rows, cmu.LABELS),
    "mosei": (cmu.mosei_rows, cmu.LABELS),
    "urfunny": (urfunny.rows, urfunny.LABELS),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `run`."""
    parser.add_argument("--release", required=True, choices=[*RELEASES], help="which release ROOT is")
    parser.add_argument("root", metavar="ROOT", help="the release's folder")
    parser.add_argument("--out", required=True, metavar="CSV", help="the manifest")
    parser.add_argument(
        "--keep-unlabeled",
        action="store_true",
        help="keep utterances without a label that the field's protocol leaves out (they are context, in no loss)",
    )
    parser.add_argument(
        "--folds",
        metavar="FILE",
        help="the splits of CMU-MOSI's or CMU-MOSEI's original release: the *_std_folds.py of CMU's SDK, or a JSON "
        'file {"train": [VIDEO, …], "valid": […], "test": […]}',
    )


def run(args: argparse.Namespace) -> None:
    """Write a manifest, and print what is in it, by the options of `add_arguments`.

    Raises:
      UserError: the folder is not that release.
    """
    root = Path(args.root)
    if not root.is_dir():
        raise UserError(f"{root}: there is no such folder. Give the one that the release was unpacked to.")
    if args.folds and args.release not in ("mosi", "mosei"):
        raise UserError(f"--folds: {args.release} names its splits itself. Leave the option out.")
    read, names = RELEASES[args.release]
    notes: list[str] = []
    rows = read(root, notes, Path(args.folds)) if args.folds else read(root, notes)
    for row in rows:
        row["label"] = names.index(row["label_name"]) if row.get("label_name") else None
    labelled = [row for row in rows if row["label"] is not None]
    if not labelled:
        raise UserError(f"{root}: no utterance has a label. Give the whole release, annotation included.")
    if not args.keep_unlabeled and args.release != "urfunny":  # whose unlabelled context belongs to the labels
        if dropped := len(rows) - len(labelled):
            notes.append(f"{dropped} utterances without one of the labels are left out; --keep-unlabeled keeps them")
        rows = labelled
    for kind in ("audio", "video"):
        if missing := sum(not row.get(kind) for row in rows):
            notes.append(f"{missing} of {len(rows)} utterances have no {kind} file")
    manifest.write(args.out, rows)
    for note in notes:
        print(f"note: {note}")
    splits = [row.get("split") or "not given" for row in rows]
    for title, values in (("labels", [row["label_name"] for row in labelled]), ("splits", splits)):
        print(f"{title}: " + ", ".join(f"{name} {count}" for name, count in Counter(values).most_common()))
    dialogues = len({row["dialogue_id"] for row in rows})
    print(f"wrote {args.out}: {len(rows)} utterances, {dialogues} dialogues")

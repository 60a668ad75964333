"""Compute the features of a manifest's utterances, and write them as an .npz file that training reads.

With --corpus in place of --manifest, the transcripts of a corpus are encoded, and the new fields are added to those
that it has. The manifest's columns are described in `ariigcn_jax/features/manifest.py`. Each of --text, --audio and
--visual names an encoder, as MODEL[,OPTION=VALUE]…, and can be given several times; every encoder becomes a
field of its own:

    --text sentence-transformers/all-MiniLM-L6-v2     as that model pools and normalises
    --text roberta-large,pooling=cls,layers=-1/-2/-3/-4,combine=concat       the kinds BERT, DistilBERT and RoBERTa
    --audio eGeMAPSv02 --audio ComParE_2016 --audio IS10 --audio my.conf       openSMILE
    --audio facebook/wav2vec2-base,pooling=mean_std,layers=9
    --visual trpakov/vit-face-expression,fps=4        the largest face of each frame
    --visual microsoft/resnet-50,faces=none           whole frames

MODEL is a local folder or a name on the hub; JAX runs those of --text. What an utterance lacks or what cannot be
encoded is a row of NaN, which training counts as missing; failures are listed in NAME.failures.csv. Vectors are kept in
a cache: the same command goes on where it was stopped, and another corpus or encoder computes only what is new.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import io
import json
import os
import sys
import zipfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from ariigcn_jax.data.fields import PREFIXES
from ariigcn_jax.features import audio, parallel
from ariigcn_jax.features import manifest as manifests
from ariigcn_jax.features.cache import Cache
from ariigcn_jax.features.encoder import Encoder, Input, parse
from ariigcn_jax.features.text import TextEncoder
from ariigcn_jax.features.visual import VisualEncoder
from ariigcn_jax.files import atomic, explaining, local, write_atomically
from ariigcn_jax.types import UserError

_PARSERS: dict[str, Callable[[str], Encoder]] = {
    "text": lambda specification: parse(specification, TextEncoder),
    "audio": audio.from_option,
    "visual": lambda specification: parse(specification, VisualEncoder),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `run`."""
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--manifest", metavar="CSV", help="a CSV file, one row an utterance")
    source.add_argument("--corpus", metavar="PATH", help="an .npz or converted folder, for --text alone")
    parser.add_argument("--out", required=True, help="the .npz file, or a folder for one named like what is read")
    form = "MODEL[,OPTION=VALUE]…"
    for modality in _PARSERS:
        parser.add_argument(f"--{modality}", action="append", default=[], metavar=form, help="an encoder")
    parser.add_argument("--overwrite", action="store_true", help="of --corpus: replace an .npz that is there")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes for audio and video")
    parser.add_argument("--device", default="cpu", help="where --audio and --visual compute: cpu, cuda, cuda:1, mps")
    parser.add_argument("--cache", metavar="FILE", help="the cache; without it, features.sqlite beside the .npz")


def run(args: argparse.Namespace) -> None:
    """Extract features, by the options of `add_arguments`.

    Raises:
      UserError: see the message; vectors computed until then stay in the cache.
    """
    encoders = _encoders(args)
    manifest = manifests.read(args.manifest) if args.corpus is None else manifests.of_corpus(args.corpus)
    out = local(args.out)
    if out.suffix != ".npz":
        name = manifest.path.resolve().name if manifest.path.is_dir() else manifest.path.stem
        out = out / f"{name}.npz"
    _check_fields(encoders, manifest)
    provenance = _provenance(manifest)
    _check_place(out, manifest.path, args.corpus is not None and not args.overwrite)
    for note in manifest.notes:
        print(f"note: {note}", file=sys.stderr)
    failures: list[tuple[str, str, str]] = []
    counts, fields = [], dict(manifest.fields)
    with Cache(Path(args.cache) if args.cache else out.parent / "features.sqlite") as cache:
        identities = [encoder.identity() for encoder in encoders]  # all, before the first computes
        for encoder, identity in zip(encoders, identities, strict=True):
            rows, failed = features(encoder, identity, manifest, cache, args.jobs, args.device)
            fields[encoder.field] = rows
            failures += [(str(manifest.utterance_id[i]), encoder.field, reason) for i, reason in sorted(failed.items())]
            provenance[encoder.field] = encoder.recipe()
            here = int(np.isfinite(rows).all(axis=1).sum())
            absent = len(rows) - here - len(failed)
            counts.append(f"{encoder.field} {list(rows.shape)}: {here} present, {absent} absent, {len(failed)} failed")
    fields["provenance"] = np.array(json.dumps(provenance))
    _write(out, fields)
    print(*counts, sep="\n")
    _list_failures(out.with_suffix(".failures.csv"), failures)
    print(f"wrote {out}")


def features(
    encoder: Encoder, identity: dict[str, Any], manifest: manifests.Manifest, cache: Cache, jobs: int, device: str
) -> tuple[np.ndarray, dict[int, str]]:
    """Return one encoder's features [U, d] float32, NaN where one is missing, and row -> why it failed.

    Raises:
      UserError: the encoder cannot be used, or nothing could be encoded.
    """
    failed: dict[int, str] = {}
    rows: dict[str, list[int]] = {}  # equal inputs are encoded once
    items: dict[str, Input] = {}
    inputs = encoder.inputs(manifest)
    for i, item in enumerate(tqdm(inputs, f"{encoder.field}: reading", leave=False, delay=1)):
        if item is None:
            continue
        try:
            key = cache.key(identity, item)
        except OSError as error:
            failed[i] = f"{getattr(item, 'path', '')}: {error.strerror or error}"
            continue
        rows.setdefault(key, []).append(i)
        items[key] = item
    vectors = cache.get(rows)
    todo = [key for key in rows if key not in vectors]
    counts = dict(total=len(rows), initial=len(vectors), unit="utterance")
    with tqdm(desc=encoder.field, disable=not todo, delay=2, **counts) as progress:
        for i, result in parallel.encode(encoder, [items[key] for key in todo], jobs, device) if todo else ():
            if isinstance(result, parallel.Failure):
                where = getattr(items[todo[i]], "path", "")
                failed |= dict.fromkeys(rows[todo[i]], f"{where}: {result.reason}" if where else result.reason)
            else:
                cache.put(todo[i], result)
                vectors[todo[i]] = result
            progress.update()
    if not vectors:
        raise _nothing(encoder, failed)
    width = Counter(len(vector) for vector in vectors.values()).most_common(1)[0][0]
    matrix = np.full((len(manifest.transcript), width), np.nan, np.float32)
    for key, vector in vectors.items():
        matrix[rows[key]] = vector
    return matrix, failed


def _nothing(encoder: Encoder, failed: Mapping[int, str]) -> UserError:
    what = {"text": "a transcript", "audio": "an audio or video file", "visual": "a video file"}[encoder.modality]
    if not failed:
        return UserError(f"`{encoder.field}`: no utterance has {what}. Give some, or drop --{encoder.modality}.")
    reasons = "; ".join(dict.fromkeys(list(failed.values())[:3]))
    return UserError(f"`{encoder.field}`: all {len(failed)} utterances that have {what} failed, for example: {reasons}")


def _encoders(args: argparse.Namespace) -> list[Encoder]:
    encoders = [parser(text) for modality, parser in _PARSERS.items() for text in getattr(args, modality)]
    if not encoders:
        raise UserError(
            "no features are named. Give at least one of --text, --audio, --visual, such as --audio eGeMAPSv02."
        )
    if args.corpus is not None and (args.audio or args.visual):
        raise UserError(f"--corpus {args.corpus}: has no recordings. --audio and --visual take a --manifest.")
    if args.jobs < 0:
        raise UserError(f"--jobs {args.jobs}: must not be negative. 0 works in this process.")
    return encoders


def _provenance(manifest: manifests.Manifest) -> dict[str, Any]:
    """Return how an earlier extraction made the fields of a corpus; {} if there was none."""
    field = manifest.fields.get("provenance", np.array("{}"))
    with contextlib.suppress(ValueError, RecursionError):
        if field.shape == () and isinstance(known := json.loads(str(field)), dict):
            return known
    raise UserError(f"{manifest.path}: the field `provenance` was not written by this tool. Rename it.")


def _write(out: Path, fields: Mapping[str, np.ndarray]) -> None:
    """Write an .npz, whole or not at all. Unlike `np.savez` it takes fields of any name."""
    try:
        with atomic(out) as temporary, zipfile.ZipFile(temporary, "w") as archive:
            for name, values in fields.items():
                with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                    np.lib.format.write_array(member, np.asarray(values), allow_pickle=False)
    except OSError as error:
        remedy = "What is computed is kept: the same command, with another --out and this --cache, goes on from there"
        raise UserError(f"{out}: cannot be written: {error.strerror or error}. {remedy}.") from None


def _check_place(out: Path, source: Path, keep: bool) -> None:
    """Create the folder of the output; raise UserError if it cannot be written or something would be overwritten."""
    if out.is_dir():
        raise UserError(f"--out {out}: is a folder. Name a file in it, or a folder whose name does not end in .npz.")
    if out.exists() and out.samefile(source):
        raise UserError(f"--out {out}: is the corpus itself, which stays as it is. Name another file or folder.")
    if source.is_dir() and out.resolve().is_relative_to(source.resolve()):
        raise UserError(f"--out {out}: lies inside the corpus, which stays as it is. Name a place beside it.")
    if keep and out.exists():
        raise UserError(f"--out {out}: exists already. Name another file or folder, or replace it with --overwrite.")
    with explaining(out):
        out.parent.mkdir(parents=True, exist_ok=True)


def _check_fields(encoders: Sequence[Encoder], manifest: manifests.Manifest) -> None:
    """Raise UserError for names of fields that could not be written or read, before anything is computed."""
    taken = {*manifest.fields, "provenance"}
    for encoder in encoders:
        field, option = encoder.field, f"--{encoder.modality}"
        if field in taken:
            raise UserError(f"Two fields would be called `{field}`. Name this one: {option} {encoder.model},name=…")
        if not field.startswith(PREFIXES):
            raise UserError(f"name={field}: a modality's name begins with one of {', '.join(PREFIXES)}.")
        if (mask := f"{field}_present") in taken:
            raise UserError(f"{manifest.path}: has `{mask}`, which says where another `{field}` is missing. Rename it.")
        taken.add(field)


def _list_failures(listing: Path, failures: Sequence[tuple[str, str, str]]) -> None:
    if not failures:
        listing.unlink(missing_ok=True)
        return
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows([("utterance_id", "field", "reason"), *failures])
    write_atomically(listing, text.getvalue().encode())
    first = f"the first: {': '.join(failures[0])}"
    print(f"{len(failures)} failed and count as missing, listed in {listing}; {first}", file=sys.stderr)

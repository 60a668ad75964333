"""Compute features of recordings and transcripts: a manifest in CSV becomes an .npz that `ariigcn_jax.data` reads.

    python -m tools.features manifest --release iemocap IEMOCAP_full_release --out dialogues.csv
    python -m tools.features extract --manifest dialogues.csv --out corpus/ --audio eGeMAPSv02
    python -m tools.features extract --corpus data/mine.npz --text sentence-transformers/all-MiniLM-L6-v2 --out corpus/

Packages of encoders are extras, imported only when one is used: pip install 'ariigcn-jax[words,audio,speech,visual]'

Training needs no such file: experiments encode transcripts (`words`) and recordings (`recordings`) by themselves.
"""

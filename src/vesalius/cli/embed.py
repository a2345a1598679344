"""`vesalius embed`."""

from __future__ import annotations

from pathlib import Path

import tyro

from vesalius.ids import Modality


def embed(
    run: tyro.conf.Positional[Path],
    /,
    *,
    prompts: Path,
    out: Path,
    modality: Modality | None = None,
    normalise: bool = False,
) -> None:
    """Embed texts with a run or an encoder folder.

    Args:
        run: run folder, or sentence-transformers folder.
        prompts: text file, one prompt a line.
        out: file to write: .npy (one row a prompt) or .parquet (prompt, modality, embedding).
        modality: give the prompts that ask an image of this modality, as a segmentation model reads them; raw features without.
        normalise: scale to unit norm.
    """
    from vesalius.predict.embed import check_embeddings_path, embed_prompts, read_prompts, write_embeddings
    from vesalius.train.convert import UNTRAINED
    from vesalius.train.progress import progress_bar, say
    from vesalius.train.sources import open_source

    check_embeddings_path(out)
    texts = read_prompts(prompts)
    source = open_source(run, base=None)
    with progress_bar("Embed", total=len(texts)) as advance:
        embeddings = embed_prompts(
            source.encoder(), texts, prompts=source.prompts(), modality=modality, normalise=normalise,
            advance=lambda num: advance(num),
        )  # fmt: skip
    write_embeddings(out, texts, embeddings, modality=modality)
    if modality is not None and source.stage == 1:
        say(f"warning: {UNTRAINED}")
    print(f"embeddings: {out} ({embeddings.shape[0]} × {embeddings.shape[1]})")

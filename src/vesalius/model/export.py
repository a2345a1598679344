"""What goes with an encoder that is handed out: its model card, and prompts as built-in modules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from sentence_transformers.sentence_transformer.modules import Dense
from torch import Tensor, nn

from vesalius.errors import SettingError
from vesalius.folder import Origin, version, write_text
from vesalius.ids import Modality
from vesalius.model.aligner import PromptProjection

DISCLAIMER = "Research software, not a medical device: not for diagnosis, treatment or any clinical decision."


UNIT_NORM = (
    "It turns names, synonyms and definitions of anatomical structures into unit-norm vectors; "
    "texts of one structure lie close together."
)
RAW = (
    "It turns names, synonyms and definitions of anatomical structures into text features, not normalised; "
    "compare them by cosine similarity."
)


_USE = """from sentence_transformers import SentenceTransformer

encoder = SentenceTransformer("{name}")
features = encoder.encode(["left kidney", "the organ left of the spine that makes urine"])"""
_ONNX_USE = """import onnxruntime
from tokenizers import Tokenizer

encoded = Tokenizer.from_file("{name}/tokenizer.json").encode("left kidney")
session = onnxruntime.InferenceSession("{name}/model.onnx")
(features,) = session.run(None, {{"input_ids": [encoded.ids], "attention_mask": [encoded.attention_mask]}})"""


def prompts_of(modality: Modality) -> str:
    """Returns what the model card says of a folder that gives prompts for one modality."""
    return (
        f"It turns a text into the prompt that asks a {modality} image for that structure: the projected text feature plus the "
        "modality's embedding, not normalised, as text-prompted segmentation models of the SAT family read it."
    )


def prompt_modules(prompts: PromptProjection, modality: Modality) -> list[Dense]:
    """Returns the projection as two Dense modules, with the embedding of one modality folded into the last bias.

    Raises:
        SettingError: there is no embedding of that modality.
    """
    if modality not in prompts.modalities:
        raise SettingError(
            f"no embedding of modality {modality!r}", remedy=f"there are {', '.join(prompts.modalities)}"
        )
    first, last = (module for module in prompts.projection if isinstance(module, nn.Linear))
    row = prompts.modality_embedding.weight[prompts.modalities.index(modality)]
    return [
        _dense(first, bias=first.bias, activation=nn.GELU()),
        _dense(last, bias=last.bias + row, activation=nn.Identity()),
    ]


def _dense(linear: nn.Linear, *, bias: Tensor, activation: nn.Module) -> Dense:
    return Dense(
        linear.in_features,
        linear.out_features,
        activation_function=activation,
        init_weight=linear.weight.detach().clone(),
        init_bias=bias.detach().clone(),
    )


def write_model_card(
    folder: Path,
    *,
    title: str,
    origins: Sequence[Origin],
    results: Mapping[str, Sequence[str]] | None,
    results_title: str = "Results on held-out concepts",
    recipe: str | None = None,
    gives: str = UNIT_NORM,
    name: str | None = None,
    onnx: bool = False,
) -> None:
    """Writes ``README.md`` into a folder: use, recipe, results, all data and their terms.

    Args:
        folder: the folder.
        title: first heading.
        origins: everything the weights were made from.
        results: table: column → cells; None says that none were measured.
        results_title: heading of the table.
        recipe: how the weights were made: every setting as YAML, or a sentence; None leaves the section out.
        gives: what comes out for a text.
        name: what the folder will be called; None takes the name it has.
        onnx: whether it holds ``model.onnx`` and not a sentence-transformers model.
    """
    blocks = [
        f"---\nlibrary_name: {'onnx' if onnx else 'sentence-transformers'}\npipeline_tag: sentence-similarity\n"
        "tags: [anatomy, medical-imaging, ontology, text-encoder]\nlicense: other\n"
        "license_name: see-data-and-terms\n---",
        f"# {title}",
        f"**{DISCLAIMER}**",
        f"Written by Vesalius {version()}. {gives}",
        f"```python\n{(_ONNX_USE if onnx else _USE).format(name=name or folder.name)}\n```",
    ]
    if recipe is not None:
        blocks += ["## Recipe", recipe if len(recipe.splitlines()) == 1 else f"```yaml\n{recipe.strip()}\n```"]
    blocks += [f"## {results_title}", "Not measured for these weights." if results is None else _table(results)]
    blocks += [
        "## Data and terms",
        "The weights were made from these; whether and how they may be passed on follows from all of their terms together.",
        _table({
            "source": [origin.name for origin in origins],
            "version": [origin.version for origin in origins],
            "terms": [origin.licence for origin in origins],
            "attribution": [origin.attribution for origin in origins],
        }),
    ]  # fmt: skip
    write_text(folder / "README.md", "\n\n".join(blocks) + "\n")


def _table(columns: Mapping[str, Sequence[str]]) -> str:
    rows = [list(columns), ["---"] * len(columns), *map(list, zip(*columns.values(), strict=True))]
    return "\n".join(
        "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in row) + " |" for row in rows
    )
